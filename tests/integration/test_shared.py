"""Shared delivery: events go to whoever is free, on whichever worker."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast
from uuid import uuid4

import faust
import pytest
from faust.exceptions import ImproperlyConfigured
from redis.asyncio import Redis

from redfaust.brokers.broker import Broker, Outgoing, SequencedEntry
from redfaust.brokers.broker import ProducerBatch as Batch
from redfaust.errors import BrokerUnavailable
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from redfaust.postgres.queries import load
from redfaust.processing.dead_letters import DeadLetterHeading, DeadLetters
from redfaust.processing.retries import NO_RETRIES, Retries
from redfaust.processing.shared import delivery, inbox
from redfaust.processing.shared.message import State
from redfaust.processing.topic import Topic
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running
from tests.integration.test_batches import fetch, sent_to
from tests.rights import as_administrator

Work = Callable[[Any], Awaitable[object]]
SOON = Retries(attempts=3, delay=0.01)


def memory() -> str:
    return f"memory://{uuid4().hex}"


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    """Where the application has its state."""
    url = "memory://" if request.param == "memory" else request.getfixturevalue("database_url")
    return cast("str", url)


def declare(
    app: faust.App, work: Work, *, concurrency: int = 4, topic: str = "letters", **options: Any
) -> Any:
    """An agent that does this with each event of a topic, which is returned."""
    letters = app.topic(topic, key_type=str)

    @app.agent(letters, name="mail", delivery="shared", concurrency=concurrency, **options)
    async def mail(stream: Any) -> None:
        async for event in stream.events():
            await work(event)

    return letters


async def all_settled(app: faust.App) -> bool:
    """Whether everything that came for the agent is done with."""
    broker = cast("Broker", app.transport.broker)  # type: ignore[attr-defined]
    status = await broker.status("test/mail", "letters")
    return any(p.length for p in status) and not any(p.lag for p in status)


def claims_last(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("redis", "memory"):
        monkeypatch.setattr(f"redfaust.brokers.{kind}.share_group.CLAIM_FOR", seconds)


async def letters_of(database_url: str) -> Sequence[DeadLetterHeading]:
    database = await Database.connect(database_url)
    try:
        return await DeadLetters(database).list()
    finally:
        await database.close()


async def test_all_instances_of_all_workers_work_at_a_time(any_broker_url: str, store: str) -> None:
    """Two workers with four instances each, all of them on events of one key."""
    done: list[int] = []
    together = asyncio.Barrier(8)

    async def work(event: Any) -> None:
        await together.wait()
        done.append(event.value)

    async with AsyncExitStack() as workers:
        apps = [new_app(any_broker_url, store) for _ in range(2)]
        letters = [declare(app, work) for app in apps]
        for app in apps:
            await workers.enter_async_context(running(app))
        for number in range(24):
            await letters[0].send(key="one", value=number)
        await eventually(lambda: len(done) == 24)
        await eventually(lambda: all_settled(apps[0]))
    assert sorted(done) == list(range(24))


async def test_ordered_agents_of_the_topic_get_the_events_as_well(
    any_broker_url: str, store: str
) -> None:
    app, mailed, counted = new_app(any_broker_url, store), [], []

    async def work(event: Any) -> None:
        mailed.append(event.value)

    letters = declare(app, work)

    @app.agent(letters, name="count")
    async def count(stream: Any) -> None:
        async for number in stream:
            counted.append(number)

    async with running(app):
        for number in range(20):
            await letters.send(key="key", value=number)
        await eventually(lambda: len(mailed) == len(counted) == 20)
    assert sorted(mailed) == counted == list(range(20))


async def test_what_a_failed_attempt_sends_is_never_there(
    any_broker_url: str, database_url: str
) -> None:
    app, attempts = new_app(any_broker_url, database_url), Counter[int]()
    seen = app.topic("seen", key_type=str)

    async def work(event: Any) -> None:
        number = event.value
        await seen.send(key=event.key, value=number, headers={"h": b"1"})
        seen.send_soon(key=event.key, value=-number)
        await cast(Topic, seen).schedule(at=datetime.now(UTC), key="later", value=number * 100)
        attempts[number] += 1
        if attempts[number] < 3 or number == 5:
            raise ValueError(number)

    letters = declare(app, work, retries=SOON)
    async with running(app):
        for number in range(1, 10):
            await letters.send(key=f"key-{number}", value=number)
        await eventually(lambda: all_settled(app))
        # Nobody else publishes what such an agent sends: its own worker does.
        expected = sorted(value for n in range(1, 10) if n != 5 for value in (n, -n, n * 100))
        await eventually(lambda: _are_there(any_broker_url, expected))
    assert attempts == dict.fromkeys(range(1, 10), 3)
    [letter] = await letters_of(database_url)
    assert (letter.agent, letter.value, letter.attempts) == ("mail", b"5", 3)


async def _are_there(broker_url: str, expected: list[int]) -> bool:
    return sorted(int(value or b"0") for value in await sent_to(broker_url, "seen")) == expected


async def test_without_a_database_what_fails_is_tried_again(any_broker_url: str) -> None:
    app, attempts = new_app(any_broker_url), Counter[int]()

    async def work(event: Any) -> None:
        attempts[event.value] += 1
        if event.value == 2 or attempts[event.value] < 2:
            raise ValueError

    letters = declare(app, work, retries=SOON)
    async with running(app):
        for number in range(1, 4):
            await letters.send(key="key", value=number)
        await eventually(lambda: all_settled(app))
    assert attempts == {1: 2, 2: 3, 3: 2}


async def test_an_event_that_waits_for_another_attempt_holds_up_nobody(database_url: str) -> None:
    app, done = new_app(memory(), database_url), []
    failed = asyncio.Event()

    async def work(event: Any) -> None:
        if event.value is None:
            failed.set()
            raise ValueError
        done.append(event.value)

    letters = declare(app, work, concurrency=1, retries=Retries(attempts=2, delay=600))
    async with running(app):
        await letters.send(key="key", value=None)
        await asyncio.wait_for(failed.wait(), PATIENCE)
        for number in range(10):
            await letters.send(key="key", value=number)
        await eventually(lambda: len(done) == 10)


async def test_attempts_outlive_their_worker(any_broker_url: str, database_url: str) -> None:
    retries = Retries(attempts=3, delay=0.3, factor=1)
    attempts: list[int] = []

    async def work(event: Any) -> None:
        attempts.append(event.value)
        raise ValueError

    first = new_app(any_broker_url, database_url)
    letters = declare(first, work, retries=retries)
    async with running(first):
        await letters.send(key="key", value=1)
        await eventually(lambda: len(attempts) > 0)
    second = new_app(any_broker_url, database_url)
    declare(second, work, retries=retries)
    async with running(second):
        await eventually(lambda: all_settled(second))
    assert attempts == [1, 1, 1]
    [letter] = await letters_of(database_url)
    assert letter.attempts == 3


async def test_what_is_given_up_is_told_and_replayed_to_its_agent_alone(
    any_broker_url: str, database_url: str
) -> None:
    app, seen, mended = new_app(any_broker_url, database_url), Counter[str](), False
    told = app.topic("told", key_type=str)

    async def work(event: Any) -> None:
        if not mended:
            raise ValueError
        seen["mail"] += 1

    async def tell(event: Any, error: Exception) -> None:
        await told.send(key=event.key, value=type(error).__name__)

    letters = declare(app, work, retries=NO_RETRIES, on_give_up=tell)

    @app.agent(letters, name="count")
    async def count(stream: Any) -> None:
        async for _ in stream:
            seen["count"] += 1

    @app.agent(letters, name="other", delivery="shared")
    async def other(stream: Any) -> None:
        async for _ in stream:
            seen["other"] += 1

    async with running(app):
        await letters.send(key="key", value=1)
        await eventually(lambda: seen == {"count": 1, "other": 1})
        await eventually(lambda: _is_there(any_broker_url, "told", b'"ValueError"'))
        mended = True
        database = await Database.connect(database_url)
        dead_letters = DeadLetters(database)
        await dead_letters.replay(await dead_letters.waiting(agent="mail"))
        await database.close()
        await eventually(lambda: seen["mail"] == 1)
        await letters.send(key="key", value=2)  # behind it, on the same partition
        await eventually(lambda: seen == {"mail": 2, "count": 2, "other": 2})


async def _is_there(broker_url: str, topic: str, value: bytes) -> bool:
    return await sent_to(broker_url, topic) == [value]


@pytest.mark.parametrize("use", ["read", "written", "counted"])
async def test_tables_are_not_for_such_agents(database_url: str, use: str) -> None:
    app = new_app(memory(), database_url)
    table = app.Table("rows", key_type=str, value_type=int, default=int)

    async def work(event: Any) -> None:
        match use:
            case "read":
                table[event.key]
            case "written":
                table[event.key] = 1
            case "counted":
                len(table)

    letters = declare(app, work)
    async with running(app):
        await letters.send(key="key", value=1)
        await eventually(lambda: all_settled(app))
    [letter] = await letters_of(database_url)
    assert letter.error_type == "redfaust.errors.TableNotShared"
    assert letter.attempts == 1
    assert "Send an event to an ordered agent" in letter.error


async def test_what_cannot_be_decoded_becomes_a_dead_letter(database_url: str) -> None:
    app, done = new_app(memory(), database_url), []

    async def work(event: Any) -> None:
        done.append(event.value)

    declare(app, work)
    async with running(app):
        broker = cast("Broker", app.transport.broker)  # type: ignore[attr-defined]
        await broker.append([Outgoing("letters", b"{no json", b"key")])
        await broker.append([Outgoing("letters", b"1", b"key")])
        await eventually(lambda: all_settled(app))
    assert done == [1]
    [letter] = await letters_of(database_url)
    assert (letter.agent, letter.value) == ("mail", b"{no json")


async def test_what_postgres_does_not_take_becomes_a_dead_letter(database_url: str) -> None:
    app, broker_url = new_app(memory(), database_url), ""
    broker_url = str(app.conf.broker[0])
    seen = app.topic("seen", key_type=str)

    async def work(event: Any) -> None:
        partition = 2**40 if event.value == 2 else 0
        await seen.send(key=event.key, value=event.value, partition=partition)

    letters = declare(app, work)
    async with running(app):
        for number in (1, 2, 3):
            await letters.send(key="key", value=number)
        await eventually(lambda: all_settled(app))
        await eventually(lambda: _are_there(broker_url, [1, 3]))
    [letter] = await letters_of(database_url)
    assert (letter.agent, letter.value) == ("mail", b"2")


async def test_an_event_that_comes_again_is_not_processed_again(
    any_broker_url: str, database_url: str
) -> None:
    """As after a broker has lost an entry that was published, so that it is appended again."""
    app, done = new_app(any_broker_url, database_url), []

    async def work(event: Any) -> None:
        done.append(event.value)

    declare(app, work)
    async with running(app):
        broker = cast("Broker", app.transport.broker)  # type: ignore[attr-defined]
        entry = Outgoing("letters", b"1", b"key")
        await broker.append_once([Batch("producer_id", [SequencedEntry(1, entry)])])
        await eventually(lambda: done == [1])
        database = await Database.connect(database_url)
        again = Outgoing("letters", b"1", b"other", partition=2)
        await broker.append_once([Batch("producer_id", [SequencedEntry(1, again)])])
        await broker.append([Outgoing("letters", b"2", b"key")])
        await eventually(lambda: all_settled(app))
        await database.close()
    assert done == [1, 2]


async def test_who_stops_gives_back_what_he_has_not_begun_or_cannot_finish(
    any_broker_url: str, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "DRAIN_FOR", 0.2)
    # Those of somebody who has died would not end while this test is patient.
    claims_last(PATIENCE * 10, monkeypatch)
    stuck, done = asyncio.Semaphore(0), list[int]()

    async def get_stuck(_: Any) -> None:
        stuck.release()
        await asyncio.Event().wait()

    async def work(event: Any) -> None:
        done.append(event.value)

    first = new_app(any_broker_url, store)
    letters = declare(first, get_stuck, concurrency=2)
    async with running(first):
        for number in range(4):
            await letters.send(key="key", value=number)
        async with asyncio.timeout(PATIENCE):
            await stuck.acquire()
            await stuck.acquire()
    second = new_app(any_broker_url, store)
    declare(second, work)
    async with running(second):
        await eventually(lambda: all_settled(second))
    assert sorted(done) == [0, 1, 2, 3]


async def test_who_stops_lets_events_in_hand_finish(any_broker_url: str, store: str) -> None:
    begun, done = asyncio.Event(), list[int]()
    app = new_app(any_broker_url, store)

    async def work(event: Any) -> None:
        begun.set()
        while not app.should_stop:  # noqa: ASYNC110 - what it tells is what is waited for
            await asyncio.sleep(0.01)
        done.append(event.value)

    letters = declare(app, work)
    async with running(app):
        await letters.send(key="key", value=1)
        await asyncio.wait_for(begun.wait(), PATIENCE)
    again = new_app(any_broker_url, store)
    declare(again, work)
    async with running(again):
        await eventually(lambda: all_settled(again))
    assert done == [1]


async def test_an_event_that_is_never_finished_is_given_up(
    any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends each process that works on it, as far as anybody can see."""
    monkeypatch.setattr(delivery, "MAX_DELIVERIES", 3)
    monkeypatch.setattr(delivery, "RENEW_EVERY", 0.05)
    claims_last(0.2, monkeypatch)
    app, done = new_app(any_broker_url, database_url), []

    async def work(event: Any) -> None:
        done.append(event.value)

    letters = declare(app, work)
    await letters.send(key="key", value=1)
    broker = cast("Broker", app.transport.broker)  # type: ignore[attr-defined]
    for name in ("one", "two", "three"):
        dying = broker.share_group("test/mail", name)
        await dying.join(["letters"], from_start=True)
        await eventually(partial(_has_claimed, dying))
    async with running(app):
        await eventually(lambda: all_settled(app))
    assert not done
    [letter] = await letters_of(database_url)
    assert letter.error_type.endswith("MaxDeliveriesExceeded")


