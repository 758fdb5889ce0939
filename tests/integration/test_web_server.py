"""The server as such: its port, and how it stops."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest
from fastapi import FastAPI

from app.web.listening import PortUnusable, listen
from app.web.server import WebServer


async def test_it_finishes_what_is_under_way_when_it_is_stopped() -> None:
    web, arrived, stop = FastAPI(), asyncio.Event(), asyncio.Event()

    @web.get("/")
    async def slow() -> str:
        arrived.set()
        await stop.wait()
        return "done"

    server = WebServer(web, host="127.0.0.1", port=0)
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
    assert server.port == port  # a worker that stops tells it with its last beats


async def test_headers_without_end_are_not_read() -> None:
    stop = asyncio.Event()
    server = WebServer(FastAPI(), host="127.0.0.1", port=0)
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
            WebServer(FastAPI(), host="127.0.0.1", port=port)


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
