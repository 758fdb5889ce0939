"""A worker's membership in its group.

::

    OUTSIDE ──want──▶ JOINING ──stands in the assignment──▶ MEMBER
                         ▲                                    │
                         └── was struck out, being silent ────┘
    any ──leave──▶ OUTSIDE

A member sends heartbeats at regular intervals, in a task of its own, and learns from each answer
which member owns what. From that :func:`~redfaust.brokers.assignor.plan` says what is to be done.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

from faust.types import TP

from redfaust import failpoints
from redfaust.brokers import assignor
from redfaust.brokers.broker import HEARTBEAT, SILENCE, Broker, GroupState, Heartbeat
from redfaust.brokers.failure_detector import FailureDetector
from redfaust.errors import BrokerError
from redfaust.printable import printable

NAME = "FAUST_WORKER_NAME"
"""The environment variable with this worker's name; by default its host's and its process id.
A worker that is started again under its name gets back what it had."""

ANSWER_WITHIN = 3.0
"""Seconds that the broker is given to answer."""

LEAVE_FOR = 1.0
"""Seconds that leaving may take."""

logger = logging.getLogger(__name__)


class RebalanceListener(Protocol):
    """Who works on the partitions. Called for one change at a time."""

    async def gain(self, tps: frozenset[TP]) -> None:
        """They are this worker's as well: begin."""

    async def hand_over(self, tps: frozenset[TP]) -> None:
        """Finish what is in progress on them, commit, and let go: then they are another's."""

    async def start_over(self, tps: frozenset[TP]) -> None:
        """Begin anew with exactly these. What is in memory and not committed has never happened.

        At the start, after partitions were lost, and when the broker was replaced.
        """


class MemberState(enum.Enum):
    """Where a worker stands in its group."""

    OUTSIDE = "outside"
    JOINING = "joining"
    MEMBER = "member"


