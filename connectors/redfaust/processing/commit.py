"""The commit of what has been finished: durable first, then the broker's group.

With Postgres the position in Postgres rules, since it is written in one transaction with all that
the events did; the broker's group follows it, for all to see. Without, the group is the position.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from faust.types import TP, AppT

from redfaust import failpoints
from redfaust.brokers.broker import Advance, Broker, OffsetOutOfRange
from redfaust.errors import BrokerError, BrokerUnavailable, DatabaseError
from redfaust.printable import printable
from redfaust.processing import topic_config
from redfaust.processing.committer import Logs
from redfaust.processing.offset_tracker import Committed, Progress
from redfaust.processing.state_backend import state_backend_of
from redfaust.processing.unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)


async def take_partitions(
    app: AppT, broker: Broker, incarnation: str, tps: Iterable[TP]
) -> Mapping[TP, Committed]:
    """Take partitions of a broker; returns where each is to be continued."""
    groups = await broker.positions(app.conf.id, tps)
    state_backend = state_backend_of(app)
    if state_backend is None:
        return {tp: Committed(position) for tp, position in groups.items()}
    bounds = await broker.bounds(groups)
    groups = {tp: position for tp, position in groups.items() if tp in bounds}
    ends = {tp: end for tp, (_, end) in bounds.items()}
    heard = app.consumer.topic_partitions
    partitions = {tp.topic: count for tp in groups if (count := heard(tp.topic)) is not None}
    logs = Logs(await broker.identity(), incarnation, groups, ends, partitions)
    if await broker.incarnation() != incarnation:  # some of this may be another one's
        raise BrokerUnavailable("the broker was restarted or replaced meanwhile")
    unit = state_backend.unit
    taken = await state_backend.committer.take(logs, unit.parking)
    firsts = {tp: first for tp, (first, _) in bounds.items()}
    _tell_what_is_gone(
        [tp for tp, at in taken.items() if at.position < min(groups[tp], firsts[tp])]
    )
    ahead = {tp: at.position for tp, at in taken.items() if at.position > groups[tp]}
    unit.advanced({tp: Advance(position, 0) for tp, position in ahead.items()})
    with suppress(OffsetOutOfRange):  # the first commit finds it out as well, and starts over
        await _follow(app, broker, unit)
    return taken


def _tell_what_is_gone(tps: Sequence[TP]) -> None:
    """Only a database that was set back is behind the group, which retention goes by."""
    if tps:
        logger.error(
            "The database was set back behind what is kept of %s partitions, %s %s among them: "
            "events that were removed there since are not processed again",
            len(tps),
            printable(tps[0].topic),
            tps[0].partition,
        )


async def commit_progress(
    app: AppT,
    broker: Broker,
    progress: Mapping[TP, Progress],
    *,
    incarnation: str,
    sent: Callable[[], Awaitable[bool]],
    owned: Callable[[], bool],
) -> None:
    """Make what was finished durable.

    ``progress`` was taken just now, with no event finished in between: rows and positions have to
    be those of one moment. What was sent straight to the broker has to be there first (``sent``),
    and where no database fences others out, the partitions have to be this worker's still
    (``owned``).

    Raises BrokerUnavailable or DatabaseError if nothing happened and trying again may help. Raises
    Replaced if the events were read of another ``incarnation`` of the broker; nothing has happened
    then. Raises OffsetOutOfRange if all is durable, but the broker has lost entries. Anything else,
    cancellation included, means that what has happened since the last commit has to be undone in
    memory and done again.
    """
    state_backend = state_backend_of(app)
    advances = {tp: finished.advance for tp, finished in progress.items()}
    if state_backend is None:
        await _has_been_sent(sent)
        if not owned():
            raise BrokerUnavailable("the lease has ended: the partitions may be another worker's")
        await broker.commit(app.conf.id, advances)
    else:
        unit = state_backend.unit
        batch = unit.take()
        failpoints.point("commit.begun")
        try:
            await _has_been_sent(sent)
            await topic_config.declare(app, broker)
            await state_backend.publisher.has_room()
            await broker.confirm(progress.keys(), incarnation)
            failpoints.point("commit.confirmed")
            await state_backend.committer.commit(batch, progress)
        except (BrokerUnavailable, DatabaseError):
            if unit is state_backend.unit:  # otherwise partitions have moved: it is all done again
                unit.restore(batch)
            raise
        unit.committed(batch)
        failpoints.point("commit.settled")
        unit.advanced(advances)
        await _follow(app, broker, unit)
    failpoints.point("commit.acknowledged")


async def _follow(app: AppT, broker: Broker, unit: UnitOfWork) -> None:
    """Have the group follow. What fails is tried again by the next commit."""
    if not unit.behind:
        return
    try:
        await broker.commit(app.conf.id, unit.behind)
    except OffsetOutOfRange:
        raise
    except BrokerError as error:
        logger.error("The group does not follow its positions in Postgres yet: %s", error)
    else:
        unit.behind.clear()


async def _has_been_sent(sent: Callable[[], Awaitable[bool]]) -> None:
    if not await sent():
        raise BrokerUnavailable("what was sent is not there yet")
