"""What is the same for all connections to Redis: their bounds, and its errors as ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError
from redis.commands.core import AsyncScript
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from redfaust.brokers.broker import OffsetOutOfRange
from redfaust.brokers.redis.address import without_password
from redfaust.brokers.redis.bounded import BoundedParser
from redfaust.errors import BrokerError, BrokerUnavailable, BrokerUnsupported

CONNECT_TIMEOUT = 5.0
"""Seconds until an attempt to connect is given up."""

REPLY_TIMEOUT = 15.0
"""Seconds until a command without a reply is given up. A blocking read adds its own wait."""

_NOT_NOW = (
    AskError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
_NOT_NOW_CODES = ("BUSY ", "MISCONF ", "NOREPLICAS ", "UNBLOCKED ")
"""Those that redis-py has no class for."""


COMMANDS: Mapping[str, Any] = {
    "protocol": 2,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "socket_timeout": REPLY_TIMEOUT,
    "client_name": "redfaust",
}
"""Options of connections for commands that answer at once."""

READS: Mapping[str, Any] = {
    **COMMANDS,
    # A blocking read is bounded by who waits for it, and knows how long that may be.
    "socket_timeout": None,
    "client_name": "redfaust-reader",
    "parser_class": BoundedParser,
}
"""Options of connections for commands that wait."""


WRONG_TYPE = "WRONGTYPE"
"""How Redis's error begins where a key holds something else."""


async def pipelined(client: Redis, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
    """The replies to commands in one round trip, an error in its place."""
    async with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)


def script(client: Redis, *names: str) -> AsyncScript:
    """The Lua script of this name, ready to call; with others that stand before it perhaps."""
    scripts = files(__package__).joinpath("scripts")
    sources = [scripts.joinpath(f"{name}.lua").read_text() for name in names]
    return client.register_script("\n".join(sources))


def reading(script: AsyncScript, of_keys: Sequence[str], *arguments: Any) -> tuple[Any, ...]:
    """The command that runs a script which only reads, for those too who may do no more."""
    return ("EVAL_RO", script.script, len(of_keys), *of_keys, *arguments)


TELLS_INCARNATION = ("server", "replication")
"""Sections of ``INFO``."""


async def incarnation_of(server: Redis) -> str:
    """Another one whenever this server may have lost what it had confirmed."""
    return incarnation_in(await info(server, *TELLS_INCARNATION))


def incarnation_in(said: Mapping[str, Any]) -> str:
    """That which a server has told of itself."""
    # A replica that is promoted gives the data another replication id, also where a proxy
    # hides that it is another server.
    return f"{said['run_id']}/{said['master_replid']}"


async def info(server: Redis, *sections: str) -> dict[str, Any]:
    """What a server says of itself."""
    said = await server.execute_command("INFO", *sections)  # type: ignore[no-untyped-call]
    return cast("dict[str, Any]", said)


@contextmanager
def our_errors(url: str) -> Iterator[None]:
    """Raise what Redis raises as errors of :mod:`redfaust.errors`, and lose no cancellation.

    Redis-py sends by ``asyncio.wait_for``, which before Python 3.12 swallows a cancellation that
    comes just when it ends (python/cpython#86296). Whoever was to end would go on.
    """
    cancellations = _cancellations()
    try:
        with _translated(url):
            yield
    finally:
        if _cancellations() > cancellations:
            raise asyncio.CancelledError


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


@contextmanager
def _translated(url: str) -> Iterator[None]:
    shown = without_password(url)
    try:
        yield
    except AuthenticationError as error:
        raise BrokerError(
            f"Redis at {shown} refused the password: correct it in the broker's URL"
        ) from error
    except MasterNotFoundError as error:  # which spells out the connections to all Sentinels
        raise BrokerUnavailable(
            f"no Sentinel of {shown} names a primary: are they running, is the URL right?"
        ) from error
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:
        raise BrokerUnavailable(
            f"Redis at {shown} does not answer ({str(error) or 'in time'}): "
            "is it running, is the URL right?"
        ) from error
    except MovedError as error:
        # In a cluster it is followed, and never comes here.
        raise BrokerError(
            f"Redis at {shown} is a node of a cluster: write redis+cluster:// in its URL"
        ) from error
    except ResponseError as error:
        if isinstance(error, _NOT_NOW) or str(error).startswith(_NOT_NOW_CODES):
            raise BrokerUnavailable(f"Redis at {shown} is not ready: {error}") from error
        if "SETBACK " in str(error):
            raise OffsetOutOfRange(f"Redis at {shown} has lost entries: {error}") from error
        if "unknown command" in str(error) or "syntax error" in str(error):
            raise BrokerUnsupported(
                f"Redis at {shown} is too old ({error}): 7.0 or any Valkey is needed"
            ) from error
        raise BrokerError(f"Redis at {shown} refused a command: {error}") from error
    except SlotNotCoveredError as error:
        raise BrokerUnavailable(f"Redis at {shown} is not ready: {error}") from error
    except (RedisError, RedisClusterException) as error:
        raise BrokerError(f"Redis at {shown}: {error}") from error
