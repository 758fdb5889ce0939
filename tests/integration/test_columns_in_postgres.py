"""Keys and values, packed into one text, are in Postgres what they were."""

from __future__ import annotations

from typing import Any

import asyncpg
import orjson
import pytest

from redfaust.tables.columns import BYTES, INTEGER, TEXT, Column, key_column, value_column


def dumps_indented(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2)


TEXTS = ["", "a", "a\nb", '"', "\\", "\\n", "a\x1fb", "ü", "\U0001f600", "null", "{}", ","]


@pytest.mark.parametrize(
    ("column", "many"),
    [
        (TEXT, TEXTS),
        (INTEGER, [0, -1, -(2**63), 2**63 - 1]),
        (BYTES, [b"", b"\n", b"\\x41", b"\0\xff"]),
        (key_column(None, windowed=False), [*TEXTS, 1, None, ("a\n", 1)]),
        (
            value_column(None, "json", orjson.dumps, orjson.loads),
            [*TEXTS, {"a\n": "\n"}, 2**64 - 1],
        ),
        (value_column(None, "other", dumps_indented, orjson.loads), [{"a\n": ["\n"]}, "\n"]),
    ],
    ids=["text", "integers", "bytes", "JSON keys", "JSON values", "JSON of many lines"],
)
async def test_what_is_packed_comes_back(
    database_url: str, column: Column, many: list[Any]
) -> None:
    connection = await asyncpg.connect(database_url)
    unpacked = column.unpack.format("$1")
    for packed in (many, many[:1]):
        rows = await connection.fetch(
            f"SELECT each::{column.sql_type}{column.cast} FROM {unpacked} AS each",
            column.pack([column.encode(each) for each in packed]),
        )
        assert [column.decode(row[0]) for row in rows] == packed
    await connection.close()
