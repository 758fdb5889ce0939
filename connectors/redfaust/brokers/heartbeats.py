"""Heartbeats as they are stored, by whoever may write there."""

from __future__ import annotations

from typing import Any

from redfaust.brokers.broker import MAX_PARTITIONS, Heartbeat

OTHER_FORM = "it is no object with counts (numbers of partitions) and info (an object)"


def as_json(heartbeat: Heartbeat) -> dict[str, Any]:
    """What a member says, as it is stored beside number and time."""
    return {"counts": sorted(heartbeat.counts), "info": heartbeat.info}


def from_json(number: int, said: object, age: float) -> Heartbeat:
    """A heartbeat that was stored. Raises ValueError, with the reason, if it is none."""
    match said:
        case {"counts": [*counts], "info": {**info}}:
            if number < 1:
                raise ValueError("its number is below 1")
            # bool is a kind of int in Python.
            if all(type(count) is int and 1 <= count <= MAX_PARTITIONS for count in counts):
                return Heartbeat(
                    number, frozenset(counts), {str(k): v for k, v in info.items()}, age
                )
    raise ValueError(OTHER_FORM)
