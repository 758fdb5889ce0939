"""One question for many who ask, where each question costs a round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")

AT_MOST = 500
"""Questions that are asked as one."""


class BatchLoader(Generic[Question, Answer]):
    """Asks at once what was asked one by one.

    What comes while a question is on its way is part of the next: nobody waits for company, and who
    has to wait finds it. Who asks the same shares the answer.

    ``ask`` answers as many of its questions as it can. What it raises, everybody gets who asked.
    """

    def __init__(
        self, ask: Callable[[Sequence[Question]], Awaitable[Mapping[Question, Answer]]]
    ) -> None:
        self._ask = ask
        self._waiting: dict[Question, asyncio.Future[Answer | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, question: Question) -> Answer | None:
        """The answer, ``None`` if there is none. Cancelling this takes it from nobody else."""
        answer = self._waiting.get(question)
        if answer is None:
            answer = self._waiting[question] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_look)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_while_somebody_waits())
        return await asyncio.shield(answer)

    async def _ask_while_somebody_waits(self) -> None:
        try:
            while self._waiting:
                asked = {each: self._waiting.pop(each) for each in self._next()}
                await self._answer(asked)
        finally:
            self._asking = None

    def _next(self) -> Sequence[Question]:
        return list(islice(self._waiting, AT_MOST))

    async def _answer(self, asked: Mapping[Question, asyncio.Future[Answer | None]]) -> None:
        try:
            answers = await self._ask(list(asked))
        except BaseException as error:
            for future in asked.values():
                future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for question, future in asked.items():
                future.set_result(answers.get(question))


def _look(answer: asyncio.Future[Answer | None]) -> None:
    """So that nobody complains of an error that nobody waits for any more."""
    if not answer.cancelled():
        answer.exception()
