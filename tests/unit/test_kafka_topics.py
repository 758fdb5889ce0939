"""What topics are created with in Kafka."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from connectors.transports.broker import Retention
from connectors.transports.kafka.topics import _configuration


@pytest.mark.parametrize(
    ("retention", "expected"),
    [
        (None, {"retention.ms": "-1"}),
        (Retention(), {"retention.ms": "-1"}),
        (Retention(age=1.5, size=7), {"retention.ms": "1500", "retention.bytes": "7"}),
        (
            Retention(compacted=True, deletions=2.0),
            {"retention.ms": "-1", "cleanup.policy": "compact", "delete.retention.ms": "2000"},
        ),
        (
            Retention(age=1.0, compacted=True, deletions=2.0),
            {
                "retention.ms": "1000",
                "cleanup.policy": "compact,delete",
                "delete.retention.ms": "2000",
            },
        ),
    ],
)
def test_kafka_is_told_what_to_keep(
    retention: Retention | None, expected: Mapping[str, str]
) -> None:
    assert _configuration(retention) == expected
