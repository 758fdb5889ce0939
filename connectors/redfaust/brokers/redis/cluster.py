"""The nodes of a cluster: who has which slot, and how commands get there.

Redis-py has a client for clusters of its own. It sends ``ASKING`` on one connection and the command
on another, so that it cannot follow a slot on its way; and it repeats a pipeline whose answer was
lost, which appends entries twice. So here commands are sent by redis-py's client for one server, to
the node that this module chooses.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast

from redis.asyncio import ConnectionPool, Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from redfaust.brokers.redis.address import Address, Host
from redfaust.brokers.redis.client import COMMANDS, incarnation_of
from redfaust.brokers.redis.connections import packed
from redfaust.errors import BrokerError

REDIRECTIONS = 16
"""How often a command is sent on before it is given back as it is."""

TRY_AGAIN_AFTER = 0.05
"""Seconds until a command is repeated whose keys are on their way to another node."""

MAP_TIMEOUT = 1.0
"""Seconds until a node that does not say who has which slot is passed over for the next one."""

logger = logging.getLogger(__name__)

Slot = int


class Command(NamedTuple):
    """A command as redis-py takes it."""

    arguments: tuple[Any, ...]
    options: Mapping[str, Any] = {}


class _Sending(NamedTuple):
    """Where a command goes next."""

    place: int
    """In the order of the commands."""
    host: Host
    asking: bool = False


class Cluster:
    """Commands to whichever nodes have their keys."""

    def __init__(self, shown: str, address: Address) -> None:
        self.shown = shown
        self._address = address
        self._nodes: dict[Host, Redis] = {}
        self._owners: dict[Slot, Host] = {}
        self._is_stale = True
        self._mapping = asyncio.Lock()

    def pool(self, host: Host, options: Mapping[str, Any]) -> ConnectionPool:
        """Connections to one node."""
        kind = packed(self._address.encrypted)
        name, port = host
        where = {"host": name, "port": port}
        return ConnectionPool(
            connection_class=kind, **{**options, **self._address.options, **where}
        )

    def node(self, host: Host) -> Redis:
        """The client of one node."""
        if host not in self._nodes:
            self._nodes[host] = Redis.from_pool(self.pool(host, COMMANDS))
        return self._nodes[host]

    async def close(self) -> None:
        """Disconnect from all."""
        nodes, self._nodes = self._nodes, {}
        for node in nodes.values():
            await node.aclose()

    # -- who has which slot ------------------------------------------------------------------

    @property
    def primaries(self) -> frozenset[Host]:
        """The nodes that have slots, as far as is known."""
        return frozenset(self._owners.values())

    def owner(self, key: str) -> Host:
        """The node that has a key. Raises SlotNotCoveredError if none is known."""
        return self._owner(_slot(key))

    def _owner(self, slot: Slot) -> Host:
        try:
            return self._owners[slot]
        except KeyError:
            self._is_stale = True
            raise SlotNotCoveredError(f"no node has slot {slot}") from None

    def moved(self, error: MovedError) -> Host:
        """Note what a node said, and look at the whole map soon: others may have moved as well."""
        self._is_stale = True
        self._owners[error.slot_id] = host = (error.host, error.port)
        return host

    def failed(self, error: Exception) -> None:
        """Note that a node did not do its work: another one may have its slots."""
        if isinstance(error, RedisConnectionError | ClusterDownError | OSError | TimeoutError):
            self._is_stale = True

    async def map(self) -> None:
        """Make sure that the map is not known to be old. Raises what the last node asked did."""
        async with self._mapping:
            if self._is_stale:
                await self._map()

    async def map_anew(self) -> None:
        """The same, whatever is known."""
        self._is_stale = True
        await self.map()

    async def _map(self) -> None:
        known = list({*self.primaries, *self._address.hosts})
        random.shuffle(known)  # that one which is wrong is not asked again and again
        refusals: list[Exception] = []
        for host in known:
            try:
                async with asyncio.timeout(MAP_TIMEOUT):
                    ranges = await self.node(host).execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
            except (RedisError, OSError, TimeoutError) as error:
                refusals.append(error)
                continue
            self._owners = _owners(ranges, host)
            self._is_stale = False
            await self._forget_all_but({*self.primaries, *self._address.hosts})
            return
        raise refusals[-1]

    async def _forget_all_but(self, hosts: Collection[Host]) -> None:
        for host in self._nodes.keys() - hosts:
            with suppress(RedisError, OSError):
                await self._nodes.pop(host).aclose()

    async def prove(self) -> None:
        """Make sure that this is a whole cluster. Raises BrokerError if something is to be mended,
        and otherwise what redis-py does."""
        try:
            await self.map_anew()
        except ResponseError as error:
            if "cluster support disabled" in str(error):
                raise BrokerError(
                    f"A host of {self.shown} is no node of a cluster: write redis:// in its URL"
                ) from error
            raise
        if len(self._owners) < REDIS_CLUSTER_HASH_SLOTS:
            raise BrokerError(
                f"Of {REDIS_CLUSTER_HASH_SLOTS} slots the nodes of {self.shown} have "
                f"{len(self._owners)}: `redis-cli --cluster fix host:port` gives out the rest"
            )

    async def incarnation(self) -> str:
        """Another one whenever one of the primaries has another one."""
        await self.map_anew()
        primaries = sorted(self.primaries)
        each = await asyncio.gather(*(incarnation_of(self.node(host)) for host in primaries))
        return hashlib.sha256("\n".join(sorted(each)).encode()).hexdigest()

    # -- commands ----------------------------------------------------------------------------

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """Send each command to the node that has its keys, in one round trip to each node.

        Returns the replies in the order of the commands; an error is the reply of its command, and
        where a node cannot be reached, that of all commands that were for it. What was sent and not
        answered is not repeated.
        """
        with suppress(RedisError, OSError, TimeoutError):
            await self.map()  # the old map may do, and otherwise each command says why not
        replies: list[Any] = [None] * len(commands)
        sendings: list[_Sending] = []
        for place, command in enumerate(commands):
            try:
                host = self._owner(_slot(_key_of(command.arguments)))
            except SlotNotCoveredError as error:
                replies[place] = error
            else:
                sendings.append(_Sending(place, host))
        for _ in range(REDIRECTIONS):
            await self._send(commands, sendings, replies)
            sendings = [onward for each in sendings if (onward := self._onward(each, replies))]
            if not sendings:
                break
            if any(isinstance(replies[each.place], TryAgainError) for each in sendings):
                await asyncio.sleep(TRY_AGAIN_AFTER)
        return replies

    def _onward(self, sending: _Sending, replies: Sequence[Any]) -> _Sending | None:
        match replies[sending.place]:
            case MovedError() as error:
                return _Sending(sending.place, self.moved(error))
            case AskError() as error:
                return _Sending(sending.place, (error.host, error.port), asking=True)
            case TryAgainError():
                return sending
            case Exception() as error:
                self.failed(error)
        return None

    async def _send(
        self, commands: Sequence[Command], sendings: Iterable[_Sending], replies: list[Any]
    ) -> None:
        by_host: dict[Host, list[_Sending]] = {}
        for sending in sendings:
            by_host.setdefault(sending.host, []).append(sending)
        of_hosts = await asyncio.gather(
            *(self._send_to(host, commands, there) for host, there in by_host.items())
        )
        for there, of_host in zip(by_host.values(), of_hosts, strict=True):
            for sending, reply in zip(there, of_host, strict=True):
                replies[sending.place] = reply

    async def _send_to(
        self, host: Host, commands: Sequence[Command], sendings: Sequence[_Sending]
    ) -> list[Any]:
        try:
            async with self.node(host).pipeline(transaction=False) as pipeline:
                for place, _, asking in sendings:
                    if asking:
                        pipeline.execute_command("ASKING")
                    arguments, options = commands[place]
                    pipeline.execute_command(*arguments, **options)
                replies = iter(await pipeline.execute(raise_on_error=False))
        except (RedisError, OSError) as error:
            return [error] * len(sendings)
        of_commands = []
        for sending in sendings:
            if sending.asking:
                next(replies)
            of_commands.append(next(replies))
        return of_commands


def _slot(key: str | bytes) -> Slot:
    return key_slot(key.encode() if isinstance(key, str) else key)


def _key_of(arguments: Sequence[Any]) -> str | bytes:
    """A key of a command; all of a command have to be in one slot."""
    match arguments[0]:
        case "EVAL" | "EVALSHA" | "EVAL_RO":
            at = 3
        case "XREAD" | "XREADGROUP":
            at = 1 + next(n for n, word in enumerate(arguments) if word in _STREAMS)
        case _:
            at = 1
    return cast("str | bytes", arguments[at])


_STREAMS = ("STREAMS", b"STREAMS")


def _owners(ranges: Iterable[Sequence[Any]], asked: Host) -> dict[Slot, Host]:
    owners: dict[Slot, Host] = {}
    for first, last, (name, port, *_), *_ in ranges:
        # A node that does not know its own name is where it was asked.
        host = (name.decode() if name else asked[0], int(port))
        owners.update(dict.fromkeys(range(first, last + 1), host))
    return owners
