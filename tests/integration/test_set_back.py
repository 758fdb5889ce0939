"""What a broker has confirmed and then lost is appended again; what nobody needs is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

import pytest
from faust.types import TP

from redfaust.brokers.broker import EntriesRefused, Outgoing, Place, ProducerBatch, Refused
from redfaust.errors import BrokerError, ProducerFenced
from redfaust.outbox.batch_cleaner import KEEP_FOR, BatchCleaner
from redfaust.outbox.batch_publisher import BatchPublisher
from redfaust.outbox.maintenance import Maintenance
from redfaust.outbox.producers import ProducerState, open_producers
from redfaust.postgres.database import Connection, Database
from redfaust.postgres.migrate import migrate
from redfaust.postgres.queries import load
from tests.integration.outbox_streams import (
    OWNER,
    TIMEOUT,
    Stream,
    all_published,
    commit,
    drained,
    eventually,
    is_active,
    new_publisher,
    nothing_is_refused,
    publish,
    publishing,
    running,
)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url)
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clean all the time."""
    monkeypatch.setattr("redfaust.outbox.maintenance.EVERY", 0.02)


def numbers(begin: int, end: int) -> list[bytes | None]:
    return [b"%d" % n for n in range(begin, end)]


class Owner:
    """Commits and publishes on one producer."""

    def __init__(self, database: Database, stream: Stream) -> None:
        self.publisher = new_publisher(database, stream)
        self._database = database
        self._producer_id = ProducerState("", 0)
        self._sent = 0

    async def take_over(self) -> None:
        self._producer_id = (await self.publisher.take_over([OWNER]))[OWNER]

    async def send(self, count: int) -> None:
        """The next numbers, in two batches."""
        for size in (count // 2, count - count // 2):
            values = [b"%d" % n for n in range(self._sent, self._sent + size)]
            staged = await commit(self._database, self._producer_id, *values)
            self.publisher.put([staged])
            self._producer_id = ProducerState(staged.producer_id, staged.last_sequence)
            self._sent += size


async def test_what_is_lost_is_found_out_by_the_next_append(database: Database) -> None:
    stream = Stream()
    owner = Owner(database, stream)
    await owner.take_over()
    async with publishing(owner.publisher):
        await owner.send(20)
        await all_published(owner.publisher)
        for lost in (1, 7, 20):
            stream.lose(lost)
            stream.name = "first"  # nothing tells, apart from the last sequences
            await owner.send(4)
            await all_published(owner.publisher)
            values = [int(entry.value or b"") for entry in stream.entries]
            assert values == sorted(values)
    assert await stream.reaches(32) == numbers(0, 32)


async def test_what_an_idle_owner_has_lost_is_found_out_by_the_incarnation(
    database: Database,
) -> None:
    stream = Stream()
    owner = Owner(database, stream)
    await owner.take_over()
    async with publishing(owner.publisher):
        await owner.send(20)
        await all_published(owner.publisher)
        for lost in (3, 20):
            stream.lose(lost)
            assert await stream.reaches(20) == numbers(0, 20)


async def test_an_heir_finds_out_what_was_lost_before_it_goes_on(database: Database) -> None:
    stream = Stream()
    owner = Owner(database, stream)
    await owner.take_over()
    async with publishing(owner.publisher):
        await owner.send(20)
        await all_published(owner.publisher)
    stream.lose(5)
    await owner.send(2)  # and dies before it publishes them
    heir = Owner(database, stream)
    await heir.take_over()
    assert await stream.reaches(22) == numbers(0, 22)


async def test_a_relay_restores_what_everybody_has_lost(database: Database) -> None:
    stream = Stream()
    owner = Owner(database, stream)
    await owner.take_over()
    async with publishing(owner.publisher):
        await owner.send(5)
        await all_published(owner.publisher)
    async with running(database, stream, poll=0.02) as relay:
        await is_active(relay)
        await publish(database, b"5", b"6")
        await stream.reaches(7)
        await drained(database)
        stream.lose(4)  # two of each
        await stream.reaches(7)
    assert len(stream.entries) == 7
    values = [entry.value for entry in stream.entries]
    assert [value for value in values if value in numbers(0, 5)] == numbers(0, 5)
    assert [value for value in values if value in numbers(5, 7)] == numbers(5, 7)


async def test_what_is_lost_again_while_it_is_restored_is_restored(database: Database) -> None:
    class Fragile(Stream):
        def __init__(self) -> None:
            super().__init__()
            self.losses: list[int] = []

        async def append_once(
            self, batches: Sequence[ProducerBatch]
        ) -> Mapping[str, Mapping[TP, Place]]:
            places = await super().append_once(batches)
            if self.losses:
                self.lose(self.losses.pop())
            return places

    stream = Fragile()
    owner = Owner(database, stream)
    await owner.take_over()
    async with publishing(owner.publisher):
        for _ in range(10):
            await owner.send(10)
            await all_published(owner.publisher)
        stream.lose(95)
        stream.losses = [3, 20, 50]
        await owner.send(2)
        await all_published(owner.publisher)
        assert await stream.reaches(102) == numbers(0, 102)


@pytest.mark.parametrize("is_passed", [True, False], ids=["passed", "not passed"])
async def test_what_cannot_be_appended_again_is_a_dead_letter_unless_every_group_has_passed_it(
    database: Database, is_passed: bool
) -> None:
    class Stricter(Stream):
        is_strict = False

        async def append_once(
            self, batches: Sequence[ProducerBatch]
        ) -> Mapping[str, Mapping[TP, Place]]:
            refused = [
                Refused(batch.producer_id, number, BrokerError("not any more"))
                for batch in batches
                for number, entry in batch.entries
                if self.is_strict and entry.value == b"1"
            ]
            if refused:
                raise EntriesRefused(refused)
            return await super().append_once(batches)

    kept: list[bytes | None] = []

    async def keep(_: Connection, entry: Outgoing, __: BrokerError) -> None:
        kept.append(entry.value)

    stream = Stricter()
    owner = Owner(database, stream)
    await owner.take_over()
    async with publishing(owner.publisher):
        await owner.send(4)
        await all_published(owner.publisher)
    stream.floor = len(stream.entries) if is_passed else 0
    stream.lose(4)
    stream.is_strict = True
    for _ in range(2):
        await new_publisher(database, stream, keep).take_over([OWNER])
    assert kept == ([] if is_passed else [b"1"])
    assert [entry.value for entry in stream.entries] == [b"0", b"2", b"3"]


@pytest.mark.parametrize("point", ["outbox.taken_over", "outbox.appended", "outbox.restored"])
async def test_who_dies_while_he_restores_leaves_it_to_his_heir(
    database: Database, point: str
) -> None:
    class Dying(RuntimeError):
        pass

    def die(passed: str) -> None:
        if passed == point:
            raise Dying

    stream = Stream()
    owner = Owner(database, stream)
    await owner.take_over()
    async with publishing(owner.publisher):
        for _ in range(20):
            await owner.send(2)
            await all_published(owner.publisher)
    stream.lose(30)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("redfaust.failpoints.point", die)
        with pytest.raises(Dying):
            await Owner(database, stream).take_over()
    await Owner(database, stream).take_over()
    assert await stream.reaches(40) == numbers(0, 40)


async def test_what_a_set_back_database_has_forgotten_hides_nothing_of_the_heir(
    database: Database,
) -> None:
    stream = Stream()
    await new_publisher(database, stream).take_over([OWNER])
    before = await last_sequence(database)
    zombie = new_publisher(database, stream)
    forgotten = await commit(database, (await zombie.take_over([OWNER]))[OWNER], b"x", b"y", b"z")
    zombie.put([forgotten])
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM redfaust.batches")
        await connection.execute("UPDATE redfaust.producers SET last_sequence = $1", before)
    await begin_another_timeline(database)
    heir = Owner(database, stream)
    await heir.take_over()
    async with publishing(heir.publisher):
        await heir.send(2)
        await all_published(heir.publisher)
        async with publishing(zombie):
            await all_published(zombie)
        await heir.send(2)
        await all_published(heir.publisher)
    values = [entry.value for entry in stream.entries]
    assert [value for value in values if value in numbers(0, 4)] == numbers(0, 4)


async def test_an_heir_publishes_first_what_was_left_on_another_timeline(
    database: Database,
) -> None:
    for timeline in range(3):
        async with database.transaction() as connection:
            producer_ids = await open_producers(connection, [OWNER])
        await commit(database, ProducerState(producer_ids[OWNER], 0), b"%d" % timeline)
        await begin_another_timeline(database)
    stream = Stream()
    heir = Owner(database, stream)
    await heir.take_over()
    assert [entry.value for entry in stream.entries] == numbers(0, 3)
    with pytest.raises(ProducerFenced):
        await commit(database, ProducerState(producer_ids[OWNER], 1), b"late")


async def begin_another_timeline(database: Database) -> None:
    """As far as producers tell: those that are there become older than what is drawn next."""
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE redfaust.producers SET transactional_id = replace(transactional_id, '.', '.0')"
        )


