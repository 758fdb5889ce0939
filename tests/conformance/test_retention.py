"""What of the contract is about retention, held against every broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from faust.types import TP

from redfaust.brokers import broker as contract
from redfaust.brokers.broker import (
    Advance,
    Appended,
    Bound,
    Broker,
    Outgoing,
    ProducerBatch,
    Retention,
    SequencedEntry,
    TopicSpec,
    Trimmed,
)
from redfaust.brokers.capabilities import Capability
from redfaust.brokers.log_cleaner import LogCleaner

pytestmark = pytest.mark.needs(Capability.RETENTION)

TOPIC = "events"
FIRST = TP(TOPIC, 0)
KEPT = Retention(entries=10)
AGED = Retention(age=0.0)


async def append(broker: Broker, numbers: Sequence[int], size: int = 0) -> Sequence[Appended]:
    entries = [Outgoing(TOPIC, b"%d" % n + b"." * size, partition=0) for n in numbers]
    return await broker.append(entries)


async def trim(broker: Broker, retention: Retention) -> Trimmed:
    return (await broker.trim({FIRST: retention}))[FIRST]


async def kept(broker: Broker) -> list[int]:
    """The numbers that are there still."""
    [(first, _)] = (await broker.bounds([FIRST])).values()
    records = (await broker.read({FIRST: first}, limit=50_000, wait=0)).get(FIRST, ())
    return [int((record.value or b"").rstrip(b".")) for record in records]


async def finish(broker: Broker, group: str, appended: Sequence[Appended]) -> None:
    await broker.commit(group, {FIRST: Advance(appended[-1].offset + 1, len(appended))})


async def later_than(broker: Broker, entry: Appended) -> None:
    """Until the broker's clock shows another millisecond."""
    while (await append(broker, [99]))[-1].timestamp <= entry.timestamp:  # noqa: ASYNC110 - time has to pass
        await asyncio.sleep(0.001)


# -- the policy ------------------------------------------------------------------------------


async def test_a_topic_keeps_the_retention_that_was_declared_last(
    broker: Broker, another_broker: Broker
) -> None:
    everything = Retention(age=7.5, size=1 << 40, entries=10)
    await broker.create_topic(TopicSpec(TOPIC, 2, everything))
    await broker.create_topic(TopicSpec("other", 2))
    assert await another_broker.retentions() == {TOPIC: everything}
    await another_broker.create_topic(TopicSpec(TOPIC, 2))
    assert await broker.retentions() == {TOPIC: everything}
    await another_broker.create_topic(TopicSpec(TOPIC, 2, KEPT))
    assert await broker.retentions() == {TOPIC: KEPT}


