"""The server as such: its port, and how it stops."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI, Request
from pydantic import SecretStr

from app.settings import Settings
from app.web import protocol
from app.web.application import create_web
from app.web.limits import BodyLimit, RequestLimit
from app.web.listening import PortUnusable, addresses, listen
from app.web.protocol import State
from app.web.server import WebServer
from app.web.services import Services
from redfaust.outbox.outbox import Outbox
from redfaust.postgres.database import Database

PATIENCE = 10.0
LIMIT = 5
"""Connections, in the tests that use up all of them."""


@asynccontextmanager
async def served(web: Any) -> AsyncIterator[WebServer]:
    server, stop = WebServer(web, listen("127.0.0.1", 0)), asyncio.Event()
    serving = asyncio.create_task(server.run_until(stop))
    yield server
    stop.set()
    await asyncio.wait_for(serving, PATIENCE)


@pytest.fixture
def web() -> FastAPI:
    """An application that answers, and one path that never does."""
    web = FastAPI()

    @web.get("/health/live")
    async def live() -> str:
        return "live"

    @web.post("/echo")
    async def echo(request: Request) -> str:
        return (await request.body()).decode()

    @web.get("/never")
    async def never() -> None:
        await asyncio.Event().wait()

    return web


async def asked(server: WebServer, request: bytes) -> bytes:
    """The first line of the answer; empty if the connection is closed without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.readline(), PATIENCE)
    finally:
        writer.close()


GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
CLOSED = b""


async def test_it_finishes_what_is_under_way_when_it_is_stopped() -> None:
    web, arrived, stop = FastAPI(), asyncio.Event(), asyncio.Event()

    @web.get("/")
    async def slow() -> str:
        arrived.set()
        await stop.wait()
        return "done"

    server = WebServer(web, listen("127.0.0.1", 0))
    port = server.port
    serving = asyncio.create_task(server.run_until(stop))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        answer = asyncio.create_task(client.get("/"))
        await asyncio.wait_for(arrived.wait(), 5)
        stop.set()
        assert (await answer).json() == "done"
        await asyncio.wait_for(serving, 5)
        with pytest.raises(httpx.ConnectError):
            await client.get("/")
    assert server.port == port  # a worker that stops tells it with its last heartbeats


async def test_headers_without_end_are_not_read() -> None:
    stop = asyncio.Event()
    server = WebServer(FastAPI(), listen("127.0.0.1", 0))
    serving = asyncio.create_task(server.run_until(stop))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000)
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 400")
    writer.close()
    stop.set()
    await asyncio.wait_for(serving, 5)


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortUnusable, match=f"port {port} of 127.0.0.1.*stop what listens"):
            listen("127.0.0.1", port)


def test_a_host_that_is_not_here_is_one_clear_line() -> None:
    with pytest.raises(PortUnusable, match=r"REDFAUST_HOST"):
        listen("192.0.2.1", 0)


def test_localhost_is_the_same_port_on_every_address() -> None:
    sockets = listen("localhost", 0)
    try:
        assert len({each.getsockname()[1] for each in sockets}) == 1
    finally:
        for each in sockets:
            each.close()


def test_answers_do_not_wait_for_acknowledgements() -> None:
    [listening] = listen("127.0.0.1", 0)
    with listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


POST = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
AMBIGUOUS = {
    "length and encoding": POST
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "encoding and length": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "the same length twice": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\nhi",
    "two encodings": POST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
    "an encoding that is none": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "an encoding in HTTP/1.0": POST.replace(b"1.1", b"1.0")
    + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bare line feed": POST + b"X: y\nContent-Length: 2\r\n\r\nhi",
    "bare line feeds at the end": POST + b"Content-Length: 2\n\nhi",
    "a folded header": POST + b"X: y\r\n Content-Length: 0\r\nContent-Length: 2\r\n\r\nhi",
    "a space before the colon": POST + b"Content-Length : 2\r\n\r\nhi",
    "two hosts": POST + b"Host: evil.example\r\nContent-Length: 2\r\n\r\nhi",
}


