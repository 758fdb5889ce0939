"""What only one of several workers does, and what only the one that has a key can answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import faust
import pytest

from redfaust.brokers import membership
from redfaust.transports.router import ROUTED
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def led_app(broker: str, led: list[str], name: str) -> faust.App:
    app = new_app(broker)

    @app.timer(0.02, on_leader=True)  # type: ignore[untyped-decorator] # Faust's
    async def lead() -> None:
        led.append(name)

    return app


async def test_one_worker_leads_and_another_when_it_stops(any_broker_url: str) -> None:
    led: list[str] = []
    first, second = (led_app(any_broker_url, led, name) for name in ("first", "second"))
    async with running(second), running(first):
        await eventually(lambda: len(first.consumer.assignment()) == 0 and len(led) > 5)
        assert set(led) == {"second"}
        assert [app.is_leader() for app in (first, second)] == [False, True]
        await asyncio.wait_for(second.stop(), PATIENCE)
        await eventually(lambda: led[-1] == "first")
        assert first.is_leader()


async def test_who_is_not_heard_does_not_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "SILENCE", 0.3)
    monkeypatch.setattr(membership, "HEARTBEAT", 0.05)
    app = led_app("memory://unheard", [], "only")
    async with running(app):
        await eventually(app.is_leader)

        async def unheard(*_: object, **__: object) -> None:
            await asyncio.Event().wait()

        broker = app.transport.broker  # type: ignore[attr-defined] # ours
        monkeypatch.setattr(broker, "heartbeat", unheard)
        await eventually(lambda: not app.is_leader())
        monkeypatch.undo()


class Counting:
    """A worker that counts words and says so on its own web server."""

    def __init__(self, broker: str, store: str) -> None:
        self.port = free_port()
        self.app = faust.App(
            "counting",
            broker=broker,
            store=store,
            topic_partitions=4,
            web_bind="127.0.0.1",
            web_port=self.port,
            canonical_url=f"http://127.0.0.1:{self.port}",
        )
        self.words = self.app.topic("words", key_type=str)
        self.counts = self.app.Table("counts", key_type=str, value_type=int, default=int)
        self.answered = 0
        self._declare()

    def _declare(self) -> None:
        @self.app.agent(self.words)
        async def count(stream: Any) -> None:
            async for word, number in stream.items():
                self.counts[word] += number

        @self.app.page("/count/{word}/")
        @self.app.table_route(table=self.counts, match_info="word")
        async def get_count(web: Any, request: Any, word: str) -> Any:
            self.answered += 1
            sent = (await request.read()).decode() if request.method == "POST" else ""
            return web.json({"count": self.counts[word], "sent": sent})

        @self.app.page("/last/{word}/")
        @self.app.topic_route(topic=self.words, match_info="word")
        async def get_last(web: Any, request: Any, word: str) -> Any:
            return web.bytes(b"\xff\x00", headers={"X-Here": str(self.port)})

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@asynccontextmanager
async def two_workers(broker: str, store: str) -> AsyncIterator[list[Counting]]:
    workers = [Counting(broker, store) for _ in range(2)]
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(running(worker.app))
        await eventually(lambda: all(owned(worker) == 2 for worker in workers))
        yield workers


def owned(worker: Counting) -> int:
    return sum(tp.topic == "words" for tp in worker.app.consumer.assignment())


WORDS = [f"word-{n}" for n in range(12)]


async def test_a_request_is_answered_by_whoever_has_its_key() -> None:
    await answers_are_given_by_whoever_has_the_key("memory://routes", "memory://")


async def test_so_it_is_with_a_table_in_postgres(database_url: str) -> None:
    await answers_are_given_by_whoever_has_the_key("memory://routes-in-postgres", database_url)


async def answers_are_given_by_whoever_has_the_key(broker: str, store: str) -> None:
    async with two_workers(broker, store) as workers, aiohttp.ClientSession() as c:
        one, other = workers

        async def counts(worker: Counting) -> list[int]:
            found = []
            for word in WORDS:
                async with c.get(worker.url(f"/count/{word}/")) as answer:
                    found.append((await answer.json())["count"] if answer.status == 200 else -1)
            return found

        for number, word in enumerate(WORDS):
            await one.words.send(key=word, value=number)
        for worker in workers:
            await eventually(lambda: answered_by(counts(worker)))  # noqa: B023 - awaited here
        assert one.answered
        assert other.answered
        async with c.post(one.url(f"/count/{WORDS[0]}/"), data="body") as answer:
            assert answer.status in {200, 405}  # Faust's pages may take no POST
        async with (
            c.get(other.url("/last/word-1/")) as here,
            c.get(one.url("/last/word-1/")) as there,
        ):
            assert await here.read() == await there.read() == b"\xff\x00"
            assert here.headers["X-Here"] == there.headers["X-Here"]
        async with c.get(one.url("/router/counts/")) as answer:
            [(mine, [first]), (others, [second])] = sorted(
                (place, list(tables.values())) for place, tables in (await answer.json()).items()
            )
            assert {mine, others} == {w.url("") for w in workers}
            assert sorted(first + second) == [0, 1, 2, 3]
        elsewhere = await routed_statuses(c, one)
        assert elsewhere == {200, 503}, "what was passed on once is not passed on again"


async def answered_by(counts: Any) -> bool:
    return bool(await counts == list(range(len(WORDS))))


async def routed_statuses(client: aiohttp.ClientSession, worker: Counting) -> set[int]:
    statuses = set()
    for word in WORDS:
        async with client.get(worker.url(f"/count/{word}/"), headers={ROUTED: "1"}) as answer:
            statuses.add(answer.status)
    return statuses
