"""What of the contract is about compaction, held against every broker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from faust.types import TP

from redfaust.brokers.broker import (
    Advance,
    Appended,
    Broker,
    Outgoing,
    Retention,
    Trimmed,
)
from redfaust.brokers.capabilities import Capability

pytestmark = pytest.mark.needs(Capability.RETENTION)

TOPIC = "changes"
FIRST = TP(TOPIC, 0)
COMPACTED = Retention(compacted=True)
FORGETFUL = Retention(compacted=True, deletions=0.0)


async def append(broker: Broker, *changes: str) -> Sequence[Appended]:
    """As ``key=value``; without a value it is a deletion, and without a key none."""
    entries = []
    for change in changes:
        key, _, value = change.partition("=")
        as_key, as_value = key.encode() or None, value.encode() or None
        entries.append(Outgoing(TOPIC, as_value, as_key, partition=0))
    return await broker.append(entries)


async def compact(broker: Broker, retention: Retention = COMPACTED) -> int:
    removed, more = 0, True
    while more:
        trimmed = (await broker.compact({FIRST: retention}))[FIRST]
        removed, more = removed + trimmed.removed, trimmed.more
    return removed


async def kept(broker: Broker) -> list[str]:
    [(first, _)] = (await broker.bounds([FIRST])).values()
    records = (await broker.read({FIRST: first}, limit=50_000, wait=0)).get(FIRST, ())
    return [f"{(r.key or b'').decode()}={(r.value or b'').decode()}" for r in records]


async def finish(broker: Broker, group: str, appended: Sequence[Appended]) -> None:
    await broker.commit(group, {FIRST: Advance(appended[-1].offset + 1, len(appended))})


async def later_than(broker: Broker, entry: Appended) -> None:
    """Until the broker's clock shows another millisecond."""
    while (await append(broker, "clock=x"))[-1].timestamp <= entry.timestamp:  # noqa: ASYNC110 - time has to pass
        await asyncio.sleep(0.001)


async def test_of_a_key_the_last_entry_stays(broker: Broker) -> None:
    await append(broker, "a=1", "b=1", "a=2", "=none", "c=1", "a=3", "b=2", "=none")
    assert await compact(broker) == 3
    assert await kept(broker) == ["=none", "c=1", "a=3", "b=2", "=none"]
    assert await compact(broker) == 0
    await append(broker, "c=2", "d=1", "a=4")
    assert await compact(broker) == 2
    assert await kept(broker) == ["=none", "b=2", "=none", "c=2", "d=1", "a=4"]


async def test_only_what_is_to_be_compacted_is(broker: Broker) -> None:
    await append(broker, "a=1", "a=2")
    assert await broker.compact({FIRST: Retention(entries=1)}) == {}
    assert await broker.compact({TP("unknown", 0): COMPACTED}) == {TP("unknown", 0): Trimmed(0)}
    assert await kept(broker) == ["a=1", "a=2"]


async def test_entries_of_others_are_of_no_key(broker: Broker) -> None:
    other = Outgoing(TOPIC, b"1", b"a", partition=0)
    with_headers = Outgoing(TOPIC, b"2", b"a", (("_k", b"b"), ("h", b"")), 0, 1234.5)
    await broker.append([other, with_headers])
    await append(broker, "b=1")
    assert await compact(broker) == 1
    assert await kept(broker) == ["a=2", "b=1"]


async def test_deletions_stay_for_a_while(broker: Broker) -> None:
    appended = await append(broker, "a=1", "b=1", "a=", "c=", "b=", "b=2")
    await later_than(broker, appended[-1])
    assert await compact(broker) >= 3
    assert (await kept(broker))[:4] == ["a=", "c=", "b=2", "clock=x"]
    assert await compact(broker, FORGETFUL) == 2
    assert await kept(broker) == ["b=2", "clock=x"]
    await append(broker, "a=5")
    assert await compact(broker, FORGETFUL) == 0
    assert await kept(broker) == ["b=2", "clock=x", "a=5"]


async def test_the_newest_entry_stays(broker: Broker) -> None:
    [first, last] = await append(broker, "a=1", "a=")
    while (await append(broker, "b=1"))[-1].timestamp <= last.timestamp:  # noqa: ASYNC110 - time has to pass
        await asyncio.sleep(0.001)
    [newest] = await append(broker, "b=")
    await asyncio.sleep(0.005)
    await compact(broker, FORGETFUL)
    assert await kept(broker) == ["b="]
    assert await broker.bounds([FIRST]) == {FIRST: (newest.offset, newest.offset + 1)}
    await append(broker, "c=1")
    await compact(broker, FORGETFUL)
    assert await kept(broker) == ["c=1"]
    assert first.offset < newest.offset


async def test_what_a_group_has_not_finished_stays(broker: Broker) -> None:
    appended = await append(broker, *(f"{n % 3}={n}" for n in range(12)))
    for group, finished in (("slow", 4), ("quick", 12)):
        await broker.join(group, [TOPIC], from_start=True)
        await finish(broker, group, appended[:finished])
    assert await compact(broker) == 1
    assert await kept(broker) == [f"{n % 3}={n}" for n in range(1, 12)]
    assert [(await broker.status(group, TOPIC))[0].lag for group in ("slow", "quick")] == [8, 0]
    await broker.commit("slow", {FIRST: Advance(appended[7].offset + 1, 4)})
    assert await compact(broker) == 4
    assert (await broker.status("slow", TOPIC))[0].lag == 4
    await broker.leave("slow", [TOPIC])
    assert await compact(broker) == 4
    assert await kept(broker) == ["0=9", "1=10", "2=11"]


async def test_what_a_shared_group_has_in_hand_stays(broker: Broker) -> None:
    appended = await append(broker, *(f"a={n}" for n in range(6)))
    consumer = broker.share_group("shared", "consumer")
    await consumer.join([TOPIC], from_start=True)
    claims = await consumer.claim(9, wait=0)
    await consumer.ack({FIRST: {c.record.offset for c in claims} - {appended[2].offset}})
    assert await compact(broker) == 1
    assert await kept(broker) == [f"a={n}" for n in range(1, 6)]
    await consumer.ack({FIRST: {appended[2].offset}})
    assert await compact(broker) == 4
    await consumer.close()


async def test_it_goes_by_bits(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redfaust.brokers.redis.retention.COMPACT_AT_ONCE", 7)
    await append(broker, *(f"{n % 10}={n}" for n in range(100)))
    assert await compact(broker) == 90
    assert await kept(broker) == [f"{n % 10}={n}" for n in range(90, 100)]


async def test_what_is_trimmed_is_forgotten(broker: Broker) -> None:
    both = Retention(entries=5, compacted=True)
    for turn in range(3):
        await append(broker, *(f"{turn}-{n}=x" for n in range(20)))
        await compact(broker, both)
        await broker.trim({FIRST: both})
    assert await compact(broker, both) == 0
    assert await kept(broker) == [f"2-{n}=x" for n in range(15, 20)]
    await append(broker, "0-3=y", "2-19=y")
    assert await compact(broker, both) == 1
