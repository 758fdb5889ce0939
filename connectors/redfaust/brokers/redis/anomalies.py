"""What somebody else has put at redfaust's own keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from faust.types import TP
from redis.asyncio import Redis

from redfaust.brokers.broker import Anomaly
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.client import reading, script
from redfaust.brokers.redis.entry import AHEAD
from redfaust.brokers.redis.group_states import GroupStates
from redfaust.brokers.redis.retention import Retentions
from redfaust.brokers.redis.stored import shown_name, wrong_type
from redfaust.brokers.redis.topics import TopicCatalog
from redfaust.errors import BrokerUnavailable
from redfaust.printable import printable

SINGLE = {
    keys.TOPICS: "hash",
    keys.RETENTIONS: "hash",
    keys.CLEANER: "string",
    keys.IDENTITY: "string",
}
"""Keys that there are once, and their types."""


class Anomalies:
    """Those of one Redis."""

    def __init__(
        self, client: Redis, topics: TopicCatalog, retentions: Retentions, assignments: GroupStates
    ) -> None:
        self._client = client
        self._topics = topics
        self._retentions = retentions
        self._group_states = assignments
        self._inspect = script(client, "inspect")

    async def find(self) -> list[Anomaly]:
        """See :meth:`~redfaust.brokers.broker.Broker.anomalies`."""
        found = [Anomaly(key, wrong_type(key, SINGLE[key])) for key in await self._misused()]
        misused = {place for place, _ in found}
        counts: Mapping[str, int] = {}
        if keys.TOPICS not in misused:
            catalog, wrong = await self._topics.read()
            found += [Anomaly(keys.TOPICS, each) for each in wrong]
            counts = {name: entry.partitions for name, entry in catalog.items()}
        if keys.RETENTIONS not in misused:
            _, wrong = await self._retentions.read()
            found += [Anomaly(keys.RETENTIONS, each) for each in wrong]
        tps = [TP(topic, number) for topic, count in counts.items() for number in range(count)]
        groups: dict[bytes, TP] = {}
        for tp, (wrong_keys, names, ahead) in await self._inspected(tps):
            found += [_of_partition(tp, key.decode()) for key in wrong_keys]
            if int(ahead) > AHEAD:
                found.append(_ahead(tp, int(ahead)))
            groups |= dict.fromkeys(names, tp)
        return [*found, *_unreadable(groups), *await self._of_members(map(shown_name, groups))]

    async def _misused(self) -> list[str]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for key in SINGLE:
                pipeline.type(key)
            types = await pipeline.execute()
        return [
            key
            for (key, wanted), kind in zip(SINGLE.items(), types, strict=True)
            if kind.decode() not in {wanted, "none"}
        ]

    async def _inspected(self, tps: list[TP]) -> Iterable[tuple[TP, Any]]:
        if not tps:
            return ()
        async with self._client.pipeline(transaction=False) as pipeline:
            for tp in tps:
                of_partition = [keys.stream(tp), keys.producers(tp), keys.known(tp)]
                pipeline.execute_command(*reading(self._inspect, of_partition))
            return zip(tps, await pipeline.execute(), strict=True)

    async def _of_members(self, groups: Iterable[str]) -> list[Anomaly]:
        """Of the assignments and heartbeats of these groups, which agents of one application
        share."""
        found = []
        for application in sorted({group.partition("/")[0] for group in groups}):
            place = printable(keys.assignment(application).removesuffix(":assignment"))
            try:
                _, wrong = await self._group_states.read(application)
            except BrokerUnavailable as error:
                wrong = [str(error)]
            found += [Anomaly(place, each) for each in wrong]
        return found


def _of_partition(tp: TP, key: str) -> Anomaly:
    wanted = "stream" if key == keys.stream(tp) else "hash"
    return Anomaly(printable(key), wrong_type(key, wanted))


def _ahead(tp: TP, seconds: int) -> Anomaly:
    return Anomaly(
        printable(keys.stream(tp)),
        f"its last ID is {seconds // 86_400} days ahead of the clock, and all that follow are: the "
        "time of such an event is that at which it is read, and `retention=` removes none by age. "
        "Delete the stream when its events are finished",
    )


def _unreadable(groups: Mapping[bytes, TP]) -> Iterator[Anomaly]:
    """Groups whose names are no text. What they have not finished is kept all the same."""
    for name, tp in groups.items():
        try:
            name.decode()
        except UnicodeDecodeError:
            shown = shown_name(name)
            yield Anomaly(
                printable(keys.stream(tp)),
                f"the name of its group {shown} is not UTF-8, and what it has not finished is "
                f"kept: start what reads it, or run `redfaust topics forget-group '{shown}'`",
            )
