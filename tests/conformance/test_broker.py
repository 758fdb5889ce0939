"""The contract of :class:`redfaust.brokers.broker.Broker`, held against every broker."""

from __future__ import annotations

import asyncio
import math

import pytest
from faust.types import TP

from redfaust.brokers.assignor import GroupAssignment
from redfaust.brokers.broker import (
    Advance,
    Appended,
    Broker,
    Heartbeat,
    Outgoing,
    PartitionStatus,
    PartlyRefused,
    ProducerBatch,
    Replaced,
    Retention,
    SequencedEntry,
    TopicSpec,
)
from redfaust.brokers.capabilities import Capability
from redfaust.brokers.partitioner import partition_of
from redfaust.errors import BrokerError, TopicClosed

TOPIC = "events"
FIRST = TP(TOPIC, 0)
SECOND = TP(TOPIC, 1)
PATIENCE = 10.0


def entry(value: bytes, partition: int = 0) -> Outgoing:
    return Outgoing(TOPIC, value, partition=partition)


async def beginning(broker: Broker, *tps: TP) -> dict[TP, int]:
    await broker.join("beginning", {tp.topic for tp in tps}, from_start=True)
    return dict(await broker.positions("beginning", tps))


async def values(broker: Broker, tp: TP) -> list[bytes | None]:
    batches = await broker.read(await beginning(broker, tp), limit=100, wait=0)
    return [record.value for record in batches.get(tp, [])]


async def test_a_topic_keeps_its_number_of_partitions(broker: Broker) -> None:
    assert await broker.create_topic(TopicSpec(TOPIC, 3)) == 3
    assert await broker.create_topic(TopicSpec(TOPIC, 5)) == 3
    assert await broker.topics() == {TOPIC: 3}


async def test_an_unknown_topic_gets_the_default_number_of_partitions(broker: Broker) -> None:
    await broker.append([entry(b"1")])
    assert await broker.topics() == {TOPIC: 2}


async def test_what_is_appended_is_read_in_order(broker: Broker) -> None:
    appended = await broker.append([entry(b"%d" % n) for n in range(50)])
    assert await values(broker, FIRST) == [b"%d" % n for n in range(50)]
    offsets = [offset for _, offset, _ in appended]
    assert offsets == sorted(set(offsets))


async def test_an_entry_keeps_key_value_headers_and_timestamp(broker: Broker) -> None:
    headers = (("a", b"1"), ("b", b"\x00\xff"), ("a", b"2"))
    await broker.append([Outgoing(TOPIC, b"\x00value\xff", b"key", headers, 0, 1234567.891)])
    batches = await broker.read(await beginning(broker, FIRST), limit=1, wait=0)
    [record] = batches[FIRST]
    assert record.value == b"\x00value\xff"
    assert record.key == b"key"
    assert record.headers == headers
    assert record.timestamp == 1234567.891


async def test_null_and_empty_are_told_apart(broker: Broker) -> None:
    nothing, empty = Outgoing(TOPIC, None, None, (), 0), Outgoing(TOPIC, b"", b"", (), 0)
    await broker.append([nothing, empty])
    batches = await broker.read(await beginning(broker, FIRST), limit=2, wait=0)
    assert [(r.key, r.value) for r in batches[FIRST]] == [(None, None), (b"", b"")]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Outgoing(TOPIC, b"x", partition=2), "no partition 2"),
        (Outgoing(TOPIC, b"x", partition=-1), "no partition -1"),
        (Outgoing(TOPIC, b"x", partition=0, timestamp=math.nan), "timestamp nan"),
        (Outgoing(TOPIC, b"x", partition=0, timestamp=1e308), "1970 to 9999"),
        (Outgoing("a\0b", b"x"), "cannot be printed"),
        (Outgoing("a" * 300, b"x"), "a name of 300 characters"),
    ],
)
async def test_what_no_broker_takes_is_refused_and_all_else_is_appended(
    broker: Broker, wrong: Outgoing, said: str
) -> None:
    await broker.create_topic(TopicSpec(TOPIC, 2))
    with pytest.raises(PartlyRefused, match=said) as raised:
        await broker.append([entry(b"1"), wrong, entry(b"2", 1), entry(b"3")])
    outcomes = raised.value.outcomes
    assert [isinstance(outcome, Appended) for outcome in outcomes] == [True, False, True, True]
    assert (await values(broker, FIRST), await values(broker, SECOND)) == ([b"1", b"3"], [b"2"])
    assert await broker.topics() == {TOPIC: 2}


