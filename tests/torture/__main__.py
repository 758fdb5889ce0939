"""``make torture SEED=n MINUTES=m``: money is moved while everything is killed at random."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from tests.torture.faults import how_many
from tests.torture.run import Report, Settings, run

TRANSFERS = 200_000
SHOWN = 5
"""Violations of an invariant that are printed."""


def main() -> int:
    """Run, and print what happened. 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--transfers", type=int, default=TRANSFERS)
    parser.add_argument("--directory", type=Path, help="where logs and data stay to be looked at")
    arguments = parser.parse_args()
    logging.basicConfig(level="ERROR", format="%(message)s")
    logging.getLogger("tests.torture").setLevel(logging.INFO)
    settings = Settings(
        seed=arguments.seed,
        transfers=arguments.transfers,
        seconds=arguments.minutes * 60,
        faults=how_many(arguments.minutes),
    )
    if arguments.directory is not None:
        return _print(settings, asyncio.run(run(settings, arguments.directory)))
    with tempfile.TemporaryDirectory(prefix="redfaust-torture-") as directory:
        return _print(settings, asyncio.run(run(settings, Path(directory))))


def _print(settings: Settings, report: Report) -> int:
    rows = [(fault.value, count) for fault, count in report.faults.items()]
    rows += report.notes.items()
    width = max(len(name) for name, _ in (*rows, *report.violations.items()))
    print(f"\nseed {settings.seed}, {settings.transfers} transfers\n")  # noqa: T201
    for name, count in rows:
        print(f"{name:{width}}  {count:>9,}")  # noqa: T201
    print(f"\n{'invariant':{width}}  violations")  # noqa: T201
    for name, violations in report.violations.items():
        print(f"{name:{width}}  {len(violations):>9,}")  # noqa: T201
        for violation in violations[:SHOWN]:
            print(f"    {violation.key}: {violation.what}")  # noqa: T201
    return 1 if report.all_violations else 0


if __name__ == "__main__":
    sys.exit(main())
