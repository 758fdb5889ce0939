"""What is told of the shop's topics is not told of those that other applications have there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.status.broker_facts import ask_logs
from app.status.ownership import ask_ownership
from app.status.watch import lag_of
from redfaust.brokers.assignor import GroupAssignment, Owned
from redfaust.brokers.broker import Broker, Outgoing, TopicSpec
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from redfaust.transports.by_url import broker_by_url


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
    mail = broker.share_group("shop/mail", "consumer")
    await mail.join(["users"], from_start=True)
    yield broker
    await mail.close()
    await broker.close()


async def test_others_have_theirs(broker: Broker) -> None:
    for app, topics in (
        ("shop", ["orders", "users", "visits"]),
        ("bank", ["payments", "users", "visits"]),
    ):
        assert [tp.topic for tp in await ask_logs(broker, app)] == topics


async def test_the_lag_is_that_of_our_topics(broker: Broker, database_url: str) -> None:
    logs = await ask_logs(broker, "shop")
    database = await Database.connect(database_url)
    try:
        await migrate(database)
        assignment = GroupAssignment(("w-1~1",), {0: Owned("w-1~1", "", 0.0)})
        version = (await broker.group_state("shop")).version
        assert await broker.reassign("shop", assignment, version=version, silent={})
        [share] = (await ask_ownership(broker, database, "shop")).shares
        # Two of the orders, two of the users for the mail agent; nobody has joined the visits.
        assert share.lag == sum(lag_of(survey, "shop") for survey in logs.values()) == 4
    finally:
        await database.close()
