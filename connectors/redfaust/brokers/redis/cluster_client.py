"""Redis-py's client, with a cluster in place of the one server."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import NoScriptError

from redfaust.brokers.redis.address import Host
from redfaust.brokers.redis.cluster import Cluster, Command

ANYWHERE = frozenset({"PING", "TIME"})
"""Commands without a key, which one node answers for all."""


class ClusterClient(Redis):
    """Sends each command to the node that has its keys.

    What is about no key is asked of one node, always the same while it is there, and scripts are
    loaded into all.
    """

    def __init__(self, cluster: Cluster, seed: Host) -> None:
        # The pool gives encoder and callbacks; nothing is sent by it.
        super().__init__(connection_pool=cluster.node(seed).connection_pool)
        self._cluster = cluster

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == "SCRIPT LOAD":
            await self._cluster.map()
            for host in self._cluster.primaries:
                loaded = await self._cluster.node(host).execute_command(*args, **options)  # type: ignore[no-untyped-call]
            return loaded
        if args[0] in ANYWHERE:
            await self._cluster.map()
            node = self._cluster.node(min(self._cluster.primaries))
            return await node.execute_command(*args, **options)  # type: ignore[no-untyped-call]
        [reply] = await self._cluster.send([Command(args, options)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> ClusterPipeline:  # noqa: ARG002 - redis-py's
        if transaction:
            raise NotImplementedError("a transaction is of one node: use a script")
        return ClusterPipeline(self, self._cluster)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: ARG002
        await self._cluster.close()


class ClusterPipeline(Pipeline):
    """Sends what was queued in one round trip to each node."""

    def __init__(self, client: ClusterClient, cluster: Cluster) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, False, None)
        self._cluster = cluster

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands = [Command(*queued) for queued in self.command_stack]
        scripts = {script.sha: script.script for script in self.scripts}
        await self.reset()  # type: ignore[no-untyped-call]
        replies = await self._cluster.send(commands)
        unknown = [
            place
            for place, (reply, command) in enumerate(zip(replies, commands, strict=True))
            if isinstance(reply, NoScriptError) and command.arguments[1] in scripts
        ]
        if unknown:
            again = [_with_source(commands[place], scripts) for place in unknown]
            for place, reply in zip(unknown, await self._cluster.send(again), strict=True):
                replies[place] = reply
        if raise_on_error:
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies


def _with_source(command: Command, scripts: dict[str, Any]) -> Command:
    _, sha, *others = command.arguments
    return Command(("EVAL", scripts[sha], *others), command.options)
