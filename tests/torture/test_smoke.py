"""A short run: money is moved while everything is killed, and all of it is accounted for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.torture.faults import OF_REDIS, Fault
from tests.torture.run import Settings, run
from tests.torture.servers import BrokerKind

SMOKE = Settings(
    seed=7,
    transfers=2_000,
    seconds=10,
    workers=2,
    faults={
        Fault.WORKER_KILLED: 1,
        Fault.WORKER_LEFT: 1,
        Fault.RELAY_KILLED: 1,
        Fault.REDIS_KILLED: 1,
        Fault.REDIS_CUT_OFF: 1,
        Fault.POSTGRES_KILLED: 1,
        Fault.COMMITS_UNANSWERED: 1,
    },
)
LONGER = replace(
    SMOKE,
    transfers=6_000,
    seconds=25,
    faults={
        **SMOKE.faults,
        Fault.WORKER_KILLED: 3,
        Fault.WORKER_JOINED: 1,
        Fault.RELAY_KILLED: 2,
        Fault.CLIENTS_KILLED: 1,
        Fault.POSTGRES_SHUT_DOWN: 1,
        Fault.SESSIONS_ENDED: 1,
    },
)
ON_KAFKA = replace(
    LONGER,
    broker=BrokerKind.KAFKA,
    faults={fault: times for fault, times in LONGER.faults.items() if fault not in OF_REDIS},
)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(SMOKE, id="for a moment"),
        pytest.param(LONGER, id="for longer", marks=pytest.mark.long),
        pytest.param(ON_KAFKA, id="on Kafka", marks=pytest.mark.long),
    ],
)
async def test_whatever_is_killed_every_transfer_is_booked_once(
    tmp_path: Path, settings: Settings
) -> None:
    report = await run(settings, tmp_path)
    assert not report.all_violations, report.told
    assert report.faults == settings.faults
