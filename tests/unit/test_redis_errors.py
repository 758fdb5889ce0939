"""Every error of the driver becomes one of ours."""

from __future__ import annotations

import asyncio
import inspect

import pytest
import uvloop
from redis import exceptions
from redis.asyncio import sentinel

from redfaust.brokers.broker import OffsetOutOfRange
from redfaust.brokers.redis.client import our_errors
from redfaust.brokers.redis.connections import PackedConnection
from redfaust.errors import BrokerError, BrokerUnavailable

URL = "redis+sentinel://me:hidden@host/primary"


def all_errors() -> list[type[Exception]]:
    modules = (exceptions, sentinel)
    found = {
        error
        for module in modules
        for _, error in inspect.getmembers(module, inspect.isclass)
        if issubclass(error, Exception) and error.__module__.startswith("redis.")
    }
    # It is raised in a process that was forked, which ours are not.
    found.discard(exceptions.ChildDeadlockedError)
    # It is raised for how a client was built.
    found.discard(exceptions.IncorrectPolicyType)
    return sorted(found, key=lambda error: error.__name__)


@pytest.mark.parametrize("kind", all_errors())
async def test_every_error_is_mapped(kind: type[Exception]) -> None:
    is_redirection = issubclass(kind, exceptions.AskError)
    error = kind("1234 127.0.0.1:7001" if is_redirection else "why")
    with pytest.raises(BrokerError) as raised, our_errors(URL):
        raise error
    assert raised.value.__cause__ is error
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        sentinel.MasterNotFoundError("none"),
        sentinel.SlaveNotFoundError("none"),
        exceptions.AskError("1234 127.0.0.1:7001"),
        exceptions.BusyLoadingError("LOADING"),
        exceptions.ClusterDownError("CLUSTERDOWN The cluster is down"),
        exceptions.ConnectionError("lost"),
        exceptions.MasterDownError("MASTERDOWN"),
        exceptions.MaxConnectionsError("too many"),
        exceptions.OutOfMemoryError("OOM"),
        exceptions.ReadOnlyError("You can't write against a read only replica."),
        exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."),
        exceptions.ResponseError("UNBLOCKED force unblock from blocking operation"),
        exceptions.SlotNotCoveredError("1234"),
        exceptions.TimeoutError("late"),
        exceptions.TryAgainError("TRYAGAIN"),
        OSError("no route"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_passes_is_worth_repeating(error: Exception) -> None:
    with pytest.raises(BrokerUnavailable), our_errors(URL):
        raise error


async def test_an_answer_that_does_not_come_is_told_in_words() -> None:
    with pytest.raises(BrokerUnavailable, match=r"does not answer \(in time\)"), our_errors(URL):
        raise TimeoutError


async def test_a_node_of_a_cluster_is_no_single_server() -> None:
    with pytest.raises(BrokerError, match=r"write redis\+cluster://"), our_errors(URL):
        raise exceptions.MovedError("1234 127.0.0.1:7001")


async def test_a_log_that_was_set_back_is_told() -> None:
    with pytest.raises(OffsetOutOfRange), our_errors(URL):
        raise exceptions.ResponseError("SETBACK {events:0} ends before the position 1-1")


def test_a_connection_that_uvloop_has_closed_is_a_lost_one() -> None:
    async def answer_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def write_to_a_closed_connection() -> None:
        server = await asyncio.start_server(answer_nothing, "127.0.0.1", 0)
        connection = PackedConnection(
            port=server.sockets[0].getsockname()[1], protocol=2, driver_info=None
        )
        await connection.connect()  # type: ignore[no-untyped-call]
        assert connection._writer is not None
        connection._writer.transport.abort()
        with pytest.raises(exceptions.ConnectionError, match="the handler is closed"):
            await connection.send_command("PING")
        server.close()

    uvloop.run(write_to_a_closed_connection())
