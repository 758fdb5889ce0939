"""The status as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC

from app.status.models import Status
from connectors.processing.preview import printable
from models.money import format_money

_ERROR_WIDTH = 60


def render(status: Status) -> str:
    """All parts, each with its heading; what could not be asked is left out."""
    lines = [f"{status.app}, {status.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"]
    lines += [f"PROBLEM  {problem}" for problem in status.problems]
    if status.workers is not None and not status.workers:
        lines.append("PROBLEM  no worker is running: start one with `redfaust worker`")
    for heading, header, rows in _parts(status):
        lines += ["", heading, *_table(header, rows)]
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
                f"{worker.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
                len(worker.owns),
            )
            for worker in status.workers
        ]
        yield "Workers", ("name", "role", "host", "pid", "since (UTC)", "partitions"), workers
    if status.agents is not None:
        agents = [
            (
                agent.name,
                ", ".join(agent.topics),
                agent.workers,
                agent.processed,
                agent.failed,
                "-" if agent.waiting is None else agent.waiting,
            )
            for agent in status.agents
        ]
        header = ("name", "topics", "workers", "processed", "failed", "waiting")
        yield "Agents", header, agents
    if status.topics is not None:
        partitions = [
            (topic.name, part.partition, part.length, part.lag, part.pending, part.owner or "-")
            for topic in status.topics
            for part in topic.partitions
        ]
        header = ("topic", "partition", "length", "lag", "pending", "owner")
        yield "Topics", header, partitions


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