async def test_a_topic_without_a_proper_name_is_not_created(broker: Broker) -> None:
    for name in ("", "a\0b", "a\nb", "a" * 300):
        with pytest.raises(BrokerError):
            await broker.create_topic(TopicSpec(name, 2))
    assert await broker.topics() == {}


async def test_a_header_whose_name_is_no_text_stops_nothing(broker: Broker) -> None:
    await broker.append([entry(b"1")._replace(headers=(("a\ud800", b"1"),)), entry(b"2")])
    batches = await broker.read(await beginning(broker, FIRST), limit=2, wait=0)
    assert [record.value for record in batches[FIRST]] == [b"1", b"2"]
    [(name, content)] = batches[FIRST][0].headers
    assert (name.encode(), content) == (b"a?", b"1")


async def test_equal_keys_share_a_partition(broker: Broker) -> None:
    await broker.create_topic(TopicSpec(TOPIC, 8))
    keys = [b"%d" % n for n in range(40)]
    once = await broker.append([Outgoing(TOPIC, b"", key) for key in keys])
    again = await broker.append([Outgoing(TOPIC, b"", key) for key in keys])
    assert [a.tp for a in once] == [a.tp for a in again]
    assert len({a.tp for a in once}) > 4


async def test_reading_goes_on_from_a_position(broker: Broker) -> None:
    appended = await broker.append([entry(b"%d" % n) for n in range(5)])
    position = appended[2].offset + 1
    batches = await broker.read({FIRST: position}, limit=100, wait=0)
    assert [record.value for record in batches[FIRST]] == [b"3", b"4"]


async def test_zero_is_before_every_entry(broker: Broker) -> None:
    assert not any((await broker.read({FIRST: 0}, limit=100, wait=0)).values())
    await broker.append([entry(b"%d" % n) for n in range(2)])
    batches = await broker.read({FIRST: 0}, limit=100, wait=0)
    assert [record.value for record in batches[FIRST]] == [b"0", b"1"]


async def test_a_read_takes_no_more_than_its_limit_of_each_partition(broker: Broker) -> None:
    await broker.append([entry(b"%d" % n, n % 2) for n in range(10)])
    positions = await beginning(broker, FIRST, SECOND)
    batches = await broker.read(positions, limit=3, wait=0)
    assert {tp: len(records) for tp, records in batches.items()} == {FIRST: 3, SECOND: 3}


async def test_a_read_waits_for_news(broker: Broker) -> None:
    positions = await beginning(broker, FIRST)
    reading = asyncio.create_task(_collect(broker, positions))
    await broker.append([entry(b"news")])
    assert await asyncio.wait_for(reading, PATIENCE) == b"news"


async def _collect(broker: Broker, positions: dict[TP, int]) -> bytes | None:
    return (await broker.read(positions, limit=1, wait=PATIENCE))[FIRST][0].value


async def test_a_waiting_read_can_be_woken(broker: Broker) -> None:
    positions = await beginning(broker, FIRST)
    reading = asyncio.create_task(broker.read(positions, limit=1, wait=PATIENCE * 10))
    while not reading.done():
        await broker.wake()
        await asyncio.sleep(0)
    assert reading.result() == {}
    await broker.append([entry(b"1")])
    assert await values(broker, FIRST) == [b"1"]


async def test_a_cancelled_read_stays_cancelled(broker: Broker) -> None:
    positions = await beginning(broker, FIRST)
    reading = asyncio.create_task(broker.read(positions, limit=1, wait=PATIENCE * 10))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_the_floor_is_where_the_last_group_stands(broker: Broker) -> None:
    appended = await broker.append([entry(b"%d" % n, n % 2) for n in range(6)])
    assert await broker.floors([FIRST, SECOND, TP("unknown", 0)]) == {}
    await broker.join("slow", [TOPIC], from_start=True)
    await broker.join("fast", [TOPIC], from_start=True)
    start = await broker.positions("slow", [FIRST, SECOND])
    assert await broker.floors([FIRST, SECOND]) == start
    await broker.commit("fast", {FIRST: Advance(appended[4].offset + 1, 3)})
    await broker.commit("slow", {FIRST: Advance(appended[2].offset + 1, 2)})
    assert await broker.floors([FIRST]) == {FIRST: appended[2].offset + 1}
    assert await broker.floors([SECOND]) == {SECOND: start[SECOND]}
    assert await broker.floors([]) == {}


