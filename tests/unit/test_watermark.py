"""The position never passes an unfinished event."""

from __future__ import annotations

import random

from connectors.processing.watermark import Watermark
from connectors.transports.broker import Advance


def test_an_unfinished_head_holds_the_position() -> None:
    watermark = Watermark(5)
    watermark.deliver([10, 15, 16])
    watermark.finish(16)
    assert watermark.pending() is None
    watermark.finish(10)
    assert watermark.pending() == Advance(11, 1)
    watermark.finish(15)
    assert watermark.pending() == Advance(17, 3)


def test_what_was_committed_is_not_pending() -> None:
    watermark = Watermark(0)
    watermark.deliver([1, 2])
    watermark.finish(1)
    first = watermark.pending()
    assert first is not None
    watermark.finish(2)
    watermark.committed(first)
    assert watermark.pending() == Advance(3, 1)


def test_finishing_twice_or_what_was_never_delivered_changes_nothing() -> None:
    watermark = Watermark(0)
    watermark.deliver([4])
    watermark.finish(3)
    watermark.finish(4)
    watermark.finish(4)
    assert watermark.pending() == Advance(5, 1)


def test_any_order_ends_at_the_last_offset() -> None:
    for seed in range(50):
        choose = random.Random(seed)
        offsets = sorted(choose.sample(range(10**6), 200))
        watermark = Watermark(0)
        watermark.deliver(offsets)
        unfinished = set(offsets)
        for offset in choose.sample(offsets, len(offsets)):
            watermark.finish(offset)
            unfinished.discard(offset)
            assert watermark.position <= min(unfinished, default=offsets[-1] + 1)
        assert watermark.pending() == Advance(offsets[-1] + 1, 200)
        assert watermark.in_flight == 0