async def _has_claimed(dying: Any) -> bool:
    return bool([*await dying.claim(1, wait=0), *await dying.claim_stale(1)])


async def test_finished_events_are_forgotten_when_nobody_can_get_them_any_more(
    any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "KEPT_FOR", 0.0)
    monkeypatch.setattr(delivery, "FORGET_EVERY", 0.05)
    app, begun = new_app(any_broker_url, database_url), asyncio.Event()
    release = asyncio.Event()

    async def work(event: Any) -> None:
        if event.value == 3:
            begun.set()
            await release.wait()

    letters = declare(app, work)

    async def known() -> list[tuple[Any, ...]]:
        return await fetch(database_url, "SELECT DISTINCT agent, due_at FROM redfaust.inbox")

    async def count() -> int:
        [(number,)] = await fetch(database_url, "SELECT count(*) FROM redfaust.inbox")
        return int(number)

    async with running(app):
        for number in range(6):
            await letters.send(key="key", value=number)
        await asyncio.wait_for(begun.wait(), PATIENCE)
        # Those behind the one in hand may be delivered again with it.
        await eventually(lambda: _equals(count, 2))
        assert await known() == [("test/mail", None)]
        release.set()
        await eventually(lambda: _equals(count, 0))


async def _equals(count: Callable[[], Awaitable[int]], number: int) -> bool:
    return await count() == number


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
async def test_an_event_is_looked_up_among_no_others(database_url: str, plans: str) -> None:
    database = await Database.connect(database_url)
    await migrate(database)
    query = load("redfaust.processing.shared", "select_known")
    async with database.transaction() as connection:
        await connection.execute(f"SET LOCAL plan_cache_mode = {plans}")
        await connection.execute(f"PREPARE known (text, text[]) AS {query}")
        for first in (1, 1001):  # planned while they are few, and again while they are more
            await connection.execute(
                "INSERT INTO redfaust.inbox (agent, event, topic, partition, position)"
                " SELECT 'test/mail', 'a producer of some kind:' || n, 'letters', 0, n"
                f" FROM generate_series({first}, 5 * {first} + 995) AS n"
            )
            await connection.execute("EXPLAIN EXECUTE known ('test/mail', '{1, 2}')")
        asked = ", ".join(f"a producer of some kind:{n}" for n in (7, 5999, 7000))
        plan = await connection.fetch(f"EXPLAIN EXECUTE known ('test/mail', '{{{asked}}}')")
        found = await connection.fetch(f"EXECUTE known ('test/mail', '{{{asked}}}')")
    await database.close()
    lines = "\n".join(row[0] for row in plan)
    assert "Index Scan using inbox_pkey" in lines
    assert "Filter" not in lines
    assert {row["event"] for row in found} == set(asked.split(", ")[:2])


