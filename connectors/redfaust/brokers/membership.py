"""A worker's membership in its group.

::

    OUTSIDE ──want──▶ JOINING ──stands in the register──▶ MEMBER
                         ▲                                  │
                         └── was struck out, being silent ──┘
    any ──leave──▶ OUTSIDE

A member beats at regular intervals, in a task of its own, and hears with each answer who owns what.
From that :func:`~redfaust.brokers.shares.plan` says what is to be done.
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

from redfaust import crash
from redfaust.brokers import shares
from redfaust.brokers.broker import HEARTBEAT, SILENCE, Beat, Broker, Roll
from redfaust.brokers.liveness import Liveness
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


class Holder(Protocol):
    """Who works on the partitions. Called for one change at a time."""

    async def gain(self, tps: frozenset[TP]) -> None:
        """They are this worker's as well: begin."""

    async def hand_over(self, tps: frozenset[TP]) -> None:
        """Finish what is in progress on them, commit, and let go: then they are another's."""

    async def start_over(self, tps: frozenset[TP]) -> None:
        """Begin anew with exactly these. What is in memory and not committed has never happened.

        At the start, after partitions were lost, and when the broker was replaced.
        """


class Standing(enum.Enum):
    """Where a worker stands in its group."""

    OUTSIDE = "outside"
    JOINING = "joining"
    MEMBER = "member"


