"""``make fuzz MINUTES=m``: hostile and odd clients beside good traffic."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from tests.fuzz.installation import BrokerKind
from tests.fuzz.run import Report, Settings, run


def main() -> int:
    """Run, and print what was found. Returns 1 if anything did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("minutes", type=float)
    brokers = parser.add_mutually_exclusive_group()
    for kind in (BrokerKind.CLUSTER, BrokerKind.KAFKA):
        brokers.add_argument(
            f"--{kind.name.lower()}",
            dest="kind",
            action="store_const",
            const=kind,
            default=BrokerKind.VALKEY,
            help=f"{kind.value}, not {BrokerKind.VALKEY.value}",
        )
    parser.add_argument("--directory", type=Path, help="where logs and data stay to be looked at")
    arguments = parser.parse_args()
    logging.basicConfig(level="ERROR", format="%(message)s")
    settings = Settings(arguments.seed, arguments.minutes * 60, arguments.kind)
    if arguments.directory is not None:
        arguments.directory.mkdir(parents=True, exist_ok=True)
        return _print(settings, run(settings, arguments.directory))
    with tempfile.TemporaryDirectory(prefix="redfaust-fuzz-") as directory:
        return _print(settings, run(settings, Path(directory)))


def _print(settings: Settings, report: Report) -> int:
    print(  # noqa: T201
        f"seed {settings.seed} on {settings.kind.value}: {report.rounds} rounds, "
        f"{report.acts:,} acts beside {report.good:,} good events"
    )
    for path, seconds in report.slowest.items():
        print(f"slowest answer of {path}: {seconds:.2f} s")  # noqa: T201
    for finding in report.findings:
        print(f"\nround {finding.round} does not hold:")  # noqa: T201
        for complaint in finding.complaints:
            print(f"  {complaint}")  # noqa: T201
        print("its acts:")  # noqa: T201
        for act in finding.acts:
            print(f"  {str(act)[:300]}")  # noqa: T201
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
