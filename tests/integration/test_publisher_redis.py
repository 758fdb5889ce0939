"""Owners of producers on Redis: entries that it does not take, and owners that are killed."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import AsyncIterator

import pytest
from faust.types import TP

from redfaust import failpoints
from redfaust.brokers.broker import Outgoing
from redfaust.brokers.redis import RedisBroker
from redfaust.brokers.redis.entry import MAX_HEADERS
from redfaust.brokers.redis.offsets import BEGINNING
from redfaust.outbox.producers import ProducerState, stage
from redfaust.outbox.publisher import Publisher
from redfaust.postgres.database import Database
from redfaust.processing.dead_letters import DeadLetters
from redfaust.processing.rejected import dead_letter_rejected
from tests.integration.outbox_streams import TIMEOUT
from tests.rights import as_owner

PARTITIONS = 2
OWNERS = ["shop/orders/0", "shop/orders/1"]
COMMITS = 40
"""Until an owner stops by itself."""
ROUND = 10
"""Commits that may be published in one go."""
SENDS = 5
"""Of each producer in each commit."""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(as_owner(database_url))
    async with database.transaction() as connection:
        await connection.execute("CREATE TABLE done AS SELECT 0 AS commits")
    yield database
    await database.close()


@pytest.fixture
async def broker(any_broker_url: str) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(any_broker_url, default_partitions=PARTITIONS)
    yield broker
    await broker.close()


async def own(database: Database, broker: RedisBroker, commits: int) -> None:
    """Commit, publishing meanwhile what was committed before."""
    publisher = Publisher(database, broker, dead_letter=dead_letter_rejected(database, "shop"))
    producers = dict(await publisher.take_over(OWNERS))
    publishing = asyncio.create_task(publisher.run())
    try:
        for _ in range(commits):
            async with database.transaction() as connection:
                number = await connection.fetchval(
                    "UPDATE done SET commits = commits + 1 RETURNING commits - 1"
                )
                staged = await stage(
                    connection,
                    {
                        producer.id: (producer.last_sequence, _sends(owner, number))
                        for owner, producer in producers.items()
                    },
                )
            failpoints.point("test.committed")
            publisher.put(staged)
            for owner, batch in zip(OWNERS, staged, strict=True):
                producers[owner] = ProducerState(batch.producer_id, batch.last_sequence)
            await publisher.has_room()
            if number % ROUND == ROUND - 1:  # otherwise all may be published in one go
                await asyncio.wait_for(publisher.drained(), TIMEOUT)
        await asyncio.wait_for(publisher.drained(), TIMEOUT)
    finally:
        publishing.cancel()


def _sends(owner: str, commit: int) -> list[Outgoing]:
    numbers = range(commit * SENDS, (commit + 1) * SENDS)
    return [
        Outgoing("events", b"%d" % number, b"%s-%d" % (owner.encode(), number % 3))
        for number in numbers
    ]


async def published(broker: RedisBroker) -> dict[bytes | None, list[int]]:
    tps = [TP("events", partition) for partition in range(PARTITIONS)]
    found: dict[bytes | None, list[int]] = {}
    for log in (await broker.read(dict.fromkeys(tps, BEGINNING), limit=10**6, wait=0)).values():
        for record in log:
            found.setdefault(record.key, []).append(int(record.value or b""))
    return found


async def everything_is_published_once_in_order(database: Database, broker: RedisBroker) -> None:
    async with database.transaction() as connection:
        commits = await connection.fetchval("SELECT commits FROM done")
    expected: dict[bytes | None, list[int]] = {}
    for commit in range(commits):
        for owner in OWNERS:
            for entry in _sends(owner, commit):
                expected.setdefault(entry.key, []).append(int(entry.value or b""))
    assert await published(broker) == expected


# Processes forked from one that has imported everything: each start saves 1.5 seconds.
_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload([__name__])


def own_until_killed(point: str, broker_url: str, database_url: str) -> None:
    """What the process does."""
    failpoints.point = failpoints.armed({failpoints.VARIABLE: point})

    async def run() -> None:
        broker = RedisBroker(broker_url, default_partitions=PARTITIONS)
        await own(await Database.connect(database_url), broker, COMMITS)

    asyncio.run(run())


@pytest.mark.parametrize(
    "points",
    [
        ["test.committed", "outbox.taken_over"],
        ["outbox.staged:3"],
        ["test.committed:3"],
        ["outbox.appended:2"],
        ["outbox.published:2"],
        ["outbox.appended", "outbox.taken_over", "test.committed", "outbox.appended:2"],
    ],
    ids=" then ".join,
)
async def test_wherever_an_owner_is_killed_every_event_is_published_once_in_order(
    database: Database,
    broker: RedisBroker,
    any_broker_url: str,
    database_url: str,
    points: list[str],
) -> None:
    await own(database, broker, 2)
    for point in points:
        process = _fork.Process(target=own_until_killed, args=(point, any_broker_url, database_url))
        process.start()
        await asyncio.to_thread(process.join, TIMEOUT)
        code = process.exitcode
        process.kill()
        assert code == -signal.SIGKILL
    await own(database, broker, 2)
    await everything_is_published_once_in_order(database, broker)


async def sent(database: Database, broker: RedisBroker, *entries: Outgoing) -> list[str]:
    """Publish them in one batch; returns the topics of what became dead letters."""
    publisher = Publisher(database, broker, dead_letter=dead_letter_rejected(database, "shop"))
    producer = (await publisher.take_over(OWNERS))[OWNERS[0]]
    async with database.transaction() as connection:
        publisher.put(await stage(connection, {producer.id: (producer.last_sequence, entries)}))
    publishing = asyncio.create_task(publisher.run())
    try:
        await asyncio.wait_for(publisher.drained(), TIMEOUT)
    finally:
        publishing.cancel()
    letters = await DeadLetters(database).list(app="shop")
    return sorted(f"{letter.topic}: {letter.error}" for letter in letters)


async def test_what_redis_does_not_take_becomes_a_dead_letter_and_the_rest_goes_on(
    database: Database, broker: RedisBroker
) -> None:
    headed = Outgoing("events", b"1", b"k", (("h", b""),) * (MAX_HEADERS + 1))
    wrong = [Outgoing("mine", b"%d" % n, partition=99) for n in range(2)]
    letters = await sent(
        database,
        broker,
        Outgoing("events", b"0", b"k"),
        headed,
        wrong[0],
        Outgoing("events", b"2", b"k"),
        wrong[1],
        Outgoing("mine", b"2", b"k", partition=1),
    )
    assert await published(broker) == {b"k": [0, 2]}
    assert [letter.partition(":")[0] for letter in letters] == ["events", "mine", "mine"]
    assert "3001 headers" in letters[0]
    assert "no partition 99" in letters[1]
    assert await sent(database, broker, Outgoing("events", b"3", b"k")) == letters
    assert await published(broker) == {b"k": [0, 2, 3]}


async def test_a_killed_owner_leaves_no_second_dead_letter(
    database: Database, broker: RedisBroker
) -> None:
    class Dying(RuntimeError):
        pass

    def die(point: str) -> None:
        if point == "outbox.dead_lettered":
            raise Dying

    headed = Outgoing("events", b"1", b"k", (("h", b""),) * (MAX_HEADERS + 1))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("redfaust.failpoints.point", die)
        with pytest.raises(Dying):
            await _take_over_with(database, broker, headed)
    assert len(await sent(database, broker, Outgoing("events", b"2", b"k"))) == 1
    assert await published(broker) == {b"k": [2]}


async def _take_over_with(database: Database, broker: RedisBroker, entry: Outgoing) -> None:
    publisher = Publisher(database, broker, dead_letter=dead_letter_rejected(database, "shop"))
    producer = (await publisher.take_over(OWNERS))[OWNERS[0]]
    async with database.transaction() as connection:
        await stage(connection, {producer.id: (producer.last_sequence, [entry])})
    heir = Publisher(database, broker, dead_letter=dead_letter_rejected(database, "shop"))
    await heir.take_over(OWNERS)