class Membership:
    """Keeps a worker among its group's members, and tells its holder what it owns."""

    def __init__(self, broker: Broker, group: str, holder: Holder) -> None:
        self.member = _new_member()
        self.standing = Standing.OUTSIDE
        self.info: Callable[[], Mapping[str, object]] = dict
        """What this worker tells of itself with each beat, as JSON."""
        self._broker = broker
        self._group = group
        self._holder = holder
        self._wanted: frozenset[TP] = frozenset()
        self._alone: frozenset[TP] = frozenset()
        self._counts: frozenset[int] = frozenset()
        self._held: frozenset[int] = frozenset()
        self._tps: frozenset[TP] = frozenset()
        self._changed = asyncio.Event()
        self._asking = asyncio.Lock()
        self._beaten = 0
        self._roll: Roll | None = None
        self._known = shares.Register()
        self._liveness = Liveness()
        self._sent = self._relied_until = 0.0
        self._anew = self._lost = False
        self._unheard = False

    @property
    def owns(self) -> bool:
        """Whether what the holder has is still this worker's, as far as its clock knows."""
        return time.monotonic() < self._relied_until

    def owners(self) -> Mapping[int, Mapping[str, object]]:
        """By number, what its owner tells of itself, as it was last heard."""
        if self._roll is None:
            return {}
        beats, owners = self._roll.beats, self._register_of(self._roll).owners
        return {n: beats[o.member].info for n, o in owners.items() if o.member in beats}

    def want(self, tps: frozenset[TP], *, alone: frozenset[TP] = frozenset()) -> None:
        """Say which partitions there are to be worked on.

        Those of ``alone`` are of no interest to other members: this one always has them.
        """
        self._wanted, self._alone = tps, alone
        topics: dict[str, int] = {}
        for tp in tps:
            topics[tp.topic] = max(topics.get(tp.topic, 0), tp.partition + 1)
        self._counts = frozenset(topics.values())
        if self.standing is Standing.OUTSIDE:
            self.standing = Standing.JOINING
        self._changed.set()

    def start_over(self) -> None:
        """Have the holder begin anew with all that it has."""
        self._anew = True
        self._changed.set()

    def give_up(self, tps: Collection[TP]) -> None:
        """Rely on nothing any more, since somebody else has taken these; then ask who owns what."""
        if self._held.intersection(tp.partition for tp in tps):
            self._lose("another worker has taken partitions of this one")

    async def run(self) -> None:
        """Be a member until cancelled."""
        await self._changed.wait()
        beating = asyncio.ensure_future(self._beat_on())
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
        """Hand over at once to whoever is there. Nothing that the holder has counts any more."""
        if self.standing is Standing.OUTSIDE:
            return
        self.standing = Standing.OUTSIDE
        self._relied_until = 0.0
        try:
            async with asyncio.timeout(LEAVE_FOR):
                while not await self._strike_out_this_one():
                    pass
                crash.point("shares.left")
        except (BrokerError, TimeoutError) as error:
            logger.warning(
                "The partitions will be handed over when this worker has been silent for %s s: %s",
                SILENCE,
                str(error) or "no answer",
            )

    async def _strike_out_this_one(self) -> bool:
        roll = await self._broker.roll(self._group)
        last = roll.beats[self.member].number if self.member in roll.beats else 0
        return await self._broker.reassign(
            self._group,
            shares.without(roll.register, self.member, time.time()),
            version=roll.version,
            silent={self.member: last},
        )

    # -- beating -----------------------------------------------------------------------------

    async def _beat_on(self) -> None:
        while True:
            answered = await self._beat()
            if answered and self._roll is not None:
                answered = await self._answered(
                    self._broker.reassigned(self._group, self._roll.version, wait=HEARTBEAT)
                )
            if not answered:
                await asyncio.sleep(HEARTBEAT)

    async def _beat(self) -> bool:
        """Say that this worker lives, and hear who owns what. Whether there was an answer."""
        async with self._asking:
            return self.standing is not Standing.OUTSIDE and await self._answered(self._ask())

    async def _ask(self) -> None:
        self._beaten += 1
        beat = Beat(self._beaten, self._counts, self.info())
        sent = time.monotonic()
        self._hear(await self._broker.beat(self._group, self.member, beat), sent)

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

    def _hear(self, roll: Roll, sent: float) -> None:
        self._roll, self._sent = roll, sent
        register = self._register_of(roll)
        self._liveness.heard(
            {member: beat.number for member, beat in roll.beats.items()},
            register.members,
            sent=sent,
            answered=time.monotonic(),
        )
        if self.standing is Standing.MEMBER and self.member not in register.members:
            self.standing = Standing.JOINING
            self._lose("this worker was silent for so long that others count it as dead")
        elif not self._held <= register.owned_by(self.member):
            self._lose("partitions of this worker are another's now")
        elif register is roll.register and not self._lost:
            self._relied_until = sent + SILENCE
        self._changed.set()

    def _register_of(self, roll: Roll) -> shares.Register:
        """The register, or the last one that was heard of if the broker has none any more."""
        if roll.register != shares.Register():
            self._known = roll.register
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
        if self._lost and not await self._beat():
            return False
        roll = self._roll
        if roll is None:
            return False
        register, silent = self._register_of(roll), self._liveness.silent
        plan = shares.plan(
            register,
            self.member,
            counts=self._counts_of(roll, silent),
            held=self._held,
            silent=silent,
            now=time.time(),
        )
        if plan.register != roll.register:
            return await self._write(plan.register, roll, silent)
        if not (self.owns or self._lost):
            return False
        return await self._follow(register.owned_by(self.member), plan.hand_over)

    def _counts_of(self, roll: Roll, silent: Collection[str]) -> frozenset[int]:
        heard = [beat.counts for member, beat in roll.beats.items() if member not in silent]
        return self._counts.union(*heard)

    async def _write(
        self, register: shares.Register, roll: Roll, silent: Mapping[str, int]
    ) -> bool:
        writing = self._broker.reassign(self._group, register, version=roll.version, silent=silent)
        async with self._asking:
            answered = await self._answered(writing)
        crash.point("shares.written")
        return answered and await self._beat()

    async def _follow(self, mine: frozenset[int], surplus: frozenset[int]) -> bool:
        """Have the holder do one thing about what it has and what it should have."""
        if self._lost or self._anew or self.standing is not Standing.MEMBER:
            await self._begin(mine)
        elif gained := self._partitions(self._held | mine) - self._tps:
            self._held |= mine
            self._tps |= gained
            await self._have(self._holder.gain(gained))
        elif given := self._tps - self._partitions(self._held - surplus):
            await self._have(self._holder.hand_over(given))
            self._held -= surplus
            self._tps -= given
            crash.point("shares.handed_over")
        elif (held := (self._held | mine) - surplus) != self._held:
            self._held = held  # numbers of which this worker has no partitions
        else:
            return False
        logger.info("%s works on the partitions %s", printable(self.member), _shown(self._held))
        return True

    async def _begin(self, mine: frozenset[int]) -> None:
        self.standing = Standing.MEMBER
        self._relied_until = self._sent + SILENCE
        self._lost = self._anew = False
        self._held, self._tps = mine, self._partitions(mine)
        await self._have(self._holder.start_over(self._tps))

    def _partitions(self, numbers: frozenset[int]) -> frozenset[TP]:
        return self._alone.union(tp for tp in self._wanted if tp.partition in numbers)

    async def _have(self, change: Awaitable[None]) -> None:
        """Have the holder change something; lose no cancellation meanwhile, and let all others run,
        also where it had nothing to wait for and wants another change at once.

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
    return f"{worker_name()}{shares.SEPARATOR}{secrets.token_hex(3)}"


def _shown(numbers: Collection[int]) -> str:
    return ", ".join(map(str, sorted(numbers))) or "none"
