"""Stream IDs as integers, and back.

An ID is ``milliseconds-sequence``, both unsigned 64-bit. Faust wants one integer; the two halves
side by side are reversible for every ID that Redis accepts, and sort as Redis sorts.
"""

from __future__ import annotations

SEQUENCE_BITS = 64
_SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1

BEGINNING = 1
"""The position before the oldest possible entry (``0-0`` itself can never be an entry)."""


def offset_of(stream_id: bytes) -> int:
    """Offset of the entry with this ID."""
    milliseconds, _, sequence = stream_id.partition(b"-")
    return int(milliseconds) << SEQUENCE_BITS | int(sequence or 0)


def stream_id(offset: int) -> str:
    """ID of the entry with this offset."""
    return f"{offset >> SEQUENCE_BITS}-{offset & _SEQUENCE_MASK}"


def before(position: int) -> str:
    """ID behind which an entry lies at this position or above: any, where that is 0."""
    return stream_id(max(0, position - 1))


def seconds_of(offset: int) -> float:
    """When the entry was appended, by the clock of the Redis server."""
    return (offset >> SEQUENCE_BITS) / 1000