class Membership:
    """Keeps a worker among its group's members, and tells its listener what it owns."""

    def __init__(self, broker: Broker, group: str, listener: RebalanceListener) -> None:
        self.member = _new_member()
        self.standing = MemberState.OUTSIDE
        self.info: Callable[[], Mapping[str, object]] = dict
        """What this worker tells of itself with each heartbeat, as JSON."""
        self._broker = broker
        self._group = group
        self._listener = listener
        self._wanted: frozenset[TP] = frozenset()
        self._alone: frozenset[TP] = frozenset()
        self._counts: frozenset[int] = frozenset()
        self._held: frozenset[int] = frozenset()
        self._tps: frozenset[TP] = frozenset()
        self._changed = asyncio.Event()
        self._asking = asyncio.Lock()
        self._heartbeats_sent = 0
        self._group_state: GroupState | None = None
        self._known = assignor.GroupAssignment()
        self._failure_detector = FailureDetector()
        self._sent = self._relied_until = 0.0
        self._anew = self._lost = False
        self._unheard = False

    @property
    def owns(self) -> bool:
        """Whether what the listener has is still this worker's, as far as its clock knows."""
        return time.monotonic() < self._relied_until

    def owners(self) -> Mapping[int, Mapping[str, object]]:
        """By number, what its owner tells of itself, as it was last heard."""
        if self._group_state is None:
            return {}
        heartbeats, owners = (
            self._group_state.heartbeats,
            self._assignment_of(self._group_state).owners,
        )
        return {n: heartbeats[o.member].info for n, o in owners.items() if o.member in heartbeats}

    def want(self, tps: frozenset[TP], *, alone: frozenset[TP] = frozenset()) -> None:
        """Say which partitions there are to be worked on.

        Those of ``alone`` are of no interest to other members: this one always has them.
        """
        self._wanted, self._alone = tps, alone
        topics: dict[str, int] = {}
        for tp in tps:
            topics[tp.topic] = max(topics.get(tp.topic, 0), tp.partition + 1)
        self._counts = frozenset(topics.values())
        if self.standing is MemberState.OUTSIDE:
            self.standing = MemberState.JOINING
        self._changed.set()

    def start_over(self) -> None:
        """Have the listener begin anew with all that it has."""
        self._anew = True
        self._changed.set()

    def give_up(self, tps: Collection[TP]) -> None:
        """Rely on nothing any more, since somebody else has taken these; then ask who owns what."""
        if self._held.intersection(tp.partition for tp in tps):
            self._lose("another worker has taken partitions of this one")

    async def run(self) -> None:
        """Be a member until cancelled."""
        await self._changed.wait()
        beating = asyncio.ensure_future(self._send_heartbeats())
        try:
            while not beating.done():
                self._changed.clear()
                if await self._act():
                    continue
                changed = asyncio.ensure_future(self._changed.wait())
                try:
                    await asyncio.wait({beating, changed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
            beating.result()
        finally:
            beating.cancel()

    async def leave(self) -> None:
        """Hand over at once to whoever is there. Nothing that the listener has counts any more."""
        if self.standing is MemberState.OUTSIDE:
            return
        self.standing = MemberState.OUTSIDE
        self._relied_until = 0.0
        try:
            async with asyncio.timeout(LEAVE_FOR):
                while not await self._strike_out_this_one():
                    pass
                failpoints.point("shares.left")
        except (BrokerError, TimeoutError) as error:
            logger.warning(
                "The partitions will be handed over when this worker has been silent for %s s: %s",
                SILENCE,
                str(error) or "no answer",
            )

    async def _strike_out_this_one(self) -> bool:
        group_state = await self._broker.group_state(self._group)
        last = (
            group_state.heartbeats[self.member].number
            if self.member in group_state.heartbeats
            else 0
        )
        return await self._broker.reassign(
            self._group,
            assignor.without(group_state.assignment, self.member, time.time()),
            version=group_state.version,
            silent={self.member: last},
        )

    # -- beating -----------------------------------------------------------------------------

    async def _send_heartbeats(self) -> None:
        while True:
            answered = await self._heartbeat()
            if answered and self._group_state is not None:
                answered = await self._answered(
                    self._broker.reassigned(self._group, self._group_state.version, wait=HEARTBEAT)
                )
            if not answered:
                await asyncio.sleep(HEARTBEAT)

    async def _heartbeat(self) -> bool:
        """Say that this worker lives, and hear who owns what. Whether there was an answer."""
        async with self._asking:
            return self.standing is not MemberState.OUTSIDE and await self._answered(self._ask())

    async def _ask(self) -> None:
        self._heartbeats_sent += 1
        heartbeat = Heartbeat(self._heartbeats_sent, self._counts, self.info())
        sent = time.monotonic()
        self._hear(await self._broker.heartbeat(self._group, self.member, heartbeat), sent)

    async def _answered(self, asking: Awaitable[object]) -> bool:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await asking
        except (BrokerError, TimeoutError) as error:
            if not self._unheard:
                logger.warning("The group is not heard: %s", str(error) or "no answer")
            self._unheard = True
            return False
        self._unheard = False
        return True

    def _hear(self, group_state: GroupState, sent: float) -> None:
        self._group_state, self._sent = group_state, sent
        assignment = self._assignment_of(group_state)
        self._failure_detector.heard(
            {member: heartbeat.number for member, heartbeat in group_state.heartbeats.items()},
            assignment.members,
            sent=sent,
            answered=time.monotonic(),
        )
        if self.standing is MemberState.MEMBER and self.member not in assignment.members:
            self.standing = MemberState.JOINING
            self._lose("this worker was silent for so long that others count it as dead")
        elif not self._held <= assignment.owned_by(self.member):
            self._lose("partitions of this worker are another's now")
        elif assignment is group_state.assignment and not self._lost:
            self._relied_until = sent + SILENCE
        self._changed.set()

    def _assignment_of(self, group_state: GroupState) -> assignor.GroupAssignment:
        """The assignment, or the last one that was heard of if the broker has none any more."""
        if group_state.assignment != assignor.GroupAssignment():
            self._known = group_state.assignment
        return self._known

    def _lose(self, why: str) -> None:
        if not self._lost:
            logger.warning("What is not committed is done again, perhaps elsewhere: %s", why)
        self._relied_until = 0.0
        self._lost = True
        self._changed.set()

    # -- acting on it ------------------------------------------------------------------------

    async def _act(self) -> bool:
        """Do one thing that is to be done. Whether there may be more."""
        if self._lost and not await self._heartbeat():
            return False
        group_state = self._group_state
        if group_state is None:
            return False
        assignment, silent = self._assignment_of(group_state), self._failure_detector.silent
        plan = assignor.plan(
            assignment,
            self.member,
            counts=self._counts_of(group_state, silent),
            held=self._held,
            silent=silent,
            now=time.time(),
        )
        if plan.assignment != group_state.assignment:
            return await self._write(plan.assignment, group_state, silent)
        if not (self.owns or self._lost):
            return False
        return await self._follow(assignment.owned_by(self.member), plan.hand_over)

    def _counts_of(self, group_state: GroupState, silent: Collection[str]) -> frozenset[int]:
        heard = [
            heartbeat.counts
            for member, heartbeat in group_state.heartbeats.items()
            if member not in silent
        ]
        return self._counts.union(*heard)

    async def _write(
        self,
        assignment: assignor.GroupAssignment,
        group_state: GroupState,
        silent: Mapping[str, int],
    ) -> bool:
        writing = self._broker.reassign(
            self._group, assignment, version=group_state.version, silent=silent
        )
        async with self._asking:
            answered = await self._answered(writing)
        failpoints.point("shares.written")
        return answered and await self._heartbeat()

    async def _follow(self, mine: frozenset[int], surplus: frozenset[int]) -> bool:
        """Have the listener do one thing about what it has and what it should have."""
        if self._lost or self._anew or self.standing is not MemberState.MEMBER:
            await self._begin(mine)
        elif gained := self._partitions(self._held | mine) - self._tps:
            self._held |= mine
            self._tps |= gained
            await self._have(self._listener.gain(gained))
        elif given := self._tps - self._partitions(self._held - surplus):
            await self._have(self._listener.hand_over(given))
            self._held -= surplus
            self._tps -= given
            failpoints.point("shares.handed_over")
        elif (held := (self._held | mine) - surplus) != self._held:
            self._held = held  # numbers of which this worker has no partitions
        else:
            return False
        logger.info("%s works on the partitions %s", printable(self.member), _shown(self._held))
        return True

    async def _begin(self, mine: frozenset[int]) -> None:
        self.standing = MemberState.MEMBER
        self._relied_until = self._sent + SILENCE
        self._lost = self._anew = False
        self._held, self._tps = mine, self._partitions(mine)
        await self._have(self._listener.start_over(self._tps))

    def _partitions(self, numbers: frozenset[int]) -> frozenset[TP]:
        return self._alone.union(tp for tp in self._wanted if tp.partition in numbers)

    async def _have(self, change: Awaitable[None]) -> None:
        """Have the listener change something; lose no cancellation meanwhile, and let all others
        run, also where it had nothing to wait for and wants another change at once.

        Before Python 3.12 ``asyncio.wait_for`` swallows one that comes just when it ends
        (python/cpython#86296), and Faust's services sleep by it until they are to stop.
        """
        await change
        await asyncio.sleep(0)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError


def worker_name() -> str:
    """The name of the worker that this process is."""
    return os.environ.get(NAME) or f"{socket.gethostname()}-{os.getpid()}"


def _new_member() -> str:
    return f"{worker_name()}{assignor.SEPARATOR}{secrets.token_hex(3)}"


def _shown(numbers: Collection[int]) -> str:
    return ", ".join(map(str, sorted(numbers))) or "none"
