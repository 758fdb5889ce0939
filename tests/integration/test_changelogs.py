"""Tables beside Postgres: their rows are in a changelog topic, and recover from there."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from faust.types import TP

from redfaust.brokers.broker import Appended, Broker, Outgoing, Retention, TopicSpec
from redfaust.brokers.memory import MemoryBroker
from redfaust.processing.producer import Producer
from redfaust.processing.record_accumulator import MAX_BUFFERED
from redfaust.transports.by_url import broker_by_url
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_failures_agents import all_finished
from tests.integration.worker_processes import APP, PARTITIONS, Place, Workers


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clean all the time, also just after another process did."""
    monkeypatch.setattr("redfaust.brokers.log_cleaner.EVERY", 0.02)
    for module in ("redis.retention", "memory.broker"):
        monkeypatch.setattr(f"redfaust.brokers.{module}.CLEANER_LEASE", 0.05)


class Counting:
    """An application that counts words, in a table with a changelog."""

    def __init__(self, broker: str, store: str, directory: Path | None = None) -> None:
        self.app = new_app(broker, store, partitions=2)
        if directory is not None:
            self.app.conf.datadir = directory
        self.recovered = 0
        self.words = self.app.topic("words", key_type=str, value_type=str)
        self.counts = self.app.Table("counts", key_type=str, value_type=int, default=int)
        self.counts.on_recover(self._on_recover)

        @self.app.agent(self.words)
        async def count(stream: Any) -> None:
            async for word in stream:
                if word == "forget":
                    self.counts.pop("a", None)
                else:
                    self.counts[word] += 1

    async def _on_recover(self) -> None:
        self.recovered += 1

    async def send(self, *words: str) -> None:
        for word in words:
            await (await self.words.send(key="a" if word == "forget" else word, value=word))
        await eventually(lambda: all_finished(self.app, "words"))

    @property
    def broker(self) -> Broker:
        broker: Broker = self.app.transport.broker  # type: ignore[attr-defined] # ours
        return broker


STORES = ["memory://", "rocksdb://"]


@pytest.mark.parametrize("store", STORES)
async def test_a_table_is_right_after_a_restart(
    any_broker_url: str, store: str, tmp_path: Path
) -> None:
    words = [chr(ord("a") + n % 7) for n in range(50)]
    for turn in (1, 2, 3):
        counting = Counting(any_broker_url, store, tmp_path)
        async with running(counting.app):
            await eventually(lambda: counting.recovered > 0)  # noqa: B023
            before = Counter(dict(counting.counts.items()))
            assert before == Counter(
                {w: n * (turn - 1) for w, n in Counter(words).items() if turn > 1}
            )
            await counting.send(*words)
            changelog = counting.counts.changelog_topic.get_topic_name()
            assert (await counting.broker.retentions())[changelog] == Retention(compacted=True)

            async def is_compacted() -> bool:
                status = await counting.broker.status("test", changelog)  # noqa: B023
                return sum(partition.length for partition in status) <= 7 + 2

            await eventually(is_compacted)


@pytest.mark.parametrize("store", STORES)
async def test_a_table_goes_where_its_partitions_go(
    empty_valkey_url: str, store: str, tmp_path: Path
) -> None:
    """Handed over in order, by workers that are killed, and by some that come back."""
    broker = broker_by_url(empty_valkey_url, default_partitions=PARTITIONS)
    await broker.open()
    await broker.create_topic(TopicSpec("numbers", PARTITIONS))
    workers = Workers(Place(empty_valkey_url, store), broker)
    sent: Counter[str] = Counter()

    def start(name: str) -> None:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        workers.start(name, APP_DATADIR=str(directory))

    async def send() -> None:
        keys = [f"key-{n}" for n in range(20)]
        await broker.append([Outgoing("numbers", b"1", key.encode()) for key in keys * 5])
        sent.update(keys * 5)

    async def counted() -> Counter[str]:
        await eventually(lambda: _is_finished(broker))
        return await _rows(broker, f"{APP}-counts-changelog")

    try:
        start("one")
        await send()
        await workers.share("one")
        assert await counted() == sent
        start("two")
        await send()
        await workers.share("one", "two")
        await send()
        assert await counted() == sent
        assert await workers.end("one") == 0
        await send()
        assert await counted() == sent
        start("one")
        await workers.share("one", "two")
        await send()
        await workers.end("two", signal.SIGKILL)
        await send()
        await workers.share("one")
        assert await counted() >= sent
        start("two")
        await workers.share("one", "two")
        before = await counted()
        await send()
        await eventually(lambda: _is_finished(broker))
        assert await counted() - before == Counter(dict.fromkeys(sent, 5))
    finally:
        workers.kill_all()
        await broker.close()


