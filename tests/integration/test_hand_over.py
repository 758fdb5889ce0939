"""Single partitions that come and go, while an application works on the others."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any, cast

import faust
import pytest
from faust.types import TP

from redfaust.processing.retries import Retries
from redfaust.processing.state_backend import PostgresStateBackend
from redfaust.tables.manager import TableManager
from redfaust.transports.consumer import Consumer
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running
from tests.integration.test_batches import fetch
from tests.integration.test_failures_agents import all_finished

KEYS = [f"key-{n}" for n in range(20)]


def consumer_of(app: faust.App) -> Consumer:
    return cast(Consumer, app.consumer)


def partition_of(app: faust.App, key: str) -> TP:
    return app.producer.key_partition("numbers", key.encode())


async def all_begun(app: faust.App) -> None:
    tps = {TP("numbers", partition) for partition in range(4)}
    await eventually(lambda: tps <= consumer_of(app).owned_partitions.keys())


async def rows_of(database_url: str) -> dict[str, int]:
    rows = await fetch(database_url, "SELECT key, value::int FROM test.sums")
    return dict(rows)


class Gate:
    """An agent that adds numbers up, and waits at those that are told to wait."""

    def __init__(self, app: faust.App, **options: Any) -> None:
        self.app = app
        self.numbers = app.topic("numbers", key_type=str)
        self.sums = app.Table("sums", key_type=str, default=int, value_type=int)
        self.waiting: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.opened: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.seen: list[tuple[str, int]] = []

        @app.agent(self.numbers, concurrency=8, **options)
        async def add(stream: Any) -> None:
            async for key, number in stream.items():
                self.seen.append((key, number))
                self.sums[key] += abs(number)
                if number < 0:
                    self.waiting[key].set()
                    await self.opened[key].wait()

    async def send(self, key: str, *numbers: int) -> None:
        for number in numbers:
            await self.numbers.send(key=key, value=number)

    def elsewhere(self, key: str) -> str:
        """A key of another partition."""
        own = partition_of(self.app, key)
        return next(other for other in KEYS if partition_of(self.app, other) != own)


async def test_what_stays_goes_on_and_what_comes_back_is_loaded(
    any_broker_url: str, database_url: str
) -> None:
    app = new_app(any_broker_url, database_url)
    gate = Gate(app)
    async with running(app):
        await all_begun(app)
        moving, staying = KEYS[0], gate.elsewhere(KEYS[0])
        tps = frozenset({partition_of(app, moving)})
        for key in KEYS:
            await gate.send(key, 1)
        await eventually(lambda: all_finished(app))
        await gate.send(staying, -1)  # in progress all the time
        await asyncio.wait_for(gate.waiting[staying].wait(), PATIENCE)
        owned_partition = consumer_of(app).owned_partitions[partition_of(app, staying)]

        await consumer_of(app).rebalance.hand_over(tps)
        await gate.send(moving, 10)
        other = next(k for k in KEYS if k != staying and partition_of(app, k) not in tps)
        await gate.send(other, 100)
        await eventually(lambda: (other, 100) in gate.seen)
        assert (moving, 10) not in gate.seen
        assert moving not in gate.sums
        assert consumer_of(app).owned_partitions[partition_of(app, staying)] is owned_partition
        # As its owner between would do.
        await fetch(database_url, f"UPDATE test.sums SET value = '5' WHERE key = '{moving}'")

        await consumer_of(app).rebalance.gain(tps)
        await eventually(lambda: (moving, 10) in gate.seen)
        gate.opened[staying].set()
        await eventually(lambda: all_finished(app))
    rows = await rows_of(database_url)
    assert rows == dict.fromkeys(KEYS, 1) | {moving: 15, staying: 2, other: 101}


async def test_what_is_in_progress_is_finished_before(
    any_broker_url: str, database_url: str
) -> None:
    app = new_app(any_broker_url, database_url)
    gate = Gate(app)
    async with running(app):
        await all_begun(app)
        tps = frozenset({partition_of(app, KEYS[0])})
        await gate.send(KEYS[0], -1, 2)
        await asyncio.wait_for(gate.waiting[KEYS[0]].wait(), PATIENCE)
        handing_over = asyncio.ensure_future(consumer_of(app).rebalance.hand_over(tps))
        await eventually(lambda: not consumer_of(app).owned_partitions[next(iter(tps))].may_begin)
        assert not handing_over.done()
        gate.opened[KEYS[0]].set()
        await asyncio.wait_for(handing_over, PATIENCE)
        assert await rows_of(database_url) == {KEYS[0]: 1}
        assert gate.seen == [(KEYS[0], -1)]
        await consumer_of(app).rebalance.gain(tps)
        await eventually(lambda: all_finished(app))
    assert await rows_of(database_url) == {KEYS[0]: 3}


async def test_what_does_not_finish_in_time_is_done_by_the_next_owner(
    any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.transports.commits.DRAIN_FOR", 0.1)
    app = new_app(any_broker_url, database_url)
    gate = Gate(app)
    async with running(app):
        await all_begun(app)
        tps = frozenset({partition_of(app, KEYS[0])})
        staying = gate.elsewhere(KEYS[0])
        await gate.send(staying, -1)
        await gate.send(KEYS[0], -1)
        await asyncio.wait_for(gate.waiting[KEYS[0]].wait(), PATIENCE)
        await asyncio.wait_for(gate.waiting[staying].wait(), PATIENCE)
        await consumer_of(app).rebalance.hand_over(tps)
        gate.opened[KEYS[0]].set()
        await consumer_of(app).rebalance.gain(tps)
        await eventually(lambda: gate.seen.count((KEYS[0], -1)) == 2)
        gate.opened[staying].set()
        await eventually(lambda: all_finished(app))
        assert gate.seen.count((staying, -1)) == 1
    assert await rows_of(database_url) == {KEYS[0]: 1, staying: 1}


async def test_a_batch_that_does_not_finish_counts_as_a_whole(
    any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.transports.commits.DRAIN_FOR", 0.1)
    app = new_app(any_broker_url, database_url)
    numbers = app.topic("numbers", key_type=str)
    sums = app.Table("sums", key_type=str, default=int, value_type=int)
    batches: list[list[str]] = []
    opened = asyncio.Event()

    @app.agent(numbers)
    async def add(stream: Any) -> None:
        async for events in stream.take_events(len(KEYS), within=60):
            batches.append([event.key for event in events])
            for event in events:
                sums[event.key] += event.value
            await opened.wait()

    async with running(app):
        await all_begun(app)
        for key in KEYS:
            await numbers.send(key=key, value=1)
        await eventually(lambda: len(batches) == 1)
        tps = frozenset({partition_of(app, KEYS[0])})
        await consumer_of(app).rebalance.hand_over(tps)
        assert await rows_of(database_url) == {}
        opened.set()
        # All have begun anew, those that stayed as well.
        await eventually(lambda: len(batches) == 2)
        await eventually(lambda: all_finished(app))
    assert await rows_of(database_url) == dict.fromkeys(KEYS, 1)


async def test_events_that_wait_for_another_attempt_move_too(
    any_broker_url: str, database_url: str
) -> None:
    app = new_app(any_broker_url, database_url)
    numbers = app.topic("numbers", key_type=str)
    seen: list[int] = []
    works = asyncio.Event()

    @app.agent(numbers, retries=Retries(attempts=1000, delay=0.01, factor=1.0))
    async def collect(stream: Any) -> None:
        async for number in stream:
            if not works.is_set():
                raise RuntimeError("not now")
            seen.append(number)

    async def all_parked() -> bool:
        return await fetch(database_url, "SELECT count(*) FROM redfaust.parked") == [(5,)]

    async with running(app):
        await all_begun(app)
        for number in range(5):
            await numbers.send(key="key", value=number)
        await eventually(all_parked)
        tps = frozenset({partition_of(app, "key")})
        await consumer_of(app).rebalance.hand_over(tps)
        works.set()
        state_backend = app.tables.state_backend  # type: ignore[attr-defined]
        assert len(state_backend.unit.parking) == 0
        await consumer_of(app).rebalance.gain(tps)
        await eventually(lambda: seen == [0, 1, 2, 3, 4])
        await eventually(lambda: len(state_backend.unit.parking) == 0)
    assert await fetch(database_url, "SELECT count(*) FROM redfaust.parked") == [(0,)]


async def test_without_a_database_the_group_is_the_position(any_broker_url: str) -> None:
    app = new_app(any_broker_url)
    numbers = app.topic("numbers", key_type=str)
    seen: list[int] = []

    @app.agent(numbers)
    async def collect(stream: Any) -> None:
        async for number in stream:
            seen.append(number)

    async with running(app):
        await all_begun(app)
        tps = frozenset({partition_of(app, "key")})
        await numbers.send(key="key", value=1)
        await eventually(lambda: seen == [1])
        await consumer_of(app).rebalance.hand_over(tps)
        await numbers.send(key="key", value=2)
        await consumer_of(app).rebalance.gain(tps)
        await eventually(lambda: seen == [1, 2])


async def test_callbacks_of_faust_are_told(any_broker_url: str, database_url: str) -> None:
    app = new_app(any_broker_url, database_url)
    numbers = app.topic("numbers", key_type=str)
    told: list[tuple[str, int]] = []
    tasks: set[Any] = set()

    @app.agent(numbers, isolated_partitions=True)
    async def collect(stream: Any) -> None:
        tasks.add(asyncio.current_task())
        async for _ in stream:
            pass

    @app.on_partitions_assigned.connect
    async def assigned(*args: Any, **__: Any) -> None:
        told.append(("assigned", len(args[1])))

    @app.on_partitions_revoked.connect
    async def revoked(*args: Any, **__: Any) -> None:
        told.append(("revoked", len(args[1])))

    @app.on_rebalance_complete.connect
    async def complete(*_: Any, **__: Any) -> None:
        told.append(("complete", len(consumer_of(app).assignment())))

    async with running(app):
        await all_begun(app)
        await eventually(lambda: len(tasks) == 4)
        told.clear()
        tps = frozenset({TP("numbers", 2)})
        await consumer_of(app).rebalance.hand_over(tps)
        await consumer_of(app).rebalance.gain(tps)
        assert told == [("revoked", 1), ("complete", 4), ("assigned", 5), ("complete", 5)]
        assert app.rebalancing is False
        for key in KEYS:
            await numbers.send(key=key, value=1)
        await eventually(lambda: all_finished(app))
        assert len(tasks) == 5


async def test_nothing_begins_before_the_rows_are_loaded(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app("memory://loading", database_url)
    gate = Gate(app)
    load, loading, go_on = TableManager.gain, asyncio.Event(), asyncio.Event()

    async def slowly(manager: TableManager, partitions: Collection[int]) -> None:
        loading.set()
        await go_on.wait()
        await load(manager, partitions)

    async with running(app):
        await all_begun(app)
        consumer = consumer_of(app)
        monkeypatch.setattr(TableManager, "gain", slowly)
        consumer.rebalance.undo()
        await asyncio.wait_for(loading.wait(), PATIENCE)
        await consumer.seek_to_committed()  # as the recovery of a rebalance before this one may do
        assert not consumer.owned_partitions
        go_on.set()
        await all_begun(app)
        await gate.send("key-0", 1)
        await eventually(lambda: all_finished(app))
    assert await rows_of(database_url) == {"key-0": 1}


async def test_what_was_handed_over_before_it_began_does_not_begin(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app("memory://not-begun", database_url)
    gate = Gate(app)
    asked, answer = asyncio.Event(), asyncio.Event()

    async with running(app):
        await all_begun(app)
        consumer = consumer_of(app)
        seek = consumer.seek_to_committed

        async def seek_late() -> Mapping[TP, int]:
            asked.set()
            await answer.wait()
            return await seek()

        monkeypatch.setattr(consumer, "seek_to_committed", seek_late)
        consumer.rebalance.undo()
        await asyncio.wait_for(asked.wait(), PATIENCE)
        tps = set(consumer.rebalance.owned)
        gone = {tp for tp in tps if tp.partition == 0}
        await consumer.rebalance.hand_over(frozenset(gone))
        answer.set()
        await eventually(lambda: consumer.owned_partitions.keys() == tps - gone)
        await consumer.rebalance.gain(frozenset(gone))
        await all_begun(app)
        for key in KEYS:
            await gate.send(key, 1)
        await eventually(lambda: all_finished(app))
    assert await rows_of(database_url) == dict.fromkeys(KEYS, 1)


async def test_what_was_read_of_a_line_before_all_began_anew_is_not_handed_out(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app("memory://read-before", database_url)
    numbers = app.topic("numbers", key_type=str)
    sums = app.Table("sums", key_type=str, default=int, value_type=int)
    works, reading, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.agent(numbers, retries=Retries(attempts=1000, delay=0.01, factor=1.0))
    async def add(stream: Any) -> None:
        async for key, number in stream.items():
            sums[key] += number
            if not works.is_set():
                raise RuntimeError("not now")

    select = PostgresStateBackend.select_parked

    async def select_slowly(state_backend: PostgresStateBackend, *which: Any) -> Any:
        rows = await select(state_backend, *which)
        if works.is_set() and not reading.is_set():
            reading.set()
            await go_on.wait()
        return rows

    monkeypatch.setattr(PostgresStateBackend, "select_parked", select_slowly)
    async with running(app):
        await all_begun(app)
        state_backend = app.tables.state_backend  # type: ignore[attr-defined]
        await numbers.send(key="key", value=1)
        await eventually(lambda: bool(state_backend.unit.parking))
        works.set()
        await asyncio.wait_for(reading.wait(), PATIENCE)
        before = state_backend.unit.parking
        consumer_of(app).rebalance.undo()
        await eventually(
            lambda: state_backend.unit.parking is not before and bool(state_backend.unit.parking)
        )
        await all_begun(app)
        go_on.set()
        await eventually(lambda: not state_backend.unit.parking)
        await eventually(lambda: all_finished(app))
    assert await rows_of(database_url) == {"key": 1}
