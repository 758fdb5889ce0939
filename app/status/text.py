"""The status as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from app.status.models import Status
from app.status.problems import Severity
from models.money import format_money
from redfaust.printable import printable

_ERROR_WIDTH = 60
_MARKS = {Severity.STOPPED: "STOPPED", Severity.WRONG: "PROBLEM", Severity.NOTICE: "NOTICE "}


def render(status: Status) -> str:
    """All parts, each with its heading; what could not be asked is left out."""
    lines = [f"{printable(status.app)}, {status.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"]
    for problem in status.problems:
        since = "" if problem.since is None else f" (since {_time(problem.since)})"
        lines.append(f"{_MARKS[problem.severity]}  {printable(problem.text)}{since}")
        lines.append(f"{'':7}  first: {printable(problem.first_step)}")
    for heading, header, rows in _parts(status):
        lines += ["", printable(heading), *_table(header, rows)]
    return "\n".join(lines)


_Part = tuple[str, Sequence[str], Sequence[Sequence[object]]]


def _parts(status: Status) -> Iterator[_Part]:
    yield from _processing(status)
    if (outbox := status.outbox) is not None:
        row = (outbox.depth, f"{outbox.oldest_age_seconds:.1f} s", outbox.scheduled)
        yield "Outbox", ("to publish", "oldest", "scheduled"), [row]
    if (parked := status.parked) is not None:
        topics = list(parked.topics.items())
        yield f"For another attempt: {parked.waiting} waiting", ("topic", "events"), topics
    if status.retrying:
        retries = [
            (each.agent, each.topic, each.events, each.attempts, _time(each.since), each.error_type)
            for each in status.retrying
        ]
        columns = ("agent", "topic", "events", "attempts", "since (UTC)", "error")
        yield "Tried again", columns, retries
    if (letters := status.dead_letters) is not None:
        rows = [
            (letter.id, f"{letter.topic}/{letter.partition}", letter.error[:_ERROR_WIDTH])
            for letter in letters.latest
        ]
        yield f"Dead letters: {letters.waiting} waiting", ("id", "from", "error"), rows
    if status.orders is not None:
        orders = [
            (
                order.order_id,
                order.status or "unreadable",
                format_money(order.total, order.currency),
            )
            for order in status.orders
        ]
        yield "Recent orders", ("order", "status", "total"), orders
    if status.mails is not None:
        mails = [(mail.id, mail.recipient, mail.subject) for mail in status.mails]
        yield "Mailbox", ("id", "to", "subject"), mails


def _processing(status: Status) -> Iterator[_Part]:
    if status.workers is not None:
        workers = [
            (
                worker.name,
                worker.role,
                worker.host,
                worker.pid,
                _time(worker.started_at),
                len(worker.owns),
            )
            for worker in status.workers
        ]
        yield "Workers", ("name", "role", "host", "pid", "since (UTC)", "partitions"), workers
    if status.relays is not None:
        relays = [(relay.name, relay.role, relay.host, relay.pid) for relay in status.relays]
        yield "Relays", ("name", "role", "host", "pid"), relays
    if status.agents is not None:
        agents = [
            (
                agent.name,
                ", ".join(agent.topics),
                agent.workers,
                agent.processed,
                agent.failed,
                agent.retried,
                "-" if agent.waiting is None else agent.waiting,
            )
            for agent in status.agents
        ]
        header = ("name", "topics", "workers", "processed", "failed", "retried", "waiting")
        yield "Agents", header, agents
    if status.topics is not None:
        partitions = [
            (topic.name, part.partition, part.length, part.lag, part.pending, part.owner or "-")
            for topic in status.topics
            for part in topic.partitions
        ]
        names = ("topic", "partition", "length", "lag", "pending", "owner")
        yield "Topics", names, partitions


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Columns as wide as their widest cell; numbers to the right."""
    if not rows:
        return ["  none"]
    cells = [list(header), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [isinstance(cell, int) for cell in rows[0]]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]
