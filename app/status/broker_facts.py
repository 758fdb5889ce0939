"""What the broker knows of the application: members, relays, logs, and itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from faust.types import TP
from pydantic import BaseModel, ValidationError

from app.status.models import Worker
from app.status.snapshot import Group, HeldTopic, Relay, Relays
from redfaust.brokers.assignor import name_of
from redfaust.brokers.attendance import silent_members
from redfaust.brokers.broker import SILENCE, Broker, GroupState, PartitionSurvey
from redfaust.brokers.log_cleaner import bounded_partitions, explain
from redfaust.outbox.relay_member import GROUP as RELAYS

INTERNAL = "__leader"
"""How the topic ends by which Faust chooses a leader. It never has entries."""


async def ask_group(broker: Broker, app: str) -> Group:
    """The members of the application's group."""
    group_state = await broker.group_state(app)
    now = datetime.now(UTC)
    workers, unreadable = read_workers(group_state)
    return Group(
        workers=workers,
        unreadable=unreadable,
        silent=_silent(group_state, now),
        lost=lost_members(group_state),
        drained=group_state.assignment.drained,
        unowned=_unowned(group_state, now),
    )


def read_workers(group_state: GroupState) -> tuple[tuple[Worker, ...], dict[str, str]]:
    """The workers that are heard, and what is wrong with the announcements of the others."""
    workers, unreadable = [], {}
    for name, heartbeat in group_state.heard().items():
        known = {"name": name, "drained": group_state.assignment.is_drained(name)}
        try:
            workers.append(Worker.model_validate({**heartbeat.info, **known}))
        except ValidationError as error:
            fields = ", ".join(str(detail["loc"][0]) for detail in error.errors())
            unreadable[name] = fields
    return tuple(workers), unreadable


def _silent(group_state: GroupState, now: datetime) -> dict[str, datetime | None]:
    return {
        name_of(member): now - timedelta(seconds=group_state.heartbeats[member].age)
        if member in group_state.heartbeats
        else None
        for member in silent_members(group_state)
    }


def lost_members(group_state: GroupState) -> dict[str, datetime]:
    """Names of members that were lost, and since when."""
    return {
        name: datetime.fromtimestamp(since, UTC)
        for name, since in group_state.assignment.lost.items()
    }


def _unowned(group_state: GroupState, now: datetime) -> dict[int, datetime | None]:
    """Numbers that members know, and of which none that is heard is the owner. One that has just
    fallen silent owns them until others count it as dead."""
    heard = group_state.heard()
    counts = [count for heartbeat in heard.values() for count in heartbeat.counts]
    found: dict[int, datetime | None] = {}
    for number in range(max(counts, default=0)):
        owned = group_state.assignment.owners.get(number)
        if owned is None:
            found[number] = None
        elif not owned.member:
            found[number] = datetime.fromtimestamp(owned.since, UTC)
        elif owned.member not in heard:
            heartbeat = group_state.heartbeats.get(owned.member)
            found[number] = heartbeat and now - timedelta(seconds=heartbeat.age - SILENCE)
    return found


class _Announced(BaseModel):
    """What a relay tells of itself."""

    role: str
    app: str
    database: str
    host: str = ""
    pid: int = 0


async def ask_relays(broker: Broker) -> Relays:
    """The relays of all databases that publish to this broker."""
    group_state = await broker.group_state(RELAYS)
    relays = []
    for name, heartbeat in group_state.heard().items():
        try:
            announced = _Announced.model_validate(heartbeat.info)
        except ValidationError:
            continue  # of another release, or written by somebody else
        relays.append(Relay(name=name, **announced.model_dump()))
    return Relays(tuple(relays), _silent(group_state, datetime.now(UTC)), lost_members(group_state))


async def ask_logs(broker: Broker, app: str) -> Mapping[TP, PartitionSurvey]:
    """The partitions of the application's topics, as all groups see them."""
    counts = await broker.topics()
    joined = await broker.groups(counts)
    return await broker.survey(
        [
            TP(topic, number)
            for topic in sorted(counts)
            if is_of(app, joined[topic]) and not topic.endswith(INTERNAL)
            for number in range(counts[topic])
        ]
    )


def is_of(app: str, groups: frozenset[str]) -> bool:
    """Whether a topic is an application's: all are but those that others alone have joined.

    One that nobody has joined yet is anybody's: what lies there may wait for it.
    """
    return not groups or any(belongs(group, app) for group in groups)


def belongs(group: str, app: str) -> bool:
    """Whether a group is the application's own, or of one of its agents with shared delivery."""
    return group.partition("/")[0] == app


def agent_of(group: str) -> str | None:
    """The agent with shared delivery whose group it is; ``None``: it is of ordered delivery."""
    return group.partition("/")[2] or None


async def ask_held(broker: Broker) -> Mapping[str, HeldTopic]:
    """The topics that keep more than they should, since groups have not finished them."""
    retentions = await bounded_partitions(broker)
    held = await broker.held_back(retentions)
    by_topic: dict[str, list[TP]] = defaultdict(list)
    for tp in sorted(held):
        by_topic[tp.topic].append(tp)
    return {
        topic: HeldTopic(
            explain(tps[0], held[tps[0]], retentions[tps[0]]),
            {tp.partition: held[tp].groups for tp in tps},
        )
        for topic, tps in by_topic.items()
    }


async def ask_anomalies(broker: Broker) -> Sequence[tuple[str, str]]:
    """What lies at the broker's own keys and is not redfaust's."""
    return await broker.anomalies()
