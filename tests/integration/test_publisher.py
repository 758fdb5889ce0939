"""Owners of producers: what they stage in their transactions, and how it gets onto the logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest
from faust.types import TP

from redfaust.brokers.broker import (
    EntriesRefused,
    Outgoing,
    Place,
    ProducerBatch,
    Refused,
    SequencedEntry,
)
from redfaust.errors import BrokerError, BrokerUnavailable, ProducerFenced
from redfaust.outbox.batch_publisher import LEFT_OUT
from redfaust.outbox.entries import Staged
from redfaust.outbox.outbox import outbox_status
from redfaust.outbox.producers import ProducerState, open_producers, stage
from redfaust.outbox.publisher import Publisher
from redfaust.postgres.database import Connection, Database
from redfaust.postgres.migrate import migrate
from tests.integration.outbox_streams import (
    OWNER,
    TIMEOUT,
    Stream,
    all_published,
    commit,
    drained,
    is_active,
    new_publisher,
    publishing,
    running,
)
from tests.rights import as_owner


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url)
    await migrate(database)
    yield database
    await database.close()


async def batches(database: Database) -> list[tuple[int, int, bool]]:
    async with database.transaction() as connection:
        return [
            tuple(row)
            for row in await connection.fetch(
                "SELECT first_sequence, last_sequence, published_at IS NOT NULL"
                " FROM redfaust.batches ORDER BY producer_id, last_sequence"
            )
        ]


async def test_what_is_committed_is_published_in_order(database: Database) -> None:
    stream = Stream()
    publisher = new_publisher(database, stream)
    producer = (await publisher.take_over([OWNER]))[OWNER]
    async with publishing(publisher):
        for n in range(0, 30, 3):
            staged = await commit(database, producer, *(b"%d" % n for n in range(n, n + 3)))
            publisher.put([staged])
            producer = ProducerState(producer.id, staged.last_sequence)
        await all_published(publisher)
    assert await stream.reaches(30) == [b"%d" % n for n in range(30)]
    assert (await outbox_status(database)).depth == 0
    assert all(published for _, _, published in await batches(database))


async def test_an_entry_survives_the_database(database: Database) -> None:
    headers = (("b", b"\xff\x00"), ("a", b""), ("b", b"again"))
    entries = [
        Outgoing("orders", b"\x00value\xff", b"key", headers, 3, 1234567.891),
        Outgoing("users", None),
        Outgoing("users", b"", b""),
    ]
    async with database.transaction() as connection:
        producer_ids = await open_producers(connection, [OWNER])
        [staged] = await stage(connection, {producer_ids[OWNER]: (0, entries)})
    sequenced = tuple(SequencedEntry(n + 1, entry) for n, entry in enumerate(entries))
    assert staged == Staged(producer_ids[OWNER], 1, 3, sequenced, size=20)
    stream = Stream()
    await new_publisher(database, stream).take_over([OWNER])
    assert stream.entries == entries


async def test_several_producers_are_staged_at_once(database: Database) -> None:
    stream = Stream()
    publisher = new_publisher(database, stream)
    owned = await publisher.take_over(["a", "b", "c", "idle"])
    sizes = {"a": 1, "b": 500, "c": 3, "idle": 0}
    async with database.transaction() as connection:
        staged = await stage(
            connection,
            {
                owned[name].id: (
                    owned[name].last_sequence,
                    [Outgoing("orders", b"%s%d" % (name.encode(), n)) for n in range(size)],
                )
                for name, size in sizes.items()
            },
        )
    assert [len(batch.entries) for batch in staged] == [1, 500, 3]
    heir = new_publisher(database, stream)
    again = await heir.take_over(["a", "b", "c", "idle"])
    for name, size in sizes.items():
        assert again[name].last_sequence == owned[name].last_sequence + size + LEFT_OUT
        values = [e.value for e in stream.entries if (e.value or b"").startswith(name.encode())]
        assert values == [b"%s%d" % (name.encode(), n) for n in range(size)]


async def test_what_is_larger_than_a_statement_may_be_is_staged_in_several_batches(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("entries", "producers"):
        monkeypatch.setattr(f"redfaust.outbox.{module}.BATCH_BYTES", 10)
    stream = Stream()
    publisher = new_publisher(database, stream)
    owned = await publisher.take_over(["a", "b"])
    values = [b"1" * 4, b"2" * 4, b"3" * 4, b"4" * 30, b"5"]
    async with database.transaction() as connection:
        producers = {
            producer.id: (
                producer.last_sequence,
                [Outgoing(name, value) for value in values],
            )
            for name, producer in owned.items()
        }
        staged = await stage(connection, producers)
    assert [len(batch.entries) for batch in staged] == [2, 1, 1, 1] * 2
    async with publishing(publisher):
        publisher.put(staged)
        await all_published(publisher)
    for name in ("a", "b"):
        assert [entry.value for entry in stream.entries if entry.topic == name] == values


async def test_a_producer_that_was_taken_over_stages_nothing(database: Database) -> None:
    stream = Stream()
    old = (await new_publisher(database, stream).take_over([OWNER]))[OWNER]
    new = (await new_publisher(database, stream).take_over([OWNER]))[OWNER]
    with pytest.raises(ProducerFenced, match="take them over again"):
        await commit(database, old, b"late")
    assert await batches(database) == []
    assert (await commit(database, new, b"1")).first_sequence == new.last_sequence + 1


async def test_a_producer_that_the_database_forgot_stages_nothing(database: Database) -> None:
    publisher = new_publisher(database, Stream())
    producer = (await publisher.take_over([OWNER]))[OWNER]
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM redfaust.producers")
    with pytest.raises(ProducerFenced):
        await commit(database, producer, b"1")
    await publisher.let_go([OWNER])
    again = (await publisher.take_over([OWNER]))[OWNER]
    assert again.id != producer.id
    await commit(database, again, b"1")


async def test_what_is_rolled_back_is_not_published(database: Database) -> None:
    async def roll_back(producer: ProducerState) -> None:
        async with database.transaction() as connection:
            entries = [Outgoing("orders", b"never")]
            await stage(connection, {producer.id: (producer.last_sequence, entries)})
            raise LookupError

    stream = Stream()
    producer = (await new_publisher(database, stream).take_over([OWNER]))[OWNER]
    with pytest.raises(LookupError):
        await roll_back(producer)
    await commit(database, producer, b"1")
    await new_publisher(database, stream).take_over([OWNER])
    assert await stream.reaches(1) == [b"1"]


async def test_what_an_owner_left_is_published_before_its_heir_goes_on(database: Database) -> None:
    stream = Stream()
    producer = (await new_publisher(database, stream).take_over([OWNER]))[OWNER]
    for n in range(20):  # it dies before it publishes any of them
        staged = await commit(database, producer, b"%d" % n)
        producer = ProducerState(producer.id, staged.last_sequence)

    heir = new_publisher(database, stream)
    producer = (await heir.take_over([OWNER, "shop/orders/1"]))[OWNER]
    assert await stream.reaches(20) == [b"%d" % n for n in range(20)]
    async with publishing(heir):
        heir.put([await commit(database, producer, b"20")])
        await all_published(heir)
    assert await stream.reaches(21) == [b"%d" % n for n in range(21)]


async def test_a_database_that_was_set_back_uses_no_number_again(database: Database) -> None:
    stream = Stream()
    publisher = new_publisher(database, stream)
    producer = (await publisher.take_over([OWNER]))[OWNER]
    async with publishing(publisher):
        publisher.put([await commit(database, producer, b"1", b"2", b"3")])
        await all_published(publisher)
    async with database.transaction() as connection:  # as a restored backup would have it
        await connection.execute("UPDATE redfaust.producers SET last_sequence = 1")
        await connection.execute("DELETE FROM redfaust.batches")

    heir = new_publisher(database, stream)
    again = (await heir.take_over([OWNER]))[OWNER]
    assert again.last_sequence > producer.last_sequence + 3
    async with publishing(heir):
        heir.put([await commit(database, again, b"4")])
        await all_published(heir)
    assert await stream.reaches(4) == [b"1", b"2", b"3", b"4"]


async def test_a_producer_that_is_kept_goes_on_while_others_come_and_go(database: Database) -> None:
    stream = Stream()
    publisher = new_publisher(database, stream)
    producer = (await publisher.take_over(["a"]))["a"]
    staged = await commit(database, producer, b"1")
    publisher.put([staged])
    assert (await publisher.take_over(["b"])).keys() == {"b"}
    await publisher.let_go(["b"])
    publisher.put([await commit(database, ProducerState(producer.id, staged.last_sequence), b"2")])
    async with publishing(publisher):
        await all_published(publisher)
    assert await stream.reaches(2) == [b"1", b"2"]


async def test_what_belongs_to_lost_producers_is_left_to_their_heir(database: Database) -> None:
    stream = Stream()
    publisher = new_publisher(database, stream)
    owned = await publisher.take_over(["kept", "lost"])
    publisher.put([await commit(database, owned["lost"], b"before")])
    await publisher.let_go(["lost"])
    publisher.put(
        [await commit(database, ProducerState(owned["lost"].id, LEFT_OUT + 1), b"behind")]
    )
    publisher.put([await commit(database, owned["kept"], b"kept")])
    async with publishing(publisher):
        await all_published(publisher)
    assert await stream.reaches(1) == [b"kept"]
    await new_publisher(database, stream).take_over(["lost"])
    assert await stream.reaches(3) == [b"kept", b"before", b"behind"]


async def test_a_batch_that_was_not_put_is_not_passed_over(database: Database) -> None:
    publisher = new_publisher(database, Stream())
    producer = (await publisher.take_over([OWNER]))[OWNER]
    forgotten = await commit(database, producer, b"1")
    with pytest.raises(ProducerFenced, match="does not follow"):
        publisher.put(
            [await commit(database, ProducerState(producer.id, forgotten.last_sequence), b"2")]
        )


class Failing(Stream):
    """Raises so many times, after it has appended."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    async def append_once(
        self, batches: Sequence[ProducerBatch]
    ) -> Mapping[str, Mapping[TP, Place]]:
        places = await super().append_once(batches)
        if self.left:
            self.left -= 1
            raise BrokerUnavailable("the answer was lost")
        return places


