"""What is Kafka's own about its broker: doubt, logs that were set back, what its tools show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import asyncpg
import faust
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAuthorizationFailedError
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from faust.types import TP

from redfaust import failpoints
from redfaust.brokers.assignor import GroupAssignment
from redfaust.brokers.broker import (
    Advance,
    Broker,
    EntriesRefused,
    Heartbeat,
    LogsBlocked,
    LogTruncated,
    OffsetOutOfRange,
    Outgoing,
    PartlyRefused,
    ProducerBatch,
    Retention,
    SequencedEntry,
    TopicSpec,
)
from redfaust.brokers.kafka import reader
from redfaust.brokers.kafka.address import Address
from redfaust.brokers.kafka.appender import Appender
from redfaust.brokers.kafka.entry import SOURCE
from redfaust.brokers.kafka.reader import LogReader
from redfaust.errors import BrokerError, BrokerUnavailable
from redfaust.transports.by_url import broker_by_url, check_url
from tests.integration.faust_apps import eventually, new_app, running
from tests.kafka_server import delete_topics, running_admin
from tests.rights import as_console, as_web

TOPIC = "events"
FIRST = TP(TOPIC, 0)
PATIENCE = 10.0
TOO_LARGE = b"x" * (2 << 20)


@pytest.fixture
async def broker(empty_kafka_url: str, kafka_store_url: str) -> AsyncIterator[Broker]:
    """An open one, with the topic."""
    broker = broker_by_url(empty_kafka_url, default_partitions=2, store=kafka_store_url)
    await broker.open()
    await broker.create_topic(TopicSpec(TOPIC, 2))
    yield broker
    await broker.close()


@pytest.fixture
async def admin(kafka_url: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Kafka's own tool."""
    async with running_admin(kafka_url) as admin:
        yield admin


def sequenced(*numbers: int, value: bytes | None = None) -> list[SequencedEntry]:
    return [SequencedEntry(n, Outgoing(TOPIC, value or b"%d" % n, partition=0)) for n in numbers]


async def send(broker: Broker, *numbers: int, after: int = 0) -> None:
    await broker.append_once([ProducerBatch("producer_id", sequenced(*numbers), {FIRST: after})])


async def values(broker: Broker, position: int = 0) -> list[bytes | None]:
    read = await broker.read({FIRST: position}, limit=100, wait=0)
    return [record.value for record in read.get(FIRST, ())]


async def last_sequences(broker: Broker) -> Mapping[TP, int]:
    return (await broker.last_sequences(["producer_id"]))["producer_id"]


class Killed(Exception):
    """Instead of the process."""


def die() -> None:
    raise Killed


@pytest.mark.parametrize("reader", [as_web, as_console])
async def test_who_may_only_read_the_database_may_look_at_the_logs(
    empty_kafka_url: str, kafka_store_url: str, reader: Callable[[str], str]
) -> None:
    looking = broker_by_url(empty_kafka_url, default_partitions=2, store=reader(kafka_store_url))
    await looking.open()
    try:
        before = await looking.incarnation()
        worker = broker_by_url(empty_kafka_url, default_partitions=2, store=kafka_store_url)
        await worker.open()
        await worker.create_topic(TopicSpec(TOPIC, 2))
        await worker.append([Outgoing(TOPIC, b"1", partition=0)])
        await worker.close()
        assert await looking.topics() == {TOPIC: 2}
        assert await values(looking) == [b"1"]
        assert await looking.incarnation() == before
    finally:
        await looking.close()


# -- doubt -----------------------------------------------------------------------------------


