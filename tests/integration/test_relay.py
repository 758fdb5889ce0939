from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from faust.types import TP

from redfaust.brokers.broker import Outgoing, Place, ProducerBatch
from redfaust.errors import BrokerUnavailable, DatabaseBusy, DatabaseUnavailable
from redfaust.outbox.outbox import Outbox, outbox_status
from redfaust.outbox.producers import open_producers, stage
from redfaust.outbox.relay import Relay
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import apply_migrations, migrate
from redfaust.processing.dead_letters import DeadLetters
from tests.integration.outbox_streams import (
    TIMEOUT,
    Halting,
    Stream,
    drained,
    eventually,
    is_active,
    kill_session_of,
    new_relay,
    publish,
    running,
)
from tests.rights import as_owner, as_relay


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(as_relay(database_url))
    await migrate(database)
    yield database
    await database.close()


async def test_committed_rows_reach_the_broker_in_order_and_leave(database: Database) -> None:
    async with Outbox(database).transaction() as tx:
        await tx.publish("orders", b"1", key="o-1", headers={"type": "OrderCreated"})
        await tx.publish("users", None, key=b"\xff")
        await tx.publish("orders", b"3")
    stream = Stream()
    async with running(database, stream) as relay:
        await stream.reaches(3)
        await drained(database)
        assert (relay.active, relay.published, stream.batches) == (True, 3, [3])
    assert stream.entries == [
        Outgoing("orders", b"1", b"o-1", (("type", b"OrderCreated"),)),
        Outgoing("users", None, b"\xff"),
        Outgoing("orders", b"3"),
    ]
    assert not relay.active


async def test_a_notification_wakes_the_relay(database: Database) -> None:
    stream = Stream()
    async with running(database, stream) as relay:
        await is_active(relay)
        await publish(database, b"1")
        await stream.reaches(1)
        async with database.transaction() as connection:
            await connection.execute("SELECT redfaust.publish('orders', 'o-1', '2')")
        assert await stream.reaches(2) == [b"1", b"2"]


async def test_polling_finds_what_was_not_notified(database: Database, database_url: str) -> None:
    owner = await Database.connect(as_owner(database_url))
    await owner.pool.execute("ALTER TABLE redfaust.outbox DISABLE TRIGGER announce")
    await owner.close()
    stream = Stream()
    async with running(database, stream, poll=0.05) as relay:
        await is_active(relay)
        await publish(database, b"1")
        await stream.reaches(1)


async def test_what_is_rolled_back_never_arrives(database: Database) -> None:
    async def roll_back() -> None:
        async with Outbox(database).transaction() as tx:
            await tx.publish("orders", b"never")
            raise LookupError

    stream = Stream()
    async with running(database, stream):
        with pytest.raises(LookupError):
            await roll_back()
        await publish(database, b"1")
        assert await stream.reaches(1) == [b"1"]


