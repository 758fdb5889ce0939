"""How fast is it, beside others? ``make bench`` prints it, and keeps it in ``.bench``.

Absolute rates are those of this machine now; a ratio is between two rows of the same run. Each row
is measured from the first read until everything is committed and, where events are sent, has
arrived. Rounds go through all rows in turn, so that other work on the machine disturbs all alike;
medians count. A peer that cannot be installed or fails is named and left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.embedded import running_postgres, running_valkey
from redfaust.gc_tuning import tune_gc
from tests.bench import machine
from tests.bench.backlog import EVENTS
from tests.bench.goals import OURS, goals
from tests.bench.measures import Measurement, alone, beside
from tests.bench.peers import processes
from tests.bench.peers.environments import Unavailable
from tests.bench.peers.processes import PEERS, Peer
from tests.bench.report import Line, Report
from tests.bench.rows import Row, rows
from tests.bench.workloads import Servers, Speed

KEPT = Path(".bench")


async def main(options: argparse.Namespace) -> None:
    """Measure, print, keep."""
    tune_gc()  # as a worker does
    left_out: dict[str, str] = {}
    peers = await _prepared([peer for peer in PEERS if options.peers or peer.is_bare], left_out)
    with tempfile.TemporaryDirectory(prefix="redfaust-bench-") as directory:
        os.environ["APP_DATADIR"] = f"{directory}/app"  # of applications in this process
        async with (
            running_valkey(Path(directory) / "valkey") as valkey,
            running_postgres(Path(directory) / "postgres") as postgres,
        ):
            servers = Servers(valkey.url, postgres.url, 0)
            versions: dict[str, Mapping[str, str]] = {}
            told = {**await machine.describe(valkey.url, postgres.url), "peers": versions}
            report = Report(told, options.rounds, left_out=left_out)
            measured = rows(peers, versions)
            report.lines = await _measure(servers, measured, options.rounds, left_out)
            if (counted := report.figures.get(f"count: {OURS}")) is not None:
                await _find(report, beside(servers, counted))
        await _find(report, alone(options.backlog))
    _tell("")
    _give(report, [peer.module for peer in peers if not peer.is_bare])


async def _prepared(peers: Sequence[Peer], left_out: dict[str, str]) -> Sequence[Peer]:
    """Those whose environment is there."""
    for peer in peers:
        with _named_if_failing(peer.name, left_out):
            await processes.prepare(peer)
    return [peer for peer in peers if peer.name not in left_out]


async def _measure(
    servers: Servers, measured: Sequence[Row], rounds: int, left_out: dict[str, str]
) -> Sequence[Line]:
    speeds: dict[Row, list[Speed]] = {row: [] for row in measured}
    seconds = dict.fromkeys(measured, 0.0)
    for number in range(rounds):
        for row in list(speeds):
            name, began = f"{row.work}: {row.name.strip()}", time.monotonic()
            _tell(f"round {number + 1} of {rounds}: {name}")
            with _named_if_failing(name, left_out):
                speeds[row].append(await row.measure(servers))
            if name in left_out:
                del speeds[row]
            seconds[row] += time.monotonic() - began
    return [
        Line(row.work, row.key, row.name, row.events, speeds[row], seconds[row] / rounds)
        for row in speeds
    ]


async def _find(report: Report, measurements: Sequence[Measurement]) -> None:
    for name, measure in measurements:
        _tell(name)
        began = time.monotonic()
        with _named_if_failing(name, report.left_out):
            figures, told = await measure()
            report.measures |= figures
            report.notes.append(told)
        report.seconds[name] = time.monotonic() - began


@contextmanager
def _named_if_failing(name: str, left_out: dict[str, str]) -> Iterator[None]:
    """What fails is left out, and what else was measured is not lost for it."""
    try:
        yield
    except Unavailable as error:
        left_out[name] = str(error)
    except Exception as error:
        left_out[name] = repr(error)


def _give(report: Report, peers: Sequence[str]) -> None:
    judged = goals(report.lines, peers)
    print(report.as_text(judged))  # noqa: T201
    KEPT.mkdir(exist_ok=True)
    kept = KEPT / f"{report.machine['when'].replace(':', '')}.json"
    kept.write_text(json.dumps(report.as_json(judged), indent=1), encoding="utf-8")
    print(f"\nkept in {kept}")  # noqa: T201


def _tell(what: str) -> None:
    """What is being done, to who waits."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)  # noqa: T201


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="only bare loops")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backlog", type=int, default=EVENTS, help="events; default %(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(_options()))
