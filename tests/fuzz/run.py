"""Rounds of acts, each followed by a check of everything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from tests.fuzz import checks
from tests.fuzz.acts import Act, on_kafka, on_redis
from tests.fuzz.good import GoodTraffic
from tests.fuzz.installation import BrokerKind, Installation, OnRedis, running_installation
from tests.fuzz.watch import Watch
from tests.torture.processes import running

ACTS = 60
"""Of a round, at most."""
GOOD_EVERY = 3
"""Acts between two pieces of good traffic."""
UP_WITHIN = 60.0
"""Seconds until the web server has to answer."""


@dataclass(frozen=True)
class Settings:
    """What makes a run the same run again."""

    seed: int
    seconds: float
    kind: BrokerKind = BrokerKind.VALKEY
    answers_within: float = 1.0
    """Seconds after which an answer of the web server is late."""


@dataclass
class Finding:
    """What did not hold after a round."""

    round: int
    acts: Sequence[Act]
    complaints: Sequence[str]


@dataclass
class Report:
    """What a run did, and what it found."""

    rounds: int = 0
    acts: int = 0
    good: int = 0
    """Good events that were sent."""
    slowest: dict[str, float] = field(default_factory=dict)
    """By path, the slowest answer in seconds."""
    findings: list[Finding] = field(default_factory=list)


def run(wanted: Settings, directory: Path) -> Report:
    """Fuzz an installation that is set up in a directory, until the time is over or something does
    not hold: what comes after that would say nothing."""
    report = Report()
    with asyncio.Runner() as runner:
        fuzzing = _fuzzing(wanted, directory, report)
        play = runner.run(fuzzing.__aenter__())
        try:
            _draw_rounds(wanted, lambda acts: runner.run(play(acts)))
        finally:
            runner.run(fuzzing.__aexit__(None, None, None))
    return report


class _Over(Exception):
    """The time is over, or something was found."""


_Play: TypeAlias = Callable[[Sequence[Act]], Coroutine[None, None, bool]]
"""Plays a round; returns True if everything holds afterwards."""


def _draw_rounds(wanted: Settings, play: Callable[[Sequence[Act]], bool]) -> None:
    until, is_over = time.monotonic() + wanted.seconds, False
    acts = on_kafka() if wanted.kind is BrokerKind.KAFKA else on_redis()

    @seeded(wanted.seed)
    @settings(
        max_examples=100_000,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(st.lists(acts, min_size=ACTS // 3, max_size=ACTS))
    def draw(drawn: list[Act]) -> None:
        nonlocal is_over
        # For good: hypothesis tries once more whatever has failed.
        is_over = is_over or time.monotonic() >= until or not play(drawn)
        if is_over:
            raise _Over

    with suppress(_Over):
        draw()


@asynccontextmanager
async def _fuzzing(wanted: Settings, directory: Path, report: Report) -> AsyncIterator[_Play]:
    async with (
        running_installation(wanted.kind, directory) as installation,
        running(installation.processes) as stop,
    ):
        watch = Watch(installation, within=wanted.answers_within)
        async with asyncio.timeout(UP_WITHIN):
            await watch.until_it_answers()
        good = GoodTraffic(wanted.seed, installation.client, installation.database)
        watching = asyncio.create_task(watch.run())

        async def play(acts: Sequence[Act]) -> bool:
            found = await _play(installation, good, watch, acts)
            report.rounds += 1
            report.acts += len(acts)
            report.good, report.slowest = good.sent.total(), watch.slowest
            if found:
                report.findings.append(Finding(report.rounds, acts, found))
            return not found

        yield play
        watching.cancel()
        if not report.findings:
            ends = [*await checks.resting(installation), *await checks.commands(installation)]
            codes = zip(installation.processes, await stop(), strict=True)
            ends += [f"{p.name} ended with {code} at a SIGTERM" for p, code in codes if code != 0]
            if ends:
                report.findings.append(Finding(report.rounds, (), ends))


async def _play(
    installation: Installation, good: GoodTraffic, watch: Watch, acts: Sequence[Act]
) -> Sequence[str]:
    for place, act in enumerate(acts):
        await installation.do(act)
        if place % GOOD_EVERY == 0:
            await good.send_some()
    found: list[str] = []
    if isinstance(installation.client, OnRedis) and installation.client.replaced:
        replaced = ", ".join(sorted(installation.client.replaced))
        found += await checks.reported(installation, f"{replaced} have another type")
    await installation.heal()
    found += await checks.settle(installation) or await checks.complaints(installation, good)
    return found + watch.take_complaints()
