"""Why a request is refused, and how each error becomes an answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import asyncpg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from app.web.limits import RETRY_AFTER
from redfaust.errors import RedfaustError, RightsMissing

logger = logging.getLogger(__name__)

_CALL_IT_JSON = "send the body as JSON, with Content-Type: application/json"


class Refusal(Exception):
    """A request that is understood and cannot be granted.

    ::

        Refusal
        ├── NotFound      404, an id that is not known
        ├── Conflict      409, it would contradict what is there
        ├── Unreadable    503, a row that somebody has edited cannot be read
        └── KeyReused     422, an Idempotency-Key that came with another request before
    """

    status = HTTPStatus.BAD_REQUEST


class NotFound(Refusal):
    """An id that is not known."""

    status = HTTPStatus.NOT_FOUND


class Conflict(Refusal):
    """It would contradict what is there."""

    status = HTTPStatus.CONFLICT


class Unreadable(Refusal):
    """A row of an agent's table cannot be read until somebody corrects it."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class KeyReused(Refusal):
    """An Idempotency-Key that came with another request before."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


def invalid(*complaints: tuple[Sequence[str | int], str, str]) -> JSONResponse:
    """422 that names each field: its path, what is wrong, and the kind of that."""
    # What came in is not repeated: it may be secret, and it may be what no answer can hold.
    return JSONResponse(
        {
            "detail": [
                {"loc": [_encodable(part) for part in path], "msg": _encodable(what), "type": kind}
                for path, what, kind in complaints
            ]
        },
        HTTPStatus.UNPROCESSABLE_ENTITY,
    )


def install_handlers(web: FastAPI) -> None:
    """Answer errors as JSON with ``detail``."""

    @web.exception_handler(Refusal)
    async def refused(_request: Request, error: Refusal) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, error.status)

    @web.exception_handler(RequestValidationError)
    async def not_valid(_request: Request, error: RequestValidationError) -> JSONResponse:
        if isinstance(error.body, bytes):  # it was not read, being called something else
            return invalid((("header", "content-type"), _CALL_IT_JSON, "content_type"))
        return invalid(*((each["loc"], each["msg"], each["type"]) for each in error.errors()))

    @web.exception_handler(RightsMissing)
    async def not_granted(_request: Request, error: RightsMissing) -> JSONResponse:
        logger.error("a request was turned away: %s", error)
        return JSONResponse(
            {
                "detail": f"the shop lacks a right in its database ({error.__cause__}): "
                "its operator has to grant it"
            },
            HTTPStatus.SERVICE_UNAVAILABLE,
        )

    @web.exception_handler(asyncpg.ReadOnlySQLTransactionError)
    @web.exception_handler(asyncpg.UndefinedTableError)
    @web.exception_handler(RedfaustError)
    async def away(_request: Request, error: Exception) -> JSONResponse:
        logger.warning("a request was turned away: %s", error)
        return JSONResponse(
            {"detail": "the shop cannot be reached now; try again in a few seconds"},
            HTTPStatus.SERVICE_UNAVAILABLE,
            headers={"Retry-After": str(RETRY_AFTER)},
        )


def _encodable(part: Any) -> Any:
    return part.encode("utf-8", "replace").decode() if isinstance(part, str) else part
