"""Beats as they are stored, by whoever may write there."""

from __future__ import annotations

from typing import Any

from redfaust.brokers.broker import MAX_PARTITIONS, Beat

OTHER_FORM = "it is no object with counts (numbers of partitions) and info (an object)"


def as_json(beat: Beat) -> dict[str, Any]:
    """What a member says, as it is stored beside number and time."""
    return {"counts": sorted(beat.counts), "info": beat.info}


def from_json(number: int, said: object, age: float) -> Beat:
    """A beat that was stored. Raises ValueError, with the reason, if it is none."""
    match said:
        case {"counts": [*counts], "info": {**info}}:
            if number < 1:
                raise ValueError("its number is below 1")
            # bool is a kind of int in Python.
            if all(type(count) is int and 1 <= count <= MAX_PARTITIONS for count in counts):
                return Beat(number, frozenset(counts), {str(k): v for k, v in info.items()}, age)
    raise ValueError(OTHER_FORM)
