"""Requests that are carried out once, however often they arrive."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.web.errors import KeyReused, Refusal
from app.web.request_context import Caller
from redfaust.outbox.outbox import Outbox, Transaction
from redfaust.postgres.queries import load

KEPT_FOR: Final = timedelta(hours=24)
"""How long a repeated key gets the first answer."""
REPLAYED: Final = "Idempotent-Replayed"
"""Header of an answer that was given before."""

Command = Callable[[Transaction], Awaitable[BaseModel]]


class Answer(NamedTuple):
    """What a client gets."""

    status: int
    body: Any
    replayed: bool = False

    def response(self) -> JSONResponse:
        """As HTTP."""
        headers = {REPLAYED: "true"} if self.replayed else None
        return JSONResponse(self.body, self.status, headers=headers)


async def carry_out(
    outbox: Outbox,
    caller: Caller,
    request: Callable[[], bytes],
    command: Command,
    *,
    status: HTTPStatus,
) -> Answer:
    """Run a command in a transaction, or repeat the answer that its key got before.

    Key, rows, events and answer commit together. The same key twice at the same time: the second
    waits for the first. A refusal is an answer too. A command sets nothing for its session. Raises
    :class:`KeyReused` for a key that came with another ``request``.
    """
    key = caller.idempotency_key
    if key is None:
        try:
            async with outbox.transaction(reset=False) as tx:
                return _granted(await command(tx), status)
        except Refusal as refusal:
            return _refused(refusal)
    async with outbox.transaction(reset=False) as tx:
        if (first := await _first_answer(tx, key, request())) is not None:
            return first
        try:
            async with tx.connection.transaction():  # a savepoint: a refusal is still to be stored
                answer = _granted(await command(tx), status)
        except Refusal as refusal:
            answer = _refused(refusal)
        await tx.connection.execute(
            load("app.web", "store_answer"), key, answer.status, answer.body
        )
        return answer


def fingerprint(request: Request, body: BaseModel) -> bytes:
    """Equal for equal requests, whatever the spacing of their JSON."""
    digest = hashlib.sha256()
    for part in (request.method, request.url.path, body.model_dump_json()):
        digest.update(part.encode() + b"\n")
    return digest.digest()


async def _first_answer(tx: Transaction, key: str, request: bytes) -> Answer | None:
    await tx.connection.execute(load("app.web", "forget_answers"), KEPT_FOR)
    claimed = await tx.connection.fetchval(load("app.web", "claim_key"), key, request, KEPT_FOR)
    if claimed is not None:
        return None
    row = await tx.connection.fetchrow(load("app.web", "select_answer"), key)
    assert row is not None, "what could not be claimed is there: the claim waited for its commit"
    if row["request"] != request:
        raise KeyReused("this Idempotency-Key came with another request before: choose a new key")
    return Answer(row["status"], row["body"], replayed=True)


def _granted(result: BaseModel, status: HTTPStatus) -> Answer:
    return Answer(status, result.model_dump(mode="json"))


def _refused(refusal: Refusal) -> Answer:
    return Answer(refusal.status, {"detail": str(refusal)})
