"""How fast it is to be. Rates are compared with those of others in the same run."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.report import BARE, Goal, Line

OURS = "redfaust"
"""The row of a work that is compared with those of peers."""

GOALS = (
    Goal("consume: the bare loop", "consume: redfaust", BARE, at_least=1.1),
    Goal(
        "consume: the loop on raw replies", "consume: redfaust", "consume: bare.raw", at_least=0.9
    ),
    Goal("consume: stock Faust", "consume: redfaust", "consume: faust.on_redis", at_least=10),
    Goal("consume: FastStream", "consume: redfaust", "consume: faststream.batch", at_least=2),
    Goal("consume pydantic values: the bare loop", "consume: pydantic", BARE, at_least=0.7),
    Goal("count exactly once: the bare loop", "count: redfaust", BARE, at_least=0.65),
    Goal(
        "count exactly once: at least once",
        "count: redfaust",
        "count: at least once",
        at_least=0.85,
    ),
    Goal("count new keys: the loop of upserts", "count: new keys", "count: upserts", at_least=0.8),
    Goal("transform exactly once: the bare loop", "transform: redfaust", BARE, at_least=0.15),
    Goal(
        "transform exactly once: stock Faust",
        "transform: redfaust",
        "transform: faust.on_redis",
        at_least=4,
    ),
    Goal(
        "produce: the loop of pipelines", "produce: redfaust", "produce: bare.default", at_least=0.8
    ),
    Goal("sent to effect at 10 % load, p50", "effect at 10 %: p50", at_most=10, unit="ms"),
    Goal("sent to effect at 10 % load, p99", "effect at 10 %: p99", at_most=50, unit="ms"),
    Goal("outbox to effect, idle, p50", "outbox: p50", at_most=5, unit="ms"),
    Goal("outbox to effect, idle, p99", "outbox: p99", at_most=20, unit="ms"),
    Goal("the whole shop", "shop: events a minute", at_least=1_000_000, unit="events/min"),
    Goal("a worker at rest: memory", "rest: memory", at_most=80, unit="MiB"),
    Goal("a worker at rest: of one core", "rest: CPU", at_most=1, unit="%"),
    Goal("start to first effect", "start: first effect", at_most=1.5, unit="s"),
)


def goals(lines: Sequence[Line], peers: Sequence[str]) -> Sequence[Goal]:
    """All of them, and that each of these peers is slower at all that it can do."""
    ahead = [
        Goal(f"{line.work}: {line.name}", f"{line.work}: {OURS}", line.figure, at_least=1.0)
        for line in lines
        if line.key in peers
    ]
    return [*GOALS, *ahead]
