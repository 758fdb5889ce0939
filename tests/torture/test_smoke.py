"""A short run: money is moved while everything is killed, and all of it is accounted for."""

from __future__ import annotations

from pathlib import Path

from tests.torture.faults import Fault
from tests.torture.run import Settings, run

SMOKE = Settings(
    seed=7,
    transfers=6_000,
    seconds=25,
    workers=2,
    faults={
        Fault.WORKER_KILLED: 3,
        Fault.WORKER_LEFT: 1,
        Fault.WORKER_JOINED: 1,
        Fault.RELAY_KILLED: 2,
        Fault.REDIS_KILLED: 1,
        Fault.REDIS_CUT_OFF: 1,
        Fault.CLIENTS_KILLED: 1,
        Fault.POSTGRES_KILLED: 1,
        Fault.POSTGRES_SHUT_DOWN: 1,
        Fault.SESSIONS_ENDED: 1,
        Fault.COMMITS_UNANSWERED: 1,
    },
)


async def test_whatever_is_killed_every_transfer_is_booked_once(tmp_path: Path) -> None:
    report = await run(SMOKE, tmp_path)
    assert report.all_violations == []
    assert report.faults == SMOKE.faults
