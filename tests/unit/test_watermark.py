"""The position never passes an unfinished event; what is finished ahead of it is known."""

from __future__ import annotations

import random

from redfaust.brokers.broker import Advance, Record
from redfaust.processing.watermark import EVERYBODY as EVERYONE
from redfaust.processing.watermark import Committed, Identity, Readers, Source, Watermark

EVERYBODY = set(EVERYONE)


def records(*offsets: int) -> list[Record]:
    return [record(offset) for offset in offsets]


def record(offset: int, source: Source | None = None) -> Record:
    return Record(offset, 0.0, None, b"", (), source)


def pending(watermark: Watermark) -> tuple[Advance, dict[Identity, set[str]]] | None:
    progress = watermark.pending()
    return progress and (
        progress.advance,
        {offset: set(who) for offset, who in progress.ahead.items()},
    )


def test_an_unfinished_head_holds_the_position() -> None:
    watermark = Watermark(Committed(5))
    watermark.deliver(records(10, 15, 16))
    watermark.finish(16)
    assert pending(watermark) == (Advance(5, 0), {16: EVERYBODY})
    watermark.finish(10)
    assert pending(watermark) == (Advance(11, 1), {16: EVERYBODY})
    watermark.finish(15)
    assert pending(watermark) == (Advance(17, 3), {})


def test_what_was_committed_is_not_pending() -> None:
    watermark = Watermark(Committed(0))
    watermark.deliver(records(1, 2, 3, 4))
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
    watermark = Watermark(Committed(0))
    watermark.deliver(records(4))
    watermark.finish(3)
    assert watermark.pending() is None
    watermark.finish(4)
    watermark.finish(4)
    assert pending(watermark) == (Advance(5, 1), {})


def test_of_several_agents_each_finishes_by_itself() -> None:
    watermark = Watermark(Committed(0))
    watermark.deliver(records(1, 2))
    watermark.finish_by(1, "fast")
    watermark.finish_by(2, "fast")
    assert pending(watermark) == (Advance(0, 0), {1: {"fast"}, 2: {"fast"}})
    watermark.finish(2)
    assert pending(watermark) == (Advance(0, 0), {1: {"fast"}, 2: EVERYBODY})
    watermark.finish(1)
    assert pending(watermark) == (Advance(3, 2), {})


def test_what_was_finished_before_is_not_done_again() -> None:
    ahead: dict[Identity, Readers] = {1: EVERYONE, 2: frozenset({"fast"}), 4: EVERYONE}
    watermark = Watermark(Committed(1, ahead))
    assert watermark.deliver(records(1, 2, 3)) == {1: EVERYBODY, 2: {"fast"}}
    assert watermark.deliver(records(4)) == {4: EVERYBODY}
    assert watermark.position == 2
    watermark.finish(2)
    watermark.finish(3)
    assert pending(watermark) == (Advance(5, 4), {})


def test_any_order_ends_at_the_last_offset() -> None:
    for seed in range(50):
        choose = random.Random(seed)
        offsets = sorted(choose.sample(range(10**6), 200))
        watermark = Watermark(Committed(0))
        watermark.deliver(records(*offsets))
        unfinished = set(offsets)
        for offset in choose.sample(offsets, len(offsets)):
            watermark.finish(offset)
            unfinished.discard(offset)
            assert watermark.position <= min(unfinished, default=offsets[-1] + 1)
        assert pending(watermark) == (Advance(offsets[-1] + 1, 200), {})
        assert watermark.in_flight == 0


def test_an_entry_that_comes_again_under_another_offset_is_known_by_its_source() -> None:
    watermark = Watermark(Committed(0))
    watermark.deliver([record(n, ("lane", n)) for n in range(1, 6)])
    for offset in (1, 2, 4):
        watermark.finish(offset)
    progress = watermark.progress()
    assert progress.advance == Advance(3, 2)
    assert progress.ahead == {("lane", 4): EVERYBODY}
    assert progress.applied == {"lane": 2}
    # The broker has lost 2 to 5, and gets them again, its clock far behind.
    again = Watermark(Committed(2, progress.ahead, progress.applied, passed=2))
    done_by = again.deliver([record(number * 10, ("lane", number)) for number in range(2, 6)])
    assert done_by == {20: EVERYBODY, 40: EVERYBODY}
    assert again.position == 21
    again.finish(30)
    assert again.position == 41
    again.finish(50)
    assert again.progress().applied == {"lane": 5}
    assert again.progress().ahead == {}


def test_a_repeat_of_what_is_in_progress_waits_for_it_and_is_not_taken_for_finished() -> None:
    watermark = Watermark(Committed(0))
    watermark.deliver([record(1, ("lane", 1))])
    assert watermark.deliver([record(2, ("lane", 1))]) == {2: EVERYBODY}
    assert pending(watermark) is None  # a crash now must leave the repeat to be processed
    watermark.finish(1)
    assert watermark.position == 3


def test_entries_without_a_source_are_known_by_where_the_position_was() -> None:
    watermark = Watermark(Committed(10, passed=30))
    assert watermark.deliver(records(10, 20, 30)) == {10: EVERYBODY, 20: EVERYBODY}
    assert watermark.position == 21
    watermark.finish(30)
    assert watermark.position == 31