async def test_a_broker_that_is_away_is_waited_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.outbox.publisher.RETRY_EVERY", 0.01)
    stream = Failing(3)
    publisher = new_publisher(database, stream)
    producer = (await publisher.take_over([OWNER]))[OWNER]
    async with publishing(publisher):
        staged = await commit(database, producer, b"1", b"2")
        publisher.put([staged])
        publisher.put(
            [await commit(database, ProducerState(producer.id, staged.last_sequence), b"3")]
        )
        await all_published(publisher)
    assert await stream.reaches(3) == [b"1", b"2", b"3"]
    assert stream.left == 0


async def test_a_publisher_that_is_stopped_and_started_passes_nothing_over(
    database: Database,
) -> None:
    class Away(Stream):
        def __init__(self) -> None:
            super().__init__()
            self.asked = asyncio.Event()
            self.away = True

        async def append_once(
            self, batches: Sequence[ProducerBatch]
        ) -> Mapping[str, Mapping[TP, Place]]:
            self.asked.set()
            if self.away:
                raise BrokerUnavailable("away")
            return await super().append_once(batches)

    stream = Away()
    publisher = new_publisher(database, stream)
    producer = (await publisher.take_over([OWNER]))[OWNER]
    staged = await commit(database, producer, b"1")
    publisher.put([staged])
    async with publishing(publisher):
        await asyncio.wait_for(stream.asked.wait(), TIMEOUT)
    stream.away = False
    publisher.put([await commit(database, ProducerState(producer.id, staged.last_sequence), b"2")])
    async with publishing(publisher):
        await all_published(publisher)
    assert await stream.reaches(2) == [b"1", b"2"]


