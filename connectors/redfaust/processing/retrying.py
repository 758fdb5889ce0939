"""Hands parked events to their agents again when they are due."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from faust.types import TP, AppT

from redfaust import failpoints
from redfaust.errors import DatabaseError
from redfaust.processing.owned_partition import OwnedPartition
from redfaust.processing.parking import KeyQueue, ParkedMessage, Parking
from redfaust.processing.state_backend import StateBackend

logger = logging.getLogger(__name__)

LOOK_AGAIN = 0.1
"""Seconds until a line is looked at again whose first event is not committed yet, or whose
partition is not ready."""

LINES_AT_A_TIME = 100
"""Lines whose events are read from the database in one go. One by one they would wait for each
other: under load a look into the database takes many turns of the event loop."""

EVENTS_AT_A_TIME = 20
"""Events that are read of each."""

AWAY = 1.0
"""Seconds until that while the database is away."""

NOBODY = 30.0
"""Seconds until that where no agent of that name reads the partition."""

Deliver = Callable[[ParkedMessage, str], Awaitable[bool]]
"""Hands a message to the agent of this name; whether there is one."""


class Retrier:
    """Works for one application."""

    def __init__(
        self,
        app: AppT,
        state_backend: StateBackend,
        owned_partitions: Mapping[TP, OwnedPartition],
        deliver: Deliver,
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        """``owned_partitions``: of the partitions whose events may be processed. One that was just
        taken has lines before its tables are loaded; what is written then would be lost.

        ``prepare`` is awaited before events are handed out, and may raise DatabaseUnavailable."""
        self._app = app
        self._state_backend = state_backend
        self._owned_partitions = owned_partitions
        self._deliver = deliver
        self._prepare = prepare

    async def run(self) -> None:
        """Retry what is due until cancelled."""
        while True:
            parking = self._state_backend.unit.parking
            if due := parking.all_due(LINES_AT_A_TIME):
                await self._retry(parking, due)
                continue
            pause = parking.seconds_until_due()
            parking.changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await parking.changed.wait()

    async def _retry(self, parking: Parking, lines: Sequence[KeyQueue]) -> None:
        try:
            await self._fetch([line for line in lines if not line.fetched])
            await self._prepare()
        except DatabaseError as error:
            logger.warning("Retrying waits for the database: %s", error)
            for line in lines:
                parking.not_now(line, pause=AWAY)
            return
        failpoints.point("retry.fetched")
        for line in lines:
            if parking is not self._state_backend.unit.parking:
                return  # all began anew meanwhile, and so did these lines, in another parking
            owned_partition = self._owned_partitions.get(line.tp)
            if line.fetched and owned_partition is not None and owned_partition.may_begin:
                await self._hand_out(parking, line, owned_partition)
            else:
                parking.not_now(line, pause=LOOK_AGAIN)
        failpoints.point("retry.delivered")

    async def _fetch(self, lines: Sequence[KeyQueue]) -> None:
        if not lines:
            return
        for line, row in await self._state_backend.select_parked(lines, EVENTS_AT_A_TIME):
            line.fetched.append(row)

    async def _hand_out(
        self, parking: Parking, line: KeyQueue, owned_partition: OwnedPartition
    ) -> None:
        message = ParkedMessage(parking, line, line.fetched.popleft(), owned_partition)
        if not await self._deliver(message, line.agent):
            logger.error(
                "Parked events of %s wait for the agent %s, which nobody runs",
                line.tp.topic,
                line.agent,
            )
            line.fetched.clear()
            parking.not_now(line, pause=NOBODY)
