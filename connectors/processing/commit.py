"""The commit of a batch: tables and positions together, then the group.

With Postgres the position in Postgres rules, since it is written in one transaction with the
tables; the broker's group follows it, for all to see. Without, the group is the position.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from faust.types import TP, AppT

from connectors.errors import BrokerError, BrokerUnavailable
from connectors.tables.manager import TableManager
from connectors.transports.broker import Advance, Broker

logger = logging.getLogger(__name__)


async def committed_positions(
    app: AppT, broker: Broker, log: str, tps: Iterable[TP]
) -> dict[TP, int]:
    """Where each partition of the logs of this identity is to be continued."""
    wanted = list(tps)
    positions = dict(await broker.positions(app.conf.id, wanted))
    if isinstance(app.tables, TableManager) and app.tables.database is not None:
        positions.update(await app.tables.positions(log, wanted))
    return positions


async def commit_batch(app: AppT, broker: Broker, log: str, advances: Mapping[TP, Advance]) -> None:
    """Make what was finished durable. Safe to repeat as a whole."""
    if not isinstance(app.tables, TableManager) or app.tables.database is None:
        await broker.commit(app.conf.id, advances)
        return
    positions = {tp: advance.position for tp, advance in advances.items()}
    await app.tables.commit(log, positions)
    try:
        await broker.commit(app.conf.id, advances)
    except BrokerUnavailable:
        raise
    except BrokerError as error:
        logger.error("The group does not follow its positions in Postgres: %s", error)
