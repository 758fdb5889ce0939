"""Writes the planned transfers while everything that it writes to is killed.

It must know of each write whether it happened, so it looks after each error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import asyncpg
from faust.types import TP
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from connectors.errors import DatabaseUnavailable
from connectors.outbox.outbox import Outbox
from connectors.postgres.database import Database
from connectors.transports.partitioner import partition_of
from connectors.transports.redis import keys
from tests.torture.history import NUMBER
from tests.torture.ledger import PARTITIONS, TRANSFERS
from tests.torture.on_cluster import Cluster
from tests.torture.plan import Plan, Route, Step, Transfer
from tests.torture.redis_pair import Pair

RETRY_EVERY = 0.1
"""Seconds between two attempts while a server is away."""
REPLY_TIMEOUT = 60.0
"""Seconds for a reply: longer than any fault takes, since a command that is late is still done."""

CREATE = "CREATE TABLE IF NOT EXISTS written (number bigint PRIMARY KEY)"
"""The plain table that transactions write beside their events."""


class TakenBack(Exception):
    """The transaction is rolled back on purpose."""


class Writer:
    """Writes the steps of a plan, those of each route in their order, spread over some seconds."""

    def __init__(self, plan: Plan, redis: Pair | Cluster, database: Database) -> None:
        self._plan = plan
        self.appending = asyncio.Lock()
        """Held while something is appended by ``XADD``, and by whoever wants that to wait."""
        self._database = database
        self._outbox = Outbox(database)
        self._redis = redis.client(
            protocol=2,
            socket_timeout=REPLY_TIMEOUT,
            # Redis-py would repeat what may have happened.
            retry=Retry(NoBackoff(), 0),
        )
        self._last_ids = ["0-0"] * PARTITIONS
        """By partition an entry behind which everything is ours of the step in hand, or newer."""
        self.unsure = 0
        """Writes whose answer was lost."""

    async def run(self, seconds: float) -> None:
        """Write everything."""
        async with asyncio.TaskGroup() as group:
            for route in Route:
                steps = [step for step in self._plan.steps if step.route is route]
                group.create_task(self._write_all(steps, seconds))
        await self._redis.aclose()

    async def _write_all(self, steps: Sequence[Step], seconds: float) -> None:
        clock = asyncio.get_running_loop().time
        started = clock()
        for place, step in enumerate(steps):
            await asyncio.sleep(started + place * seconds / len(steps) - clock())
            if step.route is Route.XADD:
                async with self.appending:
                    await self._append(step)
            else:
                await self._transact(step)

    # -- by XADD -----------------------------------------------------------------------------

    async def _append(self, step: Step) -> None:
        left = list(step.transfers)
        while left:
            try:
                await self._try_to_append(left)
                return
            except (RedisError, OSError):
                self.unsure += 1
            there = await self._appended()
            # A pipeline that broke off was carried out up to some point.
            left = [transfer for transfer in left if transfer.number not in there]

    async def _try_to_append(self, transfers: Iterable[Transfer]) -> None:
        partitions = []
        async with self._redis.pipeline(transaction=False) as pipeline:
            for transfer in transfers:
                key = transfer.payer.encode()
                partitions.append(partition_of(key, PARTITIONS))
                pipeline.execute_command(
                    "XADD",
                    keys.stream(TP(TRANSFERS, partitions[-1])),
                    "*",
                    *("_v", transfer.value, "_k", key, f"_h:{NUMBER}", transfer.number),
                )
            ids = await pipeline.execute()
        for partition, stream_id in zip(partitions, ids, strict=True):
            self._last_ids[partition] = stream_id.decode()

    async def _appended(self) -> set[int]:
        """Numbers of what was appended since the last pipeline that was answered."""
        while True:
            try:
                return {
                    int(fields[f"_h:{NUMBER}".encode()])
                    for partition, last_id in enumerate(self._last_ids)
                    for _, fields in await self._redis.xrange(
                        keys.stream(TP(TRANSFERS, partition)), f"({last_id}", "+"
                    )
                }
            except (RedisError, OSError):
                await asyncio.sleep(RETRY_EVERY)

    # -- by transactions ---------------------------------------------------------------------

    async def _transact(self, step: Step) -> None:
        while True:
            try:
                await self._try_to_transact(step)
            except DatabaseUnavailable:
                self.unsure += 1
                await asyncio.sleep(RETRY_EVERY)
            except (TakenBack, asyncpg.UniqueViolationError):
                return  # the latter: its commit was not answered, but happened
            else:
                return

    async def _try_to_transact(self, step: Step) -> None:
        async with self._outbox.transaction() as tx:
            await tx.connection.executemany(
                "INSERT INTO written (number) VALUES ($1)",
                [(transfer.number,) for transfer in step.transfers],
            )
            for transfer in step.transfers:
                await tx.publish(
                    TRANSFERS,
                    transfer.value,
                    key=transfer.payer,
                    headers={NUMBER: str(transfer.number)},
                )
            if step.taken_back:
                raise TakenBack