async def test_large_rows_go_in_batches_of_bounded_size(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.outbox.relay.BATCH_BYTES", 5_000)
    await publish(database, b"x" * 2_000, b"y" * 2_000, b"z" * 2_000, b"w" * 9_000, b"v")
    stream = Stream()
    async with running(database, stream):
        assert b"".join(value[:1] for value in await stream.reaches(5) if value) == b"xyzwv"
    assert stream.batches == [2, 1, 1, 1]


async def test_headers_count_as_long_as_they_are_though_they_are_stored_compressed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.outbox.relay.BATCH_BYTES", 25_000)
    await database.pool.execute(
        "INSERT INTO redfaust.outbox (topic, value, headers)"
        " SELECT 'orders', 'x', jsonb_build_object('long', repeat('x', 10000))"
        " FROM generate_series(1, 5)"
    )
    stream = Stream()
    async with running(database, stream):
        await stream.reaches(5)
    assert stream.batches == [2, 2, 1]


async def test_large_batches_are_read_one_by_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("entries", "batch_publisher", "producers"):
        monkeypatch.setattr(f"redfaust.outbox.{module}.BATCH_BYTES", 5_000)
    values = [bytes([n]) * 2_000 for n in range(7)]
    async with database.transaction() as connection:
        producer_ids = await open_producers(connection, ["relay"])
        sent = [Outgoing("orders", value) for value in values]
        batches = await stage(connection, {producer_ids["relay"]: (0, sent)})
    assert [len(batch.entries) for batch in batches] == [2, 2, 2, 1]
    assert [batch.last_sequence for batch in batches] == [2, 4, 6, 7]
    stream = Stream()
    async with running(database, stream):
        assert await stream.reaches(7) == values
    assert max(stream.batches) <= 2


class Forgetful(Stream):
    """Keeps no values, of which there are more than memory should hold."""

    async def append_once(
        self, batches: Sequence[ProducerBatch]
    ) -> Mapping[str, Mapping[TP, Place]]:
        return await super().append_once(
            [
                batch._replace(
                    entries=[
                        each._replace(entry=Outgoing("orders", None)) for each in batch.entries
                    ]
                )
                for batch in batches
            ]
        )


@pytest.mark.long
async def test_four_hundred_rows_of_three_megabytes_go_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.integration.outbox_streams.TIMEOUT", 120.0)
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO redfaust.outbox (topic, value) "
            "SELECT 'orders', convert_to(repeat('x', 3000000), 'UTF8') FROM generate_series(1, 400)"
        )
    stream = Forgetful()
    async with running(database, stream):
        await stream.reaches(400)
        await drained(database)


async def test_a_long_outbox_goes_in_batches(database: Database) -> None:
    await publish(database, *(b"%d" % n for n in range(7)))
    stream = Stream()
    async with running(database, stream, batch=3):
        assert await stream.reaches(7) == [b"%d" % n for n in range(7)]
    assert stream.batches == [3, 3, 1]


async def test_a_scheduled_row_goes_when_it_is_due(database: Database) -> None:
    due = datetime.now(UTC) + timedelta(seconds=0.6)
    stream = Stream()
    async with running(database, stream):
        await publish(database, b"later", available_at=due)
        await publish(database, b"now")
        assert await stream.reaches(1) == [b"now"]
        assert await stream.reaches(2) == [b"now", b"later"]
        assert datetime.now(UTC) >= due


async def test_rows_that_came_due_go_in_the_order_of_their_times(database: Database) -> None:
    async with database.transaction() as connection:  # as if no relay had run for a minute
        await connection.execute(
            "INSERT INTO redfaust.outbox (topic, value, available_at) VALUES "
            "('orders', 'third', NULL), "
            "('orders', 'second', now() - interval '1 s'), "
            "('orders', 'first', now() - interval '1 min')"
        )
    stream = Stream()
    async with running(database, stream):
        assert await stream.reaches(3) == [b"first", b"second", b"third"]


