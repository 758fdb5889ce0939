"""Asks the web server all the time, and notes what answers late, fails, or answers with a bug."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from http import HTTPStatus

import aiohttp

from tests.fuzz.installation import Installation

PATHS = ("/health/live", "/health/ready", "/", "/api/status", "/metrics")
EVERY = 0.25
"""Seconds between two requests."""


class Watch:
    """What the web server has answered."""

    def __init__(self, installation: Installation, *, within: float) -> None:
        """``within``: seconds after which an answer is late. A busy machine makes one late, too, so
        two of them in a row count."""
        self._installation = installation
        self._within = within
        self.slowest: dict[str, float] = {}
        """By path, in seconds."""
        self._complaints: Counter[str] = Counter()

    def take_complaints(self) -> list[str]:
        """What did not hold since the last call, each once."""
        taken, self._complaints = self._complaints, Counter()
        return [f"{what} ({count} times)" for what, count in taken.items()]

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            for path in PATHS:
                if await self._ask(path) > self._within < await self._ask(path):
                    self._complaints[f"{path} answered late twice running"] += 1
                await asyncio.sleep(EVERY)

    async def until_it_answers(self) -> None:
        """Return when the web server has come up."""
        while True:
            try:
                async with self._installation.session.get(self._installation.web + PATHS[0]):
                    return
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(EVERY)

    async def _ask(self, path: str) -> float:
        """Returns the seconds that the answer took."""
        began = time.monotonic()
        try:
            async with self._installation.session.get(self._installation.web + path) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._complaints[f"{path} did not answer: {error!r}"] += 1
            return 0.0
        took = time.monotonic() - began
        self.slowest[path] = max(took, self.slowest.get(path, 0.0))
        bug = answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if bug and answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
            self._complaints[f"{path} was answered {answer.status}"] += 1
        return took
