"""What was measured: a table with its goals for people, JSON for comparisons over time."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.bench.workloads import Speed

BARE = "consume: bare.default"
"""The figure that others are compared with."""


class Line(NamedTuple):
    """A row of the table, with what was measured of it."""

    work: str
    """What is done; rows of the same work can be compared."""
    key: str
    """Names it among those of its work."""
    name: str
    events: int
    speeds: Sequence[Speed]
    seconds: float = 0.0
    """That a round of it takes, with what comes before and after."""

    @property
    def figure(self) -> str:
        """Under which its median is found."""
        return f"{self.work}: {self.key}"

    @property
    def median(self) -> float:
        """Events per second."""
        return statistics.median(speed.events_per_second for speed in self.speeds)

    @property
    def best(self) -> float:
        """Events per second."""
        return max(speed.events_per_second for speed in self.speeds)

    @property
    def cpu(self) -> float:
        """Microseconds of the process for an event, at the median."""
        return statistics.median(speed.cpu for speed in self.speeds)


@dataclass(frozen=True, slots=True)
class Goal:
    """That a figure, or its ratio to another one, is high or low enough."""

    name: str
    of: str
    to: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""

    def value(self, figures: Mapping[str, float]) -> float | None:
        """What is to be judged; ``None`` where it was not measured."""
        if self.of not in figures or (self.to is not None and self.to not in figures):
            return None
        return figures[self.of] / (1.0 if self.to is None else figures[self.to])

    def is_reached(self, value: float) -> bool:
        """Whether this is good enough."""
        if self.at_least is not None and value < self.at_least:
            return False
        return self.at_most is None or value <= self.at_most

    @property
    def target(self) -> str:
        """For people."""
        bounds = [(">=", self.at_least), ("<=", self.at_most)]
        return ", ".join(f"{sign} {_number(x, self)}" for sign, x in bounds if x is not None)


@dataclass
class Report:
    """Of one run."""

    machine: Mapping[str, Any]
    rounds: int
    lines: Sequence[Line] = ()
    measures: dict[str, float] = field(default_factory=dict)
    """Figures that are no rows, each in its own unit."""
    notes: list[str] = field(default_factory=list)
    """Tables of others, as they are printed."""
    left_out: dict[str, str] = field(default_factory=dict)
    """What could not be measured, and why."""
    seconds: dict[str, float] = field(default_factory=dict)
    """That measurements have taken which are no rows."""

    @property
    def figures(self) -> dict[str, float]:
        """All that goals speak of."""
        return {line.figure: line.median for line in self.lines} | self.measures

    def judged(self, goals: Sequence[Goal]) -> Iterator[tuple[Goal, float | None, bool | None]]:
        """Each with its value and whether it is reached; ``None`` where it was not measured."""
        figures = self.figures
        for goal in goals:
            value = goal.value(figures)
            yield goal, value, None if value is None else goal.is_reached(value)

    def as_json(self, goals: Sequence[Goal]) -> dict[str, Any]:
        """All of it."""
        return {
            "machine": dict(self.machine),
            "rounds": self.rounds,
            "rows": [
                {
                    "work": line.work,
                    "key": line.key,
                    "name": line.name.strip(),
                    "events": line.events,
                    "events_per_second": [speed.events_per_second for speed in line.speeds],
                    "cpu_us_per_event": [speed.cpu for speed in line.speeds],
                    "seconds": line.seconds,
                }
                for line in self.lines
            ],
            "measures": self.measures,
            "seconds": self.seconds,
            "left_out": self.left_out,
            "goals": [
                {
                    "goal": goal.name,
                    "of": goal.of,
                    "to": goal.to,
                    "target": goal.target,
                    "value": value,
                    "reached": reached,
                }
                for goal, value, reached in self.judged(goals)
            ],
        }

    def as_text(self, goals: Sequence[Goal]) -> str:
        """What is printed."""
        parts = [self._heading(), self._table(), *self.notes, self._goals(goals), self._cost()]
        if self.left_out:
            parts.append("\n".join(f"left out: {who}: {why}" for who, why in self.left_out.items()))
        return "\n\n".join(parts)

    def _heading(self) -> str:
        described = "\n".join(f"{name}: {_told(told)}" for name, told in self.machine.items())
        return (
            f"{described}\nevents of about 200 bytes, one worker, medians of {self.rounds} rounds"
        )

    def _table(self) -> str:
        width = max(len(line.name) for line in self.lines) + 2
        head = (
            f"{'':{width}} {'events':>8} {'events/s':>9} {'x bare loop':>11} {'best':>9} "
            f"{'us CPU':>7} {'s/round':>7}"
        )
        bare = self.figures.get(BARE)
        parts = [head]
        for work in dict.fromkeys(line.work for line in self.lines):
            parts.append(work)
            for line in (line for line in self.lines if line.work == work):
                ratio = f"{line.median / bare:.2f}" if bare else ""
                parts.append(
                    f"  {line.name:{width - 2}} {line.events:8,} {line.median:9,.0f} {ratio:>11} "
                    f"{line.best:9,.0f} {line.cpu:7.1f} {line.seconds:7.1f}"
                )
        return "\n".join(parts)

    def _cost(self) -> str:
        rows = sum(line.seconds for line in self.lines) * self.rounds
        others = (f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items())
        return ", ".join([f"this took: rows {rows:.0f} s", *others])

    def _goals(self, goals: Sequence[Goal]) -> str:
        width = max(len(goal.name) for goal in goals)
        parts = [f"{'goal':{width}} {'':>14}  {'measured':>12}"]
        for goal, value, reached in self.judged(goals):
            told = "" if value is None else _number(value, goal)
            verdict = {True: "reached", False: "NOT REACHED", None: "not measured"}[reached]
            parts.append(f"{goal.name:{width}} {goal.target:>14}  {told:>12}  {verdict}")
        return "\n".join(parts)


def _told(what: object) -> str:
    if not isinstance(what, Mapping):
        return str(what)
    nested = any(isinstance(each, Mapping) for each in what.values())
    return ("; " if nested else ", ").join(f"{name} {_told(each)}" for name, each in what.items())


def _number(value: float, goal: Goal) -> str:
    if goal.to is not None:
        return f"{value:.2f} x"
    return f"{value:,.0f} {goal.unit}" if value >= 100 else f"{value:.2f} {goal.unit}"
