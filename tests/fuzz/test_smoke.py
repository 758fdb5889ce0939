"""A minute of hostile and odd clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.installation import BrokerKind
from tests.fuzz.run import Settings, run

SECONDS = 60.0
HANGS_AFTER = 20.0
"""Seconds after which an answer counts as none: the tests assert nothing about speed."""


def test_nothing_that_hostile_clients_do_loses_or_stops_anything(tmp_path: Path) -> None:
    report = run(Settings(1, SECONDS, answers_within=HANGS_AFTER), tmp_path)
    assert report.findings == []
    assert report.good > 0


@pytest.mark.long
@pytest.mark.parametrize("kind", [BrokerKind.CLUSTER, BrokerKind.KAFKA])
def test_so_it_is_on_other_brokers(kind: BrokerKind, tmp_path: Path) -> None:
    report = run(Settings(1, SECONDS, kind, answers_within=HANGS_AFTER), tmp_path)
    assert report.findings == []
