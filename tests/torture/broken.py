"""Builds that are broken in one place each, for the checker to find.

``python -m tests.torture.broken BUILD worker|relay`` starts what the sound build would start,
with one function of ours as somebody could have written it who had not thought of crashes.
"""

from __future__ import annotations

import asyncio
import enum
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from faust.types import TP, AppT

from app.cli import main as redfaust
from redfaust.brokers.broker import Broker, Place, ProducerBatch
from redfaust.brokers.redis.broker import RedisBroker
from redfaust.processing import commit
from redfaust.processing.committer import Committer
from redfaust.processing.offset_tracker import Committed, Progress
from redfaust.processing.unit_of_work import Batch
from redfaust.transports import rebalance

SLOW = 0.1
"""Seconds between two steps that should be one: each kill has a fair chance to fall between."""


class Build(enum.StrEnum):
    """What is broken."""

    POSITION_FIRST = "position-first"
    """Events are acknowledged before what they did is committed."""
    NO_DEDUPLICATION = "no-deduplication"
    """Events that are delivered again are processed again: the group's position rules."""
    NO_MARKS = "no-last sequences"
    """The relay appends what it finds, whether it is there or not."""


def position_first() -> None:
    """Commit positions first, then everything else."""
    commit_both = Committer.commit

    async def commit_one_by_one(
        self: Committer, batch: Batch, progress: Mapping[TP, Progress]
    ) -> None:
        await commit_both(self, Batch(), progress)
        await asyncio.sleep(SLOW)
        await commit_both(self, batch, progress)

    Committer.commit = commit_one_by_one  # type: ignore[method-assign]


def no_deduplication() -> None:
    """Continue where the group stands, which follows the commit after a while."""
    take = commit.take_partitions
    commit_group = RedisBroker.commit

    async def take_as_the_group_says(
        app: AppT, broker: Broker, incarnation: str, tps: Iterable[TP]
    ) -> Mapping[TP, Committed]:
        wanted = list(tps)
        await take(app, broker, incarnation, wanted)
        groups = await broker.positions(app.conf.id, wanted)
        return {tp: Committed(position, {}) for tp, position in groups.items()}

    async def commit_group_late(*args: object) -> None:
        await asyncio.sleep(SLOW)
        await commit_group(*args)  # type: ignore[arg-type]

    if rebalance.take_partitions is not take:  # type: ignore[attr-defined]
        raise AssertionError("this would break nothing")
    rebalance.take_partitions = take_as_the_group_says  # type: ignore[attr-defined]
    RedisBroker.commit = commit_group_late  # type: ignore[method-assign,assignment]


def no_marks() -> None:
    """Append without a look at the last sequences."""

    async def append_again(
        self: RedisBroker, batches: Sequence[ProducerBatch]
    ) -> Mapping[str, Mapping[TP, Place]]:
        places: dict[str, dict[TP, Place]] = {batch.producer_id: {} for batch in batches}
        for producer_id, entries, _ in batches:
            appended = await self.append([sequenced.entry for sequenced in entries])
            for sequenced, there in zip(entries, appended, strict=True):
                places[producer_id][there.tp] = Place(sequenced.number, there.offset + 1)
        await asyncio.sleep(SLOW)
        return places

    RedisBroker.append_once = append_again  # type: ignore[method-assign]


BREAK: Mapping[Build, Callable[[], None]] = {
    Build.POSITION_FIRST: position_first,
    Build.NO_DEDUPLICATION: no_deduplication,
    Build.NO_MARKS: no_marks,
}


def main(build: str, part: str) -> None:
    """Break, then run."""
    BREAK[Build(build)]()
    if part == "relay":
        redfaust(["relay"])
    else:
        from tests.torture import worker  # noqa: PLC0415 - builds its application when imported

        worker.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
