"""The contract between Faust's machinery and a store of partitioned logs.

A *broker* keeps topics. A topic has a number of partitions, which stays as it is unless the topic
is closed and opened with more; a partition is a log whose entries carry strictly growing offsets,
which need not be consecutive. Everything that Faust sees (consumer, producer, conductor) is written
once, against :class:`Broker`; Redis Streams and memory implement it, and ``tests/conformance``
holds each of them to this text.

A *position* is the offset of the next entry to read: everything below it is done.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from faust.types import TP

from redfaust.brokers.assignor import GroupAssignment
from redfaust.brokers.capabilities import Capability
from redfaust.errors import BrokerError

if TYPE_CHECKING:
    from redfaust.brokers.share_group import ShareGroup

HEARTBEAT = 0.5
"""Seconds between two heartbeats of a member."""

SILENCE = 6.0
"""Seconds without a heartbeat after which a member counts as dead, and may no longer rely itself on
what it owns."""

CLEANER_LEASE = 15.0
"""Seconds after which the cleaner lease ends, unless its holder renews it."""

COMPACT_AT_ONCE = 1_000
"""Entries of a partition that are looked at in one go when it is compacted."""

TRIM_AT_ONCE = 10_000
"""Entries of a partition that are removed in one go: the broker may serve nobody else meanwhile."""

MAX_PARTITIONS = 100_000
"""Partitions of a topic. With more, who looks at them all would do nothing else."""

Headers = tuple[tuple[str, bytes], ...]


class Record(NamedTuple):
    """One entry as it lies in a partition."""

    offset: int
    timestamp: float
    """Seconds since the epoch."""
    key: bytes | None
    value: bytes | None
    headers: Headers
    source: tuple[str, int] | None = None
    """The producer that sent it and its number there; ``None`` unless it was appended once.

    Nobody else can have written it: a broker whose entries anybody may write signs sources, and
    reads one that it has not signed as ``None``.
    """


class Outgoing(NamedTuple):
    """An entry to append. Without a partition, the key's hash chooses it (none: any)."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None
    timestamp: float | None = None
    """Seconds since the epoch; ``None`` is the time at which it is appended."""


class SequencedEntry(NamedTuple):
    """An entry with its number in the *producer* that sends it.

    A producer is one ordered producer, named by up to 200 characters of ASCII that can be printed,
    without spaces and colons.
    """

    number: int
    """From 1, strictly growing within a producer, below 2**53. Numbers may be left out."""
    entry: Outgoing


class ProducerBatch(NamedTuple):
    """What a producer sends in one go."""

    producer_id: str
    entries: Sequence[SequencedEntry]
    """In the order of their numbers."""
    after: Mapping[TP, int] = {}
    """The producer's last sequence in each log, as the sender knows it; where it is missing, any
    will do."""


class Place(NamedTuple):
    """How far a producer has come in one log."""

    last_sequence: int
    """Its highest number there."""
    position: int
    """Behind its last entry there, or further."""