async def test_a_worker_without_partitions_takes_its_share(
    any_broker_url: str, database_url: str
) -> None:
    """The other one owns them all, as far as there is anything to be owned."""
    together, done = asyncio.Barrier(2), list[str]()

    def working(name: str) -> tuple[faust.App, Any]:
        app = new_app(any_broker_url, database_url)

        async def work(_: Any) -> None:
            await together.wait()
            done.append(name)

        letters = declare(app, work, concurrency=1)

        @app.agent(letters, name="count")
        async def count(stream: Any) -> None:
            async for _ in stream:
                pass

        return app, letters

    first, letters = working("first")
    second, _ = working("second")
    async with running(first), running(second):
        for number in range(4):
            await letters.send(key=str(number), value=number)
        await eventually(lambda: len(done) == 4)
    assert sorted(done) == ["first", "first", "second", "second"]


async def test_what_is_asked_of_the_wrong_kind_is_refused() -> None:
    app = new_app(memory())

    def declare_as(**options: Any) -> None:
        @app.agent(app.topic("letters"), **options)
        async def mail(stream: Any) -> None: ...

    with pytest.raises(ImproperlyConfigured, match="did you mean 'shared'"):
        declare_as(delivery="sharde")
    with pytest.raises(ImproperlyConfigured, match="no heed to partitions"):
        declare_as(delivery="shared", isolated_partitions=True)


