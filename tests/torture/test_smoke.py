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
    assert not report.all_violations, report.told
    assert report.faults == SMOKE.faults


ON_KAFKA = replace(
    SMOKE,
    broker=BrokerKind.KAFKA,
    faults={fault: times for fault, times in SMOKE.faults.items() if fault not in OF_REDIS},
)


SHORT = replace(
    ON_KAFKA,
    transfers=600,
    seconds=3,
    faults={Fault.WORKER_KILLED: 1, Fault.RELAY_KILLED: 1},
)


async def test_so_it_is_on_kafka_for_a_moment(tmp_path: Path) -> None:
    report = await run(SHORT, tmp_path)
    assert not report.all_violations, report.told
    assert report.faults == SHORT.faults


@pytest.mark.long
async def test_so_it_is_on_kafka(tmp_path: Path) -> None:
    report = await run(ON_KAFKA, tmp_path)
    assert not report.all_violations, report.told
    assert report.faults == ON_KAFKA.faults
