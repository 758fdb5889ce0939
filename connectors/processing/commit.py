"""The commit of what has been finished: durable first, then the broker's group.

With Postgres the position in Postgres rules, since it is written in one transaction with all that
the events did; the broker's group follows it, for all to see. Without, the group is the position.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from faust.types import TP, AppT

from connectors import crash
from connectors.errors import BrokerError, BrokerUnavailable, DatabaseError
from connectors.processing.backing import backing_of
from connectors.processing.committer import Logs
from connectors.processing.watermark import Committed, Progress
from connectors.transports.broker import Broker, LogTooShort

logger = logging.getLogger(__name__)


async def take_partitions(
    app: AppT, broker: Broker, incarnation: str, tps: Iterable[TP]
) -> Mapping[TP, Committed]:
    """Take partitions of a broker; returns where each is to be continued."""
    groups = await broker.positions(app.conf.id, tps)
    backing = backing_of(app)
    if backing is None:
        return {tp: Committed(position) for tp, position in groups.items()}
    bounds = await broker.bounds(groups)
    ends = {tp: end for tp, (_, end) in bounds.items()}
    logs = Logs(await broker.identity(), incarnation, groups, ends)
    return await backing.committer.take(logs, backing.unit.parking)


async def commit_progress(
    app: AppT,
    broker: Broker,
    progress: Mapping[TP, Progress],
    *,
    sent: Callable[[], Awaitable[bool]],
    owned: Callable[[], bool],
) -> None:
    """Make what was finished durable.

    ``progress`` was taken just now, with no event finished in between: rows and positions have to
    be those of one moment. What was sent straight to the broker has to be there first (``sent``),
    and where no database fences others out, the partitions have to be this worker's still
    (``owned``).

    Raises BrokerUnavailable or DatabaseError if nothing happened and trying again may help.
    Raises LogTooShort if all is durable, but the broker has lost entries. Anything else,
    cancellation included, means that what has happened since the last commit has to be undone in
    memory and done again.
    """
    backing = backing_of(app)
    if backing is None:
        await _has_been_sent(sent)
        if not owned():
            raise BrokerUnavailable("the lease has ended: the partitions may be another worker's")
    else:
        unit = backing.unit
        batch = unit.take()
        crash.point("commit.begun")
        try:
            await _has_been_sent(sent)
            await backing.publisher.has_room()
            await backing.committer.commit(batch, progress)
        except (BrokerUnavailable, DatabaseError):
            if unit is backing.unit:  # otherwise partitions have moved: it is all done again
                unit.give_back(batch)
            raise
        unit.committed(batch)
        crash.point("commit.settled")
    advances = {tp: finished.advance for tp, finished in progress.items()}
    try:
        await broker.commit(app.conf.id, advances)
    except LogTooShort:
        raise
    except BrokerError as error:
        if backing is None:
            raise
        logger.error("The group does not follow its positions in Postgres: %s", error)
    crash.point("commit.acknowledged")


async def _has_been_sent(sent: Callable[[], Awaitable[bool]]) -> None:
    if not await sent():
        raise BrokerUnavailable("what was sent is not there yet")