async def test_batches_are_refused() -> None:
    app, refused = new_app(memory()), asyncio.get_running_loop().create_future()
    letters = app.topic("letters")

    @app.agent(letters, delivery="shared")
    async def mail(stream: Any) -> None:
        try:
            async for _ in stream.take(10, within=1):
                pass
        except ImproperlyConfigured as error:
            refused.set_result(str(error))

    async with running(app):
        assert "one by one" in await asyncio.wait_for(refused, PATIENCE)


@pytest.mark.parametrize("end", ["goes on", "is cancelled", "fails"])
async def test_an_event_that_another_worker_has_claimed_meanwhile_counts_once(
    end: str, any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first worker hears of that while its agent is in the middle of it."""
    claims_last(0.5, monkeypatch)
    monkeypatch.setattr(delivery, "RENEW_EVERY", 0.1)
    monkeypatch.setattr(delivery, "TAKE_OVER_EVERY", 0.1)
    first, heir = (new_app(any_broker_url, database_url) for _ in range(2))
    done, given_up, begun = first.topic("done"), list[int](), list[str]()
    taken_over, known, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work_late(event: Any) -> None:
        await done.send(value=event.value)
        begun.append("first")
        if event.value == 0:
            await known.wait()
            if end == "fails":
                raise ValueError(event.value)

    async def take_over(event: Any) -> None:
        await heir.topic("done").send(value=event.value)
        taken_over.set()
        await may_end.wait()

    async def note(event: Any, _: Exception) -> None:
        given_up.append(event.value)

    def heard_of_it() -> bool:
        return not mail.delivery._in_flight.find(*delivery.UNACKNOWLEDGED)

    letters = declare(first, work_late, concurrency=1, retries=NO_RETRIES, on_give_up=note)
    declare(heir, take_over, concurrency=1)
    mail: Any = first.agents["mail"]
    async with running(first):
        await letters.send(key="key", value=0)
        await eventually(lambda: begun == ["first"])
        renew = mail.delivery._share_group.renew
        with monkeypatch.context() as patched:
            patched.setattr(mail.delivery._share_group, "renew", unreachable)
            async with running(heir):
                await asyncio.wait_for(taken_over.wait(), PATIENCE)
                if end == "is cancelled":
                    for actor in mail._actors:
                        actor.actor_task.cancel()
                mail.delivery._share_group.renew = renew
                await eventually(heard_of_it)
                known.set()
                may_end.set()
                await letters.send(key="key", value=1)
                await eventually(lambda: all_settled(first))
        await eventually(lambda: _are_sent(any_broker_url, 2))
    assert given_up == []
    assert await letters_of(database_url) == []


async def unreachable(*_: Any) -> Any:
    raise BrokerUnavailable("not now")


async def _are_sent(broker_url: str, count: int) -> bool:
    values = sorted(await sent_to(broker_url, "done"), key=str)
    assert len(set(values)) == len(values)
    return len(values) == count


@pytest.mark.parametrize("removed", ["deleted", "trimmed"])
async def test_what_an_event_did_counts_whose_entry_was_removed_meanwhile(
    any_broker_url: str, database_url: str, removed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "RENEW_EVERY", 0.05)
    app, begun, may_end = new_app(any_broker_url, database_url), asyncio.Event(), asyncio.Event()
    done, renewed = app.topic("done"), 0

    async def work(event: Any) -> None:
        await done.send(value=event.value)
        begun.set()
        await may_end.wait()

    letters = declare(app, work)
    mail: Any = app.agents["mail"]
    async with running(app), Redis.from_url(as_administrator(any_broker_url)) as client:
        await letters.send(key="key", value=0)
        await asyncio.wait_for(begun.wait(), PATIENCE)
        renew = mail.delivery._share_group.renew

        async def count_renewals(offsets: Any) -> Any:
            nonlocal renewed
            lost = await renew(offsets)
            renewed += 1
            return lost

        mail.delivery._share_group.renew = count_renewals
        for key in await client.keys("{letters:?}"):
            for entry_id, _ in cast("list[tuple[bytes, Any]]", await client.xrange(key)):
                if removed == "deleted":
                    await client.xdel(key, entry_id)
                else:
                    await client.xtrim(key, maxlen=0, approximate=False)
        await eventually(lambda: renewed >= 3)
        may_end.set()
        await eventually(lambda: _are_sent(any_broker_url, 1))
        assert not mail.delivery._in_flight.find(*State)
    assert await fetch(database_url, "SELECT due_at FROM redfaust.inbox") == [(None,)]


async def test_what_was_finished_before_a_group_was_destroyed_is_not_processed_again(
    any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are its dead letters given up again, however long ago that was."""
    monkeypatch.setattr(inbox, "KEPT_FOR", 0.0)
    monkeypatch.setattr(delivery, "FORGET_EVERY", 0.05)
    monkeypatch.setattr(delivery, "TAKE_OVER_EVERY", 0.05)
    app, done = new_app(any_broker_url, database_url), list[int]()

    async def work(event: Any) -> None:
        if event.value == 3:
            raise ValueError
        done.append(event.value)

    letters = declare(app, work, retries=NO_RETRIES)

    async def all_forgotten() -> bool:
        return not await fetch(database_url, "SELECT event FROM redfaust.inbox")

    async def destroy() -> None:
        async with Redis.from_url(as_administrator(any_broker_url)) as client:
            for key in await client.keys("{letters:?}"):
                await client.xgroup_destroy(key, "test/mail")

    async with running(app):
        for number in range(8):
            await letters.send(key=f"key {number}", value=number)
        await eventually(lambda: len(done) == 7)
        await eventually(lambda: all_settled(app))
        await eventually(all_forgotten)
        await destroy()
        await letters.send(key="key", value=8)
        await eventually(lambda: 8 in done)
    await destroy()
    heir = new_app(any_broker_url, database_url)
    letters = declare(heir, work, retries=NO_RETRIES)
    async with running(heir):
        await letters.send(key="key", value=9)
        await eventually(lambda: 9 in done)
        await eventually(lambda: all_settled(heir))
    assert sorted(done) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert len(await letters_of(database_url)) == 1


@pytest.mark.parametrize("bound", ["number", "bytes"])
async def test_what_waits_here_for_another_attempt_is_bounded_and_tried_again(
    any_broker_url: str, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bound == "number":
        monkeypatch.setattr(delivery, "MAX_POSTPONED", 2)
    else:
        monkeypatch.setattr(delivery, "HAND_BYTES", 2)
    app, attempts, most = new_app(any_broker_url), Counter[int](), 0
    mail: Any = None

    async def work(event: Any) -> None:
        nonlocal most
        most = max(most, len(mail.delivery._in_flight.find(*State)))
        attempts[event.value] += 1
        if attempts[event.value] < 3:
            raise ValueError

    letters = declare(app, work, concurrency=1, retries=Retries(attempts=5, delay=0.05))
    mail = app.agents["mail"]
    async with running(app):
        for number in range(8):
            await letters.send(key="key", value=number)
        await eventually(lambda: all_settled(app))
    assert attempts == dict.fromkeys(range(8), 3)
    assert most <= 3
