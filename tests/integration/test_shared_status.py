"""What the status says of agents with shared delivery."""

from __future__ import annotations

from datetime import UTC, datetime

from faust.types import TP

from app.status.database_facts import ask_retrying
from app.status.snapshot import Cause, Unknown
from app.status.sources import Sources
from app.status.watch import Watch
from redfaust.brokers.broker import Heartbeat, Outgoing, Record, TopicSpec
from redfaust.brokers.share_group import Claim, shared_group
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from redfaust.processing.shared.inbox import Inbox, Known
from redfaust.processing.shared.message import SharedMessage
from redfaust.transports.by_url import broker_by_url


async def test_what_waits_for_them_and_what_they_have_in_hand(any_broker_url: str) -> None:
    broker = broker_by_url(any_broker_url, default_partitions=2)
    await broker.open()
    await broker.create_topic(TopicSpec("letters", 2))
    await broker.join("shop", ["letters"], from_start=True)
    agents = [
        {"name": "mail", "topics": ["letters"], "shared": True},
        {"name": "notes", "topics": ["letters"]},
    ]
    info = {"pid": 7, "host": "here", "started_at": datetime.now(UTC).isoformat()}
    await broker.heartbeat("shop", "worker-1", Heartbeat(1, info=info | {"agents": agents}))
    consumer = broker.share_group(shared_group("shop", "mail"), "worker-1")
    await consumer.join(["letters"], from_start=True)
    await broker.append([Outgoing("letters", b"", partition=1) for _ in range(5)])
    await consumer.claim(2, wait=0)
    status = await Watch(
        Sources(broker, Unknown(Cause.AWAY, "not asked")), "shop", patience=20.0
    ).look()
    assert status.agents is not None
    assert status.topics is not None
    assert [(each.name, each.waiting) for each in status.agents] == [("mail", 5), ("notes", None)]
    [topic] = status.topics
    assert [(p.lag, p.pending) for p in topic.partitions] == [(0, 0), (5, 2)]
    await consumer.close()
    await broker.close()


async def test_what_waits_for_another_attempt_is_counted(database_url: str) -> None:
    database = await Database.connect(database_url)
    await migrate(database)
    inbox = Inbox(database, shared_group("shop", "mail"), "log")
    failed, finished = (
        SharedMessage(
            Claim(TP("letters", 0), Record(offset, 0.0, None, b"", ()), 1), lambda _: None
        )
        for offset in (1, 2)
    )
    async with database.transaction() as connection:
        await inbox.fail(connection, {failed: Known(1, 60.0)})
        await inbox.finish(connection, [finished])
    [waiting] = await ask_retrying(database, "shop")
    assert (waiting.agent, waiting.topic, waiting.events) == ("mail", "letters", 1)
    assert await ask_retrying(database, "sho") == []
    await database.close()