async def _is_finished(broker: Broker) -> bool:
    return not any(partition.lag for partition in await broker.status(APP, "numbers"))


async def _rows(broker: Broker, changelog: str) -> Counter[str]:
    """What a table recovers from its changelog."""
    tps = [TP(changelog, number) for number in range(PARTITIONS)]
    firsts = {tp: first for tp, (first, _) in (await broker.bounds(tps)).items()}
    logs = await broker.read(firsts, limit=100_000, wait=0)
    rows: Counter[str] = Counter()
    for records in logs.values():
        rows.update({orjson.loads(r.key or b""): 0 for r in records})
        for record in records:
            rows[orjson.loads(record.key or b"")] = orjson.loads(record.value or b"0")
    return rows


async def test_a_table_in_postgres_has_no_changelog(database_url: str) -> None:
    counting = Counting("memory://without-changelog", database_url)
    async with running(counting.app):
        await counting.send("a")
        topics = await counting.broker.topics()
    assert "words" in topics
    assert "test-counts-changelog" not in topics


async def test_nothing_more_is_read_while_rows_wait_for_their_changelog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = new_app(f"memory://{uuid.uuid4().hex}", partitions=1)
    counts = app.Table("counts", key_type=str, value_type=int, default=int)
    seen = 0

    @app.agent(app.topic("words", key_type=str, value_type=str))
    async def count(stream: Any) -> None:
        nonlocal seen
        async for word in stream:
            counts[word] += 1
            seen += 1

    append, may = MemoryBroker.append, asyncio.Event()

    async def append_once_it_may(
        self: MemoryBroker, entries: Sequence[Outgoing]
    ) -> Sequence[Appended]:
        await may.wait()
        return await append(self, entries)

    broker: MemoryBroker = app.transport.broker  # type: ignore[attr-defined] # ours
    entries = [Outgoing("words", b'"a"', b"a", partition=0)] * 40_000
    producer = cast(Producer, app.producer)
    async with running(app):
        await eventually(lambda: bool(app.consumer.assignment()))
        monkeypatch.setattr(MemoryBroker, "append", append_once_it_may)
        await append(broker, entries)
        await eventually(lambda: producer.is_full)
        before = -1
        while before < seen:
            before = seen
            for _ in range(100):
                await asyncio.sleep(0)
        assert MAX_BUFFERED < seen < len(entries) / 2
        may.set()
        await eventually(lambda: all_finished(app, "words"))
        assert counts["a"] == seen == len(entries)


async def test_what_is_set_and_forgotten_is_logged_in_that_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counting = Counting(f"memory://{uuid.uuid4().hex}", "memory://")
    changelog = counting.counts.changelog_topic.get_topic_name()
    append = MemoryBroker.append
    logged: list[bytes | None] = []

    async def noted_append(self: MemoryBroker, entries: Sequence[Outgoing]) -> Sequence[Appended]:
        logged.extend(entry.value for entry in entries if entry.topic == changelog)
        return await append(self, entries)

    monkeypatch.setattr(MemoryBroker, "append", noted_append)
    async with running(counting.app):
        words = ["a", "forget"] * 20 + ["a"]
        await counting.broker.append([Outgoing("words", b'"%s"' % w.encode(), b"a") for w in words])
        await eventually(lambda: len(logged) == len(words))
    assert logged == [b"1", None] * 20 + [b"1"]