async def last_sequence(database: Database) -> int:
    async with database.transaction() as connection:
        number: int = await connection.fetchval("SELECT last_sequence FROM redfaust.producers")
    return number


async def kept(database: Database) -> int:
    async with database.transaction() as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM redfaust.batches")
    return count


async def let_pass(database: Database, seconds: float) -> None:
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE redfaust.batches SET published_at = published_at - make_interval(secs => $1)",
            seconds,
        )


def retention_of(database: Database, stream: Stream) -> BatchCleaner:
    return BatchCleaner(
        database, stream, BatchPublisher(database, stream, dead_letter=nothing_is_refused)
    )


async def producers_of(database: Database) -> list[str]:
    async with database.transaction() as connection:
        rows = await connection.fetch(load("redfaust.outbox", "select_producers"))
    return [row["producer_id"] for row in rows]


async def test_a_batch_is_deleted_when_its_time_is_over_and_every_group_has_passed_it(
    database: Database,
) -> None:
    stream = Stream()
    owner = Owner(database, stream)
    await owner.take_over()
    async with publishing(owner.publisher):
        await owner.send(4)
        await all_published(owner.publisher)
    await owner.send(2)  # not published
    retention = retention_of(database, stream)
    producers = await producers_of(database)
    assert await retention.delete_passed(producers) == 0
    await let_pass(database, KEEP_FOR)
    stream.floor = 1
    assert await retention.delete_passed(producers) == 0
    stream.floor = 4
    assert await retention.delete_passed(producers) == 2
    assert await kept(database) == 2


