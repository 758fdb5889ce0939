"""Windows of every time that an event may have."""

from __future__ import annotations

from typing import Any

import faust
import pytest

from redfaust.brokers.outgoing import LATEST


@pytest.mark.parametrize("timestamp", [0.0, 1.7e9, 2.0**31, 1e11, LATEST - 1])
def test_an_event_of_any_time_has_its_few_windows(timestamp: float) -> None:
    app = faust.App("windows", broker="memory://", store="memory://")
    tumbling: Any = app.Table("tumbling", default=int).tumbling(1.0)
    hopping: Any = app.Table("hopping", default=int).hopping(30.0, 10.0)
    [(start, _)] = tumbling.table.window.ranges(timestamp)
    assert start <= timestamp < start + 1
    assert len(hopping.table.window.ranges(timestamp)) == 3
    assert hopping.table.window.current(timestamp)[0] <= timestamp
