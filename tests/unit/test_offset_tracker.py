"""The position never passes an unfinished event; what is finished ahead of it is known."""

from __future__ import annotations

import random

from redfaust.brokers.broker import Advance, Record
from redfaust.processing.offset_tracker import EVERYBODY as EVERYONE
from redfaust.processing.offset_tracker import Committed, Identity, OffsetTracker, Readers, Source

EVERYBODY = set(EVERYONE)


def records(*offsets: int) -> list[Record]:
    return [record(offset) for offset in offsets]


def record(offset: int, source: Source | None = None) -> Record:
    return Record(offset, 0.0, None, b"", (), source)


def pending(tracker: OffsetTracker) -> tuple[Advance, dict[Identity, set[str]]] | None:
    progress = tracker.pending()
    return progress and (
        progress.advance,
        {offset: set(who) for offset, who in progress.ahead.items()},
    )


def test_an_unfinished_head_holds_the_position() -> None:
    tracker = OffsetTracker(Committed(5))
    tracker.deliver(records(10, 15, 16))
    tracker.finish(16)
    assert pending(tracker) == (Advance(5, 0), {16: EVERYBODY})
    tracker.finish(10)
    assert pending(tracker) == (Advance(11, 1), {16: EVERYBODY})
    tracker.finish(15)
    assert pending(tracker) == (Advance(17, 3), {})


def test_what_was_committed_is_not_pending() -> None:
    tracker = OffsetTracker(Committed(0))
    tracker.deliver(records(1, 2, 3, 4))
    tracker.finish(1)
    first = tracker.pending()
    assert first is not None
    tracker.finish(2)
    tracker.committed(first)
    assert pending(tracker) == (Advance(3, 1), {})
    tracker.finish(4)
    second = tracker.pending()
    assert second is not None
    tracker.committed(second)
    assert tracker.pending() is None


def test_finishing_twice_or_what_was_passed_changes_nothing() -> None:
    tracker = OffsetTracker(Committed(0))
    tracker.deliver(records(4))
    tracker.finish(3)
    assert tracker.pending() is None
    tracker.finish(4)
    tracker.finish(4)
    assert pending(tracker) == (Advance(5, 1), {})


def test_of_several_agents_each_finishes_by_itself() -> None:
    tracker = OffsetTracker(Committed(0))
    tracker.deliver(records(1, 2))
    tracker.finish_by(1, "fast")
    tracker.finish_by(2, "fast")
    assert pending(tracker) == (Advance(0, 0), {1: {"fast"}, 2: {"fast"}})
    tracker.finish(2)
    assert pending(tracker) == (Advance(0, 0), {1: {"fast"}, 2: EVERYBODY})
    tracker.finish(1)
    assert pending(tracker) == (Advance(3, 2), {})


def test_what_was_finished_before_is_not_done_again() -> None:
    ahead: dict[Identity, Readers] = {1: EVERYONE, 2: frozenset({"fast"}), 4: EVERYONE}
    tracker = OffsetTracker(Committed(1, ahead))
    assert tracker.deliver(records(1, 2, 3)) == {1: EVERYBODY, 2: {"fast"}}
    assert tracker.deliver(records(4)) == {4: EVERYBODY}
    assert tracker.position == 2
    tracker.finish(2)
    tracker.finish(3)
    assert pending(tracker) == (Advance(5, 4), {})


def test_any_order_ends_at_the_last_offset() -> None:
    for seed in range(50):
        choose = random.Random(seed)
        offsets = sorted(choose.sample(range(10**6), 200))
        tracker = OffsetTracker(Committed(0))
        tracker.deliver(records(*offsets))
        unfinished = set(offsets)
        for offset in choose.sample(offsets, len(offsets)):
            tracker.finish(offset)
            unfinished.discard(offset)
            assert tracker.position <= min(unfinished, default=offsets[-1] + 1)
        assert pending(tracker) == (Advance(offsets[-1] + 1, 200), {})
        assert tracker.in_flight == 0


def test_an_entry_that_comes_again_under_another_offset_is_known_by_its_source() -> None:
    tracker = OffsetTracker(Committed(0))
    tracker.deliver([record(n, ("producer_id", n)) for n in range(1, 6)])
    for offset in (1, 2, 4):
        tracker.finish(offset)
    progress = tracker.progress()
    assert progress.advance == Advance(3, 2)
    assert progress.ahead == {("producer_id", 4): EVERYBODY}
    assert progress.applied == {"producer_id": 2}
    # The broker has lost 2 to 5, and gets them again, its clock far behind.
    again = OffsetTracker(Committed(2, progress.ahead, progress.applied, passed=2))
    done_by = again.deliver(
        [record(number * 10, ("producer_id", number)) for number in range(2, 6)]
    )
    assert done_by == {20: EVERYBODY, 40: EVERYBODY}
    assert again.position == 21
    again.finish(30)
    assert again.position == 41
    again.finish(50)
    assert again.progress().applied == {"producer_id": 5}
    assert again.progress().ahead == {}


def test_a_repeat_of_what_is_in_progress_waits_for_it_and_is_not_taken_for_finished() -> None:
    tracker = OffsetTracker(Committed(0))
    tracker.deliver([record(1, ("producer_id", 1))])
    assert tracker.deliver([record(2, ("producer_id", 1))]) == {2: EVERYBODY}
    assert pending(tracker) is None  # a crash now must leave the repeat to be processed
    tracker.finish(1)
    assert tracker.position == 3


def test_entries_without_a_source_are_known_by_where_the_position_was() -> None:
    tracker = OffsetTracker(Committed(10, passed=30))
    assert tracker.deliver(records(10, 20, 30)) == {10: EVERYBODY, 20: EVERYBODY}
    assert tracker.position == 21
    tracker.finish(30)
    assert tracker.position == 31
