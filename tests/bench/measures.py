"""What is no row of the table: measured once, it gives figures and a few lines of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from tests.bench import backlog, latency, rest, shop, start
from tests.bench.workloads import Servers

ORDERS = 4_000
SHOP_WORKERS = 2
"""One for each core of what the goals are for."""


class Found(NamedTuple):
    """By a measurement."""

    figures: Mapping[str, float]
    """Each in its own unit."""
    told: str
    """For people."""


class Measurement(NamedTuple):
    """What takes so long that it is done once."""

    name: str
    measure: Callable[[], Awaitable[Found]]


async def effect(servers: Servers, rate: float) -> Found:
    """From sent to effect, at a tenth of this rate, and at half of what is counted while more comes
    than can be: who sends takes of the same cores."""
    figures: dict[str, float] = {}
    told = [
        f"from an event sent to its effect in Postgres, counting exactly once, 1,000 keys; 10 % of "
        f"{rate:,.0f} events/s"
    ]
    most = await latency.measure(servers, rate)
    for name, load in (("10 %", rate / 10), ("50 %", most.rate / 2)):
        measured = await latency.measure(servers, load)
        figures |= {
            f"effect at {name}: p50": measured.effect.p50,
            f"effect at {name}: p99": measured.effect.p99,
        }
        told.append(f"  {name}: {latency.describe(measured)}")
    told.append(f"  50 % is half of {most.rate:,.0f} events/s, which are counted while more come")
    return Found(figures, "\n".join(told))


async def outbox(servers: Servers) -> Found:
    """From the end of an application's transaction to the effect, with nothing else to do."""
    measured = await latency.measure_outbox(servers)
    return Found(
        {"outbox: p50": measured.p50, "outbox: p99": measured.p99},
        f"from an application's commit through outbox and relay to the effect, idle: {measured}",
    )


async def whole_shop() -> Found:
    """Orders until they are confirmed and mailed, by the quickest way that the web API has."""
    way = shop.WAYS[-1]
    takings = await shop.measure(way, orders=ORDERS, workers=SHOP_WORKERS)
    return Found(
        {
            "shop: events a minute": takings.events_per_second * 60,
            "shop: orders": takings.orders_per_second,
        },
        f"the whole shop, {SHOP_WORKERS} workers, {takings.orders:,} orders {way.name}, to "
        "confirmed and mailed: "
        f"{takings.orders_per_second:,.0f} orders/s, "
        f"{takings.events_per_second * 60:,.0f} events/min",
    )


async def at_rest() -> Found:
    """A worker with nothing to do, and how large a backlog makes it."""
    measured = await rest.measure()
    small = measured.at_rest[0]
    return Found(
        {
            "rest: memory": small.memory.rss,
            "rest: CPU": small.cpu * 100,
            "backlog: memory": max(measured.drained.early, measured.drained.late),
        },
        rest.report(measured),
    )


async def first_effect() -> Found:
    """From the start of a process."""
    measured = await start.measure()
    seconds = [each.seconds for each in measured[0].starts]
    return Found({"start: first effect": seconds[len(seconds) // 2]}, start.report(measured))


async def drained(events: int) -> Found:
    """A backlog of so many events, by 1 and 2 worker processes."""
    measured = [await backlog.measure(workers, events) for workers in backlog.WORKERS]
    figures = {f"backlog: {each.workers} workers": each.rate for each in measured}
    return Found(figures, backlog.report(measured))


def alone(events: int) -> list[Measurement]:
    """Those that bring servers of their own; with a backlog of so many events."""
    return [
        Measurement("start to first effect", first_effect),
        Measurement("a worker at rest", at_rest),
        Measurement("a backlog", lambda: drained(events)),
        Measurement("the whole shop", whole_shop),
    ]


def beside(servers: Servers, rate: float) -> list[Measurement]:
    """Those that use these servers, where so many events per second are counted at most."""
    return [
        Measurement("sent to effect", lambda: effect(servers, rate)),
        Measurement("outbox to effect", lambda: outbox(servers)),
    ]