async def test_the_incarnation_stays_while_nothing_happens(broker: Broker) -> None:
    before = await broker.incarnation()
    await broker.append([entry(b"1")])
    assert await broker.incarnation() == before


async def test_what_is_read_is_confirmed_while_the_broker_is_the_same(broker: Broker) -> None:
    await broker.append([entry(b"1")])
    await broker.confirm([FIRST], await broker.incarnation())
    with pytest.raises(Replaced):
        await broker.confirm([FIRST], "another")


async def test_a_new_group_begins_at_the_start_or_at_the_end(broker: Broker) -> None:
    await broker.append([entry(b"old")])
    await broker.join("from start", [TOPIC], from_start=True)
    await broker.join("from end", [TOPIC], from_start=False)
    start = await broker.positions("from start", [FIRST])
    end = await broker.positions("from end", [FIRST])
    assert [r.value for r in (await broker.read(start, limit=9, wait=0))[FIRST]] == [b"old"]
    assert FIRST not in await broker.read(end, limit=9, wait=0)


async def test_joining_again_moves_nothing(broker: Broker) -> None:
    [appended] = await broker.append([entry(b"1")])
    await broker.join("group", [TOPIC], from_start=True)
    await broker.commit("group", {FIRST: Advance(appended.offset + 1, 1)})
    await broker.join("group", [TOPIC], from_start=True)
    assert await broker.positions("group", [FIRST]) == {FIRST: appended.offset + 1}


async def test_a_position_does_not_go_back(broker: Broker) -> None:
    appended = await broker.append([entry(value) for value in (b"1", b"2", b"3")])
    await broker.join("group", [TOPIC], from_start=True)
    await broker.commit("group", {FIRST: Advance(appended[2].offset + 1, 3)})
    await broker.commit("group", {FIRST: Advance(appended[0].offset + 1, 1)})
    assert await broker.positions("group", [FIRST]) == {FIRST: appended[2].offset + 1}
    assert (await broker.status("group", TOPIC))[0].lag == 0


async def test_a_group_that_never_joined_has_no_position(broker: Broker) -> None:
    await broker.append([entry(b"1")])
    assert await broker.positions("stranger", [FIRST]) == {}
    [first, _] = await broker.status("stranger", TOPIC)
    assert first == PartitionStatus(length=1, lag=0, position=None)


async def test_a_question_about_a_topic_declares_none(broker: Broker) -> None:
    before = await broker.topics()
    assert await broker.status("group", "unknown") == []
    assert await broker.topics() == before


async def test_what_redfaust_writes_is_no_anomaly(broker: Broker) -> None:
    await broker.create_topic(TopicSpec(TOPIC, 2, Retention(age=60.0)))
    await broker.append([entry(b"1")])
    await broker.join("group", [TOPIC], from_start=True)
    await broker.heartbeat("group", "member", Heartbeat(1, frozenset({2}), {"web": "http://here"}))
    await broker.reassign("group", GroupAssignment(("member",)), version="", silent={})
    await broker.acquire_cleaner_lease("member")
    await broker.identity()
    assert list(await broker.anomalies()) == []


async def test_the_lag_is_what_is_not_finished(broker: Broker) -> None:
    appended = await broker.append([entry(b"%d" % n) for n in range(10)])
    await broker.join("group", [TOPIC], from_start=True)
    lags = [(await broker.status("group", TOPIC))[0].lag]
    for start, end in ((0, 4), (4, 10)):
        await broker.commit("group", {FIRST: Advance(appended[end - 1].offset + 1, end - start)})
        lags.append((await broker.status("group", TOPIC))[0].lag)
    await broker.append([entry(b"more")])
    lags.append((await broker.status("group", TOPIC))[0].lag)
    assert lags == [10, 6, 0, 1]


async def test_a_group_that_has_left_begins_anew(broker: Broker) -> None:
    [appended] = await broker.append([entry(b"1")])
    for group in ("stays", "leaves"):
        await broker.join(group, [TOPIC], from_start=True)
        await broker.commit(group, {FIRST: Advance(appended.offset + 1, 1)})
    await broker.leave("leaves", [TOPIC, "unknown"])
    await broker.leave("never there", [TOPIC])
    assert await broker.positions("leaves", [FIRST]) == {}
    assert await broker.groups([TOPIC]) == {TOPIC: {"stays"}}
    assert await broker.positions("stays", [FIRST]) == {FIRST: appended.offset + 1}
    await broker.join("leaves", [TOPIC], from_start=True)
    assert (await broker.status("leaves", TOPIC))[0].lag == 1