@pytest.mark.parametrize("bound", ["MAX_UNPUBLISHED", "MAX_UNPUBLISHED_BYTES"])
async def test_there_is_no_room_while_too_much_is_unpublished(
    database: Database, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(f"redfaust.outbox.publisher.{bound}", 3)
    publisher = new_publisher(database, Stream())
    producer = (await publisher.take_over([OWNER]))[OWNER]
    staged = await commit(database, producer, b"1", b"2", b"3")
    publisher.put([staged])
    await asyncio.wait_for(publisher.has_room(), TIMEOUT)
    publisher.put([await commit(database, ProducerState(producer.id, staged.last_sequence), b"4")])
    waiting = asyncio.create_task(publisher.has_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    async with publishing(publisher):
        await asyncio.wait_for(waiting, TIMEOUT)
        await all_published(publisher)
        await asyncio.wait_for(publisher.has_room(), TIMEOUT)


async def test_what_is_published_in_one_go_is_bounded_by_bytes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.outbox.publisher.BATCH_BYTES", 5)
    stream = Stream()
    publisher = new_publisher(database, stream)
    producer = (await publisher.take_over([OWNER]))[OWNER]
    for value in (b"12", b"34", b"56", b"a large one", b"78"):
        staged = await commit(database, producer, value)
        publisher.put([staged])
        producer = ProducerState(producer.id, staged.last_sequence)
    async with publishing(publisher):
        await all_published(publisher)
    assert stream.batches == [2, 1, 1, 1]


async def test_a_refused_entry_is_set_aside_once_and_the_others_go_on(
    database: Database, database_url: str
) -> None:
    class Picky(Stream):
        async def append_once(
            self, batches: Sequence[ProducerBatch]
        ) -> Mapping[str, Mapping[TP, Place]]:
            for producer_id, entries, _ in batches:
                for number, entry in entries:
                    if (entry.value or b"").startswith(b"bad"):
                        raise EntriesRefused([Refused(producer_id, number, BrokerError("never"))])
            return await super().append_once(batches)

    async def keep(connection: Connection, entry: Outgoing, error: BrokerError) -> None:
        await connection.execute("INSERT INTO kept VALUES ($1, $2)", entry.value, str(error))

    owner = await Database.connect(as_owner(database_url))
    await owner.pool.execute("CREATE TABLE kept (value bytea, error text)")
    await owner.close()
    stream = Picky()
    # Two of them publish the same batches, as an owner and a relay may.
    first, second = (new_publisher(database, stream, keep) for _ in range(2))
    producer = (await first.take_over([OWNER]))[OWNER]
    staged = await commit(database, producer, b"1", b"bad 2", b"3", b"bad 4")
    first.put([staged])
    await asyncio.gather(second.take_over([OWNER]), _publish_all(first))
    async with database.transaction() as connection:
        kept = [tuple(row) for row in await connection.fetch("SELECT * FROM kept ORDER BY 1")]
    assert kept == [(b"bad 2", "never"), (b"bad 4", "never")]
    assert await stream.reaches(2) == [b"1", b"3"]


async def _publish_all(publisher: Publisher) -> None:
    async with publishing(publisher):
        await all_published(publisher)


async def test_a_relay_publishes_what_an_owner_left(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.outbox.maintenance.LEFT_AFTER", 0.05)
    monkeypatch.setattr("redfaust.outbox.maintenance.EVERY", 0.02)
    stream = Stream()
    producer = (await new_publisher(database, stream).take_over([OWNER]))[OWNER]
    async with running(database, stream, poll=0.05) as relay:
        await is_active(relay)
        staged = await commit(database, producer, b"1", b"2")
        await stream.reaches(2)
        await commit(database, ProducerState(producer.id, staged.last_sequence), b"3")
        assert await stream.reaches(3) == [b"1", b"2", b"3"]
        await drained(database)


async def test_owner_and_relay_publish_each_entry_once_and_in_order(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.outbox.maintenance.LEFT_AFTER", 0.0)
    monkeypatch.setattr("redfaust.outbox.maintenance.EVERY", 0.002)
    stream = Stream()
    publisher = new_publisher(database, stream)
    producer = (await publisher.take_over([OWNER]))[OWNER]
    async with running(database, stream, poll=0.001), publishing(publisher):
        for n in range(200):
            staged = await commit(database, producer, b"%d" % n)
            publisher.put([staged])
            producer = ProducerState(producer.id, staged.last_sequence)
        await all_published(publisher)
        await drained(database)
    assert await stream.reaches(200) == [b"%d" % n for n in range(200)]
    assert len(stream.entries) == 200
    assert sum(stream.batches) > 200  # both were at work
