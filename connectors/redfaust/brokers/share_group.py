"""The part of the broker's contract that is for shared delivery.

A *shared group* has a place in each partition as every consumer group has, but nobody owns a
partition: its consumers compete for the entries of all of them. An entry is *claimed* by one
consumer at a time, until that acknowledges or releases it::

                 ┌── claim_stale: its consumer is silent, or released it ──┐
                 ▼                                                         │
    (new) ──claim──▶ CLAIMED by one consumer ──ack──▶ (done)               │
                           └───────────────────────────────────────────────┘

``tests/conformance`` holds every broker to this text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from faust.types import TP

from redfaust.brokers.broker import Record

CLAIM_FOR = 6.0
"""Seconds for which an entry stays claimed by a consumer that says nothing of it."""

RENEW_EVERY = 1.5
"""Seconds between two renewals: three of them may fail before a claim ends."""

FORGET_AFTER = 60.0
"""Seconds after which a consumer that has nothing and wants nothing is struck off the lists."""

Offsets: TypeAlias = Mapping[TP, Collection[int]]
"""Entries, by the partition that they lie in."""


def shared_group(app: str, agent: str) -> str:
    """The group of an application's agent with shared delivery."""
    return f"{app}/{agent}"


class Claim(NamedTuple):
    """An entry that a consumer has claimed."""

    tp: TP
    record: Record
    deliveries: int
    """How often it has been claimed, this time included and not counting what was given back."""


class ShareGroup(Protocol):
    """One consumer of a shared group.

    Every method may raise :class:`~redfaust.errors.BrokerUnavailable`, and may be repeated then.
    What :meth:`claim` or :meth:`claim_stale` had claimed by then is claimed again, perhaps by this
    consumer, when the claim has ended.
    """

    async def join(
        self, topics: Iterable[str], *, from_start: bool, finished: Mapping[TP, int] = {}
    ) -> None:
        """Make sure that the group has its place in every partition; claim from these from now on.

        A new group begins at the oldest entry, or at the end if not ``from_start``. Where a log
        reaches as far as ``finished``, it begins there: all below is known to be finished.
        """

    async def claim(self, limit: int, *, wait: float) -> Sequence[Claim]:
        """Claim new entries, at most ``limit`` of all partitions together; those of one partition
        are in order. A broker that has large entries claims fewer.

        No two consumers get the same. Waits up to ``wait`` seconds for the first one; returns
        early, perhaps with nothing, after :meth:`wake`. Raises :class:`GroupGone`.
        """

    async def wake(self) -> None:
        """Make a waiting :meth:`claim` return."""

    async def claim_stale(self, limit: int) -> Sequence[Claim]:
        """Claim at most ``limit`` entries that nobody has renewed for :data:`CLAIM_FOR` seconds, or
        that were given back. They may be this consumer's own. Raises :class:`GroupGone`."""

    async def finished(self) -> Mapping[TP, int]:
        """The positions below which the group has finished everything, where it has a place."""

    async def renew(self, offsets: Offsets) -> Offsets:
        """Hold on to claimed entries for another :data:`CLAIM_FOR` seconds.

        Returns those that are not this consumer's any more: another consumer has claimed them
        since, and has perhaps acknowledged them, or the broker has lost the claim. An entry that
        was removed from its log stays this consumer's.
        """

    async def ack(self, offsets: Offsets) -> None:
        """Acknowledge entries as finished. Claims of other consumers stay."""

    async def release(self, offsets: Offsets) -> None:
        """Let others claim entries at once, as if they had not been delivered this time. Claims of
        other consumers stay."""

    async def close(self) -> None:
        """Leave the group, which keeps what is claimed. A waiting :meth:`claim` returns."""
