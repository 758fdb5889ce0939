"""Asks questions that nobody knows the answering time of, all at once and not for long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from app.status.snapshot import Cause, Unknown
from redfaust.errors import BrokerUnavailable, DatabaseUnavailable, RedfaustError, RightsMissing

T = TypeVar("T")

_FORBIDDEN = "NOPERM"
"""What Redis says to a user without the right."""


class Asker:
    """Asks each question at most once at a time.

    A question that is not answered in time goes on by itself, since to cancel one takes as long as
    its server does. It is not asked again before it has ended.
    """

    def __init__(self, patience: float) -> None:
        """``patience``: seconds for each question."""
        self._patience = patience
        self._asked: dict[str, asyncio.Task[Any]] = {}

    async def ask(self, name: str, question: Callable[[], Awaitable[T]]) -> T | Unknown:
        """The answer. Never raises because of what the question raises."""
        task = self._asked.get(name)
        if task is None or task.done():
            task = self._asked[name] = asyncio.ensure_future(question())
            task.add_done_callback(_retrieve)
        done, _ = await asyncio.wait({task}, timeout=self._patience)
        if not done:
            return Unknown(Cause.SILENT, f"no answer within {self._patience:.1f} s")
        if task.cancelled():
            return Unknown(Cause.FAILED, "the question was cancelled")
        error = task.exception()
        if error is not None:
            return unknown(error)
        answer: T = task.result()
        return answer

    async def close(self) -> None:
        """Give up what is not answered."""
        for task in self._asked.values():
            task.cancel()


def unknown(error: BaseException) -> Unknown:
    """Why a question has no answer."""
    match error:
        case BrokerUnavailable() | DatabaseUnavailable() | OSError():
            cause = Cause.AWAY
        case TimeoutError():
            cause = Cause.SILENT
        case RightsMissing() | asyncpg.InsufficientPrivilegeError():
            cause = Cause.FORBIDDEN
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError():
            cause = Cause.MISSING
        case RedfaustError() if _FORBIDDEN in str(error):
            cause = Cause.FORBIDDEN
        case _:
            cause = Cause.FAILED
    text = str(error) if isinstance(error, RedfaustError | asyncpg.PostgresError) else ""
    return Unknown(cause, text or f"{type(error).__name__}: {error}")


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Read how a task ended, since asyncio complains of errors that nobody has read."""
    if not task.cancelled():
        task.exception()