class Refused(NamedTuple):
    """An entry that a broker does not take, and will not."""

    producer_id: str
    number: int
    error: BrokerError


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept of each partition of a topic. A bound that is ``None`` is none."""

    age: float | None = None
    """Seconds since an entry was appended, by the broker's clock."""
    size: int | None = None
    """Bytes, as the broker estimates what the partition takes."""
    entries: int | None = None
    compacted: bool = False
    """Whether of each key only the last entry is kept."""
    deletions: float = 86_400.0
    """Seconds for which the last entry of a key stays there if it has no value, so that readers of
    a compacted topic see it."""
    until: float | None = None
    """Seconds since the epoch after which the topic itself is deleted. The one process that owns
    the topic puts that off for as long as it lives. ``None``: the topic stays."""

    @property
    def is_bounded(self) -> bool:
        """Whether there is any bound."""
        return not (self.age is None and self.size is None and self.entries is None)


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic is declared with."""

    name: str
    partitions: int
    retention: Retention | None = None
    """``None`` leaves it as it was declared before, by others perhaps."""


class Appended(NamedTuple):
    """Where an entry came to lie."""

    tp: TP
    offset: int
    timestamp: float


class PartlyRefused(BrokerError):
    """Some entries were refused for good; all others are appended."""

    def __init__(self, outcomes: Sequence[Appended | BrokerError]) -> None:
        self.outcomes = outcomes
        """What became of each entry, in their order."""
        refused = [outcome for outcome in outcomes if isinstance(outcome, BrokerError)]
        super().__init__(f"{len(refused)} of {len(outcomes)} entries were refused: {refused[0]}")


class EntriesRefused(BrokerError):
    """Entries of producers were refused for good. Of the others, some may not be appended yet."""

    def __init__(self, refused: Sequence[Refused]) -> None:
        self.refused = refused
        """At least one, and of a log on which several would be refused perhaps only the first."""
        super().__init__(f"{len(refused)} entries were refused: {refused[0].error}")


class LogTruncated(BrokerError):
    """Logs lack what producers have put there, since the broker has lost what it had confirmed."""

    def __init__(self, producer_ids: Collection[str]) -> None:
        self.producer_ids = frozenset(producer_ids)
        """Those that lack something."""
        super().__init__(
            f"the broker has lost entries of {len(self.producer_ids)} producers: "
            "what is kept of them has to be appended again, from the oldest"
        )


class LogsBlocked(BrokerError):
    """Logs take nothing as they are, since somebody else has put something in their place or has
    made them end. All other logs have their entries.

    The entries for them are not refused: repeat them once the logs are mended.
    """

    def __init__(self, blocked: Mapping[TP, str], places: Mapping[str, Mapping[TP, Place]]) -> None:
        self.blocked = blocked
        """At least one, with the reason."""
        self.places = places
        """By producer, the places in all other logs, as :meth:`Broker.append_once` returns them."""
        tp, reason = next(iter(blocked.items()))
        super().__init__(
            f"{len(blocked)} partitions take nothing until they are mended, {tp.partition} of "
            f"{tp.topic} among them: {reason}"
        )


class OffsetOutOfRange(BrokerError):
    """A log ends before a position that was reached in it: the broker has lost entries."""


class Replaced(BrokerError):
    """Another incarnation of the broker answers now: what was read before may not be in it."""

    def __init__(self) -> None:
        super().__init__("the broker was restarted or replaced since this was read")


class Advance(NamedTuple):
    """A group's progress in one partition."""

    position: int
    finished: int
    """How many entries were finished since the last advance."""


class PartitionStatus(NamedTuple):
    """One partition as one group sees it."""

    length: int
    """Entries that the partition holds now."""
    lag: int
    """Entries that the group has not finished; 0 where it has no position."""
    position: int | None
    """``None``: the group has no position here, since it does not read the topic."""
    claimed: int = 0
    """Of the lag, what consumers of a shared group have in hand."""


class GroupProgress(NamedTuple):
    """How far one group has come in one partition."""

    position: int
    lag: int
    """Entries that the group has not finished."""
    claimed: int = 0
    """Of the lag, what consumers of a shared group have in hand."""
    oldest_age: float | None = None
    """Seconds since the oldest entry of the lag was appended; ``None``: there is none, or nobody
    knows."""


class PartitionSurvey(NamedTuple):
    """One partition as all groups see it."""

    length: int
    """Entries that the partition holds now."""
    groups: Mapping[str, GroupProgress]
    """Those that have joined it."""
    blocked: str | None = None
    """Why nothing can be appended to it or read from it, before somebody mends it."""


class Trouble(enum.Enum):
    """What is wrong with a server of the broker that answers."""

    FULL = "full"
    """It has no memory left, and refuses what would need some."""
    READ_ONLY = "read only"
    """It refuses whatever changes something."""
    EVICTS = "evicts"
    """It removes anybody's keys when its memory is full: events, positions, last sequences."""


