"""A build that is broken where it matters does not get through."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.broken import Build
from tests.torture.faults import Fault
from tests.torture.run import Settings, run

CAUGHT_BY = {
    Build.POSITION_FIRST: ({"rows of the tables"}, "is left out"),
    Build.NO_DEDUPLICATION: ({"rows of the tables"}, "is booked twice"),
    # What is sent by transactions goes the same way as what agents send.
    Build.NO_MARKS: ({"transfers once, in order", "what agents send"}, "is there 2 times"),
}


@pytest.mark.long
@pytest.mark.parametrize("build", Build)
async def test_a_broken_build_is_caught(tmp_path: Path, build: Build) -> None:
    settings = Settings(
        seed=3,
        transfers=1_500,
        seconds=8,
        faults={Fault.WORKER_KILLED: 4, Fault.RELAY_KILLED: 2},
        workers=2,
        build=build,
        postgres_options={"fsync": "off"},
    )
    report = await run(settings, tmp_path)
    invariants, what = CAUGHT_BY[build]
    caught = [found for found in report.all_violations if what in found.what]
    assert invariants.intersection(found.invariant for found in caught)
