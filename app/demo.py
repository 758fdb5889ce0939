"""A short play for the running shop, so that every page has something to show."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

import aiohttp

from app.errors import AppError
from app.settings import Settings
from app.web.services import Services, open_services
from models.envelope import Message, first_message
from models.events import Event, OrderCreatedV1, OrderStatusChanged
from models.orders import OrderStatus
from redfaust.brokers.broker import Outgoing
from redfaust.postgres.queries import load

Say = Callable[[str], None]

CONFIRM_PATIENCE: Final = 60.0
"""Seconds until the orders have to be confirmed."""
POLL: Final = 0.2
REQUEST_TIMEOUT: Final = 10.0

PEOPLE: Final = (("Ann", "example.org"), ("Bob", "example.org"), ("Eve", "nowhere.invalid"))
"""Mail to the last one is refused: that domain never exists."""
TEA: Final = {"sku": "tea", "quantity": 2, "unit_price": 450}
POT: Final = {"sku": "teapot", "quantity": 1, "unit_price": 3900}


class DemoFailed(AppError):
    """The shop does not play along."""


async def play(settings: Settings, url: str | None, say: Say) -> None:
    """Play it to the end. Raises :class:`DemoFailed` if the shop does not play along."""
    run = secrets.token_hex(3)
    async with open_services(settings) as services, _web(settings, url) as web:
        users = [await _sign_up(web, run, name, domain, say) for name, domain in PEOPLE]
        orders = [await _order(web, user_id, say) for user_id in users]
        orders.append(await _foreign_order(services, f"o-old-{run}", users[0], say))
        await _garbage(services, say)
        await _until_confirmed(web, orders, say)
        await _ship(services, orders[0], say)
    say("done: the status page shows what came of it")


@asynccontextmanager
async def _web(settings: Settings, url: str | None) -> AsyncIterator[aiohttp.ClientSession]:
    base = url or f"http://{_reachable(settings.host)}:{settings.port}"
    token = settings.token.get_secret_value() if settings.token else None
    async with aiohttp.ClientSession(
        base,
        headers={"Authorization": f"Bearer {token}"} if token else None,
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT),
    ) as session:
        yield session


def _reachable(host: str) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
    return f"[{host}]" if ":" in host else host


async def _ask(web: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
    try:
        async with web.request(method, path, json=body) as answer:
            if answer.status >= HTTPStatus.BAD_REQUEST:
                said = await answer.text()
                raise DemoFailed(f"{method} {path} was answered {answer.status}: {said}")
            return await answer.json()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise DemoFailed(
            f"the web API does not answer ({error or type(error).__name__}): start it with "
            "`redfaust up`, or say where it is with --url"
        ) from error


async def _sign_up(web: aiohttp.ClientSession, run: str, name: str, domain: str, say: Say) -> str:
    email = f"{name.lower()}.{run}@{domain}"
    user = await _ask(web, "POST", "/api/users", {"email": email, "name": name})
    say(f"{name} signs up as {email}")
    return str(user["user_id"])


async def _order(web: aiohttp.ClientSession, user_id: str, say: Say) -> str:
    items = [TEA, POT]
    await _ask(web, "PUT", f"/api/users/{user_id}/cart", {"items": items})
    order = {"user_id": user_id, "items": items, "currency": "EUR"}
    placed = await _ask(web, "POST", "/api/orders", order)
    say(f"order {placed['order_id']} is {placed['status']}")
    return str(placed["order_id"])


async def _foreign_order(services: Services, order_id: str, user_id: str, say: Say) -> str:
    order = OrderCreatedV1(
        order_id=order_id, user_id=user_id, sku="tea", quantity=1, unit_price=450
    )
    await _publish_by_sql(services, "orders", first_message(order))
    say(f"order {order_id} comes from elsewhere: by plain SQL, in version 1")
    return order_id


async def _garbage(services: Services, say: Say) -> None:
    assert services.broker is not None
    await services.broker.append([Outgoing("orders", b"not json")])
    say("garbage lies on the topic orders; it becomes a dead letter")


async def _ship(services: Services, order_id: str, say: Say) -> None:
    shipped = OrderStatusChanged(order_id=order_id, status=OrderStatus.SHIPPED)
    await _publish_by_sql(services, "orders", first_message(shipped))
    say(f"order {order_id} is shipped, says the warehouse, by plain SQL")


async def _publish_by_sql(services: Services, topic: str, message: Message[Event]) -> None:
    """As any program would that has a connection to the database and none of our code."""
    async with services.database.transaction() as connection:
        await connection.execute(
            load("app", "publish"),
            topic,
            message.event.key,
            message.event.model_dump(mode="json"),
            message.envelope.headers(),
        )


async def _until_confirmed(web: aiohttp.ClientSession, orders: list[str], say: Say) -> None:
    waiting = list(orders)
    try:
        async with asyncio.timeout(CONFIRM_PATIENCE):
            while waiting:
                for order_id in list(waiting):
                    if await _is_confirmed(web, order_id):
                        waiting.remove(order_id)
                        say(f"{len(orders) - len(waiting)} of {len(orders)} orders are confirmed")
                if waiting:
                    await asyncio.sleep(POLL)
    except TimeoutError:
        raise DemoFailed(
            f"{len(waiting)} of {len(orders)} orders are not confirmed after "
            f"{CONFIRM_PATIENCE:.0f} s: `redfaust status` shows whether a worker is running"
        ) from None


async def _is_confirmed(web: aiohttp.ClientSession, order_id: str) -> bool:
    async with web.get(f"/api/orders/{order_id}") as answer:
        # An order from elsewhere is not known before the agents have seen it.
        if answer.status == HTTPStatus.NOT_FOUND:
            return False
        history = (await answer.json())["history"]
    return any(change["status"] == OrderStatus.CONFIRMED for change in history)