class ServerTrouble(NamedTuple):
    """Something wrong with a server of the broker."""

    trouble: Trouble
    what: str
    """For people, without passwords."""


class Bound(enum.Enum):
    """What a partition may have too much of."""

    AGE = "age"
    SIZE = "size"
    ENTRIES = "entries"


class HeldBack(NamedTuple):
    """What a partition keeps beyond its bounds, since groups have not finished it."""

    groups: frozenset[str]
    """Those that are furthest behind."""
    bound: Bound
    found: float
    """Age in seconds of the oldest entry that they need, or bytes, or entries of the partition."""


class Trimmed(NamedTuple):
    """What has become of a partition that has bounds."""

    removed: int
    """Entries."""
    more: bool = False
    """Whether others could be removed at once."""
    held_back: HeldBack | None = None


class Heartbeat(NamedTuple):
    """What a member says at regular intervals, by which the others know that it lives."""

    number: int
    """From 1, another one in each heartbeat of this member."""
    counts: frozenset[int] = frozenset()
    """The numbers of partitions of its topics."""
    info: Mapping[str, object] = {}
    """What it tells people of itself, as JSON."""
    age: float = 0.0
    """Seconds since it was heard, by a clock that may be set: for people to read."""


class GroupState(NamedTuple):
    """The members of a group, and what they own."""

    version: str
    """Of the assignment: another one whenever it was written."""
    assignment: GroupAssignment
    """Empty where nobody has written one, or nobody can read it."""
    heartbeats: Mapping[str, Heartbeat]
    """By member, its last one."""

    def heard(self) -> Mapping[str, Heartbeat]:
        """Those who were heard within :data:`SILENCE` seconds. For people to read: who decides by
        it trusts a clock."""
        return {
            name: heartbeat
            for name, heartbeat in self.heartbeats.items()
            if heartbeat.age <= SILENCE
        }


class Anomaly(NamedTuple):
    """What lies at a place of the broker's own and was not written by redfaust.

    It is ignored wherever the place is read. Both texts are printable.
    """

    place: str
    """Such as ``redfaust:topics``."""
    what: str
    """What lies there, and what to do about it."""