async def test_what_was_appended_before_a_kill_is_found(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(broker, 1)
    monkeypatch.setattr(failpoints, "point", failpoints.at("producers.appended", die))
    with pytest.raises(Killed):
        await send(broker, 2, 3)
    assert await last_sequences(broker) == {FIRST: 3}
    await send(broker, 2, 3, 4)
    assert await values(broker) == [b"1", b"2", b"3", b"4"]


async def test_what_was_not_appended_before_a_kill_is_not_taken_for_it(
    broker: Broker, kafka_store_url: str
) -> None:
    await send(broker, 1)
    connection = await asyncpg.connect(kafka_store_url)
    await connection.execute("UPDATE redfaust.kafka_producers SET since = position")
    await connection.close()
    await broker.append([Outgoing(TOPIC, b"foreign", partition=0)])
    assert await last_sequences(broker) == {FIRST: 1}
    await send(broker, 1, 2)
    assert await values(broker) == [b"1", b"foreign", b"2"]


# -- what is refused -------------------------------------------------------------------------


async def test_an_entry_that_is_too_large_is_refused_and_the_others_are_not(
    broker: Broker,
) -> None:
    entries = [Outgoing(TOPIC, value, partition=0) for value in (b"1", TOO_LARGE, b"2")]
    with pytest.raises(PartlyRefused) as raised:
        await broker.append(entries)
    assert [isinstance(o, BrokerError) for o in raised.value.outcomes] == [False, True, False]
    assert await values(broker) == [b"1", b"2"]


async def test_a_numbered_entry_that_is_too_large_is_named(broker: Broker) -> None:
    lot = [*sequenced(1), *sequenced(2, value=TOO_LARGE), *sequenced(3)]
    with pytest.raises(EntriesRefused) as raised:
        await broker.append_once([ProducerBatch("producer_id", lot)])
    assert [refused.number for refused in raised.value.refused] == [2]
    assert await last_sequences(broker) == {FIRST: 1}
    await send(broker, 1, 3)
    assert await values(broker) == [b"1", b"3"]


async def test_a_partition_that_there_is_not_is_refused(broker: Broker) -> None:
    with pytest.raises(PartlyRefused, match="no partition 7"):
        await broker.append([Outgoing(TOPIC, b"", partition=7)])


async def test_a_topic_whose_name_kafka_does_not_take_stops_no_other(broker: Broker) -> None:
    lot = [*sequenced(1), SequencedEntry(2, Outgoing("a b", b"x")), *sequenced(3)]
    with pytest.raises(EntriesRefused, match="Kafka has no topic a b") as raised:
        await broker.append_once([ProducerBatch("producer_id", lot)])
    assert [refused.number for refused in raised.value.refused] == [2]
    assert await values(broker) == [b"1", b"3"]


async def test_a_topic_that_may_not_be_written_to_blocks_its_partitions_alone(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    lot = [*sequenced(1), SequencedEntry(2, Outgoing(TOPIC, b"2", partition=1))]
    send = Appender._send

    async def send_where_allowed(self: Appender, producer: Any, batch: Any, tp: TP) -> Any:
        if tp.partition == 1:
            raise TopicAuthorizationFailedError
        return await send(self, producer, batch, tp)

    with monkeypatch.context() as patched:
        patched.setattr(Appender, "_send", send_where_allowed)
        with pytest.raises(LogsBlocked, match="grant it the right") as raised:
            await broker.append_once([ProducerBatch("producer_id", lot)])
    assert raised.value.blocked.keys() == {TP(TOPIC, 1)}
    assert {
        tp: place.last_sequence for tp, place in raised.value.places["producer_id"].items()
    } == {FIRST: 1}
    await broker.append_once([ProducerBatch("producer_id", lot)])
    assert await last_sequences(broker) == {FIRST: 1, TP(TOPIC, 1): 2}


# -- what others write -----------------------------------------------------------------------


async def test_a_sequence_that_somebody_else_writes_is_none(
    broker: Broker, empty_kafka_url: str
) -> None:
    await send(broker, 1)
    producer = AIOKafkaProducer(**Address.parse(empty_kafka_url).options)
    await producer.start()
    try:
        for forged in (
            b"producer:99999999999",
            b"producer:2:0000000000000000",
            b"x:-5",
            b"\xff",
            b"",
        ):
            headers = [(SOURCE, forged), ("", b""), ("\0", b"1")]
            await producer.send_and_wait(TOPIC, b"foreign", partition=0, headers=headers)
    finally:
        await producer.stop()
    await send(broker, 2, after=1)
    read = await broker.read({FIRST: 0}, limit=100, wait=0)
    sources = [record.source for record in read[FIRST]]
    assert sources == [("producer_id", 1), *[None] * 5, ("producer_id", 2)]
    assert await last_sequences(broker) == {FIRST: 2}


async def test_a_forged_sequence_settles_no_doubt(
    broker: Broker, kafka_store_url: str, empty_kafka_url: str
) -> None:
    await send(broker, 1)
    connection = await asyncpg.connect(kafka_store_url)
    await connection.execute("UPDATE redfaust.kafka_producers SET since = position")
    await connection.close()
    header = (SOURCE, b"producer:99999999999")
    await broker.append([Outgoing(TOPIC, b"foreign", partition=0, headers=(header,))])
    assert await last_sequences(broker) == {FIRST: 1}


class NoText(str):
    """A header's name whose bytes are no text, as clients in other languages may write it."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"\xff\xfe"


async def produce_unreadable(url: str, tp: TP) -> None:
    """Put an entry there that the client in Python cannot read."""
    producer = AIOKafkaProducer(**Address.parse(url).options)
    await producer.start()
    try:
        batch = producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 1 << 20)
        batch.append(key=b"k", value=b"odd", timestamp=1000, headers=[(NoText("x"), b"1")])
        batch.close()
        await (await producer.send_batch(batch, tp.topic, partition=tp.partition))
    finally:
        await producer.stop()


async def test_an_entry_with_a_header_that_is_no_text_stops_nobody(
    broker: Broker, empty_kafka_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    second = TP(TOPIC, 1)
    await send(broker, 1, 2)
    await produce_unreadable(empty_kafka_url, FIRST)
    await produce_unreadable(empty_kafka_url, FIRST)
    await send(broker, 3, 4, after=2)
    await broker.append([Outgoing(TOPIC, b"other", partition=1)])
    found: dict[TP, list[bytes | None]] = {FIRST: [], second: []}
    positions = {FIRST: 0, second: 0}
    async with asyncio.timeout(PATIENCE):
        while sum(map(len, found.values())) < 5:
            for tp, records in (await broker.read(positions, limit=100, wait=1.0)).items():
                found[tp] += [record.value for record in records]
                positions[tp] = records[-1].offset + 1
    assert found == {FIRST: [b"1", b"2", b"3", b"4"], second: [b"other"]}
    assert await values(broker) == [b"1", b"2", b"3", b"4"]
    assert "entry 2 of partition 0 of events" in caplog.text


async def test_entries_that_cannot_be_read_are_passed_over_however_many_they_are(
    broker: Broker, empty_kafka_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CAREFULLY_FOR", 0.0)  # so that a read passes over one at most
    for _ in range(5):
        await produce_unreadable(empty_kafka_url, FIRST)
    await send(broker, 1)
    found: list[bytes | None] = []
    async with asyncio.timeout(PATIENCE):
        while not found:
            records = (await broker.read({FIRST: 0}, limit=100, wait=1.0)).get(FIRST, ())
            found = [record.value for record in records]
    assert found == [b"1"]


async def test_what_a_read_had_found_when_it_was_woken_is_read_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(broker, 1, 2)
    get_more = LogReader._get_more

    async def woken_before(self: LogReader, *arguments: Any) -> None:
        monkeypatch.undo()
        self.wake()
        await asyncio.sleep(0)
        await get_more(self, *arguments)

    positions = {FIRST: 0, TP(TOPIC, 1): 0}
    monkeypatch.setattr(LogReader, "_get_more", woken_before)
    assert await broker.read(positions, limit=100, wait=PATIENCE) == {}
    read = await broker.read(positions, limit=100, wait=PATIENCE)
    assert [record.value for record in read[FIRST]] == [b"1", b"2"]


async def test_an_entry_with_a_header_that_is_no_text_leaves_no_producer_in_doubt(
    broker: Broker, empty_kafka_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await produce_unreadable(empty_kafka_url, FIRST)
    monkeypatch.setattr(failpoints, "point", failpoints.at("producers.appended", die))
    with pytest.raises(Killed):
        await send(broker, 1, 2)
    monkeypatch.undo()
    await produce_unreadable(empty_kafka_url, FIRST)
    assert await last_sequences(broker) == {FIRST: 2}
    await send(broker, 3, after=2)
    assert await values(broker) == [b"1", b"2", b"3"]


# -- what Kafka removes ----------------------------------------------------------------------


async def test_what_retention_has_removed_is_passed_over(
    broker: Broker, admin: AIOKafkaAdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    await broker.append([Outgoing(TOPIC, b"%d" % n, partition=0) for n in range(5)])
    await admin.delete_records({TopicPartition(*FIRST): RecordsToDelete(before_offset=3)})
    assert await broker.bounds([FIRST]) == {FIRST: (3, 5)}
    while not (found := await values(broker)):
        pass
    assert found == [b"3", b"4"]
    assert "from 0 to 3" in caplog.text


async def test_a_new_topic_keeps_what_it_is_declared_to(
    broker: Broker, admin: AIOKafkaAdminClient
) -> None:
    await broker.create_topic(TopicSpec("bounded", 1, Retention(age=60.0, size=1000)))
    await broker.create_topic(TopicSpec("compacted", 1, Retention(compacted=True)))
    for topic, policy, age in (
        (TOPIC, "delete", "-1"),
        ("bounded", "delete", "60000"),
        ("compacted", "compact", "-1"),
    ):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        [described] = await admin.describe_configs([resource])
        entries = {entry[0]: entry[1] for entry in described.resources[0][4]}
        assert (entries["cleanup.policy"], entries["retention.ms"]) == (policy, age)


async def test_a_topic_that_is_made_again_is_another_incarnation(
    broker: Broker, kafka_url: str
) -> None:
    await send(broker, 1, 2)
    await broker.append([Outgoing(TOPIC, b"%d" % n, partition=0) for n in range(3)])
    await broker.join("group", [TOPIC], from_start=True)
    before = await broker.incarnation()
    await delete_topics(kafka_url)
    await broker.create_topic(TopicSpec(TOPIC, 2))
    with pytest.raises(OffsetOutOfRange):
        await broker.commit("group", {FIRST: Advance(5, 5)})
    assert await broker.incarnation() != before
    assert await broker.positions("group", [FIRST]) == {FIRST: 0}
    assert await last_sequences(broker) == {}
    with pytest.raises(LogTruncated):
        await send(broker, 3, after=2)
    with pytest.raises(BrokerUnavailable):  # the producer goes on counting where the topic ended
        await send(broker, 1, 2, 3)
    await send(broker, 1, 2, 3)
    assert await values(broker) == [b"1", b"2", b"3"]


async def test_a_log_that_ends_before_a_position_is_told_as_another_incarnation(
    broker: Broker,
) -> None:
    await broker.append([Outgoing(TOPIC, b"1", partition=0)])
    before = await broker.incarnation()
    with pytest.raises(BrokerUnavailable, match="ends at 1"):
        await broker.read({FIRST: 7}, limit=10, wait=PATIENCE)
    assert await broker.incarnation() != before
    assert await values(broker) == [b"1"]


async def append_anew(url: str, store: str, *values: bytes) -> None:
    """As another process: a producer goes on counting where a topic that is gone has ended."""
    other = broker_by_url(url, default_partitions=1, store=store)
    await other.open()
    await other.append([Outgoing("numbers", value, key=b"key") for value in values])
    await other.close()


@pytest.mark.parametrize("is_running", [True, False])
async def test_a_topic_that_is_made_again_is_read_from_its_beginning(
    empty_kafka_url: str, database_url: str, is_running: bool
) -> None:
    seen: list[int] = []

    def new_worker() -> faust.App:
        app = new_app(empty_kafka_url, database_url, partitions=1)
        sums = app.Table("sums", key_type=str, value_type=int, default=int)

        @app.agent(app.topic("numbers", key_type=str))
        async def add(stream: Any) -> None:
            async for key, number in stream.items():
                sums[key] += number
                seen.append(number)

        return app

    async def make_again() -> None:
        await delete_topics(empty_kafka_url)
        await append_anew(empty_kafka_url, database_url, b"16", b"32")

    async with running(new_worker()):
        await append_anew(empty_kafka_url, database_url, b"1", b"2", b"4", b"8")
        await eventually(lambda: seen == [1, 2, 4, 8])
        if is_running:
            await make_again()
            await eventually(lambda: seen[4:] == [16, 32])
    if not is_running:
        await make_again()
        async with running(new_worker()):
            await eventually(lambda: seen[4:] == [16, 32])
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT value FROM test.sums") == "63"
    await connection.close()


async def test_registers_and_beats_that_cannot_be_read_are_named_and_none(
    broker: Broker, kafka_store_url: str
) -> None:
    await broker.heartbeat("group", "good", Heartbeat(1))
    connection = await asyncpg.connect(kafka_store_url)
    await connection.execute(
        """
        INSERT INTO redfaust.heartbeats (name, member, number, said, heard_at)
        VALUES
            ('group', 'no object', 1, '5', now()),
            ('group', 'no info', 1, '{"counts": [], "info": 5}', now()),
            ('group', 'too many', 1, '{"counts": [1000000000], "info": {}}', now()),
            ('group', 'never', 1, '{"counts": [], "info": {}}', 'infinity');
        INSERT INTO redfaust.assignments (name, version, assignment)
        VALUES ('group', gen_random_uuid(), '{"members": [5], "owners": {}, "drained": []}')
        """
    )
    group_state = await broker.group_state("group")
    assert group_state.heartbeats.keys() == {"good"}
    assert group_state.assignment == GroupAssignment()
    found = [what for _, what in await broker.anomalies()]
    assert len(found) == 4
    assert {what.split(" cannot")[0] for what in found} == {
        "the assignment of group",
        "the heartbeat of no object",
        "the heartbeat of no info",
        "the heartbeat of too many",
    }
    assert (await broker.heartbeat("group", "good", Heartbeat(2))).heartbeats.keys() == {"good"}
    assert (
        await connection.fetchval("SELECT count(*) FROM redfaust.heartbeats WHERE member = 'never'")
        == 0
    )
    await connection.close()


# -- what Kafka is told ----------------------------------------------------------------------


async def test_its_own_tools_show_where_a_group_stands(
    broker: Broker, admin: AIOKafkaAdminClient
) -> None:
    await broker.append([Outgoing(TOPIC, b"%d" % n, partition=0) for n in range(5)])
    await broker.join("told", [TOPIC], from_start=True)
    for position in (2, 4, 3):
        await broker.commit("told", {FIRST: Advance(position, 1)})
    await broker.close()
    offsets = await admin.list_consumer_group_offsets("told")
    assert {TP(*tp): at.offset for tp, at in offsets.items() if at.offset >= 0} == {FIRST: 4}


# -- its URL ---------------------------------------------------------------------------------


def test_a_url_names_several_servers_and_a_login() -> None:
    address = Address.parse("kafka://u:p%40w@one,two:9093?security_protocol=SASL_SSL")
    assert address.shown == "kafka://u@one,two:9093"
    options = dict(address.options)
    assert options.pop("ssl_context") is not None
    assert options == {
        "bootstrap_servers": ["one:9092", "two:9093"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "u",
        "sasl_plain_password": "p@w",
    }


def test_credentials_of_the_application_count_where_the_url_is_silent() -> None:
    credentials = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-256"}
    address = Address.parse("kafka://h?sasl_mechanism=PLAIN", credentials)
    assert address.options["security_protocol"] == "SASL_PLAINTEXT"
    assert address.options["sasl_mechanism"] == "PLAIN"


@pytest.mark.parametrize(
    "url", ["kafka://", "kafka://h:x", "kafka://h/1", "kafka://h?sasl=1", "kafka://h?acks=0"]
)
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(BrokerError):
        check_url(url)


def test_it_needs_a_database(kafka_url: str) -> None:
    with pytest.raises(BrokerError, match="postgresql"):
        broker_by_url(kafka_url, default_partitions=2)
