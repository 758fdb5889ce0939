"""The least that Faust's own machinery needs to read and write Redis Streams.

Everything above it is Faust's, unchanged: consumer, conductor, producer's buffer, tables. It costs
little: it reads from all partitions at once, a thousand entries of each, counts entries for
offsets, which Faust wants dense, and appends in pipelines. It is for one worker that begins at the
beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, ClassVar

import faust
import redis.asyncio
from faust.assignor.client_assignment import ClientAssignment
from faust.transport import base
from faust.transport.consumer import Consumer as FaustConsumer
from faust.transport.producer import Producer as FaustProducer
from faust.types import TP, ConsumerMessage, RecordMetadata
from mode import Service

from tests.bench.events import BATCH, PARTITIONS

AT_ONCE = 500
"""Entries that are appended in one pipeline."""

Entry = tuple[int, tuple[bytes, dict[bytes, bytes]]]


def stream_of(tp: TP) -> str:
    """Of a partition."""
    return f"{tp.topic}:{tp.partition}"


class Consumer(FaustConsumer):
    """Reads all partitions of all topics."""

    def __post_init__(self) -> None:
        self._client = connect(self.transport)
        self._assigned: set[TP] = set()
        self._last: dict[TP, bytes] = {}
        self._next: dict[TP, int] = {}

    async def subscribe(self, topics: Iterable[str]) -> None:
        tps = {TP(topic, number) for topic in topics for number in range(PARTITIONS)}
        if tps != self._assigned:
            # Not awaited: Faust's rebalance waits until this has returned.
            self.add_future(self._assign(tps))

    async def _assign(self, tps: set[TP]) -> None:
        app: Any = self.app
        app.on_rebalance_start()
        await self.on_partitions_revoked(self._assigned - tps)
        actives: dict[str, list[int]] = {}
        for tp in sorted(tps):
            actives.setdefault(tp.topic, []).append(tp.partition)
        app.assignor._assignment = ClientAssignment(actives=actives, standbys={})
        self._assigned = tps
        app.consumer_generation_id += 1
        await self.on_partitions_assigned(set(tps), app.consumer_generation_id)

    async def _getmany(
        self, active_partitions: set[TP] | None, timeout: float
    ) -> Mapping[TP, list[Entry]]:
        tps = {stream_of(tp).encode(): tp for tp in active_partitions or ()}
        after = {stream: self._last.get(tp, b"0") for stream, tp in tps.items()}
        read = await self._client.xread(after, count=BATCH, block=int(timeout * 1000))
        return {tps[stream]: self._numbered(tps[stream], entries) for stream, entries in read}

    def _numbered(self, tp: TP, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> list[Entry]:
        first = self._next.get(tp, 0)
        self._next[tp], self._last[tp] = first + len(entries), entries[-1][0]
        return list(enumerate(entries, first))

    def _to_message(self, tp: TP, record: Entry) -> ConsumerMessage:
        offset, (entry_id, fields) = record
        key, value = fields.get(b"key"), fields.get(b"value")
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            offset,
            int(entry_id.partition(b"-")[0]) / 1000,
            0,
            {},
            key,
            value,
            None,
            len(key or b""),
            len(value or b""),
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        await self._client.hset(
            "positions", mapping={stream_of(tp): offset for tp, offset in offsets.items()}
        )
        return True

    async def seek_to_committed(self) -> Mapping[TP, int]:
        return dict.fromkeys(self._assigned, 0)

    async def _seek(self, partition: TP, offset: int) -> None:
        """There is nothing before the beginning, from where all is read."""

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """As before."""

    async def position(self, tp: TP) -> int | None:
        return self._next.get(tp, 0)

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        return dict.fromkeys(partitions, 0)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        return {tp: await self._client.xlen(stream_of(tp)) for tp in partitions}

    def highwater(self, tp: TP) -> int:
        return self._next.get(tp, 0)

    def assignment(self) -> set[TP]:
        return self._assigned

    def topic_partitions(self, topic: str) -> int | None:  # noqa: ARG002
        return PARTITIONS

    def key_partition(
        self, topic: str, key: bytes | None, partition: int | None = None
    ) -> int | None:
        return TP(topic, hash(key) % PARTITIONS).partition if partition is None else partition

    async def create_topic(self, *args: Any, **kwargs: Any) -> None:
        """A stream is there with its first entry."""

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)


class Producer(FaustProducer):
    """Appends in pipelines what was sent meanwhile."""

    def __post_init__(self) -> None:
        self._client = connect(self.transport)
        self._waiting: list[tuple[TP, dict[str, bytes], asyncio.Future[RecordMetadata]]] = []
        self._news = asyncio.Event()

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        *args: Any,  # noqa: ARG002 - headers and such
        **kwargs: Any,  # noqa: ARG002
    ) -> Awaitable[RecordMetadata]:
        future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        fields = {name: data for name, data in (("key", key), ("value", value)) if data is not None}
        number = hash(key) % PARTITIONS if partition is None else partition
        self._waiting.append((TP(topic, number), fields, future))
        self._news.set()
        return future

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> RecordMetadata:
        return await (await self.send(*args, **kwargs))

    @Service.task
    async def _append(self) -> None:
        while not self.should_stop:
            await self._news.wait()
            batch = self._waiting[:AT_ONCE]
            pipe = self._client.pipeline(transaction=False)
            for tp, fields, _ in batch:
                pipe.xadd(stream_of(tp), fields)
            await pipe.execute()
            del self._waiting[: len(batch)]
            if not self._waiting:
                self._news.clear()
            for tp, _, future in batch:
                if not future.done():
                    future.set_result(RecordMetadata(tp.topic, tp.partition, tp, 0, None, None))

    async def flush(self) -> None:
        await self.buffer.flush()
        await asyncio.gather(*(future for _, _, future in self._waiting))

    async def create_topic(self, *args: Any, **kwargs: Any) -> None:
        """A stream is there with its first entry."""

    def key_partition(self, topic: str, key: bytes) -> TP:
        return TP(topic, hash(key) % PARTITIONS)

    def supports_headers(self) -> bool:
        return True


class Transport(base.Transport):
    """Wires the two to a Redis."""

    Consumer: ClassVar = Consumer
    Producer: ClassVar = Producer
    driver_version = "redis-py"


def connect(transport: Any) -> Any:
    """A client. RESP2 is what hiredis parses fastest."""
    return redis.asyncio.Redis.from_url(str(transport.url[0]), protocol=2)


def use_redis(app: faust.App, url: str) -> None:
    """Have an application speak to a Redis."""
    transport = Transport([url], app)  # type: ignore[list-item]
    app.transport = transport
    app.producer_transport = transport
