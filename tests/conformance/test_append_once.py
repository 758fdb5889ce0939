"""The contract of ``append_once``, held against every broker."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
from faust.types import TP

from redfaust.brokers.broker import (
    Broker,
    EntriesRefused,
    LogTruncated,
    Outgoing,
    Place,
    ProducerBatch,
    Record,
    SequencedEntry,
    TopicSpec,
)
from redfaust.brokers.capabilities import Capability
from redfaust.errors import BrokerError

pytestmark = pytest.mark.needs(Capability.APPEND_ONCE)

TOPIC = "events"
FIRST = TP(TOPIC, 0)
SECOND = TP(TOPIC, 1)


def sequenced(number: int, partition: int = 0) -> SequencedEntry:
    return SequencedEntry(number, Outgoing(TOPIC, b"%d" % number, partition=partition))


async def send(
    broker: Broker, producer_id: str, entries: Sequence[SequencedEntry]
) -> Mapping[TP, Place]:
    return (await broker.append_once([ProducerBatch(producer_id, entries)])).get(producer_id, {})


async def last_sequences(broker: Broker, producer_id: str) -> Mapping[TP, int]:
    return (await broker.last_sequences([producer_id]))[producer_id]


async def records(broker: Broker, tp: TP = FIRST) -> list[Record]:
    await broker.join("reader", [tp.topic], from_start=True)
    batches = await broker.read(await broker.positions("reader", [tp]), limit=1000, wait=0)
    return list(batches.get(tp, []))


async def values(broker: Broker, tp: TP = FIRST) -> list[bytes | None]:
    return [record.value for record in await records(broker, tp)]


async def test_a_batch_that_is_repeated_is_there_once(broker: Broker) -> None:
    batch = [sequenced(n) for n in range(1, 51)]
    for _ in range(3):
        await send(broker, "producer_id", batch)
    assert await values(broker) == [b"%d" % n for n in range(1, 51)]
    assert await last_sequences(broker, "producer_id") == {FIRST: 50}


async def test_nothing_is_appended_of_nothing(broker: Broker) -> None:
    await send(broker, "producer_id", [])
    assert await last_sequences(broker, "producer_id") == {}


async def test_what_is_new_in_a_repeated_batch_is_appended(broker: Broker) -> None:
    await send(broker, "producer_id", [sequenced(1), sequenced(2)])
    await send(broker, "producer_id", [sequenced(2), sequenced(3), sequenced(7)])
    await send(broker, "producer_id", [sequenced(3), sequenced(7), sequenced(8)])
    assert await values(broker) == [b"1", b"2", b"3", b"7", b"8"]


async def test_a_number_that_was_passed_is_not_appended(broker: Broker) -> None:
    await send(broker, "producer_id", [sequenced(5)])
    await send(broker, "producer_id", [sequenced(4)])
    assert await values(broker) == [b"5"]


async def test_a_number_twice_in_a_batch_is_there_once(broker: Broker) -> None:
    await send(broker, "producer_id", [sequenced(1), sequenced(1), sequenced(2)])
    assert await values(broker) == [b"1", b"2"]


async def test_producers_do_not_touch_each_other(broker: Broker) -> None:
    await send(broker, "a", [sequenced(1), sequenced(2)])
    await send(broker, "b", [sequenced(1)])
    await send(broker, "a", [sequenced(2), sequenced(3)])
    await send(broker, "b", [sequenced(1), sequenced(2)])
    assert await values(broker) == [b"1", b"2", b"1", b"3", b"2"]
    assert (await last_sequences(broker, "a"), await last_sequences(broker, "b")) == (
        {FIRST: 3},
        {FIRST: 2},
    )
    assert await last_sequences(broker, "c") == {}


async def test_it_does_not_touch_what_is_appended_otherwise(broker: Broker) -> None:
    await send(broker, "producer_id", [sequenced(1)])
    await broker.append([Outgoing(TOPIC, b"foreign", partition=0)])
    await send(broker, "producer_id", [sequenced(1), sequenced(2)])
    assert await values(broker) == [b"1", b"foreign", b"2"]


async def test_a_crash_between_two_partitions_is_mended_by_repeating(broker: Broker) -> None:
    batch = [sequenced(n, n % 2) for n in range(1, 7)]
    await send(broker, "producer_id", [each for each in batch if each.entry.partition == 1])
    assert await last_sequences(broker, "producer_id") == {SECOND: 5}
    await send(broker, "producer_id", batch)
    assert await values(broker, FIRST) == [b"2", b"4", b"6"]
    assert await values(broker, SECOND) == [b"1", b"3", b"5"]
    assert await last_sequences(broker, "producer_id") == {FIRST: 6, SECOND: 5}


async def test_topics_have_marks_of_their_own(broker: Broker) -> None:
    other = TP("other", 0)
    await send(broker, "producer_id", [SequencedEntry(1, Outgoing("other", b"1", partition=0))])
    await send(broker, "producer_id", [sequenced(2)])
    assert await last_sequences(broker, "producer_id") == {other: 1, FIRST: 2}
    assert (await values(broker, other), await values(broker)) == ([b"1"], [b"2"])


async def test_an_entry_stays_what_it_is(broker: Broker) -> None:
    headers = (("a", b"1"), ("b", b"\x00\xff"), ("a", b"2"))
    full = Outgoing(TOPIC, b"\x00value\xff", b"key", headers, 0, 1234567.891)
    nothing, empty = Outgoing(TOPIC, None, None, (), 0), Outgoing(TOPIC, b"", b"", (), 0)
    await send(
        broker,
        "producer_id",
        [SequencedEntry(1, full), SequencedEntry(2, nothing), SequencedEntry(3, empty)],
    )
    first, second, third = await records(broker)
    assert first[1:] == (1234567.891, b"key", b"\x00value\xff", headers, ("producer_id", 1))
    assert (second.key, second.value, second.headers) == (None, None, ())
    assert (third.key, third.value) == (b"", b"")


async def test_an_entry_lands_on_the_same_partition_again(broker: Broker) -> None:
    await broker.create_topic(TopicSpec(TOPIC, 4))
    batch = [SequencedEntry(n, Outgoing(TOPIC, b"%d" % n)) for n in range(1, 101)]
    batch += [SequencedEntry(n, Outgoing(TOPIC, b"%d" % n, b"k%d" % n)) for n in range(101, 201)]
    await send(broker, "producer_id", batch)
    await send(broker, "producer_id", batch)
    placed = [await values(broker, TP(TOPIC, partition)) for partition in range(4)]
    assert sorted(int(value or b"") for of_one in placed for value in of_one) == list(range(1, 201))
    assert all(len(of_one) >= 25 for of_one in placed)


async def test_a_key_goes_where_it_goes_otherwise(broker: Broker) -> None:
    await broker.create_topic(TopicSpec(TOPIC, 8))
    for n in range(20):
        [appended] = await broker.append([Outgoing(TOPIC, b"", b"%d" % n)])
        await send(broker, "producer_id", [SequencedEntry(n + 1, Outgoing(TOPIC, b"!", b"%d" % n))])
        assert (await values(broker, appended.tp))[-1] == b"!"


@pytest.mark.parametrize("number", [2**31, 10**12, 2**53 - 1])
async def test_numbers_may_be_large(broker: Broker, number: int) -> None:
    await send(broker, "producer_id", [sequenced(number - 1), sequenced(number)])
    await send(broker, "producer_id", [sequenced(number - 1), sequenced(number)])
    assert await values(broker) == [b"%d" % (number - 1), b"%d" % number]
    assert await last_sequences(broker, "producer_id") == {FIRST: number}


async def test_an_unknown_topic_gets_the_default_number_of_partitions(broker: Broker) -> None:
    await send(broker, "producer_id", [sequenced(1)])
    assert await broker.topics() == {TOPIC: 2}


async def test_several_producers_go_at_once(broker: Broker) -> None:
    batches = [
        ProducerBatch("a", [sequenced(1), sequenced(2, 1)]),
        ProducerBatch("b", [sequenced(7), sequenced(8)]),
    ]
    for _ in range(2):
        await broker.append_once(batches)
    assert (await values(broker, FIRST), await values(broker, SECOND)) == (
        [b"1", b"7", b"8"],
        [b"2"],
    )
    assert await broker.last_sequences(["a", "b", "c"]) == {
        "a": {FIRST: 1, SECOND: 2},
        "b": {FIRST: 8},
        "c": {},
    }


async def test_nothing_at_all_is_appended(broker: Broker) -> None:
    assert await broker.append_once([]) == {}
    assert await broker.last_sequences([]) == {}


async def test_places_are_the_marks_and_positions_behind_the_entries(broker: Broker) -> None:
    places = await send(broker, "producer_id", [sequenced(1), sequenced(2), sequenced(3, 1)])
    assert {tp: place.last_sequence for tp, place in places.items()} == {FIRST: 2, SECOND: 3}
    assert {tp: place.position for tp, place in places.items()} == {
        tp: (await records(broker, tp))[-1].offset + 1 for tp in (FIRST, SECOND)
    }


async def test_places_of_what_is_there_already_are_not_before_it(broker: Broker) -> None:
    first = await send(broker, "producer_id", [sequenced(1), sequenced(2)])
    await broker.append([Outgoing(TOPIC, b"foreign", partition=0)])
    again = await send(broker, "producer_id", [sequenced(1)])
    assert again[FIRST].last_sequence == 2
    assert again[FIRST].position >= first[FIRST].position


async def test_a_log_that_lacks_what_was_put_there_takes_nothing(broker: Broker) -> None:
    await send(broker, "producer_id", [sequenced(1), sequenced(2)])
    batches = [
        ProducerBatch("producer_id", [sequenced(5), sequenced(6)], after={FIRST: 4}),
        ProducerBatch("other", [sequenced(3)], after={FIRST: 0, SECOND: 9}),
    ]
    with pytest.raises(LogTruncated) as raised:
        await broker.append_once(batches)
    assert raised.value.producer_ids == {"producer_id"}
    assert await last_sequences(broker, "producer_id") == {FIRST: 2}
    assert (await values(broker))[:2] == [b"1", b"2"]
    assert b"5" not in await values(broker)


async def test_a_log_that_has_what_was_put_there_takes_more(broker: Broker) -> None:
    await send(broker, "producer_id", [sequenced(1), sequenced(2)])
    await broker.append_once([ProducerBatch("producer_id", [sequenced(3)], after={FIRST: 1})])
    await broker.append_once(
        [ProducerBatch("producer_id", [sequenced(4)], after={FIRST: 3, SECOND: 1})]
    )
    assert await values(broker) == [b"1", b"2", b"3", b"4"]


async def test_an_entry_tells_its_producer_and_number(broker: Broker) -> None:
    await broker.append([Outgoing(TOPIC, b"0", partition=0)])
    await broker.append_once(
        [ProducerBatch("a", [sequenced(7), sequenced(9)]), ProducerBatch("b", [sequenced(7)])]
    )
    sources = [record.source for record in await records(broker)]
    assert sources == [None, ("a", 7), ("a", 9), ("b", 7)]


NO_ENTRIES = [
    (Outgoing(TOPIC, b"x", partition=2), "no partition 2"),
    (Outgoing(TOPIC, b"x", partition=2**31), "no partition 2147483648"),
    (Outgoing(TOPIC, b"x", partition=-1), "no partition -1"),
    (Outgoing(TOPIC, b"x", partition=0, timestamp=math.nan), "timestamp nan"),
    (Outgoing(TOPIC, b"x", partition=0, timestamp=math.inf), "timestamp inf"),
    (Outgoing(TOPIC, b"x", partition=0, timestamp=1e308), "1970 to 9999"),
    (Outgoing(TOPIC, b"x", partition=0, timestamp=-1.0), "1970 to 9999"),
    (Outgoing("a\0b", b"x"), "cannot be printed"),
    (Outgoing("", b"x"), "has no name"),
    (Outgoing("a" * 300, b"x"), "a name of 300 characters"),
]
"""What no broker can take, and what it says of it."""


@pytest.mark.parametrize(("entry", "said"), NO_ENTRIES)
async def test_what_no_broker_takes_is_refused_and_what_lies_before_is_there(
    broker: Broker, entry: Outgoing, said: str
) -> None:
    await broker.create_topic(TopicSpec(TOPIC, 2))
    with pytest.raises(EntriesRefused, match=said) as raised:
        await send(broker, "producer_id", [sequenced(1), SequencedEntry(2, entry), sequenced(3, 1)])
    assert [(refused.producer_id, refused.number) for refused in raised.value.refused] == [
        ("producer_id", 2)
    ]
    await send(broker, "producer_id", [sequenced(1), sequenced(3, 1), sequenced(4)])
    assert (await values(broker), await values(broker, SECOND)) == ([b"1", b"4"], [b"3"])
    assert await broker.topics() == {TOPIC: 2}


async def test_nothing_goes_to_a_log_behind_an_entry_that_is_refused_there(broker: Broker) -> None:
    await broker.create_topic(TopicSpec(TOPIC, 2))
    late = SequencedEntry(2, Outgoing(TOPIC, b"2", partition=0, timestamp=math.nan))
    with pytest.raises(EntriesRefused):
        await send(broker, "producer_id", [sequenced(1), late, sequenced(3)])
    mended = SequencedEntry(2, Outgoing(TOPIC, b"2", partition=0))
    await send(broker, "producer_id", [sequenced(1), mended, sequenced(3)])
    assert await values(broker) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("number", [0, -1, 2**53, 10**20])
async def test_a_number_that_cannot_be_compared_exactly_is_refused(
    broker: Broker, number: int
) -> None:
    with pytest.raises(EntriesRefused, match=f"has the number {number},"):
        await send(broker, "producer_id", [sequenced(number)])
    assert await last_sequences(broker, "producer_id") == {}


@pytest.mark.parametrize("producer_id", ["", "a:b", "a b", "a\0", "ä", "a" * 201])
async def test_a_producer_without_a_proper_name_is_refused(
    broker: Broker, producer_id: str
) -> None:
    with pytest.raises(BrokerError, match="no proper id"):
        await send(broker, producer_id, [sequenced(1)])
    assert await values(broker) == []


async def test_a_partition_that_a_topic_has_got_just_now_is_known(
    broker: Broker, another_broker: Broker
) -> None:
    await send(broker, "producer_id", [sequenced(1)])
    await another_broker.close_topics([TOPIC])
    await another_broker.open_topics({TOPIC: 4})
    await send(broker, "producer_id", [sequenced(2, 3)])
    await broker.append([Outgoing(TOPIC, b"x", partition=2)])
    assert await values(broker, TP(TOPIC, 3)) == [b"2"]
    assert await values(broker, TP(TOPIC, 2)) == [b"x"]
