"""What a benchmark says of its goals, and keeps."""

from __future__ import annotations

import json

import pytest

from tests.bench.goals import GOALS, goals
from tests.bench.report import BARE, Goal, Line, Report
from tests.bench.workloads import Speed


def line(work: str, key: str, *rates: float) -> Line:
    return Line(work, key, f"{key} of {work}", 1000, [Speed(rate, 2.0) for rate in rates])


def report(*lines: Line, **measures: float) -> Report:
    return Report({"machine": "a small one"}, 3, lines, measures)


@pytest.mark.parametrize(
    ("goal", "value", "reached"),
    [
        (Goal("", "a", "b", at_least=0.5), 0.5, True),
        (Goal("", "a", "b", at_least=0.51), 0.5, False),
        (Goal("", "a", at_most=10.0), 10.0, True),
        (Goal("", "a", at_most=9.9), 10.0, False),
        (Goal("", "c", at_most=9.9), None, None),
        (Goal("", "a", "c", at_least=1.0), None, None),
    ],
)
def test_a_goal_is_reached_or_not_or_was_not_measured(
    goal: Goal, value: float | None, reached: bool | None
) -> None:
    measured = report(a=10.0, b=20.0)
    assert list(measured.judged([goal])) == [(goal, value, reached)]


def test_a_rate_is_its_median_and_ratios_are_between_medians() -> None:
    measured = report(
        line("consume", "bare.default", 100, 1, 300), line("consume", "redfaust", 90, 120, 5)
    )
    (verdict,) = measured.judged([Goal("", "consume: redfaust", BARE, at_least=0.9)])
    assert verdict[1:] == (0.9, True)


def test_a_peer_is_to_be_slower_at_all_that_it_can_do() -> None:
    lines = [
        line("consume", "redfaust", 10),
        line("consume", "other", 9),
        line("count", "redfaust", 8),
        line("count", "other", 16),
        line("count", "nobody's", 99),
    ]
    ahead = [goal for goal in goals(lines, ["other"]) if goal not in GOALS]
    judged = list(report(*lines).judged(ahead))
    assert [(goal.name, reached) for goal, _, reached in judged] == [
        ("consume: other of consume", True),
        ("count: other of count", False),
    ]


def test_all_is_kept_as_json() -> None:
    measured = report(line("consume", "bare.default", 100, 300, 200))
    measured.left_out["somebody"] = "no word"
    goal = Goal("fast", BARE, at_least=250, unit="events/s")
    kept = json.loads(json.dumps(measured.as_json([goal])))
    assert kept["machine"] == {"machine": "a small one"}
    assert kept["rows"] == [
        {
            "work": "consume",
            "key": "bare.default",
            "name": "bare.default of consume",
            "events": 1000,
            "events_per_second": [100, 300, 200],
            "cpu_us_per_event": [2.0, 2.0, 2.0],
            "seconds": 0.0,
        }
    ]
    assert kept["left_out"] == {"somebody": "no word"}
    (judged,) = kept["goals"]
    assert (judged["goal"], judged["value"], judged["reached"]) == ("fast", 200, False)


def test_what_is_printed_names_each_goal_with_its_verdict() -> None:
    measured = report(line("consume", "bare.default", 100), line("consume", "redfaust", 120))
    measured.left_out["somebody"] = "no word"
    printed = measured.as_text(
        [
            Goal("ahead", "consume: redfaust", BARE, at_least=1.1),
            Goal("far ahead", "consume: redfaust", BARE, at_least=2.0),
            Goal("later", "later", at_most=1.0, unit="ms"),
        ]
    ).splitlines()
    verdicts = {
        name: next(text for text in printed if text.startswith(name))
        for name in ("ahead", "far ahead", "later")
    }
    assert verdicts["ahead"].endswith("1.20 x  reached")
    assert verdicts["far ahead"].endswith("1.20 x  NOT REACHED")
    assert verdicts["later"].endswith("not measured")
    assert printed[-1] == "left out: somebody: no word"
