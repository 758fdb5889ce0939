"""How partitions come to this worker, and how they go.

Normally single partitions do, and those that stay are not touched. All are begun anew where what
is in memory cannot be relied on: at the start, when partitions were lost without having been handed
over, when the broker was replaced, when a commit was refused. So it is for each change where
tables recover from changelog topics: Faust stops everything for that.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

from faust.types import TP

from redfaust import failpoints
from redfaust.errors import BrokerUnavailable, DatabaseError
from redfaust.printable import printable
from redfaust.processing.commit import take_partitions
from redfaust.processing.offset_tracker import Committed
from redfaust.processing.owned_partition import OwnedPartition
from redfaust.processing.state_backend import state_backend_of

if TYPE_CHECKING:
    from redfaust.tables.manager import TableManager
    from redfaust.transports.consumer import Consumer

logger = logging.getLogger(__name__)

RETRY_EVERY = 0.5
"""Seconds between two attempts while broker or database are away."""


class Rebalance:
    """Of one consumer; what :class:`~redfaust.brokers.membership.Membership` calls."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        # Its interface leaves out half of what a rebalance needs of Faust's application.
        self._app: Any = consumer.app
        self.owned: frozenset[TP] = frozenset()
        self.incarnation = ""
        """Of the broker, when partitions were last taken."""
        self._taken: Mapping[TP, Committed] = {}
        """In a rebalance, until the rows of these partitions are loaded."""
        self.blocked: frozenset[TP] = frozenset()
        """Partitions of this worker that could not be taken, since something else is in their place
        at the broker."""
        self._ready: Mapping[TP, Committed] = {}
        """After that, until Faust asks where to begin."""

    # -- one by one --------------------------------------------------------------------------

    async def gain(self, tps: frozenset[TP]) -> None:
        """Begin to work on partitions, beside those that this worker has."""
        if self._stops_everything:
            await self.start_over(self.owned | tps)
            return
        generation = self._app.consumer_generation_id
        self._app.on_rebalance_start()
        taken = await self._take(tps)
        numbers = self._consumer.numbers(tps) - self._consumer.numbers(self.owned)
        await self._move(self.owned | tps)
        await self._tables.gain(numbers)
        await self._app.on_partitions_assigned.send(set(self.owned))
        if generation == self._app.consumer_generation_id:  # otherwise all begin anew
            self._begin(taken)
        await self._complete()

    async def hand_over(self, tps: frozenset[TP]) -> None:
        """Let go of partitions whose next owner is waiting for them."""
        if self._stops_everything:
            await self.start_over(self.owned - tps)
            return
        self._app.on_rebalance_start()
        for owned_partition in self._partitions_of(tps):
            owned_partition.end()
        await self._consumer.commits.drain(tps)
        if not self._consumer.commits.is_durable(tps) or self._is_in_a_batch_with_others(tps):
            self.undo()
        await self._app.on_partitions_revoked.send(set(tps))
        await self._let_go(tps)
        await self._complete()

    @property
    def _stops_everything(self) -> bool:
        return self._tables.has_changelogs

    @property
    def _tables(self) -> TableManager:
        return cast("TableManager", self._app.tables)

    def _partitions_of(self, tps: Collection[TP]) -> list[OwnedPartition]:
        return [
            owned_partition
            for tp, owned_partition in self._consumer.owned_partitions.items()
            if tp in tps
        ]

    def _is_in_a_batch_with_others(self, tps: Collection[TP]) -> bool:
        """Whether events that did not finish have one scope with some that go on to count."""
        return any(
            len({tp in tps for tp in bound}) > 1
            for bound in self._consumer.commits.bound_together()
        )

    def _begin(self, taken: Mapping[TP, Committed]) -> None:
        for tp, committed in taken.items():
            self._consumer.owned_partitions[tp] = OwnedPartition(tp, committed)
        self._consumer.resume_partitions(taken)
        self._consumer.commits.commit_timer.want()  # where the group has not followed yet
        self._consumer.reading.wake()

    async def _let_go(self, tps: frozenset[TP]) -> None:
        for owned_partition in self._partitions_of(tps):
            owned_partition.lose()
            del self._consumer.owned_partitions[owned_partition.tp]
        # Faust may not have asked yet where to begin; then it is not to begin with these.
        self._ready = {tp: committed for tp, committed in self._ready.items() if tp not in tps}
        self.blocked -= tps
        self._consumer.poisoned.let_go(tps)
        if (state_backend := state_backend_of(self._app)) is not None:
            state_backend.unit.let_go(tps)
            await state_backend.committer.let_go(tps)
        await self._move(self.owned - tps)
        self._tables.let_go(tps, self._consumer.numbers(tps) - self._consumer.numbers(self.owned))

    async def _move(self, owned: frozenset[TP]) -> None:
        """Tell Faust's parts what this worker has now."""
        app, assigned = self._app, set(owned)
        self.owned = owned
        app.assignor.assign_to_this_worker(owned)
        app.unassigned = not owned
        revoked, newly_assigned = app._update_assignment(assigned)
        self._consumer.forget(revoked)
        await app.agents.on_rebalance(revoked, newly_assigned)
        await app.topics.on_partitions_assigned(assigned)

    async def _complete(self) -> None:
        self._app.on_rebalance_return()
        await self._app.on_rebalance_complete.send()
        self._app.on_rebalance_end()

    async def listen(self, tps: Collection[TP]) -> None:
        """Read partitions from their beginning, as somebody who is no member of the group: a client
        that waits for answers. Nothing is committed."""
        await self._move(frozenset(tps))
        unread = [
            tp
            for tp in tps
            if (owned_partition := self._consumer.owned_partitions.get(tp)) is None
            or not owned_partition.may_begin
        ]
        bounds = await self._consumer.broker.bounds(unread)
        self._begin({tp: Committed(first) for tp, (first, _) in bounds.items()})

    async def listen_anew(self, tps: Collection[TP]) -> None:
        """The same of partitions whose logs are others now."""
        for owned_partition in self._partitions_of(tps):
            logger.warning(
                "Partition %s of %s ends before what was read of it: it goes on at its beginning",
                owned_partition.tp.partition,
                printable(owned_partition.tp.topic),
            )
            owned_partition.lose()
        await self.listen(self.owned)

    # -- all anew ----------------------------------------------------------------------------

    def undo(self) -> None:
        """Undo in memory what was not committed; then all go on from what was."""
        self._forget()
        self._consumer.start_over()

    def _forget(self) -> None:
        # From now on nothing that is in progress counts any more.
        self._app.consumer_generation_id += 1
        self._taken = self._ready = {}
        for owned_partition in self._consumer.owned_partitions.values():
            owned_partition.lose()
        self._consumer.owned_partitions.clear()
        if (state_backend := state_backend_of(self._app)) is not None:
            state_backend.start_over()

    async def start_over(self, tps: frozenset[TP]) -> None:
        """Go through Faust's rebalance: begin anew, with these partitions and no others."""
        app, consumer = self._app, self._consumer
        app.on_rebalance_start()
        await consumer.on_partitions_revoked(set(self.owned - tps))
        failpoints.point("rebalance.revoked")
        self.owned = tps
        # Nothing is read until the committed positions are known, also of what stays: Faust
        # resumes the flow before.
        self._forget()
        if (state_backend := state_backend_of(app)) is not None:
            await state_backend.committer.start_over()
        # Before the tables are loaded: nobody else can change them any more.
        self._taken = await self._take(tps)
        failpoints.point("rebalance.taken")
        app.assignor.assign_to_this_worker(tps)
        await consumer.on_partitions_assigned(set(tps), app.consumer_generation_id)
        failpoints.point("rebalance.assigned")
        consumer.commits.commit_timer.want()  # where the group has not followed yet

    def tables_loaded(self) -> None:
        """Have events begin, when Faust asks where. It may ask earlier, on behalf of a rebalance
        before this one: what was written then would be lost when the rows are loaded."""
        self._ready, self._taken = self._taken, {}

    def ready(self) -> Mapping[TP, Committed]:
        """Where partitions that were taken are to be continued, once."""
        ready, self._ready = self._ready, {}
        return ready

    async def _take(self, tps: Collection[TP]) -> Mapping[TP, Committed]:
        consumer = self._consumer
        sources = [tp for tp in tps if not consumer.is_changelog(tp)]
        # Who waited for so long that others count it as dead must not fence them out.
        while sources and consumer.owns() and not consumer.should_stop:
            try:
                self.incarnation = await consumer.broker.incarnation()
                # Somebody may have emptied the broker since this worker subscribed. What is there
                # now came later, so that all of it is news.
                await consumer.join({tp.topic for tp in sources}, from_start=True)
                taken = await take_partitions(self._app, consumer.broker, self.incarnation, sources)
                consumer.waiting.over()
                self.blocked = (self.blocked & self.owned).union(sources).difference(taken)
                return taken
            except (BrokerUnavailable, DatabaseError) as error:
                consumer.waiting.because("The partitions cannot be taken now", error)
                await consumer.sleep(RETRY_EVERY)
        if sources and not consumer.should_stop:
            consumer.start_over()  # as soon as they can be relied on again
        return {}
