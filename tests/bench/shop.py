"""How many orders does the whole shop take? ``python -m tests.bench.shop`` prints it.

``redfaust up`` runs with its servers, worker, relay and web as for everybody, mail included, which
goes over SMTP into the embedded mailbox. Orders are placed as fast as they are taken, and time runs
from the first of them until the last one is confirmed, mailed, and its mail noted. Then each is
checked to be confirmed once and mailed once.

An order is five events: it is created, its status changes, its cart is emptied, its mail is
requested, and sent. All that are on the topics are counted.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg

from app.embedded import Services, read_services
from app.embedded.process import die_with_parent, free_port, stop
from app.supervisor import is_ready
from app.web import commands
from app.web.request_context import Caller
from app.web.schemas import NewOrder, NewUser
from models.orders import Item
from redfaust.outbox.outbox import Outbox
from redfaust.postgres.database import Database
from redfaust.transports.by_url import broker_by_url
from tests.bench.costs import STOP, cpu_seconds

ORDERS = 1000
USERS = 500
TOGETHER = 100
"""Orders of one transaction, where somebody places many."""
CUSTOMERS = 16
"""Connections over which orders come, or transactions that are open, at a time."""
PATIENCE = 300.0
"""Seconds after which what should happen counts as not happening."""
LOOK_EVERY = 0.05
"""Seconds between two looks whether it has."""

ITEMS = (
    Item(sku="tea", quantity=2, unit_price=450),
    Item(sku="teapot", quantity=1, unit_price=3900),
)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Takings(NamedTuple):
    """What came in by one way."""

    name: str
    orders: int
    events: int
    """On all topics together."""
    seconds: float
    cpu: Mapping[str, float]
    """Seconds that each kind of process has worked."""

    @property
    def orders_per_second(self) -> float:
        return self.orders / self.seconds

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds


class Shop(NamedTuple):
    """One that runs."""

    pid: int
    port: int
    services: Services


class Way(NamedTuple):
    """By which orders are placed."""

    name: str
    place: Callable[[Shop, Sequence[NewOrder]], Awaitable[None]]


@asynccontextmanager
async def running_shop(workers: int = 1) -> AsyncIterator[Shop]:
    """``redfaust up`` with nothing in it, ready, during the block."""
    with tempfile.TemporaryDirectory(prefix="redfaust-bench-") as name:
        directory, port = Path(name), free_port()
        with (directory / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "app", "up", "--no-demo", "--port", str(port)),
                *("--data-dir", str(directory / "data"), "--workers", str(workers)),
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(STOP[0][0]),
            )
        try:
            await _until(lambda: asyncio.to_thread(is_ready, "127.0.0.1", port))
            services = read_services(directory / "data")
            assert services is not None
            yield Shop(process.pid, port, services)
        finally:
            await stop(process, STOP)


async def measure(way: Way, *, orders: int = ORDERS, workers: int = 1) -> Takings:
    """Have a new shop take so many orders."""
    async with running_shop(workers) as shop:
        users = await _sign_up(shop, USERS)
        news = [
            NewOrder(user_id=user, items=ITEMS, currency="EUR")
            for user in itertools.islice(itertools.cycle(users), orders)
        ]
        before, cpu, began = await _events(shop), cpu_seconds(shop.pid), time.perf_counter()
        await way.place(shop, news)
        await _until_mailed(shop, USERS + orders)
        seconds, cpu_after = time.perf_counter() - began, cpu_seconds(shop.pid)
        events = await _events(shop) - before
        await _check(shop, orders)
    spent = {name: cpu_after[name] - cpu[name] for name in cpu}
    return Takings(way.name, orders, events, seconds, spent)


# -- ways to place orders ------------------------------------------------------------------------


async def over_http(shop: Shop, orders: Sequence[NewOrder]) -> None:
    """As customers do."""
    bodies = iter([order.model_dump_json().encode() for order in orders])
    await asyncio.gather(*(_post(shop.port, bodies) for _ in range(CUSTOMERS)))


async def _post(port: int, bodies: Iterator[bytes]) -> None:
    """Over one connection, in as little time of our own as may be."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST /api/orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for body in bodies:
        writer.write(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 202"), answer
        length = _LENGTH.search(answer)
        assert length is not None
        await reader.readexactly(int(length[1]))
    writer.close()


async def one_by_one(shop: Shop, orders: Sequence[NewOrder]) -> None:
    """By what the web API calls, without HTTP."""
    await _command(shop, [[order] for order in orders])


async def together(shop: Shop, orders: Sequence[NewOrder]) -> None:
    """By the same, many in a transaction: as an import does."""
    await _command(
        shop, [orders[first : first + TOGETHER] for first in range(0, len(orders), TOGETHER)]
    )


async def _command(shop: Shop, transactions: Sequence[Sequence[NewOrder]]) -> None:
    database = await Database.connect(shop.services.database)
    outbox, left = Outbox(database), iter(transactions)

    async def place() -> None:
        for orders in left:
            async with outbox.transaction() as tx:
                for order in orders:
                    await commands.place_order(tx, Caller("bench"), order)

    await asyncio.gather(*(place() for _ in range(CUSTOMERS)))
    await database.close()


WAYS = [
    Way("over HTTP", over_http),
    Way("by the command, a transaction each", one_by_one),
    Way(f"by the command, {TOGETHER} in a transaction", together),
]


# -- before and after ----------------------------------------------------------------------------


async def _sign_up(shop: Shop, count: int) -> Sequence[str]:
    database = await Database.connect(shop.services.database)
    async with Outbox(database).transaction() as tx:
        users = [
            await commands.create_user(
                tx, Caller("bench"), NewUser(email=f"ann-{number}@example.org", name="Ann")
            )
            for number in range(count)
        ]
    await database.close()
    await _until_mailed(shop, count)
    return [user.user_id for user in users]


async def _until_mailed(shop: Shop, mails: int) -> None:
    """Wait until so many mails have come in and are noted."""
    connection = await asyncpg.connect(shop.services.database)

    async def have_come() -> bool:
        # A sequence is read at no cost; rows are counted when they may all be there.
        if await connection.fetchval("SELECT last_value FROM mailbox_id_seq") < mails:
            return False
        noted: int = await connection.fetchval(
            "SELECT count(*) FROM notifications WHERE value ->> 'status' = 'sent'"
        )
        return noted == mails

    await _until(have_come)
    await connection.close()


async def _events(shop: Shop) -> int:
    broker = broker_by_url(shop.services.broker, default_partitions=1)
    await broker.open()
    topics = [topic for topic in await broker.topics() if not topic.startswith("shop-")]
    status = [partition for topic in topics for partition in await broker.status("shop", topic)]
    await broker.close()
    return sum(partition.length for partition in status)


async def _check(shop: Shop, orders: int) -> None:
    connection = await asyncpg.connect(shop.services.database)
    lives: list[asyncpg.Record] = await connection.fetch(
        "SELECT value -> 'history' -> 0 ->> 'status' AS first,"
        " value -> 'history' -> 1 ->> 'status' AS second,"
        " jsonb_array_length(value -> 'history') AS changes, count(*) AS orders"
        " FROM orders JOIN order_states ON key = orders.order_id GROUP BY 1, 2, 3"
    )
    assert [tuple(life) for life in lives] == [("placed", "confirmed", 2, orders)], lives
    # A mail that came twice is in the mailbox once, but has drawn a number each time.
    mails: asyncpg.Record | None = await connection.fetchrow(
        "SELECT count(*) AS kept, (SELECT last_value FROM mailbox_id_seq) AS came,"
        " (SELECT count(*) FROM redfaust.mails_sent) AS recorded,"
        " (SELECT count(*) FROM orders JOIN mailbox"
        " ON subject = 'Order ' || order_id || ' is confirmed') AS confirmations FROM mailbox"
    )
    assert mails is not None
    assert tuple(mails) == (*[USERS + orders] * 3, orders), mails
    await connection.close()


async def _until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await true():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(LOOK_EVERY)


# -- what is printed -----------------------------------------------------------------------------


async def main(orders: int = ORDERS, workers: int = 1) -> Sequence[Takings]:
    """Measure every way, and print it."""
    takings = [await measure(way, orders=orders, workers=workers) for way in WAYS]
    print(  # noqa: T201
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{orders} orders, {workers} workers; exactly once, mail by SMTP into the mailbox\n"
    )
    names = sorted({name for each in takings for name in each.cpu})
    width = max(len(each.name) for each in takings)
    print(f"{'':{width}}  orders/s  events/s  events/min  CPU ms per order: {'  '.join(names)}")  # noqa: T201
    for each in takings:
        spent = "  ".join(f"{each.cpu[name] / orders * 1e3:{len(name)}.2f}" for name in names)
        print(  # noqa: T201
            f"{each.name:{width}}  {each.orders_per_second:8,.0f}  {each.events_per_second:8,.0f}  "
            f"{each.events_per_second * 60:10,.0f}  "
            f"{sum(each.cpu.values()) / orders * 1e3:16.2f}: {spent}"
        )
    return takings


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
