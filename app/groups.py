"""Consumer groups that nobody works for any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from app.errors import GroupInUse, GroupUnknown
from app.status.models import WorkerAgent
from redfaust.brokers.broker import Broker
from redfaust.printable import printable


class Forgotten(NamedTuple):
    """What has become of a group."""

    topics: Collection[str]
    """Where it is forgotten."""
    left: Collection[str]
    """Where it is not, since somebody works for it there."""


class _Announced(BaseModel):
    """What of a worker's heartbeat says which topics it works on."""

    agents: tuple[WorkerAgent, ...]
    owns: tuple[tuple[str, int], ...]

    def topics_of(self, agent_name: str) -> set[str]:
        """Those of an agent with shared delivery, or (empty) of the application's own group."""
        owned = set() if agent_name else {topic for topic, _ in self.owns}
        return owned.union(
            topic
            for agent in self.agents
            if (agent.name if agent.shared else "") == agent_name
            for topic in agent.topics
        )


async def forget_group(broker: Broker, group: str) -> Forgotten:
    """Forget a group wherever nobody works for it: nothing is kept for it any more.

    Raises GroupUnknown if it has joined no topic, GroupInUse if its members are alive and work
    on all that it has joined, or do not say what they work on, and what the broker raises.
    """
    joined = await broker.groups(await broker.topics())
    topics = sorted(topic for topic, groups in joined.items() if group in groups)
    if not topics:
        there = ", ".join(sorted({each for groups in joined.values() for each in groups}))
        raise GroupUnknown(
            f"no group is called {printable(group)}: there are {printable(there) or 'none'}"
        )
    app, _, agent = group.partition("/")
    heartbeats = (await broker.group_state(app)).heard()
    used = _used((heartbeat.info for heartbeat in heartbeats.values()), agent)
    left = [topic for topic in topics if used is None or topic in used]
    if len(left) == len(topics):
        raise GroupInUse(
            f"{printable(', '.join(heartbeats))} works for the group {printable(group)}: "
            "stop that first, and wait six seconds"
        )
    gone = [topic for topic in topics if topic not in left]
    await broker.leave(group, gone)
    return Forgotten(gone, left)


def _used(infos: Iterable[Mapping[str, object]], agent: str) -> set[str] | None:
    """The topics that members work on for a group; ``None`` if one does not say."""
    try:
        announced = [_Announced.model_validate(info) for info in infos]
    except ValidationError:
        return None
    return set().union(*(each.topics_of(agent) for each in announced))
