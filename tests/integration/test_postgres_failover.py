"""An application while Postgres fails over to a standby, with all that was committed or without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import faust
import pytest
from faust.types import TP

from redfaust.brokers.broker import Outgoing
from redfaust.brokers.partitioner import partition_of
from redfaust.brokers.redis import RedisBroker
from redfaust.brokers.redis.offsets import BEGINNING
from redfaust.errors import DatabaseUnavailable
from redfaust.outbox.batch_publisher import BatchPublisher
from redfaust.outbox.outbox import Outbox
from redfaust.outbox.producers import ProducerState, open_producers
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.outbox_streams import OWNER, Stream, commit, nothing_is_refused
from tests.integration.test_failover import relaying
from tests.postgres_pair import Pair, running_pair
from tests.rights import as_owner

KEYS = 8
PARTITIONS = 4


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with running_pair(tmp_path) as pair:
        yield pair


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redfaust.outbox.maintenance.EVERY", 0.1)
    monkeypatch.setattr("redfaust.outbox.maintenance.LEFT_AFTER", 0.1)
    monkeypatch.setattr("redfaust.outbox.publisher.RETRY_EVERY", 0.05)
    monkeypatch.setattr("redfaust.processing.committer.RETRY_EVERY", 0.05)
    monkeypatch.setattr("redfaust.transports.rebalance.RETRY_EVERY", 0.05)
    monkeypatch.setattr("redfaust.transports.commits.RETRY_EVERY", 0.05)
    monkeypatch.setattr("redfaust.transports.commits.VERIFY_EVERY", 0.1)


class Ledger:
    """An application that keeps the numbers of each key, and passes them on if it is told to."""

    def __init__(self, broker_url: str, pair: Pair, *, sends: bool) -> None:
        self.pair = pair
        self.broker = RedisBroker(broker_url, default_partitions=PARTITIONS)
        self.app: faust.App = new_app(broker_url, pair.url)
        self.sent = 0
        self.expected: dict[str, list[int]] = {f"key-{key}": [] for key in range(KEYS)}
        numbers = self.app.topic("numbers", key_type=str)
        seen = self.app.topic("seen", key_type=str)
        lists = self.app.Table("lists", key_type=str, value_type=list, default=list)

        @self.app.agent(numbers)
        async def add(stream: Any) -> None:
            async for key, number in stream.items():
                lists[key] = [*lists[key], number]
                if sends:
                    await seen.send(key=key, value=number)

    async def send(self, count: int, keys: Iterable[str] | None = None) -> None:
        """The next numbers, to these keys or all, by what does not depend on Postgres."""
        keys = list(keys or self.expected)
        for number in range(self.sent, self.sent + count):
            await self.broker.append(
                [Outgoing("numbers", b"%d" % number, key.encode()) for key in keys]
            )
            for key in keys:
                self.expected[key].append(number)
        self.sent += count

    async def rows(self, url: str) -> Mapping[str, Sequence[int]]:
        """What a server has in the table."""
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch("SELECT key, value::text FROM test.lists")
        finally:
            await connection.close()
        return {row["key"]: json.loads(row["value"]) for row in rows}

    async def applied(self, url: str) -> None:
        """Wait until a server has everything, and no more than that."""

        async def has_all() -> bool:
            try:
                return await self.rows(url) == self.expected
            except (OSError, asyncpg.PostgresError):
                return False

        await eventually(has_all)

    async def seen(self) -> Mapping[str, Sequence[int]]:
        """What was passed on."""
        tps = [TP("seen", partition) for partition in range(PARTITIONS)]
        logs = await self.broker.read(dict.fromkeys(tps, BEGINNING), limit=10**6, wait=0)
        found: dict[str, list[int]] = {}
        for log in logs.values():
            for record in log:
                found.setdefault((record.key or b"").decode(), []).append(int(record.value or b""))
        return found


@asynccontextmanager
async def working(broker_url: str, pair: Pair, *, sends: bool) -> AsyncIterator[Ledger]:
    ledger = Ledger(broker_url, pair, sends=sends)
    try:
        async with running(ledger.app):
            yield ledger
    finally:
        await ledger.broker.close()


@asynccontextmanager
async def connected(pair: Pair) -> AsyncIterator[Database]:
    owner = await Database.connect(as_owner(pair.url))
    await migrate(owner)
    await owner.close()
    database = await Database.connect(pair.url)
    yield database
    await database.close()


async def test_with_a_synchronous_standby_nothing_is_lost_and_nothing_doubled(
    empty_valkey_url: str, pair: Pair
) -> None:
    await pair.wait_for_standby()
    async with (
        working(empty_valkey_url, pair, sends=True) as ledger,
        connected(pair) as database,
        relaying(database, ledger.broker),
    ):
        await ledger.send(5)
        await ledger.applied(pair.standby_url)
        sending = asyncio.ensure_future(ledger.send(200))
        outbox = Outbox(database)
        async with outbox.transaction() as tx:
            await tx.publish("others", b"1")
        await pair.kill_primary()
        await pair.promote()
        async with outbox.transaction() as tx:
            await tx.publish("others", b"2")
        await sending
        await ledger.applied(pair.standby_url)

        async def all_seen() -> bool:
            return await ledger.seen() == ledger.expected

        await eventually(all_seen)


async def test_what_a_standby_lacks_is_done_again_also_if_nothing_follows(
    empty_valkey_url: str, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(empty_valkey_url, pair, sends=False) as ledger:
        await ledger.send(5)
        await ledger.applied(pair.standby_url)
        pair.cut_off()
        await ledger.send(5)
        await ledger.applied(pair.primary.url)
        assert await ledger.rows(pair.standby_url) != ledger.expected
        await pair.kill_primary()
        await pair.promote()
        await ledger.applied(pair.standby_url)
    assert "has forgotten commits" in caplog.text


async def test_what_follows_does_not_pass_what_a_standby_lacks(
    empty_valkey_url: str, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.transports.commits.VERIFY_EVERY", 3600)
    async with working(empty_valkey_url, pair, sends=False) as ledger:
        await ledger.send(5)
        await ledger.applied(pair.standby_url)
        pair.cut_off()
        await ledger.send(5)
        await ledger.applied(pair.primary.url)
        await pair.kill_primary()
        await pair.promote()
        # Of each partition, one of the keys it has.
        some = {partition_of(key.encode(), PARTITIONS): key for key in ledger.expected}.values()
        assert len(some) < len(ledger.expected)
        await ledger.send(1, some)
        await ledger.applied(pair.standby_url)


async def test_what_was_sent_for_a_lost_commit_comes_twice_and_what_follows_is_not_lost(
    empty_valkey_url: str, pair: Pair
) -> None:
    async with working(empty_valkey_url, pair, sends=True) as ledger:
        await ledger.send(5)
        await ledger.applied(pair.standby_url)
        pair.cut_off()
        await ledger.send(5)
        await ledger.applied(pair.primary.url)

        async def all_seen() -> bool:
            return await ledger.seen() == ledger.expected

        await eventually(all_seen)
        await pair.kill_primary()
        await pair.promote()
        await ledger.send(5)
        await ledger.applied(pair.standby_url)

        async def twice() -> bool:
            again = [*range(10), *range(5, 15)]
            return await ledger.seen() == dict.fromkeys(ledger.expected, again)

        await eventually(twice)


async def test_what_a_synchronous_standby_lacks_is_not_believed(
    empty_valkey_url: str, pair: Pair
) -> None:
    """A commit that is interrupted while it waits for the standby has happened, for the primary."""
    await pair.wait_for_standby()
    async with (
        working(empty_valkey_url, pair, sends=True) as ledger,
        connected(pair) as database,
        relaying(database, ledger.broker),
    ):
        await ledger.send(5)
        await ledger.applied(pair.standby_url)
        pair.cut_off()
        before = await ledger.rows(pair.primary.url)
        await ledger.send(5)
        # Twice: the commit itself, and whoever looks whether it has happened.
        for _ in range(2):
            await eventually(lambda: interrupted(pair))
        assert await ledger.rows(pair.primary.url) != before
        await asyncio.sleep(1)  # in which the relay finds what is left
        await pair.kill_primary()
        await pair.promote()
        await ledger.applied(pair.standby_url)

        async def all_seen() -> bool:
            return await ledger.seen() == ledger.expected

        await eventually(all_seen)


async def test_what_is_left_is_published_when_the_synchronous_standby_has_it(pair: Pair) -> None:
    async with connected(pair) as database:
        await pair.wait_for_standby()
        async with database.transaction() as connection:
            producer_id = (await open_producers(connection, [OWNER]))[OWNER]
        pair.cut_off()
        commits = asyncio.ensure_future(commit(database, ProducerState(producer_id, 0), b"1"))
        await eventually(lambda: interrupted(pair))
        with pytest.raises(DatabaseUnavailable):
            await commits
        stream = Stream()
        batch_publisher = BatchPublisher(database, stream, dead_letter=nothing_is_refused)
        publishing = asyncio.ensure_future(batch_publisher.publish_left(0))

        async def waits() -> bool:
            return publishing.done() or bool(await database.pool.fetchval(WAITING))

        await eventually(waits)
        assert stream.entries == []
        pair.mend()
        await publishing
        assert [entry.value for entry in stream.entries] == [b"1"]


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


async def interrupted(pair: Pair) -> bool:
    """End sessions that wait for the standby; whether there were any."""
    connection = await asyncpg.connect(pair.primary.url)
    try:
        ended = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        )
    finally:
        await connection.close()
    return bool(ended)