async def test_one_keeps_house(
    broker: Broker, another_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("redis.retention", "memory.broker"):
        monkeypatch.setattr(f"redfaust.brokers.{module}.CLEANER_LEASE", 0.05)
    assert await broker.acquire_cleaner_lease("one")
    assert await broker.acquire_cleaner_lease("one")
    assert not await another_broker.acquire_cleaner_lease("two")
    async with asyncio.timeout(10):
        while not await another_broker.acquire_cleaner_lease("two"):  # noqa: ASYNC110 - time has to pass
            await asyncio.sleep(0.01)
    assert not await broker.acquire_cleaner_lease("one")


# -- what is removed -------------------------------------------------------------------------


async def test_without_groups_the_retention_alone_counts(broker: Broker) -> None:
    await append(broker, range(100))
    assert await trim(broker, Retention()) == Trimmed(0)
    assert await trim(broker, KEPT) == Trimmed(90)
    assert await kept(broker) == list(range(90, 100))
    assert await trim(broker, KEPT) == Trimmed(0)


async def test_what_is_too_old_goes(broker: Broker) -> None:
    old = await append(broker, range(20))
    await later_than(broker, old[-1])
    assert (await trim(broker, Retention(age=60.0))).removed == 0
    assert (await trim(broker, AGED)).removed >= 20
    assert set(await kept(broker)) == {99}


async def test_what_takes_too_much_goes(broker: Broker) -> None:
    await append(broker, range(200), size=1000)
    assert (await trim(broker, Retention(size=1 << 30))).removed == 0
    await trim(broker, Retention(size=100_000))
    left = await kept(broker)
    assert left == list(range(200 - len(left), 200))
    assert 50 <= len(left) <= 120


async def test_the_newest_entry_stays(broker: Broker) -> None:
    [newest] = await append(broker, [1])
    await broker.join("group", [TOPIC], from_start=True)
    await finish(broker, "group", [newest])
    for retention in (Retention(entries=0), Retention(size=0), AGED):
        await trim(broker, retention)
    assert await kept(broker) == [1]
    assert await broker.bounds([FIRST]) == {FIRST: (newest.offset, newest.offset + 1)}


async def test_it_goes_by_bits(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("redis.retention", "memory.retention"):
        monkeypatch.setattr(f"redfaust.brokers.{module}.TRIM_AT_ONCE", 400)
    last = (await append(broker, range(1800)))[-1]
    await later_than(broker, last)
    for retention in (Retention(entries=800), AGED):
        goes, removed = 1, []
        while (trimmed := await trim(broker, retention)).more:
            removed.append(trimmed.removed)
            goes += 1
            assert goes < 20
        assert goes > 1
        assert max(removed) <= 400
    assert set(await kept(broker)) <= {1799, 99}


@pytest.mark.parametrize("retention", [Retention(entries=0), Retention(size=0), AGED])
async def test_nothing_goes_that_a_group_has_not_finished(
    broker: Broker, retention: Retention
) -> None:
    appended = await append(broker, range(30))
    for group, finished in (("slow", 5), ("quick", 30), ("at the end", 0)):
        await broker.join(group, [TOPIC], from_start=finished > 0)
        if finished:
            await finish(broker, group, appended[:finished])
    await later_than(broker, appended[-1])
    await trim(broker, retention)
    left = [number for number in await kept(broker) if number < 99]
    assert left in (list(range(4, 30)), list(range(5, 30)))


async def test_nothing_goes_of_a_group_that_has_just_joined(broker: Broker) -> None:
    await append(broker, range(5))
    await broker.join("group", [TOPIC], from_start=True)
    assert (await trim(broker, Retention(entries=1))).removed == 0
    assert await kept(broker) == list(range(5))


async def test_nothing_goes_that_a_shared_group_has_in_hand(broker: Broker) -> None:
    appended = await append(broker, range(20))
    await broker.join("quick", [TOPIC], from_start=True)
    await finish(broker, "quick", appended)
    consumer = broker.share_group("shared", "consumer")
    await consumer.join([TOPIC], from_start=True)
    claims = await consumer.claim(15, wait=0)
    await consumer.ack(
        {FIRST: {claim.record.offset for claim in claims if claim.record.value != b"7"}}
    )
    trimmed = await trim(broker, KEPT)
    assert trimmed.removed == 7
    assert trimmed.held_back is not None
    assert trimmed.held_back[:2] == (frozenset({"shared"}), Bound.ENTRIES)
    await consumer.ack({FIRST: {appended[7].offset}})
    assert (await trim(broker, KEPT)).removed == 3
    assert [claim.record.value for claim in await consumer.claim(9, wait=0)] == [
        b"15",
        b"16",
        b"17",
        b"18",
        b"19",
    ]
    await consumer.close()


# -- what stays as it was --------------------------------------------------------------------


async def test_lags_and_positions_stay(broker: Broker) -> None:
    appended = await append(broker, range(100))
    for group, finished in (("ahead", 90), ("behind", 60)):
        await broker.join(group, [TOPIC], from_start=True)
        await finish(broker, group, appended[:finished])
    consumer = broker.share_group("shared", "consumer")
    await consumer.join([TOPIC], from_start=True)
    claims = await consumer.claim(70, wait=0)
    await consumer.ack({FIRST: {claim.record.offset for claim in claims[:65]}})
    positions = [await broker.positions(group, [FIRST]) for group in ("ahead", "behind")]
    assert (await trim(broker, KEPT)).removed in (59, 60)
    lags = [(await broker.status(group, TOPIC))[0].lag for group in ("ahead", "behind", "shared")]
    assert lags == [10, 40, 35]
    assert positions == [await broker.positions(group, [FIRST]) for group in ("ahead", "behind")]
    await broker.commit("behind", {FIRST: Advance(appended[94].offset + 1, 35)})
    assert (await broker.status("behind", TOPIC))[0].lag == 5
    await broker.join("late", [TOPIC], from_start=True)
    assert (await broker.status("late", TOPIC))[0].lag == len(await kept(broker))
    await consumer.close()


async def test_a_reader_goes_on_behind_what_was_removed(broker: Broker) -> None:
    appended = await append(broker, range(30))
    await trim(broker, KEPT)
    position = appended[3].offset
    records = (await broker.read({FIRST: position}, limit=3, wait=0))[FIRST]
    assert [record.value for record in records] == [b"20", b"21", b"22"]


async def test_what_was_removed_was_sent_all_the_same(broker: Broker) -> None:
    batch = [SequencedEntry(n, Outgoing(TOPIC, b"%d" % n, partition=0)) for n in range(1, 31)]
    await broker.append_once([ProducerBatch("producer_id", batch)])
    await trim(broker, KEPT)
    assert await broker.last_sequences(["producer_id"]) == {"producer_id": {FIRST: 30}}
    await broker.append_once([ProducerBatch("producer_id", batch, after={FIRST: 30})])
    assert await kept(broker) == list(range(21, 31))


async def test_a_partition_that_is_not_there_is_left_alone(broker: Broker) -> None:
    assert await broker.trim({}) == {}
    assert await broker.trim({TP("unknown", 0): KEPT}) == {TP("unknown", 0): Trimmed(0)}


# -- who holds something back ----------------------------------------------------------------


async def test_who_holds_something_back_is_named(broker: Broker) -> None:
    appended = await append(broker, range(30), size=1000)
    for group in ("dead", "gone", "quick"):
        await broker.join(group, [TOPIC], from_start=True)
    await finish(broker, "quick", appended)
    await finish(broker, "dead", appended[:10])
    await finish(broker, "gone", appended[:10])
    await later_than(broker, appended[-1])
    bounds = {
        Bound.ENTRIES: Retention(entries=15),
        Bound.SIZE: Retention(size=1000),
        Bound.AGE: AGED,
    }
    await trim(broker, Retention(entries=5))
    for bound, retention in bounds.items():
        held = await broker.held_back({FIRST: retention})
        for each in (held[FIRST], (await trim(broker, retention)).held_back):
            assert each is not None
            assert (each.groups, each.bound) == (frozenset({"dead", "gone"}), bound)
            assert each.found > 0
    await finish(broker, "dead", appended[:28])
    await broker.leave("gone", [TOPIC, "unknown"])
    await trim(broker, bounds[Bound.ENTRIES])
    assert await broker.held_back({FIRST: bounds[Bound.ENTRIES]}) == {}
    assert (await broker.held_back({FIRST: AGED}))[FIRST].groups == {"dead"}


async def test_within_the_bounds_nobody_holds_anything_back(broker: Broker) -> None:
    appended = await append(broker, range(10))
    await broker.join("group", [TOPIC], from_start=True)
    everything = Retention(age=3600.0, size=1 << 30, entries=10)
    assert await trim(broker, everything) == Trimmed(0)
    await finish(broker, "group", appended)
    assert await broker.held_back({FIRST: AGED}) == {}
    assert contract.TRIM_AT_ONCE > 0


async def test_a_group_that_has_left_is_forgotten(broker: Broker) -> None:
    await append(broker, range(30))
    consumer = broker.share_group("shared", "consumer")
    await consumer.join([TOPIC], from_start=True)
    await consumer.claim(5, wait=0)
    await broker.join("ordered", [TOPIC], from_start=True)
    for group in ("shared", "ordered", "never there"):
        await broker.leave(group, [TOPIC])
    assert await broker.groups([TOPIC]) == {TOPIC: frozenset()}
    assert await broker.positions("ordered", [FIRST]) == {}
    assert (await trim(broker, KEPT)).removed == 20
    await broker.join("ordered", [TOPIC], from_start=True)
    assert (await broker.status("ordered", TOPIC))[0].lag == 10


# -- topics that go --------------------------------------------------------------------------


async def test_a_topic_that_is_deleted_has_left_nothing(broker: Broker) -> None:
    await broker.create_topic(TopicSpec(TOPIC, 2, KEPT))
    await broker.create_topic(TopicSpec("other", 1, KEPT))
    await broker.join("group", [TOPIC], from_start=True)
    await append(broker, [1, 2])
    sequenced = SequencedEntry(1, Outgoing(TOPIC, b"3", partition=0))
    await broker.append_once([ProducerBatch("producer_id", (sequenced,))])
    await broker.delete_topics([TOPIC, "nothing"])
    assert list(await broker.topics()) == ["other"]
    assert list(await broker.retentions()) == ["other"]
    await broker.create_topic(TopicSpec(TOPIC, 1))
    assert await kept(broker) == []
    assert await broker.groups([TOPIC]) == {TOPIC: frozenset()}


async def test_a_topic_whose_owner_has_gone_is_deleted(broker: Broker) -> None:
    times = {"left": time.time() - 1, "held": time.time() + 3600, "plain": None}
    for topic, until in times.items():
        await broker.create_topic(TopicSpec(topic, 1, Retention(until=until)))
    await LogCleaner(broker, "keeper").keep()
    assert list(await broker.topics()) == ["held", "plain"]
