"""Where something was measured, and with what."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import asyncpg
import redis.asyncio

PACKAGES = ("faust-streaming", "redis", "hiredis", "orjson", "asyncpg", "pydantic")


async def describe(broker: str, database: str) -> dict[str, Any]:
    """The machine, the servers at these URLs, and our own packages."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {_model()}",
        "Python": platform.python_version(),
        "servers": await _servers(broker, database),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


async def _servers(broker: str, database: str) -> Mapping[str, str]:
    client = redis.asyncio.Redis.from_url(broker)
    told = await client.info("server")
    await client.aclose()
    connection = await asyncpg.connect(database)
    postgres = await connection.fetchval("SHOW server_version")
    await connection.close()
    name = told.get("server_name", "redis")
    return {name: told.get(f"{name}_version", told["redis_version"]), "postgres": postgres}


def _model() -> str:
    """Of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _commit() -> str:
    """That is checked out; empty outside of a repository."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
