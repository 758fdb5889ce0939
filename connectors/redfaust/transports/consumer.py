"""Faust's consumer, for any broker.

What it does has rooms of its own: which partitions this worker works on (``rebalance``), how their
entries get to the agents (``reading``), and when what these did is durable (``commits``). Here is
what they share, and what Faust asks for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from faust.transport.consumer import Consumer as FaustConsumer
from faust.transport.consumer import RecordMap
from faust.types import TP, ConsumerMessage, Message
from faust.types.transports import TPorTopicSet
from mode import Seconds, Service
from mode.services import ServiceT

from redfaust import failpoints
from redfaust.brokers.broker import Broker, TopicSpec
from redfaust.brokers.log_cleaner import LogCleaner
from redfaust.brokers.membership import Membership
from redfaust.errors import BrokerError, DatabaseError
from redfaust.processing import topic_config
from redfaust.processing.event_stream import EventStream
from redfaust.processing.offset_tracker import Committed
from redfaust.processing.owned_partition import OwnedPartition
from redfaust.processing.parking import ParkedMessage
from redfaust.processing.poisoned_events import PoisonedEvents
from redfaust.processing.replies import ReplyConsumer
from redfaust.processing.retrying import Retrier
from redfaust.processing.state_backend import state_backend_of
from redfaust.processing.waiting import Waiting
from redfaust.tables.manager import TableManager
from redfaust.transports.assignor import WEB
from redfaust.transports.commits import Commits
from redfaust.transports.conductor import Conductor
from redfaust.transports.log_watch import LogWatch
from redfaust.transports.reading import Reading
from redfaust.transports.rebalance import Rebalance
from redfaust.transports.settings import tell_of_ignored
from redfaust.transports.worker_info import worker_info

if TYPE_CHECKING:
    from redfaust.tables.manager import TableManager


class Consumer(FaustConsumer):
    """Reads the partitions that this worker owns, in order, with bounded buffers."""

    mundane_level = "debug"

    def __post_init__(self) -> None:
        self.owned_partitions: dict[TP, OwnedPartition] = {}
        """The partitions that are worked on."""
        self.progress_noted = False
        """Whether :meth:`note_progress` has been called since the loop was last free."""
        self.poisoned = PoisonedEvents(self.app)
        self.warnings: Sequence[str] = ()
        """How broker and database may lose what they have confirmed, as found at the start."""
        self._waiting = Waiting()
        """Where the store is not Postgres."""
        self.reading = Reading(self)
        self.commits = Commits(self)
        self.rebalance = Rebalance(self)
        self._topic_partitions: dict[str, int] = {}
        self._membership = Membership(self.broker, self.app.conf.id, self.rebalance)
        self._started_at = datetime.now(UTC)
        self._told: Callable[[], Mapping[str, object]] = dict
        self._membership.info = self._introduce

    @property
    def broker(self) -> Broker:
        return cast("Broker", self.transport.broker)  # type: ignore[attr-defined]

    @property
    def member(self) -> str:
        """The name under which this worker is known to the others."""
        return self._membership.member

    async def on_start(self) -> None:
        tell_of_ignored(self.app)
        await self.broker.open()

    async def on_stop(self) -> None:
        await self.wait_empty()

    async def on_shutdown(self) -> None:
        # The last commit is done: only now an heir may start.
        await self._membership.leave()
        await cast(ReplyConsumer, self.app._reply_consumer).delete_topics()  # type: ignore[attr-defined]
        await self.broker.close()

    # -- ownership ---------------------------------------------------------------------------

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Ask for the partitions of these topics; ownership comes later, by a rebalance."""
        tps = set()
        declared = {
            name: channel.partitions
            for channel in cast(Conductor, self.app.topics)
            for name in channel.topics
        }
        for topic in topics:
            partitions = declared.get(topic) or self.app.conf.topic_partitions
            spec = TopicSpec(topic, partitions)
            count = await self.broker.create_topic(spec)
            self._topic_partitions[topic] = count
            tps |= {TP(topic, partition) for partition in range(count)}
        if self.app.client_only:
            await self.rebalance.listen(tps)
            return
        await topic_config.declare(self.app, self.broker)
        # Tables recover from the beginning: no position of a group may keep anything for them.
        from_start = self.app.conf.consumer_auto_offset_reset == "earliest"
        await self.join(set(topics) - self.app.tables.changelog_topics, from_start=from_start)
        alone = frozenset(tp for tp in tps if self._has_alone(tp))
        self._membership.want(frozenset(tps) - alone, alone=alone)

    async def join(self, topics: Iterable[str], *, from_start: bool) -> None:
        """Make sure that the application's group has a position in all partitions of topics."""
        await self.broker.join(self.app.conf.id, topics, from_start=from_start)

    @Service.task
    async def _own(self) -> None:
        await self._membership.run()

    @Service.task
    async def _clean_logs(self) -> None:
        await LogCleaner(self.broker, self.member).run()

    def owns(self) -> bool:
        """Whether the partitions are this worker's still, as far as its clock knows."""
        return self._membership.owns

    def start_over(self) -> None:
        """Have all partitions begin anew."""
        self._membership.start_over()

    def give_up(self) -> None:
        """Somebody else has taken partitions."""
        self._membership.give_up(self.rebalance.owned)

    def announce(self, info: Callable[[], Mapping[str, object]]) -> None:
        """Tell this of the worker to who asks about the group: it is called for each heartbeat."""
        self._told = info

    @property
    def waiting(self) -> Waiting:
        """What this worker waits for, if anything."""
        state_backend = state_backend_of(self.app)
        return self._waiting if state_backend is None else state_backend.waiting

    def _introduce(self) -> Mapping[str, object]:
        conf, waiting = self.app.conf, self.waiting
        web = {WEB: str(conf.canonical_url)} if conf.web_enabled else {}
        waits = {"waits": {"reason": waiting.reason, "since": waiting.since}}
        warnings = {"warnings": list(self.warnings)} if self.warnings else {}
        return {
            **worker_info(self.app, self.assignment(), self._started_at),
            **self._told(),
            **web,
            **warnings,
            **(waits if waiting.reason is not None else {}),
        }

    def owners(self) -> Mapping[int, Mapping[str, object]]:
        """By number of a partition, what the worker that owns it tells of itself."""
        return self._membership.owners()

    def shared_topics(self) -> Mapping[str, int]:
        """The topics that workers share among them, with their numbers of partitions."""
        counts = self._topic_partitions.items()
        return {topic: count for topic, count in counts if not self._has_alone(TP(topic, 0))}

    def assignment(self) -> set[TP]:
        return set(self.rebalance.owned)

    def _has_alone(self, tp: TP) -> bool:
        # Answers to what this worker asks are of no interest to others. Rows that all workers have
        # are of interest to each.
        if tp.topic == self.app.conf.reply_to:
            return True
        return tp.topic in self.app.tables.topics_of_all  # type: ignore[attr-defined] # ours

    def numbers(self, tps: Iterable[TP]) -> set[int]:
        """The numbers of those partitions that workers share among them, and so of their rows."""
        return {tp.partition for tp in tps if not self._has_alone(tp)}

    def is_changelog(self, tp: TP) -> bool:
        """Whether a table recovers from this partition."""
        return self._is_changelog_tp(tp)

    def forget(self, tps: Collection[TP]) -> None:
        """Keep nothing for Faust of partitions that have gone."""
        self._get_active_partitions().difference_update(tps)
        self._paused_partitions.difference_update(tps)
        for tp in tps:
            self._committed_offset.pop(tp, None)

    # -- reading -----------------------------------------------------------------------------

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        await self.reading.run(fetcher)

    def is_active(self, tp: TP) -> bool:
        """Whether a partition is not paused."""
        return tp in self._get_active_partitions()

    def stop_flow(self) -> None:
        super().stop_flow()
        for owned_partition in self.owned_partitions.values():
            owned_partition.end()

    @Service.task
    async def _wake_reader(self) -> None:
        await self.reading.wake_broker()

    @Service.task
    async def _publish(self) -> None:
        await self.app.tables.wait_until_tables_registered()
        if (state_backend := state_backend_of(self.app)) is not None:
            await state_backend.publisher.run()

    @Service.task
    async def _relay(self) -> None:
        await self.app.tables.wait_until_tables_registered()
        tables = cast("TableManager", self.app.tables)
        if tables.state_backend is not None and tables.runs_relay and not self.app.client_only:
            await tables.state_backend.relay(self.broker)

    @Service.task
    async def _retry(self) -> None:
        await self.app.tables.wait_until_tables_registered()
        if (state_backend := state_backend_of(self.app)) is not None:
            tables = cast("TableManager", self.app.tables)
            prepare = tables.read_unreadable_again
            await Retrier(
                self.app, state_backend, self.owned_partitions, self._deliver_again, prepare
            ).run()

    async def _deliver_again(self, message: ParkedMessage, reader: str) -> bool:
        if self.poisoned.set_parked_aside(message, reader):
            return True
        return await cast(Conductor, self.app.topics).deliver_again(message, reader)

    # -- positions ---------------------------------------------------------------------------

    async def seek_to_committed(self) -> Mapping[TP, int]:
        for tp, committed in self.rebalance.ready().items():
            self.owned_partitions[tp] = OwnedPartition(tp, committed)
        self.reading.wake()
        return {tp: owned_partition.next for tp, owned_partition in self.owned_partitions.items()}

    async def _seek(self, partition: TP, offset: int) -> None:
        self.owned_partitions[partition] = OwnedPartition(partition, Committed(offset))
        self.reading.wake()

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        for tp, offset in partitions.items():
            await self._seek(tp, offset)

    async def position(self, tp: TP) -> int | None:
        return self.owned_partitions[tp].next if tp in self.owned_partitions else None

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        bounds = await self.broker.bounds(partitions)
        return {tp: first for tp, (first, _) in bounds.items()}

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        bounds = await self.broker.bounds(partitions)
        return {tp: end for tp, (_, end) in bounds.items()}

    def highwater(self, tp: TP) -> int:
        return self.owned_partitions[tp].log_end if tp in self.owned_partitions else 0

    def topic_partitions(self, topic: str) -> int | None:
        return self._topic_partitions.get(topic)

    def key_partition(
        self, topic: str, key: bytes | None, partition: int | None = None
    ) -> int | None:
        if partition is not None or key is None:
            return partition
        return int(self.app.producer.key_partition(topic, key).partition)

    @Service.task
    async def _watch_logs(self) -> None:
        await LogWatch(self).run()

    # -- what is finished --------------------------------------------------------------------

    def ack(self, message: Any) -> bool:
        """Note a message as finished by all who got it."""
        self.note_progress()
        return bool(message.finish(message.refcount))

    def finished_by(self, message: Message, reader: str) -> None:
        """Note a message as finished by one of several agents; the last one acknowledges it."""
        owned_partition: OwnedPartition = message.owned_partition  # type: ignore[attr-defined] # one of ours
        if reader and owned_partition.counts and not message.acked:
            owned_partition.tracker.finish_by(message.offset, reader)
            self.note_progress()

    def read_by(self, stream: EventStream[Any]) -> None:
        """Note a stream, whose events in progress are waited for before partitions move."""
        self.commits.read_by(stream)

    def note_progress(self) -> None:
        """Note that a stream has one event less in progress.

        What follows from it is done as soon as the loop is free: once for many events.
        """
        if not self.progress_noted:
            self.progress_noted = True
            asyncio.get_running_loop().call_soon(self._tell_progress)

    def read_on(self) -> None:
        """Note that a queue has run empty."""
        self.reading.relieve()

    def _tell_progress(self) -> None:
        self.progress_noted = False
        failpoints.point("consumer.finished")
        self.commits.note_progress()
        self.reading.relieve()

    @property
    def unacked(self) -> set[Message]:
        return {event.message for event in self.commits.in_progress(self.owned_partitions)}

    async def wait_empty(self) -> None:
        """Let events in progress finish, and commit, within bounds."""
        await self.commits.drain(self.assignment())

    # -- the commit --------------------------------------------------------------------------

    @Service.task
    async def _commit_handler(self) -> None:
        await self.commits.run()

    @Service.task
    async def _commit_livelock_detector(self) -> None:
        """Nothing. Faust wakes up for each partition four times a second, so that its driver for
        Kafka can look at it."""

    @Service.task
    async def _warn(self) -> None:
        """Say once how broker and database may lose what they have confirmed."""
        await self.app.tables.wait_until_tables_registered()
        try:
            warnings = [*await self.broker.warnings()]
            if (state_backend := state_backend_of(self.app)) is not None:
                warnings += await state_backend.warnings()
        except (BrokerError, DatabaseError) as error:  # who works with them says so
            self.log.debug("Whether servers keep what they confirm cannot be told: %s", error)
            return
        for warning in warnings:
            self.log.warning("%s", warning)
        self.warnings = warnings

    @Service.task
    async def _verify(self) -> None:
        await self.app.tables.wait_until_tables_registered()
        await self.commits.verify()

    async def on_task_error(self, exc: BaseException) -> None:
        """Faust commits, and has the agent that failed wait for it. The next commit will do."""

    async def maybe_wait_for_commit_to_finish(self) -> bool:
        """Wait for a commit that is on its way; whether there was one.

        Faust's takes the cancellation of who waits for that of the commit, and begins another.
        """
        if self._commit_fut is None:
            return False
        await asyncio.wait({self._commit_fut})
        return True

    async def force_commit(
        self,
        topics: TPorTopicSet | None = None,  # noqa: ARG002
        start_new_transaction: bool = True,  # noqa: ARG002 - Kafka's
    ) -> bool:
        """Commit all that is finished; never only some topics."""
        return await self.commits.make()

    def note_committed(self, tp: TP, position: int) -> None:
        """Tell Faust how far a partition is committed."""
        self._committed_offset[tp] = position

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        raise NotImplementedError("force_commit commits")

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> RecordMap:
        raise NotImplementedError("_drain_messages reads")

    async def create_topic(
        self,
        topic: str,
        partitions: int,
        replication: int,
        *,
        config: Mapping[str, Any] | None = None,
        timeout: Seconds = 30.0,
        retention: Seconds | None = None,
        compacting: bool | None = None,
        deleting: bool | None = None,
        ensure_created: bool = False,
    ) -> None:
        await self.app.producer.create_topic(
            topic,
            partitions,
            replication,
            config=config,
            timeout=timeout,
            retention=retention,
            compacting=compacting,
            deleting=deleting,
            ensure_created=ensure_created,
        )

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        raise NotImplementedError("reading makes messages")

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)