class Broker(Protocol):
    """Topics of partitioned logs, with the positions of consumer groups.

    Every method may raise :class:`~redfaust.errors.BrokerUnavailable`; the caller decides
    whether to repeat. All are safe to repeat except :meth:`append`, whose outcome is then
    unknown.
    """

    capabilities: ClassVar[frozenset[Capability]]
    """The parts of this contract that it keeps, of those that may be left out."""

    async def open(self) -> None:
        """Connect. Raises if the broker cannot be reached or lacks a needed command."""

    async def close(self) -> None:
        """Disconnect; blocked reads return."""

    async def identity(self) -> str:
        """Which set of logs this is. Another one after the broker's data was wiped or replaced:
        positions that were kept elsewhere then mean nothing any more."""

    async def incarnation(self) -> str:
        """Another one whenever the broker may have lost what it had confirmed: after a restart, or
        where another server has taken its place."""

    async def create_topic(self, spec: TopicSpec) -> int:
        """Declare a topic and return how many partitions it has.

        A topic that exists keeps its number of partitions, whatever ``spec`` says, and gets its
        retention. Raises :class:`~redfaust.errors.TopicClosed`.
        """

    async def topics(self) -> Mapping[str, int]:
        """All topics with their numbers of partitions."""

    async def delete_topics(self, topics: Collection[str]) -> None:
        """Delete topics with all that lies on them and what is remembered of them. Whoever appends
        to one afterwards creates it anew; one that is not there is deleted already."""

    async def close_topics(self, topics: Collection[str]) -> None:
        """Close these topics: declaring them or appending to them raises :class:`TopicClosed` in
        every process. Returns when all processes know it."""

    async def open_topics(self, partitions: Mapping[str, int]) -> None:
        """Open topics again, all at once, with at least as many partitions as they had.

        Groups of a topic have their position in its new partitions at the oldest entry.
        """

    async def append(self, entries: Sequence[Outgoing]) -> Sequence[Appended]:
        """Append in order per partition; an unknown topic is created with the default number
        of partitions. Raises :class:`PartlyRefused` if entries cannot be taken for good, such as
        those for a partition that their topic does not have, and
        :class:`~redfaust.errors.TopicClosed` before anything is appended."""

    async def append_once(
        self, batches: Sequence[ProducerBatch]
    ) -> Mapping[str, Mapping[TP, Place]]:
        """Append in order per partition what the producers have not put there yet.

        Each partition keeps a last sequence: the highest number of the producer in it. An entry
        whose number is not above it is skipped, so everything may be sent again, by anybody, at any
        time. Mark and entries of a partition never disagree, not even after a crash. A last
        sequence that somebody else has written counts as missing. An entry without key and
        partition goes where its number says. A producer may come once in ``batches``.

        Returns, by producer, the places it has come to in the logs of these entries.

        After an error some partitions may have their entries and others not. Repeat these
        entries before sending higher numbers: a number that is passed is taken for sent.

        Raises, in this order: :class:`LogTruncated` where a last sequence is lower than ``after``,
        and then no entry of that producer is appended to that log; :class:`EntriesRefused` if
        entries cannot be taken for good: repeat without them, once they are kept elsewhere;
        :class:`LogsBlocked` where logs take nothing until somebody mends them, once all others have
        their entries. Raises :class:`~redfaust.errors.TopicClosed` before anything is appended.
        """

    async def last_sequences(self, producer_ids: Collection[str]) -> Mapping[str, Mapping[TP, int]]:
        """By producer, its last sequence in each partition where it has one. Every given producer
        is there."""

    async def blocked(self, tps: Collection[TP]) -> Mapping[TP, str]:
        """Those of these logs that :meth:`append_once` would call blocked, with the reasons."""

    async def read(
        self, positions: Mapping[TP, int], *, limit: int, wait: float
    ) -> Mapping[TP, Sequence[Record]]:
        """Read from the given positions, at most ``limit`` entries a partition; fewer, or of fewer
        partitions, where entries are large. 0 is before every entry.

        Waits up to ``wait`` seconds for the first entry; returns early, perhaps with nothing,
        after :meth:`wake`.
        """

    async def wake(self) -> None:
        """Make a waiting :meth:`read` return, since what should be read has changed."""

    async def confirm(self, tps: Collection[TP], incarnation: str) -> None:
        """Return once what was read of these partitions outlasts a failover, as far as the broker
        can tell.

        Raises :class:`~redfaust.errors.BrokerUnavailable` as long as it would not, and
        :class:`Replaced` unless the broker is still of this incarnation.
        """

    async def join(self, group: str, topics: Iterable[str], *, from_start: bool) -> None:
        """Make sure that the group has a position in every partition, and none behind its end.

        A new group begins at the oldest entry, or at the end if not ``from_start``. Where a log is
        another one than before (deleted and made again, or set back), the group begins with what
        it has not had of it.
        """

    async def leave(self, group: str, topics: Iterable[str]) -> None:
        """Forget the group's positions in all partitions, and what its consumers have claimed
        there. Nothing is kept for it any more."""

    async def groups(self, topics: Iterable[str]) -> Mapping[str, frozenset[str]]:
        """By topic, the groups that have joined it. Every given topic is there."""

    async def positions(self, group: str, tps: Iterable[TP]) -> Mapping[TP, int]:
        """The group's positions; partitions that it has not joined are missing."""

    async def floors(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        """The lowest position that any group has in each partition: below it everybody is done.
        That of a shared group is its oldest claimed entry. Partitions that no group has joined are
        missing."""

    async def commit(self, group: str, advances: Mapping[TP, Advance]) -> None:
        """Move the group's positions, none of them back: who was stopped for long may ask for what
        an heir has passed.

        Raises :class:`OffsetOutOfRange` where one would lie behind the end of its log, and moves
        none there: the log was set back since that was read.
        """

    async def bounds(self, tps: Iterable[TP]) -> Mapping[TP, tuple[int, int]]:
        """Per partition the oldest offset still held and the position after the newest. A
        partition in whose place there is something else is missing."""

    async def retentions(self) -> Mapping[str, Retention]:
        """By topic, the retention that it was declared with last. Those without one are missing."""

    async def acquire_cleaner_lease(self, keeper: str) -> bool:
        """Whether it is this keeper who should call :meth:`trim` now.

        Of all who ask, one is told so, again and again, until it has not asked for
        :data:`CLEANER_LEASE` seconds. That saves work: nothing depends on there being only one.
        """

    async def trim(self, retentions: Mapping[TP, Retention]) -> Mapping[TP, Trimmed]:
        """Remove the oldest entries of partitions that have more than their retention allows.

        No entry is removed that a group has not finished, one of a shared group included that is
        claimed; that is looked at in the same instant. The newest entry of a partition stays, and
        so may the last one that a group has finished. A partition that no group has joined keeps
        what its retention says, and no more. Whoever reads on at a position goes on behind what
        was removed; last sequences of producers stay, and so do the lags of groups.

        At most :data:`TRIM_AT_ONCE` entries of each partition are removed. Partitions that cannot
        be trimmed are missing from what is returned.
        """

    async def compact(self, retentions: Mapping[TP, Retention]) -> Mapping[TP, Trimmed]:
        """Remove entries of which there is a later one with the same key, from those of these
        partitions that are to be compacted.

        The last entry of a key stays, but one without a value only for as long as deletions do.
        What a group has not finished is not removed, and makes nothing else go. Entries without a
        key stay, and so does the newest entry.

        Goes on where the last call ended; at most :data:`COMPACT_AT_ONCE` entries of each partition
        are looked at. Partitions that cannot be compacted are missing from what is returned.
        """

    async def held_back(self, retentions: Mapping[TP, Retention]) -> Mapping[TP, HeldBack]:
        """Where a partition has more than its retention allows, since groups need it. Changes
        nothing."""

    async def warnings(self) -> Sequence[str]:
        """How the broker may lose what it has confirmed, by what its servers are configured with:
        a line for each, which says what to change. Empty where nothing is known of it."""

    async def status(self, group: str, topic: str) -> Sequence[PartitionStatus]:
        """The partitions of a topic in order, as a group sees them. A topic that nobody has
        declared has none."""

    async def anomalies(self) -> Sequence[Anomaly]:
        """What somebody else has put where the broker keeps its own: entries of the catalog,
        retentions, assignments and heartbeats that cannot be read, and keys of another type."""

    async def survey(self, tps: Collection[TP]) -> Mapping[TP, PartitionSurvey]:
        """How far all groups have come in partitions, in a bounded number of round trips for any
        number of them. Changes nothing. Every given partition is there."""

    async def troubles(self) -> Sequence[ServerTrouble]:
        """What is wrong with servers that answer, as they say themselves."""

    async def heartbeat(self, group: str, member: str, heartbeat: Heartbeat) -> GroupState:
        """Say that a member lives. To be repeated every :data:`HEARTBEAT` seconds."""

    def share_group(self, group: str, consumer: str) -> ShareGroup:
        """A consumer of a shared group, whose name nobody else in it has."""

    async def group_state(self, group: str) -> GroupState:
        """The members and what they own, for who is none of them."""

    async def reassign(
        self, group: str, assignment: GroupAssignment, *, version: str, silent: Mapping[str, int]
    ) -> bool:
        """Write the assignment, and forget the members of ``silent``, or do nothing of it.

        Nothing is done, and False returned, if the assignment has another version by now, or if a
        member of ``silent`` has another number now in its last heartbeat than is given (0: there
        was none). Wakes the callers of :meth:`reassigned`.
        """

    async def reassigned(self, group: str, version: str, *, wait: float) -> None:
        """Return when the assignment has another version, at the latest after ``wait`` seconds.

        It may miss one if the broker was wiped or replaced: look again at intervals.
        """
