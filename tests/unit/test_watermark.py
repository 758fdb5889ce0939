"""The position never passes an unfinished event; what is finished ahead of it is known."""

from __future__ import annotations

import random

from connectors.processing.watermark import EVERYBODY as EVERYONE
from connectors.processing.watermark import Watermark
from connectors.transports.broker import Advance

EVERYBODY = set(EVERYONE)


def pending(watermark: Watermark) -> tuple[Advance, dict[int, set[str]]] | None:
    progress = watermark.pending()
    return progress and (
        progress.advance,
        {offset: set(who) for offset, who in progress.ahead.items()},
    )


def test_an_unfinished_head_holds_the_position() -> None:
    watermark = Watermark(5)
    watermark.deliver([10, 15, 16])
    watermark.finish(16)
    assert pending(watermark) == (Advance(5, 0), {16: EVERYBODY})
    watermark.finish(10)
    assert pending(watermark) == (Advance(11, 1), {16: EVERYBODY})
    watermark.finish(15)
    assert pending(watermark) == (Advance(17, 3), {})


def test_what_was_committed_is_not_pending() -> None:
    watermark = Watermark(0)
    watermark.deliver([1, 2, 3, 4])
    watermark.finish(1)
    first = watermark.pending()
    assert first is not None
    watermark.finish(2)
    watermark.committed(first)
    assert pending(watermark) == (Advance(3, 1), {})
    watermark.finish(4)
    second = watermark.pending()
    assert second is not None
    watermark.committed(second)
    assert watermark.pending() is None


def test_finishing_twice_or_what_was_passed_changes_nothing() -> None:
    watermark = Watermark(0)
    watermark.deliver([4])
    watermark.finish(3)
    assert watermark.pending() is None
    watermark.finish(4)
    watermark.finish(4)
    assert pending(watermark) == (Advance(5, 1), {})


def test_of_several_agents_each_finishes_by_itself() -> None:
    watermark = Watermark(0)
    watermark.deliver([1, 2])
    watermark.finish_by(1, "fast")
    watermark.finish_by(2, "fast")
    assert pending(watermark) == (Advance(0, 0), {1: {"fast"}, 2: {"fast"}})
    watermark.finish(2)
    assert pending(watermark) == (Advance(0, 0), {1: {"fast"}, 2: EVERYBODY})
    watermark.finish(1)
    assert pending(watermark) == (Advance(3, 2), {})


def test_what_was_finished_before_is_not_done_again() -> None:
    ahead = {1: EVERYONE, 2: frozenset({"fast"}), 4: EVERYONE}
    watermark = Watermark(1, ahead)
    assert watermark.deliver([1, 2, 3]) == {1: EVERYBODY, 2: {"fast"}}
    assert watermark.deliver([4]) == {4: EVERYBODY}
    assert watermark.position == 2
    watermark.finish(2)
    watermark.finish(3)
    assert pending(watermark) == (Advance(5, 4), {})


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
        assert pending(watermark) == (Advance(offsets[-1] + 1, 200), {})
        assert watermark.in_flight == 0