async def test_where_there_is_no_group_only_the_time_counts(database: Database) -> None:
    stream = Stream()
    owner = Owner(database, stream)
    await owner.take_over()
    async with publishing(owner.publisher):
        await owner.send(4)
        await all_published(owner.publisher)
        await let_pass(database, KEEP_FOR)
        await eventually(lambda: _is_empty(database))  # the owner does it by itself
    async with running(database, stream, poll=0.02):
        await publish(database, b"1")
        await stream.reaches(5)
        await drained(database)
        await let_pass(database, KEEP_FOR)
        await eventually(lambda: _is_empty(database))  # and so does the relay


async def _is_empty(database: Database) -> bool:
    return await kept(database) == 0


async def test_what_a_log_has_lost_is_restored_and_not_deleted(database: Database) -> None:
    stream = Stream()
    owner = Owner(database, stream)
    await owner.take_over()
    async with publishing(owner.publisher):
        await owner.send(4)
        await all_published(owner.publisher)
    await let_pass(database, KEEP_FOR)
    stream.lose(1)
    assert await retention_of(database, stream).delete_passed(await producers_of(database)) == 0
    assert await stream.reaches(4) == numbers(0, 4)
    assert await kept(database) == 2


@pytest.mark.parametrize("bound", ["PAGE", "PLACES"])
async def test_batches_that_wait_for_a_group_do_not_hide_those_behind_them(
    database: Database, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(f"redfaust.outbox.batch_cleaner.{bound}", 2)
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO redfaust.batches"
            " (producer_id, first_sequence, last_sequence, entries, published_at, places) "
            "SELECT 'producer_id', n, n, '{}', now() - interval '1 day',"
            " ARRAY[ROW(CASE WHEN n <= 6 THEN 'slow' ELSE 'orders' END, 0, 0, 1)::redfaust.place] "
            "FROM generate_series(1, 10) AS n"
        )

    class Slow(Stream):
        async def floors(self, tps: Iterable[TP]) -> Mapping[TP, int]:
            return {tp: 0 for tp in tps if tp.topic == "slow"}

    retention = retention_of(database, Slow())
    deleted = [await retention.delete_passed(["producer_id"]) for _ in range(6)]
    assert deleted == [0, 0, 0, 2, 2, 0]
    assert await kept(database) == 6


