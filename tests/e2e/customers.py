"""Customers of a shop that is being killed: they repeat a request until it is answered."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPMethod
from typing import Any

import httpx

REPEAT_AFTER = 0.1
"""Seconds until a request that failed is sent again."""
ANSWER_WITHIN = 5.0
"""Seconds after which a request counts as failed."""
PATIENCE = 60.0
"""Seconds after which something that should happen counts as not happening."""
HASTE = 0.03
"""Seconds after which a customer in a hurry takes a request for failed, which it may not be."""
HURRIED = 0.2
"""Share of the requests that are sent in a hurry at first."""
ORDERS = 3
"""That a customer places in one visit."""
ITEMS = [{"sku": "tea", "quantity": 2, "unit_price": 450}]


@dataclass
class Visits:
    """What customers were promised."""

    users: list[str] = field(default_factory=list)
    orders: dict[str, str] = field(default_factory=dict)
    """The user of each order."""
    repeated: int = 0
    """Requests that were sent again."""
    replayed: int = 0
    """Answers that had been given before, and lost."""


class Customer:
    """Signs up, fills a cart, orders, and comes back as somebody else."""

    def __init__(self, client: httpx.AsyncClient, visits: Visits, *, seed: int) -> None:
        self._client = client
        self._visits = visits
        self._choose = random.Random(seed)

    async def visit_until(self, closing: asyncio.Event) -> None:
        """Visit again and again. Each visit is a new user's: with one at a time in a cart, it is
        known in the end whether orders have emptied it."""
        while not closing.is_set():
            await self._visit()

    async def _visit(self) -> None:
        email = f"{uuid.uuid4()}@example.com"
        user = await self._command(HTTPMethod.POST, "/api/users", {"email": email, "name": "ada"})
        user_id = user["user_id"]
        self._visits.users.append(user_id)
        await self._command(HTTPMethod.PUT, f"/api/users/{user_id}/cart", {"items": ITEMS})
        await self._until_the_cart_is_full(user_id)
        order = {"user_id": user_id, "items": ITEMS, "currency": "EUR"}
        for _ in range(ORDERS):
            placed = await self._command(HTTPMethod.POST, "/api/orders", order)
            self._visits.orders[placed["order_id"]] = user_id

    async def _until_the_cart_is_full(self, user_id: str) -> None:
        async with asyncio.timeout(PATIENCE):
            user = await self._ask(HTTPMethod.GET, f"/api/users/{user_id}")
            while not user["cart"]["items"]:
                await asyncio.sleep(REPEAT_AFTER)
                user = await self._ask(HTTPMethod.GET, f"/api/users/{user_id}")

    async def _command(self, method: HTTPMethod, path: str, body: Mapping[str, object]) -> Any:
        return await self._ask(method, path, body, {"Idempotency-Key": str(uuid.uuid4())})

    async def _ask(
        self,
        method: HTTPMethod,
        path: str,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer, as soon as there is one; of nothing else is a customer sure."""
        patience = HASTE if self._choose.random() < HURRIED else ANSWER_WITHIN
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    answer = await self._client.request(
                        method, path, json=body, headers=headers, timeout=patience
                    )
                except httpx.TransportError:
                    pass
                else:
                    if not answer.is_server_error:
                        assert answer.is_success, answer.text
                        self._visits.replayed += "Idempotent-Replayed" in answer.headers
                        return answer.json()
                patience = ANSWER_WITHIN
                self._visits.repeated += 1
                await asyncio.sleep(REPEAT_AFTER)
