"""Questions that are asked as one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from redfaust import batch_loader
from redfaust.batch_loader import BatchLoader


class Register:
    """Answers with a number how often it was asked, when it may."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []
        self.may_answer = asyncio.Event()
        self.fails = False

    async def answer(self, questions: Sequence[str]) -> Mapping[str, int]:
        self.asked.append(questions)
        await self.may_answer.wait()
        if self.fails:
            raise LookupError("closed")
        return {each: len(each) for each in questions if each != "unknown"}


async def test_what_comes_meanwhile_is_asked_as_one() -> None:
    register = Register()
    questions = BatchLoader(register.answer)
    first = asyncio.create_task(questions.ask("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(questions.ask(each)) for each in ("bb", "ccc", "bb", "unknown")]
    await asyncio.sleep(0)
    register.may_answer.set()
    assert await asyncio.gather(first, *others) == [1, 2, 3, 2, None]
    assert register.asked == [["a"], ["bb", "ccc", "unknown"]]


async def test_no_more_are_asked_as_one_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_loader, "AT_MOST", 2)
    register = Register()
    register.may_answer.set()
    questions = BatchLoader(register.answer)
    assert await asyncio.gather(*map(questions.ask, ("a", "bb", "ccc"))) == [1, 2, 3]
    assert register.asked == [["a", "bb"], ["ccc"]]


async def test_everybody_gets_the_error_and_the_next_are_asked_again() -> None:
    register = Register()
    register.may_answer.set()
    register.fails = True
    questions = BatchLoader(register.answer)
    answers = await asyncio.gather(*map(questions.ask, ("a", "bb")), return_exceptions=True)
    assert [type(answer) for answer in answers] == [LookupError, LookupError]
    register.fails = False
    assert await questions.ask("a") == 1


async def test_who_goes_away_takes_the_answer_from_nobody() -> None:
    register = Register()
    questions = BatchLoader(register.answer)
    first, second = (asyncio.create_task(questions.ask("a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    register.may_answer.set()
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first
    assert register.asked == [["a"]]
