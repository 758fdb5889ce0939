"""Names in Redis.

The hash tag of a stream's key keeps everything that belongs to one partition in one slot of a
cluster, while partitions spread over the slots.
"""

from __future__ import annotations

from faust.types import TP

TOPICS = "redfaust:topics"
"""Hash: topic → number of partitions."""

RETENTIONS = "redfaust:retentions"
"""Hash: topic → how much of it is kept, as JSON."""

CLEANER = "redfaust:cleaner"
"""String: the holder of the cleaner lease. It expires with the lease."""

IDENTITY = "redfaust:identity"
"""String: drawn once by whoever comes first, and gone when the data is."""

IDENTITIES = (IDENTITY, f"{IDENTITY}:copy")
"""The same twice: where one of them is deleted or evicted, the other one tells that the logs are
still the same."""

SECRETS = "redfaust:secret"
"""String: what signs sequences. Nobody but workers and relays may read it."""


def stream(tp: TP) -> str:
    """The stream that is this partition, such as ``{orders:0}``."""
    return f"{{{tp.topic}:{tp.partition}}}"


def producers(tp: TP) -> str:
    """Hash: producer → the source of the last entry that it has put on this partition, signed."""
    return f"{stream(tp)}:producers"


def confirmed(tp: TP) -> str:
    """String: written for a replica to confirm, with which it confirms all that was before."""
    return f"{stream(tp)}:confirmed"


def known(tp: TP) -> str:
    """Hash: what compaction knows of this partition, such as the last entry of each key."""
    return f"{stream(tp)}:known"


OF_PARTITIONS = (stream, producers, confirmed, known)
"""All that lies in Redis of a partition."""


def assignment(group: str) -> str:
    """Stream: who owns what in a group; its last entry counts."""
    return f"{{redfaust:{group}}}:assignment"


def heartbeats(group: str) -> str:
    """Hash: member → its last heartbeat."""
    return f"{{redfaust:{group}}}:heartbeats"
