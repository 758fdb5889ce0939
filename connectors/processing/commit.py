"""The commit of a batch: tables, dead letters and positions together, then the group.

With Postgres the position in Postgres rules, since it is written in one transaction with the
tables; the broker's group follows it, for all to see. Without, the group is the position.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from faust.types import TP, AppT

from connectors.errors import BrokerError
from connectors.processing.watermark import Progress
from connectors.tables.manager import Committed, TableManager
from connectors.transports.broker import Advance, Broker

logger = logging.getLogger(__name__)


async def continue_from(
    app: AppT, broker: Broker, log: str, tps: Iterable[TP]
) -> dict[TP, Committed]:
    """Where each partition of the logs of this identity is to be continued."""
    wanted = list(tps)
    groups = await broker.positions(app.conf.id, wanted)
    committed = {tp: Committed(position, {}) for tp, position in groups.items()}
    if isinstance(app.tables, TableManager) and app.tables.database is not None:
        committed.update(await app.tables.committed(log, wanted))
    return committed


async def commit_batch(
    app: AppT,
    broker: Broker,
    log: str,
    progress: Mapping[TP, Progress],
    *,
    sent: Callable[[], Awaitable[bool]],
    owned: Callable[[], bool],
) -> bool:
    """Make what was finished durable; whether it is.

    ``progress`` was taken just now, with no event finished in between: rows and positions have to
    be those of one moment. What these events sent has to be on its way first (``sent``), and the
    partitions still this worker's (``owned``).
    """
    tables = app.tables if isinstance(app.tables, TableManager) else None
    if tables is None or tables.database is None:
        if not (await sent() and owned()):
            return False
        await broker.commit(app.conf.id, _advances(progress))
        return True
    batch, committed = tables.take(), False
    try:
        committed = await sent() and await tables.commit(log, batch, progress, owned)
    finally:
        if not committed:
            tables.give_back(batch)
    if committed:
        await _let_group_follow(app, broker, progress)
    return committed


async def _let_group_follow(app: AppT, broker: Broker, progress: Mapping[TP, Progress]) -> None:
    try:
        await broker.commit(app.conf.id, _advances(progress))
    except BrokerError as error:
        logger.error("The group does not follow its positions in Postgres: %s", error)


def _advances(progress: Mapping[TP, Progress]) -> dict[TP, Advance]:
    return {tp: finished.advance for tp, finished in progress.items()}
