"""``make torture SEED=n MINUTES=m``: money is moved while everything is killed at random."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import tempfile
from pathlib import Path

from tests.torture.faults import OF_REDIS, how_many
from tests.torture.run import Report, Settings, run
from tests.torture.servers import BrokerKind

TRANSFERS_A_MINUTE = 10_000
"""As many as two cores process beside everything else."""
RESUMES_WITHIN = 20.0
"""Seconds after a fault within which all partitions have to go on."""
SHOWN = 5
"""Violations of an invariant that are printed."""


def main() -> int:
    """Run, and print what happened. 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--transfers", type=int, help="10,000 a minute if not given")
    parser.add_argument("--workers", type=int, default=4)
    brokers = parser.add_mutually_exclusive_group()
    for kind in (BrokerKind.CLUSTER, BrokerKind.KAFKA):
        brokers.add_argument(
            f"--{kind.name.lower()}",
            dest="broker",
            action="store_const",
            const=kind,
            default=BrokerKind.PAIR,
            help=f"{kind.value}, not {BrokerKind.PAIR.value}",
        )
    parser.add_argument("--directory", type=Path, help="where logs and data stay to be looked at")
    arguments = parser.parse_args()
    logging.basicConfig(level="ERROR", format="%(message)s")
    logging.getLogger("tests.torture").setLevel(logging.INFO)
    settings = Settings(
        seed=arguments.seed,
        transfers=arguments.transfers or round(arguments.minutes * TRANSFERS_A_MINUTE),
        seconds=arguments.minutes * 60,
        faults={
            fault: times
            for fault, times in how_many(arguments.minutes).items()
            if arguments.broker is not BrokerKind.KAFKA or fault not in OF_REDIS
        },
        workers=arguments.workers,
        broker=arguments.broker,
        resumes_within=RESUMES_WITHIN,
    )
    # As Ctrl-C: the small disk is unmounted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if arguments.directory is not None:
        arguments.directory.mkdir(exist_ok=True)
        return _print(settings, asyncio.run(run(settings, arguments.directory)))
    with tempfile.TemporaryDirectory(prefix="redfaust-torture-") as directory:
        return _print(settings, asyncio.run(run(settings, Path(directory))))


def _print(settings: Settings, report: Report) -> int:
    faults = {fault.value: fault for fault in settings.faults}
    width = max(map(len, (*faults, *report.notes, *report.violations)))
    print(  # noqa: T201
        f"\nseed {settings.seed}, {settings.transfers:,} transfers, {settings.workers} workers\n\n"
        f"{'fault':{width}}  {'times':>9}  longest until all partitions went on"
    )
    for name, fault in faults.items():
        if fault in report.impossible:
            print(f"{name:{width}}  {'-':>9}  skipped: {report.impossible[fault]}")  # noqa: T201
            continue
        longest = report.longest.get(fault, 0.0)
        print(f"{name:{width}}  {report.faults.get(fault, 0):>9,}  {longest:.1f} s")  # noqa: T201
    print()  # noqa: T201
    for name, count in report.notes.items():
        print(f"{name:{width}}  {count:>9,}")  # noqa: T201
    print(f"\n{'invariant':{width}}  violations")  # noqa: T201
    for name, violations in report.violations.items():
        print(f"{name:{width}}  {len(violations):>10,}")  # noqa: T201
        for violation in violations[:SHOWN]:
            print(f"    {violation.key}: {violation.what}")  # noqa: T201
    return 1 if report.all_violations else 0


if __name__ == "__main__":
    sys.exit(main())
