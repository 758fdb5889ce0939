"""Names in Redis.

The hash tag of a stream's key keeps everything that belongs to one partition in one slot of a
cluster, while partitions spread over the slots.
"""

from __future__ import annotations

from faust.types import TP

TOPICS = "redfaust:topics"
"""Hash: topic → number of partitions."""


IDENTITY = "redfaust:identity"
"""String: drawn once by whoever comes first, and gone when the data is."""


def stream(tp: TP) -> str:
    """The stream that is this partition, such as ``{orders:0}``."""
    return f"{{{tp.topic}:{tp.partition}}}"


def lanes(tp: TP) -> str:
    """Hash: lane → the last number that it has put on this partition."""
    return f"{stream(tp)}:lanes"


def lease(group: str) -> str:
    """String: the member that owns the partitions of a group."""
    return f"redfaust:lease:{group}"


def members(group: str) -> str:
    """Hash: member → what it last announced of itself."""
    return f"redfaust:members:{group}"