async def test_one_relay_publishes_and_the_others_are_spares(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.outbox.relay.SPARE_POLL", 0.05)
    first, second = Stream(), Stream()
    async with running(database, second) as spare:
        async with running(database, first) as other:
            await is_active(spare, other)
            await publish(database, b"1", b"2")
            await drained(database)
            await asyncio.sleep(0.2)  # several attempts of the spare
            assert [spare.active, other.active].count(True) == 1
            assert len(first.entries) + len(second.entries) == 2
        await is_active(spare)
        await publish(database, b"3")
        await drained(database)
        assert second.entries[-1].value == b"3"


async def test_a_spare_succeeds_a_relay_whose_session_dies(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.outbox.relay.SPARE_POLL", 0.05)
    old, new = Stream(), Stream()
    relay, stop = new_relay(database, old), asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    await is_active(relay)
    async with running(database, new) as spare:
        await eventually(lambda: kill_session_of(database, "min(available_at)"))
        with pytest.raises(DatabaseUnavailable):
            await asyncio.wait_for(task, TIMEOUT)
        assert not relay.active
        await is_active(spare)
        await publish(database, b"1")
        assert await new.reaches(1) == [b"1"]
    assert old.entries == []


async def test_a_broker_that_is_away_costs_nothing(database: Database) -> None:
    class Away(Stream):
        async def append_once(self, _: object) -> Mapping[str, Mapping[TP, Place]]:
            raise BrokerUnavailable("away")

    await publish(database, b"1", b"2")
    with pytest.raises(BrokerUnavailable):
        await asyncio.wait_for(new_relay(database, Away()).run(asyncio.Event()), TIMEOUT)
    assert (await outbox_status(database)).depth == 2

    stream = Stream()
    async with running(database, stream):
        assert await stream.reaches(2) == [b"1", b"2"]


async def test_a_relay_that_dies_before_it_notes_has_published_once(database: Database) -> None:
    class Deadly(Stream):
        async def append_once(
            self, batches: Sequence[ProducerBatch]
        ) -> Mapping[str, Mapping[TP, Place]]:
            places = await super().append_once(batches)
            if len(self.batches) == 1:
                raise BrokerUnavailable("the answer was lost")
            return places

    await publish(database, b"1", b"2")
    stream = Deadly()
    with pytest.raises(BrokerUnavailable):
        await asyncio.wait_for(new_relay(database, stream).run(asyncio.Event()), TIMEOUT)
    async with running(database, stream):
        await publish(database, b"3")
        assert await stream.reaches(3) == [b"1", b"2", b"3"]
        await drained(database)
    assert stream.batches == [2, 2, 1]


async def test_a_batch_that_has_begun_is_finished_before_stopping(database: Database) -> None:
    stream, stop = Halting(), asyncio.Event()
    await publish(database, b"1", b"2")
    task = asyncio.create_task(new_relay(database, stream, batch=1).run(stop))
    await asyncio.wait_for(stream.halted.wait(), TIMEOUT)
    stop.set()
    stream.go_on.set()
    await asyncio.wait_for(task, TIMEOUT)
    assert (await outbox_status(database)).depth == 1


async def test_what_is_claimed_goes_first_and_in_the_order_of_its_numbers(
    database: Database,
) -> None:
    async with database.transaction() as connection:  # as a relay left it that died
        [producer_id] = (await open_producers(connection, ["relay"])).values()
        await stage(connection, {producer_id: (0, [Outgoing("orders", b"first")])})
        await stage(connection, {producer_id: (1, [Outgoing("orders", b"second")])})
        await connection.execute(
            "INSERT INTO redfaust.outbox (topic, value, available_at) VALUES "
            "('orders', 'fourth', NULL), ('orders', 'third', now() - interval '1 min')"
        )
    stream = Stream()
    async with running(database, stream, batch=1):
        assert await stream.reaches(4) == [b"first", b"second", b"third", b"fourth"]
        await drained(database)


async def migrate_up_to(database: Database, directory: Path, first_left_out: str) -> None:
    """Bring a database to an older release's schema."""
    everything = resources.files("redfaust.postgres").joinpath("migrations")
    for migration in everything.iterdir():
        if migration.name < first_left_out:
            (directory / migration.name).write_text(migration.read_text())
    await apply_migrations(database, "redfaust", directory)


async def test_rows_that_were_claimed_before_there_were_batches_are_published(
    empty_database_url: str, tmp_path: Path
) -> None:
    database = await Database.connect(empty_database_url)
    try:
        await migrate_up_to(database, tmp_path, "0004")
        async with database.transaction() as connection:
            await connection.execute(
                "INSERT INTO redfaust.lanes (lane, last_number, relay_of) SELECT 'relay-x', 8,"
                " system_identifier || '/' || oid FROM pg_control_system(), pg_database"
                " WHERE datname = current_database();"
                "INSERT INTO redfaust.outbox (topic, key, value, headers, lane, number) VALUES"
                " ('orders', 'k', 'third', '{}', NULL, NULL),"
                """ ('orders', 'k', 'second', '{"a": "1"}', 'relay-x', 8),"""
                " ('orders', 'k', 'first', '{}', 'relay-x', 7)"
            )
        await migrate(database)
        stream = Stream()
        async with running(database, stream):
            assert await stream.reaches(3) == [b"first", b"second", b"third"]
            await drained(database)
        assert stream.entries[1] == Outgoing("orders", b"second", b"k", (("a", b"1"),))
        assert (await producer_of(database))[0] == "relay-x"
    finally:
        await database.close()


async def test_rows_from_before_that_could_not_be_published_become_dead_letters(
    empty_database_url: str, tmp_path: Path
) -> None:
    database = await Database.connect(empty_database_url)
    try:
        await migrate_up_to(database, tmp_path, "0012")
        async with database.transaction() as connection:
            await connection.execute(
                "INSERT INTO redfaust.positions (app, topic, partition, log, position)"
                " VALUES ('bank', 'payments', 0, 'log', 0), ('shop', 'orders', 0, 'log', 0);"
                "INSERT INTO redfaust.outbox (topic, partition, value, timestamp, available_at)"
                " VALUES ('orders', NULL, 'good', NULL, NULL), ('orders', 0, 'nan', 'nan', NULL),"
                " ('orders', -1, 'negative', NULL, NULL), (E'a\\nb', 0, 'name', NULL, NULL),"
                " ('orders', 0, 'never', NULL, 'infinity');"
                "INSERT INTO redfaust.outbox (topic, value, headers, created_at) VALUES"
                """ ('orders', 'odd', '{"n": 1e400, "t": "x", "no": null}', 'infinity'),"""
                """ ('orders', 'odder', '[["a", "Yg=="], 7, [1e400]]', '-infinity'),"""
                """ (E'\\t', 'both', '{"n": 1e400, "t": "x"}', now())"""
            )
        await migrate(database)
        stream = Stream()
        async with running(database, stream):
            assert await stream.reaches(3) == [b"good", b"odd", b"odder"]
            await drained(database)
        digits = b"1" + b"0" * 400
        assert [sorted(entry.headers) for entry in stream.entries] == [
            [],
            [("n", digits), ("no", b""), ("t", b"x")],
            [("", b"7"), ("", b"[%s]" % digits), ("a", b"b")],
        ]
        letters = await DeadLetters(database).list()
        assert {
            (letter.app, letter.value): letter.error.partition(": ")[2] for letter in letters
        } == {
            ("shop", b"nan"): "its timestamp is NaN, not from 1970 to 9999",
            ("shop", b"negative"): "its partition is -1",
            ("shop", b"never"): "its available_at is infinity, not from 1970 to 9999",
            ("bank", b"name"): "its topic has not 1 to 249 characters without control characters",
            ("bank", b"both"): "its topic has not 1 to 249 characters without control characters",
        }
        [both] = [letter for letter in letters if letter.value == b"both"]
        assert sorted(both.headers) == [("n", digits), ("t", b"x")]
    finally:
        await database.close()


async def test_a_row_that_was_claimed_before_and_could_not_be_read_is_published(
    empty_database_url: str, tmp_path: Path
) -> None:
    database = await Database.connect(empty_database_url)
    try:
        await migrate_up_to(database, tmp_path, "0012")
        async with database.transaction() as connection:
            await connection.execute(
                "INSERT INTO redfaust.batches (lane, first_number, last_number, entries)"
                " VALUES ('former', 1, 2, ARRAY["
                """ROW(1, 'orders', NULL, NULL, 'odd', '{"n": 1e400}', NULL)::redfaust.entry,"""
                """ROW(2, 'orders', NULL, NULL, 'good', '{"t": "x"}', NULL)::redfaust.entry])"""
            )
        await migrate(database)
        async with database.transaction() as connection:
            [producer_id] = (await open_producers(connection, ["relay"])).values()
            await connection.execute("UPDATE redfaust.batches SET producer_id = $1", producer_id)
            await connection.execute("UPDATE redfaust.producers SET last_sequence = 2")
        stream = Stream()
        async with running(database, stream):
            assert await stream.reaches(2) == [b"odd", b"good"]
        assert [entry.headers for entry in stream.entries] == [
            (("n", b"1" + b"0" * 400),),
            (("t", b"x"),),
        ]
    finally:
        await database.close()


async def test_a_relay_that_lost_its_lock_and_appends_late_does_no_harm(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.outbox.relay.SPARE_POLL", 0.05)
    stream = Halting()
    await publish(database, b"1", b"2")
    zombie = asyncio.create_task(new_relay(database, stream).run(asyncio.Event()))
    await asyncio.wait_for(stream.halted.wait(), TIMEOUT)
    assert await kill_session_of(database, "UNION ALL") == 1
    async with running(database, stream):
        await publish(database, b"3")
        assert await stream.reaches(3) == [b"1", b"2", b"3"]
        await drained(database)
        stream.go_on.set()
        with pytest.raises(DatabaseUnavailable):
            await asyncio.wait_for(zombie, TIMEOUT)
        await publish(database, b"4")
        assert await stream.reaches(4) == [b"1", b"2", b"3", b"4"]
    assert stream.batches[-2:] == [2, 1]  # what came late, and the last


async def test_a_relay_that_falls_silent_is_succeeded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.outbox.relay.SPARE_POLL", 0.05)
    monkeypatch.setattr("redfaust.outbox.relay.SILENT_FOR", 0.1)
    stream = Halting()
    await publish(database, b"1", b"2")
    silent = asyncio.create_task(new_relay(database, stream, poll=0.1).run(asyncio.Event()))
    await asyncio.wait_for(stream.halted.wait(), TIMEOUT)
    async with running(database, stream, poll=0.1):
        assert await stream.reaches(2) == [b"1", b"2"]
        stream.go_on.set()
        with pytest.raises(DatabaseUnavailable):
            await asyncio.wait_for(silent, TIMEOUT)
    assert len(stream.entries) == 2


class Unlocked(Relay):
    """A relay that takes itself for the only one."""

    async def _lead(self, *_: object) -> bool:
        return True


async def test_two_relays_that_take_turns_step_by_step_publish_once(database: Database) -> None:
    stream, stop = Halting(), asyncio.Event()
    await publish(database, b"1", b"2")
    first = new_relay(database, stream, kind=Unlocked, poll=0.01)
    slow = asyncio.create_task(first.run(stop))
    await asyncio.wait_for(stream.halted.wait(), TIMEOUT)  # it has claimed 1 and 2

    fast = asyncio.create_task(new_relay(database, stream, kind=Unlocked, poll=0.01).run(stop))
    assert await stream.reaches(2) == [b"1", b"2"]
    await drained(database)
    await publish(database, b"3")
    assert await stream.reaches(3) == [b"1", b"2", b"3"]
    await drained(database)

    stream.go_on.set()  # now the first appends 1 and 2, sweeps, and finds itself overtaken
    await eventually(lambda: _is(first.published == 2))
    await publish(database, b"4", b"5")
    assert await stream.reaches(5) == [b"1", b"2", b"3", b"4", b"5"]
    await drained(database)
    stop.set()
    await asyncio.wait_for(asyncio.gather(slow, fast), TIMEOUT)
    assert len(stream.entries) == 5


async def _is(fact: bool) -> bool:
    return fact


async def test_without_any_lock_relays_publish_once_and_in_order(database: Database) -> None:
    stream, stop = Stream(), asyncio.Event()
    relays = [
        new_relay(database, stream, kind=Unlocked, batch=batch, poll=0.01) for batch in (1, 7, 50)
    ]

    async def run(relay: Relay) -> None:
        while not stop.is_set():
            # Without a lock two of them may wait for each other's rows: Postgres ends one of them.
            with suppress(DatabaseBusy):
                await relay.run(stop)

    tasks = [asyncio.create_task(run(relay)) for relay in relays]
    for begin in range(0, 600, 6):
        await publish(database, *(b"%d" % n for n in range(begin, begin + 6)))
    assert await stream.reaches(600) == [b"%d" % n for n in range(600)]
    await drained(database)
    stop.set()
    await asyncio.wait_for(asyncio.gather(*tasks), TIMEOUT)
    assert len(stream.entries) == 600
    assert all(relay.published for relay in relays)


async def producer_of(database: Database) -> tuple[str, int]:
    async with database.transaction() as connection:
        row = await connection.fetchrow("SELECT producer_id, last_sequence FROM redfaust.producers")
    assert row is not None
    return row["producer_id"], row["last_sequence"]


async def test_a_database_that_was_set_back_loses_nothing(database: Database) -> None:
    stream = Stream()
    async with running(database, stream):
        await publish(database, b"1", b"2", b"3")
        await stream.reaches(3)
        await drained(database)
    async with database.transaction() as connection:  # as a restored backup would have it
        await connection.execute("UPDATE redfaust.producers SET last_sequence = 1")
    await publish(database, b"4")
    async with running(database, stream):
        assert await stream.reaches(4) == [b"1", b"2", b"3", b"4"]


async def test_a_late_append_that_the_database_has_forgotten_hides_no_other(
    database: Database,
) -> None:
    stream = Halting()
    await publish(database, b"1", b"2")
    zombie = asyncio.create_task(new_relay(database, stream).run(asyncio.Event()))
    await asyncio.wait_for(stream.halted.wait(), TIMEOUT)
    assert await kill_session_of(database, "UNION ALL") == 1
    async with database.transaction() as connection:  # a replica that knows nothing of 1 and 2
        await connection.execute("DELETE FROM redfaust.batches")
        await connection.execute("UPDATE redfaust.producers SET last_sequence = last_sequence - 2")

    class Slower(Stream):
        last_sequences = stream.last_sequences

        async def append_once(
            self, batches: Sequence[ProducerBatch]
        ) -> Mapping[str, Mapping[TP, Place]]:
            stream.go_on.set()
            with pytest.raises(DatabaseUnavailable):
                await zombie
            return await stream.append_once(batches)

    await publish(database, b"3", b"4")
    async with running(database, Slower()):
        assert await stream.reaches(4) == [b"1", b"2", b"3", b"4"]


async def test_a_producer_that_is_set_back_under_a_relay_is_taken_up_again(
    database: Database,
) -> None:
    stream = Stream()
    async with running(database, stream, poll=0.01):
        await publish(database, b"1", b"2")
        await stream.reaches(2)
        async with database.transaction() as connection:
            await connection.execute("DELETE FROM redfaust.producers")
        await publish(database, b"3")
        assert await stream.reaches(3) == [b"1", b"2", b"3"]


async def test_a_relay_that_has_nothing_to_do_writes_nothing(database: Database) -> None:
    async def version_of_the_producer() -> tuple[object, ...]:
        async with database.transaction() as connection:
            row = await connection.fetchrow("SELECT xmin::text, ctid::text FROM redfaust.producers")
        assert row is not None
        return tuple(row)

    stream = Stream()
    async with running(database, stream, poll=0.01):
        await publish(database, b"1")
        await stream.reaches(1)
        await drained(database)
        before = await version_of_the_producer()
        await asyncio.sleep(0.2)  # twenty polls
        assert await version_of_the_producer() == before


async def test_databases_have_producers_of_their_own(
    database: Database, database_url: str, postgres_url: str
) -> None:
    stream = Stream()
    async with running(database, stream):
        await publish(database, b"1", b"2")
        await stream.reaches(2)
        await drained(database)
    original = await producer_of(database)
    await database.close()  # a database can be copied while nobody is in it

    name = f"{urlsplit(database_url).path[1:]}_copy"
    server = await asyncpg.connect(postgres_url)
    try:
        await server.execute(f'CREATE DATABASE {name} TEMPLATE "{urlsplit(database_url).path[1:]}"')
        copy = await Database.connect(database_url + "_copy")
        try:
            await publish(copy, b"3")
            async with running(copy, stream):
                assert await stream.reaches(3) == [b"1", b"2", b"3"]
                await drained(copy)
            async with copy.transaction() as connection:
                rows = await connection.fetch(
                    "SELECT producer_id, last_sequence FROM redfaust.producers"
                )
            producer_ids = {(row["producer_id"], row["last_sequence"]) for row in rows}
            assert original in producer_ids
            assert len(producer_ids) == 2
        finally:
            await copy.close()
    finally:
        await server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await server.close()
