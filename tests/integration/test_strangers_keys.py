"""What somebody else has put at redfaust's own keys in Redis: it is named, and stops nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from faust.types import TP
from redis.asyncio import Redis

from app.errors import GroupUnknown
from app.groups import forget_group
from redfaust.brokers.assignor import GroupAssignment
from redfaust.brokers.broker import Advance, Heartbeat, Outgoing, Retention, TopicSpec
from redfaust.brokers.log_cleaner import LogCleaner
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.broker import RedisBroker
from redfaust.brokers.redis.topics import KNOWN_FOR
from redfaust.errors import BrokerError, BrokerUnavailable
from tests.integration.faust_apps import eventually, new_app, running
from tests.rights import as_administrator

GROUP = "group"
FIRST = TP("numbers", 0)


@pytest.fixture
async def broker(broker_url: str) -> AsyncIterator[RedisBroker]:
    """An open one, with a topic."""
    broker = RedisBroker(broker_url, default_partitions=2)
    await broker.open()
    await broker.create_topic(TopicSpec("numbers", 2, Retention(entries=5)))
    yield broker
    await broker.close()


@pytest.fixture
async def client(broker_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(as_administrator(broker_url)) as client:
        yield client


async def named(broker: RedisBroker) -> list[str]:
    """What is wrong, and where."""
    return [f"{place}: {what}" for place, what in await broker.anomalies()]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"evil", b"abc"),
        (b"evil", b""),
        (b"evil", b"0"),
        (b"evil", b"-4"),
        (b"evil", b"1000000000"),
        (b"evil", b"4 open"),
        (b"evil", "٣".encode()),
        (b"evil", b"9" * 5000),
        (b"\xff\xfe", b"4"),
        (b"e\0vil", b"4"),
        (b"\x1b[2Jevil", b"4"),
        (b"", b"4"),
        (b"e" * 250, b"4"),
    ],
)
async def test_a_bad_entry_of_the_catalog_is_named_and_left_out(
    broker: RedisBroker, client: Redis, name: bytes, value: bytes
) -> None:
    await client.hset(keys.TOPICS, name, value)
    assert await broker.topics() == {"numbers": 2}
    assert await broker.last_sequences(["producer_id"]) == {"producer_id": {}}
    [anomaly] = await named(broker)
    assert anomaly.startswith("redfaust:topics: ")
    assert anomaly.isprintable()
    await broker.append([Outgoing("numbers", b"1")])


@pytest.mark.parametrize(
    "stored",
    [
        b"5",
        b"",
        b"[]",
        b"{",
        b'{"age": "x"}',
        b'{"age": NaN}',
        b'{"age": -1}',
        b'{"age": 1e300}',
        b'{"size": 1.5}',
        b'{"entries": true}',
        b'{"entries": 9007199254740993}',
        b'{"compacted": 1}',
        b'{"deletions": null}',
        b"\xff",
    ],
)
async def test_a_bad_retention_is_named_and_left_out(
    broker: RedisBroker, client: Redis, stored: bytes
) -> None:
    await client.hset(keys.RETENTIONS, "evil", stored)
    await client.hset(keys.RETENTIONS, b"\xff", b"{}")
    assert await broker.retentions() == {"numbers": Retention(entries=5)}
    assert len(await named(broker)) == 2


@pytest.mark.parametrize(
    "said",
    [
        {"counts": [], "info": 5},
        {"counts": [], "info": []},
        {"counts": [10**9], "info": {}},
        {"counts": ["4"], "info": {}},
        {"counts": [-1], "info": {}},
        {"counts": [True], "info": {}},
        {"counts": 4, "info": {}},
        {"info": {}},
        5,
    ],
)
async def test_a_bad_beat_is_named_and_none(
    broker: RedisBroker, client: Redis, said: object
) -> None:
    seconds, _ = await client.time()
    await broker.join(GROUP, ["numbers"], from_start=True)
    await client.hset(
        keys.heartbeats(GROUP), "stranger", b"1 %d %b" % (seconds * 1000, orjson.dumps(said))
    )
    assert (await broker.heartbeat(GROUP, "a", Heartbeat(1))).heartbeats.keys() == {"a"}
    [anomaly] = await named(broker)
    assert "the heartbeat of stranger cannot be read" in anomaly


@pytest.mark.parametrize(
    "stored",
    [b"", b"1", b"1 2 {}", b"1 99999999999999999999999 {}", b"9" * 400 + b" 1 {}", b"x" * 10**6],
)
async def test_a_beat_without_a_time_is_forgotten_at_once(
    broker: RedisBroker, client: Redis, stored: bytes
) -> None:
    await client.hset(keys.heartbeats(GROUP), b"\xff", stored)
    assert (await broker.group_state(GROUP)).heartbeats == {}
    await broker.heartbeat(GROUP, "a", Heartbeat(1))
    assert await client.hkeys(keys.heartbeats(GROUP)) == [b"a"]


@pytest.mark.parametrize(
    "stored",
    [
        {"members": [5], "owners": {}, "drained": []},
        {"members": ["a", "a"], "owners": {}, "drained": []},
        {"members": ["a"], "owners": {"x": {}}, "drained": []},
        {"members": ["a"], "owners": {"0": {"member": 5, "before": "", "since": 0}}, "drained": []},
        {
            "members": ["a"],
            "owners": {"0": {"member": "a", "before": "", "since": "x"}},
            "drained": [],
        },
        {
            "members": ["a"],
            "owners": {"1000000000": {"member": "a", "before": "", "since": 0}},
            "drained": [],
        },
        {"members": [], "owners": [], "drained": []},
        5,
    ],
)
async def test_a_bad_register_is_named_and_written_anew(
    broker: RedisBroker, client: Redis, stored: object
) -> None:
    await broker.join(GROUP, ["numbers"], from_start=True)
    await client.xadd(keys.assignment(GROUP), {"assignment": orjson.dumps(stored)})
    group_state = await broker.group_state(GROUP)
    assert group_state.assignment == GroupAssignment()
    [anomaly] = await named(broker)
    assert "the assignment of group cannot be read" in anomaly
    assert await broker.reassign(
        GROUP, GroupAssignment(("a",)), version=group_state.version, silent={}
    )
    assert not await named(broker)


async def test_a_group_that_is_no_text_is_named_counts_and_can_be_forgotten(
    broker: RedisBroker, client: Redis
) -> None:
    appended = await broker.append([Outgoing("numbers", b"%d" % n, partition=0) for n in range(9)])
    await client.xgroup_create(keys.stream(FIRST), b"\xff\xfe", id="0")
    await broker.join(GROUP, ["numbers"], from_start=True)
    await broker.commit(GROUP, {FIRST: Advance(appended[8].offset + 1, 9)})
    assert await broker.groups(["numbers"]) == {"numbers": {GROUP, "\\xff\\xfe"}}
    assert (await broker.floors([FIRST]))[FIRST] < appended[0].offset
    held = await broker.held_back(dict.fromkeys([FIRST], Retention(entries=5)))
    assert held[FIRST].groups == {"\\xff\\xfe"}
    [anomaly] = await named(broker)
    assert "\\xff\\xfe is not UTF-8" in anomaly
    await broker.open_topics({"numbers": 3})
    assert (await client.xinfo_groups("{numbers:2}"))[1]["name"] == b"\xff\xfe"
    await forget_group(broker, "\\xff\\xfe")
    assert await broker.groups(["numbers"]) == {"numbers": {GROUP}}
    assert not await named(broker)


async def test_names_that_command_a_terminal_are_shown_escaped(
    broker: RedisBroker, caplog: pytest.LogCaptureFixture
) -> None:
    topic, group = "topic", "\x1b[2J\nall is well"
    await broker.create_topic(TopicSpec(topic, 1, Retention(entries=1)))
    await broker.append([Outgoing(topic, b"%d" % n, partition=0) for n in range(3)])
    await broker.join(group, [topic], from_start=True)
    await LogCleaner(broker, "keeper").keep()
    [said] = [
        record.getMessage() for record in caplog.records if record.name.endswith("log_cleaner")
    ]
    assert "\\x1b[2J\\nall is well" in said
    assert said.isprintable()
    with pytest.raises(GroupUnknown) as unknown:
        await forget_group(broker, "\x1b[2J")
    assert str(unknown.value).isprintable()


async def test_keys_of_another_type_are_named(broker: RedisBroker, client: Redis) -> None:
    await broker.join(GROUP, ["numbers"], from_start=True)
    await client.rpush(keys.CLEANER, "x")
    await client.rpush(keys.IDENTITY, "x")
    await client.set(keys.RETENTIONS, "x", keepttl=True)
    await client.set(keys.stream(FIRST), "x")
    await client.set(keys.producers(TP("numbers", 1)), "x")
    await client.set(keys.heartbeats(GROUP), "x")
    found = {place for place, _ in await broker.anomalies()}
    assert found == {
        keys.CLEANER,
        keys.IDENTITY,
        keys.RETENTIONS,
        "{numbers:0}",
        "{numbers:1}:producers",
        "{redfaust:group}",
    }
    assert all("rename or delete it" in what for _, what in await broker.anomalies())


async def test_a_catalog_of_another_type_is_an_error_that_heals(
    broker: RedisBroker, client: Redis
) -> None:
    await client.rename(keys.TOPICS, "saved")
    await client.set(keys.TOPICS, "x")
    with pytest.raises(BrokerUnavailable, match="redfaust:topics holds something else"):
        await broker.topics()
    with pytest.raises(BrokerUnavailable, match="rename or delete it"):
        await broker.create_topic(TopicSpec("more", 1))
    await broker.append([Outgoing("numbers", b"1")])  # it is known
    await asyncio.sleep(KNOWN_FOR)
    await broker.append([Outgoing("numbers", b"2")])  # also when it should be looked up again
    await client.rename("saved", keys.TOPICS)
    assert await broker.topics() == {"numbers": 2}


async def test_an_entry_of_a_topic_in_use_that_is_spoilt_changes_nothing_for_those_who_know_it(
    broker: RedisBroker, client: Redis, broker_url: str
) -> None:
    await broker.append([Outgoing("numbers", b"1")])
    await client.hset(keys.TOPICS, "numbers", "abc")
    await asyncio.sleep(KNOWN_FOR)
    await broker.append([Outgoing("numbers", b"2")])
    other = RedisBroker(broker_url, default_partitions=2)
    with pytest.raises(BrokerUnavailable, match="numbers has abc for its number of partitions"):
        await other.append([Outgoing("numbers", b"3")])
    await client.hset(keys.TOPICS, "numbers", "2")
    await other.append([Outgoing("numbers", b"3")])
    await other.close()


async def test_a_topic_is_declared_with_a_number_of_partitions_that_can_be(
    broker: RedisBroker,
) -> None:
    for count in (0, -1, 10**9):
        with pytest.raises(BrokerError, match="declare 1 to"):
            await broker.create_topic(TopicSpec("more", count))
    assert await broker.topics() == {"numbers": 2}


@pytest.mark.parametrize("way", ["list", "without an end", "for years"])
async def test_nobody_else_keeps_house_for_good(
    broker: RedisBroker, client: Redis, way: str
) -> None:
    match way:
        case "list":
            await client.rpush(keys.CLEANER, "x")
        case "without an end":
            await client.set(keys.CLEANER, "x")
        case _:
            await client.set(keys.CLEANER, "x", ex=10**9)
    assert await broker.acquire_cleaner_lease("a")
    assert not await broker.acquire_cleaner_lease("b")


async def test_an_identity_that_somebody_else_has_written_is_one(
    broker: RedisBroker, client: Redis
) -> None:
    await client.set(keys.IDENTITY, b"\xff\0\xfe")
    found = await broker.identity()
    assert found.isalnum()
    assert await broker.identity() == found


@pytest.mark.parametrize("lost", keys.IDENTITIES)
async def test_an_identity_is_known_by_its_copy(
    broker: RedisBroker, client: Redis, lost: str
) -> None:
    known = await broker.identity()
    await client.delete(lost)
    assert await broker.identity() == known
    await client.delete(lost)
    await client.lpush(lost, "x")
    assert await broker.identity() == known
    await client.delete(lost)
    await broker.identity()
    assert await client.get(lost) == known.encode()


async def test_logs_that_were_wiped_have_another_identity(
    broker: RedisBroker, client: Redis
) -> None:
    known = await broker.identity()
    await client.delete(*keys.IDENTITIES)
    assert await broker.identity() != known


async def test_the_keeper_names_each_once(
    broker: RedisBroker,
    client: Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("redfaust.brokers.log_cleaner.LOOK_EVERY", 0.0)
    keeper = LogCleaner(broker, "keeper")
    await client.hset(keys.TOPICS, "evil", "abc")
    for _ in range(3):
        await keeper.keep()
    assert caplog.text.count("evil has abc") == 1
    await client.hset(keys.TOPICS, "evil", "def")
    await keeper.keep()
    assert caplog.text.count("evil has def") == 1


async def test_a_worker_works_beside_all_of_it(
    any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.transports.log_watch.LOOK_EVERY", 0.1)
    client = Redis.from_url(as_administrator(any_broker_url))
    app, seen = new_app(any_broker_url, database_url, partitions=2), set()
    numbers = app.topic("numbers", key_type=str)

    @app.agent(numbers)
    async def note(stream: Any) -> None:
        async for number in stream:
            seen.add(number)

    await client.hset(keys.TOPICS, mapping={b"evil": b"abc", b"\xff": b"4", b"numbers": b"2"})
    await client.hset(keys.RETENTIONS, mapping={b"evil": b"5", b"numbers": b'{"age": "x"}'})
    await client.hset(keys.heartbeats("test"), mapping={b"\xff": b"1 2 3", b"x": b"1 1e999 {}"})
    await client.xadd(keys.assignment("test"), {b"\xff": b"\xff"})
    await client.set(keys.CLEANER, b"\xff")
    await client.set("{numbers:1}", "no stream")
    await client.xadd("{numbers:0}", {"_v": "0"})
    await client.xgroup_create("{numbers:0}", b"\xff\xfe")
    async with running(app):
        await eventually(lambda: seen == {0})
        await client.rename(keys.TOPICS, "saved")
        await client.set(keys.TOPICS, "x")
        await client.xadd("{numbers:0}", {"_v": "1"})
        await eventually(lambda: seen == {0, 1})
        await client.rename("saved", keys.TOPICS)
        # Mended, the other partition is worked on as well.
        await client.delete("{numbers:1}")
        await client.xadd("{numbers:1}", {"_v": "2"})
        await eventually(lambda: seen == {0, 1, 2})
    await client.aclose()


async def test_a_shared_agent_works_beside_a_log_of_another_type(
    any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.processing.shared.delivery.TAKE_OVER_EVERY", 0.1)
    client = Redis.from_url(as_administrator(any_broker_url))
    app, seen = new_app(any_broker_url, database_url, partitions=2), set()

    @app.agent(app.topic("letters"), delivery="shared", concurrency=2)
    async def note(stream: Any) -> None:
        async for number in stream:
            seen.add(number)

    async def add(partition: int, number: int) -> None:
        await client.xadd(f"{{letters:{partition}}}", {"_v": str(number)})

    await client.set("{letters:0}", "no stream")
    async with running(app):
        await add(1, 0)
        await eventually(lambda: seen == {0})
        await client.delete("{letters:0}")
        await add(0, 1)
        await eventually(lambda: seen == {0, 1})
        await client.delete("{letters:1}")
        await client.set("{letters:1}", "no stream any more")
        await add(0, 2)
        await eventually(lambda: seen == {0, 1, 2})
        await client.delete("{letters:1}")
        await add(1, 3)
        await eventually(lambda: seen == {0, 1, 2, 3})
    await client.aclose()


async def test_a_topic_that_only_a_shared_agent_reads_is_declared_again(
    broker: RedisBroker, client: Redis
) -> None:
    await broker.create_topic(TopicSpec("mails", 3))
    consumer = broker.share_group("app/mail", "c-1")
    await consumer.join(["mails"], from_start=True)
    await client.delete(keys.TOPICS)
    await client.set(keys.TOPICS, "x")
    await consumer.claim_stale(1)
    await client.delete(keys.TOPICS)
    await consumer.claim_stale(1)
    assert await broker.topics() == {"mails": 3}
    await consumer.close()


async def test_a_log_that_cannot_grow_is_called_blocked_and_stops_no_other_of_its_topic(
    broker: RedisBroker, client: Redis
) -> None:
    last, other = TP("orders", 0), TP("orders", 1)
    await broker.create_topic(TopicSpec("orders", 2))
    await broker.join("app", ["orders"], from_start=True)
    await client.xadd(keys.stream(last), {"_v": "x"}, id=f"{2**64 - 1}-{2**64 - 1}")
    await broker.append([Outgoing("orders", b"%d" % n, partition=1) for n in range(3)])
    ends = {tp: end for tp, (_, end) in (await broker.bounds([last, other])).items()}
    await broker.commit("app", {tp: Advance(end, 0) for tp, end in ends.items()})
    found = await broker.survey([last, other])
    assert "delete that stream" in str(found[last].blocked)
    assert found[other].blocked is None
    trimmed = await broker.trim({tp: Retention(entries=1) for tp in (last, other)})
    assert trimmed[other].removed == 2
    await broker.held_back({tp: Retention(entries=1) for tp in (last, other)})


async def test_a_log_whose_ids_are_far_ahead_of_the_clock_is_named(
    broker: RedisBroker, client: Redis
) -> None:
    await broker.create_topic(TopicSpec("orders", 1))
    tp = TP("orders", 0)
    await client.xadd(keys.stream(tp), {"_v": "x"}, id="20000000000000-0")
    [anomaly] = await broker.anomalies()
    assert anomaly.place == keys.stream(tp)
    assert "days ahead of the clock" in anomaly.what
    await broker.append([Outgoing("orders", b"good")])
    before = time.time() - 60
    [_, good] = (await broker.read({tp: 0}, limit=9, wait=0))[tp]
    assert before <= good.timestamp <= time.time()
