"""The routes of the web API."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse

from app.web import commands, queries
from app.web.idempotency import carry_out, fingerprint
from app.web.paging import MAX_PAGE, After, Cursor, Limit
from app.web.request_context import CallerOf
from app.web.schemas import (
    Cart,
    NewCart,
    NewOrder,
    NewUser,
    Notifications,
    Order,
    PlacedOrder,
    Refused,
    User,
    UserWithCart,
)
from app.web.services import Services
from models.fields import Id

UserId = Annotated[Id, Path(description="As answered when the user signed up.")]
OrderId = Annotated[Id, Path(description="As answered when the order was placed.")]

UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Refused, "description": "Unknown id"}}
TAKEN: dict[int | str, dict[str, Any]] = {409: {"model": Refused, "description": "Email is taken"}}


def routes(services: Services) -> APIRouter:
    """The shop's own part of ``/api``."""
    api = APIRouter(prefix="/api")
    _add_users(api, services)
    _add_orders(api, services)

    @api.get("/notifications", responses=UNKNOWN, tags=["notifications"])
    async def get_notifications(
        user_id: Annotated[Id, Query()], limit: Limit = MAX_PAGE, after: After = None
    ) -> Notifications:
        """What a user was told, the newest first, in pages: `next` is the `after` of the next."""
        place = None if after is None else Cursor.parse(after)
        return await queries.find_notifications(
            services.database, user_id, limit=limit, after=place
        )

    return api


def _add_users(api: APIRouter, services: Services) -> None:
    @api.post(
        "/users",
        status_code=HTTPStatus.CREATED,
        response_model=User,
        responses=TAKEN,
        tags=["users"],
    )
    async def post_user(request: Request, caller: CallerOf, new: NewUser) -> JSONResponse:
        """Sign up. A welcome is sent to the address."""
        answer = await carry_out(
            services.outbox,
            caller,
            partial(fingerprint, request, new),
            lambda tx: commands.create_user(tx, caller, new),
            status=HTTPStatus.CREATED,
        )
        return answer.response()

    @api.get("/users/{user_id}", responses=UNKNOWN, tags=["users"])
    async def get_user(user_id: UserId) -> UserWithCart:
        """A user with the cart."""
        return await queries.find_user(services.database, user_id)

    @api.get("/users/{user_id}/cart", responses=UNKNOWN, tags=["users"])
    async def get_cart(user_id: UserId) -> Cart:
        """What a user means to order."""
        return await queries.find_cart(services.database, user_id)

    @api.put(
        "/users/{user_id}/cart",
        status_code=HTTPStatus.ACCEPTED,
        response_model=Cart,
        responses=UNKNOWN,
        tags=["users"],
    )
    async def put_cart(
        request: Request, caller: CallerOf, user_id: UserId, new: NewCart
    ) -> JSONResponse:
        """Replace the cart. It shows when the event has been processed."""
        answer = await carry_out(
            services.outbox,
            caller,
            partial(fingerprint, request, new),
            lambda tx: commands.replace_cart(tx, caller, user_id, new),
            status=HTTPStatus.ACCEPTED,
        )
        return answer.response()


def _add_orders(api: APIRouter, services: Services) -> None:
    @api.post(
        "/orders",
        status_code=HTTPStatus.ACCEPTED,
        response_model=PlacedOrder,
        responses=UNKNOWN,
        tags=["orders"],
    )
    async def post_order(request: Request, caller: CallerOf, new: NewOrder) -> JSONResponse:
        """Place an order. Its confirmation follows, and empties the cart."""
        answer = await carry_out(
            services.outbox,
            caller,
            partial(fingerprint, request, new),
            lambda tx: commands.place_order(tx, caller, new),
            status=HTTPStatus.ACCEPTED,
        )
        return answer.response()

    @api.get("/orders/{order_id}", responses=UNKNOWN, tags=["orders"])
    async def get_order(order_id: OrderId) -> Order:
        """An order with its history."""
        return await queries.find_order(services.database, order_id)
