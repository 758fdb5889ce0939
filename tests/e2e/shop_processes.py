"""A whole shop in processes of its own: worker, relay and web."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import asyncpg
import httpx
import redis

from app.embedded.logins import as_role
from redfaust.rights import Role
from tests.rights import as_administrator

PATIENCE = 60.0
"""Seconds after which something that should happen counts as not happening."""

T = TypeVar("T")


def eventually(look: Callable[[], T]) -> T:
    """The first true thing that ``look`` returns, within ``PATIENCE``."""
    deadline = time.monotonic() + PATIENCE
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"still {seen!r} after {PATIENCE} s"
        time.sleep(0.05)


@dataclass
class ShopProcesses:
    """Where the shop is, and ways to look at it."""

    environ: dict[str, str]
    """With the URLs of a worker."""
    port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @cached_property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE)

    @cached_property
    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(as_administrator(self.environ["REDFAUST_BROKER"]))

    def sql(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        """Rows of a query, as anybody with psql gets them."""

        async def fetch() -> list[dict[str, Any]]:
            connection = await asyncpg.connect(self.environ["REDFAUST_DATABASE"])
            try:
                return [dict(row) for row in await connection.fetch(query, *arguments)]
            finally:
                await connection.close()

        return asyncio.run(fetch())

    def run(self, *arguments: str, role: Role = Role.WORKER, codes: Collection[int] = (0,)) -> str:
        """What a command prints; it has to end with one of these codes."""
        finished = subprocess.run(
            [sys.executable, "-m", "app", *arguments],
            env=self._environ_of(role),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert finished.returncode in codes, finished.stderr.decode()
        return finished.stdout.decode()

    def start(self, name: str) -> None:
        """Start one of worker, relay, web."""
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", "app", name],
            env=self._environ_of(Role[name.upper()]),
            start_new_session=True,
        )

    def _environ_of(self, role: Role) -> dict[str, str]:
        """The servers' URLs for a role. Brokers that are no Redis have none."""
        return self.environ | {
            name: as_role(as_administrator(url), role)
            for name, url in self.environ.items()
            if name == "REDFAUST_DATABASE"
            or (name == "REDFAUST_BROKER" and url.startswith("redis") and role is not Role.OWNER)
        }

    def kill(self, name: str) -> None:
        """``kill -9``."""
        self.processes[name].kill()
        self.processes[name].wait(PATIENCE)

    def stop(self) -> dict[str, int]:
        """Stop everything gracefully; exit codes by name."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        codes = {}
        for name, process in self.processes.items():
            try:
                codes[name] = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return codes

    def status_of(self, order_id: str) -> str:
        answer = self.client.get(f"/api/orders/{order_id}")
        return str(answer.json().get("status"))

    def new_user(self, name: str = "ada", **headers: str) -> str:
        email = f"{name}-{time.monotonic_ns()}@example.com"
        answer = self.client.post(
            "/api/users", json={"email": email, "name": name}, headers=headers
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["user_id"])

    def new_order(self, user_id: str, **headers: str) -> str:
        items = [{"sku": "tea", "quantity": 2, "unit_price": 450}]
        order = {"user_id": user_id, "items": items, "currency": "EUR"}
        answer = self.client.post("/api/orders", json=order, headers=headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["order_id"])


@contextmanager
def running_shop(broker_url: str, database_url: str) -> Iterator[ShopProcesses]:
    """A shop that is ready, and that has to stop with exit code 0 everywhere."""
    port = _free_port()
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("REDFAUST_")
    }
    environ |= {
        "REDFAUST_BROKER": broker_url,
        "REDFAUST_DATABASE": database_url,
        "REDFAUST_PORT": str(port),
        "REDFAUST_LOG_LEVEL": "warning",
    }
    shop = ShopProcesses(environ, port)
    shop.run("migrate", role=Role.OWNER)
    try:
        for name in ("worker", "relay", "web"):
            shop.start(name)
        eventually(lambda: _is_ready(shop))
        yield shop
    finally:
        codes = shop.stop()
    assert set(codes.values()) == {0}, codes


def _is_ready(shop: ShopProcesses) -> bool:
    try:
        return shop.client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
