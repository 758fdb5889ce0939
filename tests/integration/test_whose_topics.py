"""What is told of the shop's topics is not told of those that other applications have there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.broker import topics_of
from app.status.collector import ask_broker
from app.status.shares import ask_shares
from connectors.brokers.broker import Broker, Outgoing, TopicSpec
from connectors.brokers.shares import Owned, Register
from connectors.postgres.database import Database
from connectors.postgres.migrate import migrate_connectors
from connectors.transports.by_url import broker_by_url


@pytest.fixture
async def broker(any_broker_url: str) -> AsyncIterator[Broker]:
    """Two entries on each of four topics: the shop's, a bank's, of both, of nobody."""
    broker = broker_by_url(any_broker_url, default_partitions=1)
    await broker.open()
    for topic in ("orders", "payments", "users", "visits"):
        await broker.create_topic(TopicSpec(topic, 1))
        await broker.append([Outgoing(topic, b"", partition=0) for _ in range(2)])
    await broker.join("shop", ["orders"], from_start=True)
    await broker.join("bank", ["payments", "users"], from_start=True)
    mail = broker.sharing("shop/mail", "consumer")
    await mail.join(["users"], from_start=True)
    yield broker
    await mail.close()
    await broker.close()


async def test_others_have_theirs(broker: Broker) -> None:
    assert await topics_of(broker, "shop") == ["orders", "users", "visits"]
    assert await topics_of(broker, "bank") == ["payments", "users", "visits"]


async def test_the_lag_is_what_our_group_has_not_finished(
    broker: Broker, database_url: str
) -> None:
    part = await ask_broker(broker, "shop", [])
    assert [topic.name for topic in part.topics] == ["orders", "users", "visits"]
    database = await Database.connect(database_url)
    try:
        await migrate_connectors(database)
        register = Register(("w-1~1",), {0: Owned("w-1~1", "", 0.0)})
        version = (await broker.roll("shop")).version
        assert await broker.reassign("shop", register, version=version, silent={})
        [share] = (await ask_shares(broker, database, "shop")).shares
        assert share.lag == sum(p.lag for topic in part.topics for p in topic.partitions) == 2
    finally:
        await database.close()
