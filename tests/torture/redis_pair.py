"""Two Redis, and a Sentinel that says which of them is the primary."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError

from app.embedded import Valkey, start_valkey
from app.embedded.binaries import find_valkey
from app.embedded.process import Server, free_port, start_server
from app.embedded.secret import write_private
from app.embedded.valkey import STOP
from redfaust.rights import Role
from tests.rights import PASSWORD, as_worker, with_known_password
from tests.torture import clock
from tests.torture.clock import Clock

NAME = "torture"
DOWN_AFTER = 3.0
"""Seconds of silence after which the Sentinel promotes the replica: longer than a restart takes."""
FAILOVER_TIMEOUT = 2.0
PATIENCE = 30.0
"""Seconds within which the two have to agree again."""
LOOK_EVERY = 0.05
ADMIN = "admin"
USERS = ("default", Role.WORKER, Role.RELAY)
"""Who is let in otherwise: Sentinel and replica, workers, relays."""
"""A user who gets in also where clients are not let in any more."""


class Node:
    """One of the two, on a port that it keeps, by a clock of its own."""

    def __init__(self, directory: Path) -> None:
        with_known_password(directory)
        self.clock = Clock(directory / "clock")
        self._directory = directory
        self._admin_password = secrets.token_hex(8)
        self._binary = _with_environment(directory / "valkey-server", self.clock)
        self._running: Valkey | None = None
        self.port = free_port()

    def admin(self) -> Any:
        """A client that is let in in any case."""
        return Redis(
            port=self.port, username=ADMIN, password=self._admin_password, decode_responses=True
        )

    async def start(self) -> None:
        """Run on the data that are there, as a primary."""
        self._running = await start_valkey(self._directory, port=self.port, binary=self._binary)
        async with Redis(port=self.port, password=PASSWORD) as client:
            await client.config_set("masterauth", PASSWORD)
            await client.config_set("repl-diskless-sync-delay", 0)
            await client.acl_setuser(
                ADMIN,
                enabled=True,
                passwords=[f"+{self._admin_password}"],
                keys="*",
                channels=["*"],
                categories=["+@all"],
            )

    async def follow(self, primary: Node) -> None:
        """Be its replica."""
        async with self.admin() as admin:
            await admin.replicaof("127.0.0.1", str(primary.port))

    async def let_nobody_in(self) -> None:
        """Cut it off from the Sentinel and from its replica; clients that are there stay."""
        async with self.admin() as admin:
            for user in USERS:
                await admin.acl_setuser(user, enabled=False)
            for client in await admin.client_list():
                if client["name"].startswith("sentinel-") or "S" in client["flags"]:
                    await admin.client_kill_filter(_id=client["id"])

    async def let_in(self) -> None:
        """Let everybody in again."""
        async with self.admin() as admin:
            for user in USERS:
                await admin.acl_setuser(user, enabled=True)

    async def kill_clients(self) -> None:
        """End all connections, but for that of who asks."""
        async with self.admin() as admin:
            await admin.execute_command("CLIENT", "KILL", "TYPE", "normal")

    async def kill(self) -> None:
        """``kill -9``."""
        assert self._running is not None
        process = self._running.server.process
        process.send_signal(signal.SIGKILL)
        await process.wait()
        clock.forget(process.pid)

    async def stop(self) -> None:
        """Stop it gracefully, if it runs."""
        if self._running is not None:
            await self._running.stop()
            clock.forget(self._running.server.process.pid)


def _with_environment(script: Path, its_clock: Clock) -> Path:
    """A program of the same name, with the clock's environment."""
    variables = [f"{name}={value}" for name, value in its_clock.environ.items()]
    command = " ".join(["exec env", *variables, str(find_valkey())])
    script.write_text(f'#!/bin/sh\n{command} "$@"\n', encoding="utf-8")
    script.chmod(0o700)
    return script


class Pair:
    """Clients find the primary by the Sentinel."""

    def __init__(self, nodes: tuple[Node, Node], sentinel_port: int) -> None:
        self.nodes = nodes
        self._sentinel_port = sentinel_port

    @property
    def url(self) -> str:
        """Of the broker, for workers and relays."""
        return as_worker(f"redis+sentinel://127.0.0.1:{self._sentinel_port}/{NAME}")

    def client(self, **options: Any) -> Any:
        """A client that finds the primary by itself."""
        sentinel = Sentinel([("127.0.0.1", self._sentinel_port)])  # type: ignore[no-untyped-call]
        return sentinel.master_for(NAME, password=PASSWORD, **options)

    async def primary(self) -> Node:
        """As the Sentinel sees it."""
        async with Redis(port=self._sentinel_port, decode_responses=True) as sentinel:
            address = await sentinel.sentinel_get_master_addr_by_name(NAME)
        _, port = cast("tuple[str, int]", address)
        return next(node for node in self.nodes if node.port == port)

    def other(self, node: Node) -> Node:
        """Not this one."""
        return self.nodes[1 - self.nodes.index(node)]

    async def in_step(self) -> Node:
        """The primary, when its replica has all that it has."""

        async def has_all() -> bool:
            async with (await self.primary()).admin() as admin:
                # To who has written nothing a replica that is still loading answers, too.
                async with admin.pipeline(transaction=False) as pipeline:
                    pipeline.set("torture:in-step", 1).execute_command("WAIT", 1, 1000)
                    _, replicas = await pipeline.execute()
                return bool(replicas)

        await _until(has_all)
        return await self.primary()

    async def succeeded(self, node: Node) -> None:
        """Wait until the Sentinel has promoted the other one."""

        async def is_another() -> bool:
            if await self.primary() is node:
                return False
            async with self.other(node).admin() as admin:
                return bool((await admin.info("replication"))["role"] == "master")

        await _until(is_another)

    async def known(self) -> None:
        """Wait until the Sentinel knows both."""

        async def knows() -> bool:
            async with Redis(port=self._sentinel_port) as sentinel:
                return len(await sentinel.sentinel_slaves(NAME)) == 1

        await _until(knows)


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                if await holds():
                    return
            except (RedisError, OSError):
                pass
            await asyncio.sleep(LOOK_EVERY)


@asynccontextmanager
async def running_pair(directory: Path) -> AsyncIterator[Pair]:
    """Both and their Sentinel during the block."""
    nodes = Node(directory / "redis-0"), Node(directory / "redis-1")
    async with AsyncExitStack() as stack:
        for node in nodes:
            await node.start()
            stack.push_async_callback(node.stop)
        await nodes[1].follow(nodes[0])
        sentinel, port = await _start_sentinel(directory, nodes[0].port)
        stack.push_async_callback(sentinel.stop)
        pair = Pair(nodes, port)
        await pair.known()
        yield pair


async def _start_sentinel(directory: Path, primary: int) -> tuple[Server, int]:
    port = free_port()
    configuration = directory / "sentinel.conf"
    write_private(
        configuration,
        f"bind 127.0.0.1\nport {port}\ndir {directory}\n"
        f"sentinel monitor {NAME} 127.0.0.1 {primary} 1\n"
        f"sentinel auth-pass {NAME} {PASSWORD}\n"
        f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER * 1000:.0f}\n"
        f"sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT * 1000:.0f}\n",
    )
    server = await start_server(
        "Sentinel",
        [str(find_valkey()), str(configuration), "--sentinel"],
        cwd=directory,
        log=directory / "sentinel.log",
        plan=STOP,
    )
    return server, port