async def test_producers_are_found_without_their_batches(database: Database) -> None:
    assert await producers_of(database) == []
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO redfaust.batches (producer_id, first_sequence, last_sequence, entries) "
            "SELECT chr(97 + n % 3), n, n, '{}' FROM generate_series(1, 30) AS n"
        )
    assert await producers_of(database) == ["a", "b", "c"]


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "not analyzed"])
async def test_no_round_reads_all_batches(database: Database, plans: str, analyzed: bool) -> None:
    queries = {
        "select_old": (
            "(text[], bigint[], int, float8, bigint)",
            "('{a,b}', '{0,0}', 500, 60, 2000)",
        ),
        "select_reached": ("(text[], int)", "('{a,b}', 100)"),
        "select_kept": ("(text, bigint, int, bigint)", "('a', 7, 8, 1000)"),
        "select_unpublished": ("(text[], text, bigint, int, bigint)", "('{a,b}', '', 0, 8, 1000)"),
        "select_left_producers": ("(float8)", "(5)"),
        "select_producers": ("", ""),
        "delete_batches": ("(text[], bigint[])", "('{a}', '{7}')"),
    }
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO redfaust.batches "
            "(producer_id, first_sequence, last_sequence, entries, published_at) "
            "SELECT chr(97 + n % 8), n, n, '{}', now() FROM generate_series(1, 40000) AS n"
        )
        if analyzed:
            await connection.execute("ANALYZE redfaust.batches")
        await connection.execute(f"SET LOCAL plan_cache_mode = {plans}")
        for name, (types, values) in queries.items():
            query = load("redfaust.outbox", name)
            await connection.execute(f"PREPARE {name} {types} AS {query}")
            plan = await connection.fetch(f"EXPLAIN EXECUTE {name} {values}")
            lines = "\n".join(line for (line,) in plan)
            assert "Seq Scan on batches" not in lines, (name, lines)


async def test_housekeeping_looks_again_after_it_failed(database: Database) -> None:
    stream = Stream()
    owner = Owner(database, stream)
    await owner.take_over()
    async with publishing(owner.publisher):
        await owner.send(4)
        await all_published(owner.publisher)
    batch_publisher = BatchPublisher(database, stream, dead_letter=nothing_is_refused)
    maintenance = Maintenance(database, stream, batch_publisher, everybody=True)
    await maintenance.keep()
    stream.lose(2)
    last_sequences = stream.last_sequences

    async def unreachable(_: object) -> Mapping[str, Mapping[TP, int]]:
        raise ConnectionError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stream, "last_sequences", unreachable)
        with pytest.raises(ConnectionError):
            await maintenance.keep()
    assert stream.last_sequences == last_sequences
    await asyncio.wait_for(maintenance.keep(), TIMEOUT)
    assert await stream.reaches(4) == numbers(0, 4)
