"""The contract between the benchmark and a peer, as the bare loop keeps it."""

from __future__ import annotations

import pytest
import redis.asyncio

from tests.bench.events import OUTPUT, PARTITIONS, TOPIC
from tests.bench.peers.environments import Unavailable
from tests.bench.peers.processes import BARE, PEERS, Peer, measure
from tests.rights import as_administrator

EVENTS = 2500


@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.is_bare], ids=lambda p: p.module)
async def test_a_peer_works_on_its_events_and_prints_how_fast(
    any_broker_url: str, peer: Peer
) -> None:
    result = await measure(peer, "consume", as_administrator(any_broker_url), events=EVENTS)
    assert (result["row"], result["events"]) == ("consume", EVENTS)
    assert result["events_per_second"] > 0
    assert result["cpu"] > 0
    assert "hiredis" in result["versions"]
    client = redis.asyncio.Redis.from_url(as_administrator(any_broker_url))
    for number in range(PARTITIONS):
        (group,) = await client.xinfo_groups(f"{TOPIC}:{number}")
        assert (group["entries-read"], group["pending"]) == (EVENTS // PARTITIONS, 0)
    await client.aclose()


async def test_all_effects_of_each_row_are_there(any_broker_url: str) -> None:
    client = redis.asyncio.Redis.from_url(as_administrator(any_broker_url))
    await measure(BARE, "produce", as_administrator(any_broker_url), events=EVENTS)
    assert await entries(client, TOPIC) == EVENTS
    await client.flushall()
    await measure(BARE, "transform", as_administrator(any_broker_url), events=EVENTS)
    assert await entries(client, OUTPUT) == EVENTS
    await client.flushall()
    await measure(BARE, "count", as_administrator(any_broker_url), events=EVENTS)
    assert sum(map(int, await client.hvals("counts"))) == EVENTS
    await client.aclose()


async def test_a_peer_that_fails_is_unavailable_with_its_last_word(any_broker_url: str) -> None:
    with pytest.raises(Unavailable, match="KeyError: 'juggle'"):
        await measure(BARE, "juggle", as_administrator(any_broker_url), events=1)


async def entries(client: redis.asyncio.Redis, topic: str) -> int:
    return sum([await client.xlen(f"{topic}:{number}") for number in range(PARTITIONS)])
