"""When the lines of parked events are due."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from faust.types import TP

from redfaust.processing.offset_tracker import Committed
from redfaust.processing.owned_partition import OwnedPartition
from redfaust.processing.parking import Failure, KeyQueue, ParkedMessage, Parking

TP0 = TP("numbers", 0)
FAILED = Failure(attempts=1, pause=0.0, error_type=None, error=None)


def message() -> Any:
    return SimpleNamespace(tp=TP0, key=b"key")


def parked(parking: Parking, line: KeyQueue, number: int) -> ParkedMessage:
    """An event of a line, as it comes from the database."""
    row: Any = {
        "id": number,
        "topic": TP0.topic,
        "partition": TP0.partition,
        "position": 7,
        "timestamp": 0.0,
        "key": b"key",
        "value": b"1",
        "headers": [],
        "attempts": 1,
    }
    return ParkedMessage(parking, line, row, OwnedPartition(TP0, Committed(0)))


def retrying() -> tuple[Parking, KeyQueue]:
    """A line whose only event is with its agent."""
    parking = Parking()
    parking.park("agent", message(), FAILED)
    assert parking.seconds_until_due() is None
    parking.committed(parking.take_changes())
    assert parking.seconds_until_due() == 0
    return parking, parking.next_due()


async def test_what_failed_again_waits_until_that_is_committed() -> None:
    parking, line = retrying()
    parking.queue("agent", message())
    on_its_way = parking.take_changes()
    parking.park("agent", parked(parking, line, 1), FAILED)
    parking.committed(on_its_way)
    assert parking.seconds_until_due() is None
    parking.committed(parking.take_changes())
    assert parking.seconds_until_due() == 0


async def test_a_line_that_has_come_to_its_end_is_not_due_again() -> None:
    parking, line = retrying()
    parking.queue("agent", message())
    on_its_way = parking.take_changes()
    parking.done(parked(parking, line, 1))
    assert parking.next_due() is line
    # It was committed, and read, before its committer was told.
    parking.done(parked(parking, line, 2))
    parking.committed(on_its_way)
    assert parking.seconds_until_due() is None
