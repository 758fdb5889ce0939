"""Parked events as rows of Postgres."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal

import asyncpg
import orjson
from faust.types import TP

from redfaust.outbox.headers import pack
from redfaust.postgres.database import Connection
from redfaust.postgres.queries import load
from redfaust.processing.dead_letters import headers_of
from redfaust.processing.parking import Changes, KeyQueue


async def select_lines(
    connection: Connection, app: str, tps: Collection[TP]
) -> Sequence[asyncpg.Record]:
    """The lines of partitions; they go into :meth:`~redfaust.processing.parking.Parking.load`."""
    return await connection.fetch(
        _query("select_lines"), app, [tp.topic for tp in tps], [tp.partition for tp in tps]
    )


async def select_parked(
    connection: Connection, app: str, lines: Sequence[KeyQueue], limit: int
) -> Sequence[tuple[KeyQueue, asyncpg.Record]]:
    """The first events of lines, of each in order, as far as they are committed."""
    keyed = [line for line in lines if line.key is not None]
    alone = {line.first_id: line for line in lines if line.key is None}
    found: list[tuple[KeyQueue, asyncpg.Record]] = []
    if keyed:
        rows = await connection.fetch(
            _query("select_parked"),
            app,
            [line.agent for line in keyed],
            [line.tp.topic for line in keyed],
            [line.tp.partition for line in keyed],
            [line.key for line in keyed],
            [line.first_id for line in keyed],
            limit,
        )
        found += [(keyed[row["place"] - 1], row) for row in rows]
    if alone:
        rows = await connection.fetch(_query("select_parked_alone"), list(alone))
        found += [(alone[row["id"]], row) for row in rows]
    return found


async def write(connection: Connection, app: str, changes: Changes) -> None:
    """Write changes within a transaction."""
    if changes.parked:
        await _insert(connection, app, changes)
    if changes.failed:
        failures = [failure for _, _, failure in changes.failed]
        await connection.execute(
            _query("update_parked"),
            [number for _, number, _ in changes.failed],
            [failure.attempts for failure in failures],
            [failure.pause for failure in failures],
            [failure.error_type for failure in failures],
            [failure.error for failure in failures],
        )
    if changes.done:
        await connection.execute(_query("delete_parked"), [number for _, number in changes.done])


async def _insert(connection: Connection, app: str, changes: Changes) -> None:
    lines = [line for line, _, _ in changes.parked]
    messages = [message for _, message, _ in changes.parked]
    failures = [failure for _, _, failure in changes.parked]
    rows = await connection.fetch(
        _query("insert_parked"),
        app,
        [line.agent for line in lines],
        [message.topic for message in messages],
        [message.partition for message in messages],
        [Decimal(message.offset) for message in messages],
        [message.timestamp for message in messages],
        [message.key for message in messages],
        [message.value for message in messages],
        # As text: an array of arrays would be taken for one of two dimensions.
        [orjson.dumps(pack(headers_of(message))).decode() for message in messages],
        [failure.attempts for failure in failures],
        [failure.pause for failure in failures],
        [failure.error_type for failure in failures],
        [failure.error for failure in failures],
    )
    for line, row in zip(lines, rows, strict=True):
        if line.key is None:  # nothing else leads to it
            line.first_id = row["id"]


def _query(name: str) -> str:
    return load("redfaust.processing", name)