@pytest.mark.parametrize("request_", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_a_request_that_two_servers_may_read_in_two_ways_is_refused(
    web: FastAPI, request_: bytes
) -> None:
    async with served(web) as server:
        assert (await asked(server, request_)).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 2\r\n\r\nhi",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"Content-Length: 0\r\n\r\n",
    ],
)
async def test_a_request_of_one_meaning_is_answered(web: FastAPI, body: bytes) -> None:
    async with served(web) as server:
        assert (await asked(server, POST + body)).startswith(b"HTTP/1.1 200")


async def test_a_second_request_of_a_connection_is_checked_too(web: FastAPI) -> None:
    async with served(web) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        first = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"
        writer.write(first + AMBIGUOUS["length and encoding"])
        answers = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"400"]


UNFINISHED = {
    "nothing": b"",
    "half a header": b"GET / HTTP/1.1\r\nHost: loc",
    "half a body": POST + b"Content-Length: 10\r\n\r\nhalf",
    "half a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nff\r\nhalf",
}


@pytest.mark.parametrize("begun", UNFINISHED.values(), ids=UNFINISHED)
async def test_connections_that_send_no_request_keep_nobody_out(
    web: FastAPI, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", LIMIT)
    web.add_middleware(BodyLimit)
    async with served(web) as server, AsyncExitStack() as opened:
        held = []
        for _ in range(3 * LIMIT):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            opened.callback(writer.close)
            writer.write(begun)
            held.append(reader)
        for request in (GET, POST + b"Content-Length: 2\r\n\r\nhi"):
            assert (await asked(server, request)).startswith(b"HTTP/1.1 200")
        assert await asyncio.wait_for(held[0].read(), PATIENCE) == CLOSED  # the oldest had to go


async def test_health_is_answered_while_all_connections_are_busy(
    web: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", LIMIT)
    monkeypatch.setattr("app.web.limits.MAX_REQUESTS", LIMIT)
    web.add_middleware(RequestLimit)
    async with served(web) as server, AsyncExitStack() as opened:
        for _ in range(LIMIT):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            opened.callback(writer.close)
            writer.write(b"GET /never HTTP/1.1\r\nHost: localhost\r\n\r\n")
        other = GET.replace(b"/health/live", b"/other")
        async with asyncio.timeout(PATIENCE):
            while not (await asked(server, other)).startswith(b"HTTP/1.1 503"):
                pass  # not all of them have arrived
        assert (await asked(server, GET)).startswith(b"HTTP/1.1 200")


async def test_a_client_that_is_slow_with_its_request_is_hung_up_on(
    web: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "LONGEST", dict.fromkeys(State, 0.1))
    async with served(web) as server:
        for begun in UNFINISHED.values():
            with suppress(ConnectionResetError):
                assert await asked(server, begun) == CLOSED


async def test_half_a_request_is_none(web: FastAPI) -> None:
    bodies: list[bytes] = []

    @web.post("/note")
    async def note(request: Request) -> None:
        bodies.append(await request.body())

    web.add_middleware(BodyLimit)
    async with served(web) as server:
        for length, body in ((20, b'{"items": []}'), (4, b"last")):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            head = f"POST /note HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
            writer.write(head.encode() + body)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), PATIENCE)
            writer.close()
    assert b'{"items": []}' not in bodies


@pytest.mark.parametrize(("host", "local"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]")])
async def test_what_is_bound_decides_who_may_come_in(host: str, local: str) -> None:
    settings = Settings(
        broker=SecretStr("memory://"), database=SecretStr("postgresql://nowhere/db")
    )
    nothing = Services(cast(Database, None), cast(Outbox, None), None)
    sockets = listen(host, 0)  # as WEB_BIND may have said, whatever the settings say
    web = create_web(settings, nothing, bound_to=addresses(sockets))
    server, stop = WebServer(web, sockets), asyncio.Event()
    serving = asyncio.create_task(server.run_until(stop))
    async with httpx.AsyncClient(base_url=f"http://{local}:{server.port}") as client:
        assert (await client.get("/docs")).status_code == 403
        assert (await client.get("/health/live")).status_code == 200
    stop.set()
    await asyncio.wait_for(serving, PATIENCE)
