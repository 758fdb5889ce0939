"""How a server may lose what it has confirmed, by what it is configured with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from redfaust.brokers.redis.client import info


async def warnings_of(server: Redis) -> Sequence[str]:
    """One line for each, which says what to change."""
    said: dict[str, Any] = await info(server, "memory", "persistence")
    found = []
    policy = str(said.get("maxmemory_policy", ""))
    if policy.startswith("allkeys"):
        found.append(
            f"the broker's maxmemory-policy {policy} removes whole partitions when memory is "
            "short: set it to noeviction"
        )
    if not int(said.get("aof_enabled", 1)) and await _takes_no_snapshots(server):
        found.append(
            "the broker keeps nothing on disk, and loses all events when it ends: set appendonly "
            "yes, or save"
        )
    return found


async def _takes_no_snapshots(server: Redis) -> bool:
    try:
        said = await server.config_get("save")
    except ResponseError:  # a user without the right to ask, or a service that hides it
        return False
    return said.get("save") == ""
