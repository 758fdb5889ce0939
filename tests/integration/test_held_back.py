"""Groups that hold topics back are shown, and forgotten if they are gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from app.cli import main
from app.errors import GroupInUse, GroupUnknown
from app.groups import forget_group
from app.status import Status, Watch
from app.status.problems import Kind
from app.status.snapshot import Cause, Unknown
from app.status.sources import Sources
from app.web.metrics import expose
from redfaust.brokers.broker import Broker, Heartbeat, Outgoing, Retention, TopicSpec
from redfaust.transports.by_url import broker_by_url

PATIENCE = 20.0
GROUPS = ("shop", "elsewhere", "shop/mail")


@pytest.fixture
async def broker(any_broker_url: str) -> AsyncIterator[Broker]:
    """Two topics, which three groups have joined, and not read."""
    broker = broker_by_url(any_broker_url, default_partitions=2)
    await broker.open()
    for topic in ("letters", "orders"):
        await broker.create_topic(TopicSpec(topic, 2, Retention(entries=2)))
        await broker.append([Outgoing(topic, b"", partition=0) for _ in range(10)])
        await broker.join("shop", [topic], from_start=True)
    await broker.join("elsewhere", ["orders"], from_start=True)
    consumer = broker.share_group("shop/mail", "consumer")
    await consumer.join(["letters"], from_start=True)
    yield broker
    await consumer.close()
    await broker.close()


async def heartbeat(broker: Broker) -> None:
    """As a worker of the shop, which reads orders as its group, and letters as its agent."""
    agents = [
        {"name": "mail", "topics": ["letters"], "shared": True},
        {"name": "orders", "topics": ["orders"], "shared": False},
    ]
    info = {"pid": 7, "host": "here", "started_at": datetime.now(UTC).isoformat()}
    await broker.heartbeat(
        "shop", "worker-1", Heartbeat(1, info=info | {"agents": agents, "owns": []})
    )


async def look(broker: Broker) -> Status:
    """The status, as far as the broker tells it."""
    sources = Sources(broker, Unknown(Cause.AWAY, "not asked"))
    return await Watch(sources, "shop", patience=PATIENCE).look()


async def test_it_is_shown(broker: Broker) -> None:
    status = await look(broker)
    problems = [each.text for each in status.problems if each.kind is Kind.RETENTION_HELD]
    assert len(problems) == 2
    assert "topic letters keeps 10 entries, and 2 are wanted" in problems[0]
    assert "shop, shop/mail" in problems[0]
    assert "elsewhere, shop" in problems[1]
    assert status.topics is not None
    assert [p.held_by for p in status.topics[1].partitions] == [("elsewhere", "shop"), ()]
    metrics = expose(status).decode()
    label = 'redfaust_partition_held_back{group="elsewhere",partition="0",topic="orders"} 1.0'
    assert label in metrics


async def test_a_group_that_is_gone_is_forgotten(broker: Broker) -> None:
    for group in GROUPS:
        forgotten = await forget_group(broker, group)
        assert not forgotten.left
    assert not any((await broker.groups(["letters", "orders"])).values())
    kinds = {problem.kind for problem in (await look(broker)).problems}
    assert Kind.RETENTION_HELD not in kinds


async def test_a_group_is_left_where_somebody_works_for_it(broker: Broker) -> None:
    await heartbeat(broker)
    assert await forget_group(broker, "shop") == (["letters"], ["orders"])
    assert await broker.groups(["letters", "orders"]) == {
        "letters": {"shop/mail"},
        "orders": {"shop", "elsewhere"},
    }
    for group in ("shop", "shop/mail"):
        with pytest.raises(GroupInUse, match="worker-1 works"):
            await forget_group(broker, group)
    assert await forget_group(broker, "elsewhere") == (["orders"], [])


async def test_a_group_is_left_whose_members_do_not_say_what_they_do(broker: Broker) -> None:
    await heartbeat(broker)
    await broker.heartbeat("shop", "another", Heartbeat(1))
    for group in ("shop", "shop/mail"):
        with pytest.raises(GroupInUse):
            await forget_group(broker, group)


async def test_nobody_is_forgotten_who_is_not_there(broker: Broker) -> None:
    with pytest.raises(GroupUnknown, match="no group is called gone: there are elsewhere, shop"):
        await forget_group(broker, "gone")


def test_the_command(empty_valkey_url: str) -> None:
    servers = {"REDFAUST_BROKER": empty_valkey_url, "REDFAUST_DATABASE": "postgresql://unused/db"}
    done = CliRunner().invoke(main, ["topics", "forget-group", "gone"], env=servers)
    assert (done.exit_code, done.output) == (1, "Error: no group is called gone: there are none\n")
