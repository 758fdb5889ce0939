"""Does to the processes what the schedule says."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from connectors.errors import BrokerError, DatabaseUnavailable
from connectors.postgres.database import Database
from connectors.transports.broker import Broker, Roll
from connectors.transports.shares import SEPARATOR, without
from tests.torture.faults import Fault, Scheduled
from tests.torture.ledger import APP
from tests.torture.processes import Process, Servers

OWNER_MEANT = 0.8
"""Share of the kills that are meant for the worker that owns the partitions."""
LEASE_WAITED_FOR = 0.1
"""Share of the killed owners whose lease runs out; otherwise it is known that they are dead."""
OWNER_WITHIN = 10.0
"""Seconds within which somebody should own the partitions."""
LOOK_EVERY = 0.05
"""Seconds between two looks at who owns them."""
LONGEST_STOP = 9.0
"""Seconds for which a process is stopped at most: some outlive their lease."""

logger = logging.getLogger(__name__)


class Torturer:
    """Whom it hits is a function of the seed, as far as it is known who owns what."""

    def __init__(
        self,
        seed: int,
        servers: Servers,
        workers: Sequence[Process],
        relay: Process,
        broker: Broker,
        database: Database,
    ) -> None:
        self._choose = Random(f"torturer {seed}")
        self._servers = servers
        self._workers = workers
        self._relay = relay
        self._broker = broker
        self._database = database
        self._redis: Any = Redis.from_url(servers.valkey.url)
        self.done: Counter[Fault] = Counter()

    async def run(self, faults: Iterable[Scheduled]) -> None:
        """Do everything, at its time or as soon as what is before is done."""
        clock = asyncio.get_running_loop().time
        started = clock()
        for at, fault in faults:
            await asyncio.sleep(started + at - clock())
            logger.info("%6.1f s: %s", clock() - started, fault.value)
            try:
                await self._do(fault)
            except (BrokerError, DatabaseUnavailable, RedisError, OSError) as error:
                logger.warning("%s: %s", fault.value, error)
            else:
                self.done[fault] += 1
        await self._redis.aclose()

    async def _do(self, fault: Fault) -> None:
        match fault:
            case Fault.WORKER_KILLED:
                await self._kill_worker()
            case Fault.WORKER_STOPPED:
                await self._stop_for_a_while(await self._victim())
            case Fault.RELAY_KILLED:
                await self._relay.kill()
            case Fault.RELAY_STOPPED:
                await self._stop_for_a_while(self._relay)
            case Fault.VALKEY_KILLED:
                await self._servers.kill_valkey()
            case Fault.POSTGRES_KILLED:
                await self._servers.end_postgres(signal.SIGKILL)
            case Fault.POSTGRES_SHUT_DOWN:
                await self._servers.end_postgres(signal.SIGQUIT)
            case Fault.SESSIONS_ENDED:
                await self._end_sessions()
            case Fault.CLIENTS_KILLED:
                # All but the one that asks: those of the workers, the relay and the writer.
                await self._redis.execute_command("CLIENT", "KILL", "TYPE", "normal")

    async def _kill_worker(self) -> None:
        victim = await self._victim()
        pid = await victim.kill()
        if self._choose.random() >= LEASE_WAITED_FOR:
            await self._strike_out(pid)

    async def _victim(self) -> Process:
        """One who works, if there is one soon, or any."""
        victim = self._choose.choice(self._workers)
        if self._choose.random() >= OWNER_MEANT:
            return victim
        try:
            async with asyncio.timeout(OWNER_WITHIN):
                while True:
                    register = (await self._roll()).register
                    owners = {owned.member for owned in register.owners.values()}
                    for worker in self._choose.sample(self._workers, len(self._workers)):
                        if any(_is(worker.pid, owner) for owner in owners):
                            return worker
                    await asyncio.sleep(LOOK_EVERY)
        except TimeoutError:
            return victim

    async def _roll(self) -> Roll:
        while True:
            try:
                return await self._broker.roll(APP)
            except BrokerError:
                await asyncio.sleep(LOOK_EVERY)

    async def _strike_out(self, pid: int | None) -> None:
        """Say that it is dead, which the others would find out after its silence."""
        written = False
        while not written:
            version, register, beats = await self._roll()
            dead = [name for name in {*register.members, *beats} if _is(pid, name)]
            for name in dead:
                register = without(register, name)
            written = await self._broker.reassign(
                APP,
                register,
                version=version,
                silent={name: beats[name].number for name in dead if name in beats},
            )

    async def _stop_for_a_while(self, process: Process) -> None:
        process.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(self._choose.uniform(0.1, LONGEST_STOP))
        finally:
            process.send(signal.SIGCONT)

    async def _end_sessions(self) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


def _is(pid: int | None, member: str) -> bool:
    return f"-{pid}{SEPARATOR}" in member
