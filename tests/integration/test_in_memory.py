"""An application's own object on memory, with the time in the test's hands."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import faust
import pytest

from redfaust.processing.retries import NO_RETRIES, Retries
from redfaust.processing.topic import Topic
from redfaust.testing import in_memory

app = faust.App("bank", broker="redis://nowhere.invalid", store="postgresql://nowhere.invalid/bank")
payments = app.topic("payments", key_type=str)
receipts = app.topic("receipts", key_type=str)
balances = app.Table("balances", key_type=str, value_type=int, default=int)
hourly = app.Table("hourly", key_type=str, value_type=int, default=int).tumbling(3600)
ticks: list[datetime] = []


class Broken(Exception):
    """As often as the event says."""


failures: dict[str, int] = {}


@app.agent(payments, retries=Retries(attempts=3, delay=60, factor=2, jitter=0))
async def book(stream: Any) -> None:
    async for account, payment in stream.items():
        balances[account] += payment["amount"]
        hourly[account] += payment["amount"]
        await receipts.send(key=account, value={"balance": balances[account]})
        if payment.get("later"):
            at = datetime.now(UTC) + timedelta(seconds=payment["later"])
            await cast(Topic, receipts).schedule(at=at, key=account, value="reminder")
        failures[account] = failures.get(account, 0) + 1
        if failures[account] <= payment.get("fails", 0):
            raise Broken("not yet")


@app.timer(10)  # type: ignore[untyped-decorator] # Faust's
async def tick() -> None:
    ticks.append(datetime.now(UTC))


@app.crontab("0 * * * *")
async def each_hour() -> None:
    await receipts.send(key="hour", value=datetime.now(UTC).isoformat())


@pytest.fixture(autouse=True)
def afresh() -> None:
    failures.clear()
    ticks.clear()


def values(events: Any) -> list[Any]:
    return [event.value for event in events]


@pytest.mark.parametrize("time_and_again", range(3))
async def test_each_test_has_the_application_for_itself(time_and_again: int) -> None:
    async with in_memory(app) as run:
        assert balances["ann"] == 0
        await run.send(payments, key="ann", value={"amount": 200})
        await run.send(book, key="ann", value={"amount": 50})
        await run.settled()
        assert balances["ann"] == 250
        assert values(run.sent(receipts)) == [{"balance": 200}, {"balance": 250}]
        assert [event.key for event in run.sent("payments")] == [b"ann", b"ann"]
    assert not app.started


async def test_what_fails_has_not_happened_until_it_is_tried_again() -> None:
    async with in_memory(app) as run:
        await run.send(payments, key="ann", value={"amount": 1, "fails": 2})
        await run.send(payments, key="ann", value={"amount": 2})
        await run.send(payments, key="bob", value={"amount": 3})
        await run.settled()
        assert (balances["ann"], balances["bob"]) == (0, 3)
        assert run.waiting_for_retry == 2
        await run.advance(seconds=59)
        assert failures["ann"] == 1
        await run.advance(seconds=2)
        assert failures["ann"] == 2
        await run.advance(seconds=120)
        assert balances["ann"] == 3
        sent = [
            event for event in run.sent(receipts) if event.key != "hour"
        ]  # if it strikes just now
        assert values(sent) == [{"balance": 3}, {"balance": 1}, {"balance": 3}]
        assert not run.waiting_for_retry
        assert not run.dead_letters


async def test_what_is_given_up_can_be_replayed() -> None:
    async with in_memory(app) as run:
        await run.send(payments, key="ann", value={"amount": 1, "fails": 3})
        await run.send(payments, key="bob", value=5)
        await run.advance(hours=1)
        assert balances["ann"] == 0
        ann, bob = sorted(run.dead_letters, key=lambda letter: letter.key or b"")
        assert (ann.error, ann.attempts, ann.key) == ("not yet", 3, b"ann")
        assert bob.error_type == "TypeError"
        await run.replay(ann)
        await run.replay(bob, value=b'{"amount": 7}')
        await run.settled()
        assert (balances["ann"], balances["bob"]) == (1, 7)


async def test_time_passes_when_it_is_told_to() -> None:
    async with in_memory(app) as run:
        start = run.now
        await run.send(payments, key="ann", value={"amount": 1, "later": 600})
        await run.settled()
        assert run.now == start == datetime.now(UTC)
        assert [entry.value for _, entry in run.scheduled] == [b'"reminder"']
        await run.advance(seconds=599)
        assert "reminder" not in values(run.sent(receipts))
        await run.advance(seconds=1)
        assert "reminder" in values(run.sent(receipts))
        assert len(ticks) == 60
        assert ticks[1] - ticks[0] == pytest.approx(timedelta(seconds=10), abs=timedelta(0, 0, 99))
        await run.advance(hours=3)
        hours = [e.timestamp for e in run.sent(receipts) if e.key == "hour"]
        assert len(hours) == len(set(hours)) in (3, 4)
        assert all(hour % 3600 == pytest.approx(0, abs=0.1) for hour in hours)
        assert run.now - start == pytest.approx(
            timedelta(hours=3, seconds=600), abs=timedelta(seconds=1)
        )


def new_app(**settings: Any) -> faust.App:
    urls = {"broker": "redis://nowhere.invalid", "store": "postgresql://nowhere.invalid/test"}
    return faust.App("test", **{**urls, **settings})


async def test_windows_go_by_the_tests_time() -> None:
    app = new_app()
    clicks = app.topic("clicks", key_type=str)
    counts = app.Table("counts", key_type=str, default=int).tumbling(60)
    seen = []

    @app.agent(clicks)
    async def count(stream: Any) -> None:
        async for event in stream.events():
            page = event.key
            counts[page] += 1
            seen.append(counts[page].current())

    async with in_memory(app) as run:
        await run.advance(seconds=60 - run.now.timestamp() % 60)
        for pause in (0, 30, 40):
            await run.advance(seconds=pause)
            await run.send(clicks, key="home", value=1)
        await run.settled()
        assert seen == [1, 2, 1]


async def test_batches_wait_for_time() -> None:
    app = new_app()
    numbers = app.topic("numbers", partitions=1)
    batches = []

    @app.agent(numbers)
    async def collect(stream: Any) -> None:
        async for batch in stream.take(3, within=5):
            batches.append(batch)

    async with in_memory(app) as run:
        for number in range(4):
            await run.send(numbers, value=number)
        await run.settled()
        assert batches == [[0, 1, 2]]
        await run.advance(seconds=5)
        assert batches == [[0, 1, 2], [3]]


async def test_shared_delivery_is_settled_too() -> None:
    app = new_app()
    invoices, charged = app.topic("invoices"), app.topic("charged")
    attempts: list[int] = []

    @app.agent(
        invoices,
        delivery="shared",
        concurrency=4,
        retries=Retries(attempts=2, delay=30, jitter=0),
    )
    async def charge(stream: Any) -> None:
        async for invoice in stream:
            attempts.append(invoice)
            await charged.send(value=invoice)
            if invoice == 0 or attempts.count(invoice) < invoice:
                raise Broken("no money")

    async with in_memory(app) as run:
        for amount in range(3):
            await run.send(invoices, value=amount)
        await run.settled()
        assert values(run.sent(charged)) == [1]
        await run.advance(minutes=1)
        assert values(run.sent(charged)) == [1, 2]
        assert [letter.attempts for letter in run.dead_letters] == [2]


async def test_an_agent_is_asked() -> None:
    app = new_app()

    @app.agent()
    async def double(stream: Any) -> Any:
        async for number in stream:
            yield number * 2

    async with in_memory(app):
        assert await double.ask(21) == 42


async def test_without_postgres_it_is_at_least_once_as_ever() -> None:
    app = new_app(store="memory://")
    numbers = app.topic("numbers", key_type=str)
    totals = app.Table("totals", key_type=str, default=int)
    tries = []

    @app.agent(numbers, retries=Retries(attempts=2, delay=60))
    async def add(stream: Any) -> None:
        async for key, number in stream.items():
            totals[key] += number
            tries.append(number)
            if len(tries) == 1:
                raise Broken("once")

    for _ in range(2):
        tries.clear()
        async with in_memory(app) as run:
            await run.send(numbers, key="a", value=1)
            await run.settled()
            assert tries == [1]
            await run.advance(minutes=2)
            assert tries == [1, 1]
            assert totals["a"] == 2


async def test_threads_are_waited_for() -> None:
    app = new_app()
    done = app.topic("done")

    @app.agent(app.topic("work"))
    async def work(stream: Any) -> None:
        async for _ in stream:
            async with asyncio.timeout(5):  # which does not pass while the thread works
                await asyncio.to_thread(time.sleep, 0.05)
            await done.send(value=True)

    async with in_memory(app) as run:
        await run.send(work, value=1)
        await run.settled()
        assert values(run.sent(done)) == [True]


async def test_a_batch_that_fails_leaves_nothing() -> None:
    app = new_app()
    words = app.topic("words", key_type=str)
    counts = app.Table("counts", key_type=str, value_type=int, default=int)

    @app.agent(words, retries=NO_RETRIES)
    async def count(stream: Any) -> None:
        async for word, value in stream.items():
            counts[word] += 1
            if value == "boom":
                raise Broken(value)

    async with in_memory(app) as run:
        await run.send(words, key="a", value="fine")
        await run.send(words, key="a", value="boom")
        await run.settled()
        assert counts["a"] == 1
        assert [letter.error for letter in run.dead_letters] == ["boom"]


async def test_an_application_that_runs_is_left_alone() -> None:
    async with in_memory(app):
        with pytest.raises(RuntimeError, match="runs already"):
            async with in_memory(app):
                pass


async def test_it_is_as_it_was_also_after_a_failure() -> None:
    with suppress(Broken):
        async with in_memory(app) as run:
            await run.send(payments, key="ann", value={"amount": 1})
            raise Broken
    loop = asyncio.get_running_loop()
    before = loop.time()
    await asyncio.sleep(0.001)
    assert 0 < loop.time() - before < 1
    async with in_memory(app):
        assert balances["ann"] == 0
