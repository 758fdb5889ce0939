"""Asks broker and database, each on its own: one still tells what it knows without the other."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from faust.types import TP
from pydantic import ValidationError

from app import mailbox, tables
from app.broker import topics_of
from app.settings import Settings
from app.status.models import (
    Agent,
    BrokerPart,
    DatabasePart,
    DeadLetterHeading,
    DeadLettersPart,
    OutboxPart,
    ParkedPart,
    Partition,
    RecentOrder,
    Status,
    Topic,
    Worker,
)
from app.web.services import Services
from connectors.brokers.broker import Broker, PartitionStatus, Roll
from connectors.brokers.housekeeping import bounded_partitions, explain
from connectors.brokers.sharing import shared_group
from connectors.errors import BrokerUnavailable, ConnectorError
from connectors.outbox.outbox import outbox_status
from connectors.postgres.database import Database
from connectors.postgres.queries import load
from connectors.processing.dead_letters import DeadLetters, DeadLetterState, dead_letter_counts
from connectors.processing.parked_rows import parked_counts
from models.orders import OrderStatus

SHOWN = 10
"""Entries of each list that only shows the latest."""
INTERNAL = "__leader"
"""How the topic ends by which Faust chooses a leader. It never has entries."""
PATIENCE = 5.0
"""Seconds after which a broker or a database that does not answer counts as unreachable."""

T = TypeVar("T")


async def collect(services: Services, settings: Settings) -> Status:
    """The status now. Never raises because something is away; ``problems`` says so instead."""
    problems: list[str] = []
    broker, database = await asyncio.gather(
        _attempt("broker", ask_broker(services.broker, settings.app_id, problems), problems),
        _attempt("database", ask_database(services.database, settings.app_id), problems),
    )
    return Status(
        app=settings.app_id,
        at=datetime.now(UTC),
        problems=tuple(problems),
        workers=broker and broker.workers,
        agents=broker and broker.agents,
        topics=broker and broker.topics,
        outbox=database and database.outbox,
        parked=database and database.parked,
        dead_letters=database and database.dead_letters,
        mails=database and database.mails,
        orders=database and database.orders,
    )


async def _attempt(name: str, asking: Coroutine[None, None, T], problems: list[str]) -> T | None:
    try:
        async with asyncio.timeout(PATIENCE):
            return await asking
    except TimeoutError:
        problems.append(f"the {name} has not answered within {PATIENCE:.0f} seconds")
    except ConnectorError as error:
        problems.append(str(error))
    return None


async def ask_broker(broker: Broker | None, group: str, problems: list[str]) -> BrokerPart:
    """Workers and topics. A worker whose announcement cannot be read is a problem, not an error.

    Raises :class:`~connectors.errors.BrokerError`.
    """
    if broker is None:
        raise BrokerUnavailable("this process is not connected to the broker")
    workers = _workers(await broker.roll(group), problems)
    owners = {owned: worker.name for worker in workers for owned in worker.owns}
    shared = await _ask_shared(broker, group, workers)
    held = await _ask_held_back(broker, problems)
    topics = [
        Topic(
            name=name,
            partitions=tuple(
                Partition(
                    partition=number,
                    length=partition.length,
                    lag=partition.lag,
                    pending=sum(
                        partitions[number].claimed
                        for (_, topic), partitions in shared.items()
                        if topic == name
                    ),
                    position=None if partition.position is None else str(partition.position),
                    owner=owners.get((name, number)),
                    held_by=held.get(TP(name, number), ()),
                )
                for number, partition in enumerate(await broker.status(group, name))
            ),
        )
        for name in await topics_of(broker, group)
        if not name.endswith(INTERNAL)
    ]
    return BrokerPart(workers=workers, agents=_agents(workers, shared), topics=tuple(topics))


async def _ask_held_back(broker: Broker, problems: list[str]) -> Mapping[TP, tuple[str, ...]]:
    """By partition the groups that keep it beyond its bounds. That is a problem for each topic."""
    retentions = await bounded_partitions(broker)
    held = await broker.held_back(retentions)
    first = {(tp.topic, held[tp].groups): tp for tp in sorted(held, reverse=True)}
    problems += [explain(tp, held[tp], retentions[tp]) for tp in sorted(first.values())]
    return {tp: tuple(sorted(each.groups)) for tp, each in held.items()}


async def _ask_shared(
    broker: Broker, group: str, workers: Sequence[Worker]
) -> Mapping[tuple[str, str], Sequence[PartitionStatus]]:
    """By agent and topic, the partitions as the agents with shared delivery see them."""
    places = {
        (agent.name, topic)
        for worker in workers
        for agent in worker.agents
        if agent.shared
        for topic in agent.topics
    }
    return {
        (agent, topic): await broker.status(shared_group(group, agent), topic)
        for agent, topic in places
    }


def _workers(roll: Roll, problems: list[str]) -> tuple[Worker, ...]:
    workers = []
    for name, beat in roll.heard().items():
        known = {"name": name, "drained": roll.register.is_drained(name)}
        try:
            workers.append(Worker.model_validate({**beat.info, **known}))
        except ValidationError as error:
            fields = ", ".join(str(detail["loc"][0]) for detail in error.errors())
            problems.append(f"worker {name} announces itself in another form: {fields}")
    return tuple(workers)


def _agents(
    workers: Sequence[Worker], shared: Mapping[tuple[str, str], Sequence[PartitionStatus]]
) -> tuple[Agent, ...]:
    waiting: Counter[str] = Counter()
    for (agent_name, _), partitions in shared.items():
        waiting[agent_name] += sum(partition.lag for partition in partitions)
    seen = defaultdict(list)
    for worker in workers:
        for agent in worker.agents:
            seen[agent.name].append(agent)
    return tuple(
        Agent(
            name=name,
            topics=tuple(sorted({topic for agent in agents for topic in agent.topics})),
            workers=len(agents),
            processed=sum(agent.processed for agent in agents),
            failed=sum(agent.failed for agent in agents),
            waiting=waiting.get(name),
        )
        for name, agents in sorted(seen.items())
    )


async def ask_database(database: Database, app: str) -> DatabasePart:
    """Outbox, events that failed, mails and orders.

    Raises :class:`~connectors.errors.DatabaseError`.
    """
    outbox = await outbox_status(database)
    parked = await parked_counts(database, app)
    return DatabasePart(
        outbox=OutboxPart(
            depth=outbox.depth,
            oldest_age_seconds=outbox.oldest_age,
            scheduled=outbox.scheduled,
        ),
        parked=ParkedPart(waiting=sum(parked.values()), topics=parked),
        dead_letters=await _dead_letters(database, app),
        mails=tuple(await mailbox.latest(database, SHOWN)),
        orders=await _recent_orders(database),
    )


async def _dead_letters(database: Database, app: str) -> DeadLettersPart:
    letters = await DeadLetters(database).list(app=app, state=DeadLetterState.WAITING, limit=SHOWN)
    waiting = await dead_letter_counts(database, app)
    return DeadLettersPart(
        waiting=sum(waiting.values()),
        latest=tuple(DeadLetterHeading.of(letter) for letter in letters),
    )


async def _recent_orders(database: Database) -> tuple[RecentOrder, ...]:
    async with database.transaction() as connection:
        orders = await connection.fetch(load("app", "select_recent_orders"), SHOWN)
        ids = [order["order_id"] for order in orders]
        states = await tables.read(connection, load("app", "select_order_statuses"), ids)
    known = set(OrderStatus)
    statuses = {
        state["order_id"]: state["status"] if state["status"] in known else None for state in states
    }
    return tuple(
        RecentOrder.model_validate(
            {"status": statuses.get(order["order_id"], "placed"), **dict(order)}
        )
        for order in orders
    )