async def test_groups_do_not_touch_each_other(broker: Broker) -> None:
    [appended] = await broker.append([entry(b"1")])
    for group in ("one", "two"):
        await broker.join(group, [TOPIC], from_start=True)
    before = await broker.positions("two", [FIRST])
    await broker.commit("one", {FIRST: Advance(appended.offset + 1, 1)})
    assert await broker.positions("two", [FIRST]) == before


async def test_bounds_are_the_oldest_entry_and_the_end(broker: Broker) -> None:
    appended = await broker.append([entry(b"%d" % n) for n in range(3)])
    bounds = await broker.bounds([FIRST, SECOND])
    assert bounds[FIRST] == (appended[0].offset, appended[-1].offset + 1)
    assert bounds[SECOND][0] == bounds[SECOND][1]


async def test_the_identity_stays(broker: Broker) -> None:
    assert await broker.identity() == await broker.identity() != ""


# -- more partitions -------------------------------------------------------------------------


@pytest.fixture
def counts_are_known_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("redis", "kafka"):
        monkeypatch.setattr(f"redfaust.brokers.{kind}.topics.KNOWN_FOR", 0.05)
        monkeypatch.setattr(f"redfaust.brokers.{kind}.topics.SETTLE_FOR", 0.1)


@pytest.mark.needs(Capability.MORE_PARTITIONS, Capability.APPEND_ONCE)
@pytest.mark.usefixtures("counts_are_known_for_a_moment")
async def test_a_closed_topic_takes_nothing_from_anybody(
    broker: Broker, another_broker: Broker
) -> None:
    for each in (broker, another_broker):
        await each.append([entry(b"before"), Outgoing("other", b"", partition=0)])
    await broker.close_topics([TOPIC])
    for each in (broker, another_broker):
        with pytest.raises(TopicClosed, match=TOPIC):
            await each.append([Outgoing("other", b"", partition=0), entry(b"closed")])
        with pytest.raises(TopicClosed):
            await each.append_once(
                [ProducerBatch("producer_id", [SequencedEntry(1, entry(b"closed"))])]
            )
        with pytest.raises(TopicClosed):
            await each.create_topic(TopicSpec(TOPIC, 2))
        assert await each.topics() == {TOPIC: 2, "other": 2}
        await each.append([Outgoing("other", b"", partition=0)])
        await each.join("group", [TOPIC], from_start=True)
    assert await values(broker, FIRST) == [b"before", b"before"]
    assert await values(broker, TP("other", 0)) == [b""] * 4


@pytest.mark.needs(Capability.MORE_PARTITIONS)
@pytest.mark.usefixtures("counts_are_known_for_a_moment")
async def test_a_topic_is_opened_with_more_partitions(
    broker: Broker, another_broker: Broker
) -> None:
    keys = [b"%d" % n for n in range(40)]
    entries = [Outgoing(TOPIC, b"", key) for key in keys]
    assert {a.tp.partition for a in await another_broker.append(entries)} == {0, 1}
    await broker.close_topics([TOPIC])
    await broker.open_topics({TOPIC: 4})
    for each in (broker, another_broker):
        assert await each.topics() == {TOPIC: 4}
        assert await each.create_topic(TopicSpec(TOPIC, 2)) == 4
        assert [a.tp.partition for a in await each.append(entries)] == [
            partition_of(key, 4) for key in keys
        ]


@pytest.mark.needs(Capability.MORE_PARTITIONS)
async def test_groups_stand_at_the_beginning_of_new_partitions(broker: Broker) -> None:
    await broker.append([entry(b"1")])
    await broker.join("late", [TOPIC], from_start=False)
    assert await broker.groups([TOPIC, "unknown"]) == {TOPIC: {"late"}, "unknown": frozenset()}
    old = await broker.positions("late", [FIRST])
    await broker.open_topics({TOPIC: 4})
    await broker.open_topics({TOPIC: 4})
    await broker.append([entry(b"2", 3)])
    new = [TP(TOPIC, 2), TP(TOPIC, 3)]
    logs = await broker.read(await broker.positions("late", [FIRST, *new]), limit=9, wait=0)
    assert {tp: [r.value for r in log] for tp, log in logs.items()} == {TP(TOPIC, 3): [b"2"]}
    assert await broker.positions("late", [FIRST]) == old


async def test_each_warning_is_one_line(broker: Broker) -> None:
    for warning in await broker.warnings():
        assert warning.isprintable()
