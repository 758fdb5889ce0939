"""Puts events into streams before anything is measured, as quickly as it goes: by a script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

import redis

from tests.bench.events import BATCH

_APPEND = """
local at = 1
while at < #ARGV do
    local last = at + 1 + ARGV[at + 1] * 2
    redis.call('XADD', ARGV[at], '*', unpack(ARGV, at + 2, last))
    at = last + 1
end
"""


def fill(url: str, entries: Iterable[tuple[str, Mapping[bytes, bytes]]]) -> None:
    """Append entries, each to its stream."""
    client = redis.Redis.from_url(url)
    append = client.register_script(_APPEND)
    left = iter(entries)
    while batch := list(islice(left, BATCH)):
        words: list[str | bytes | int] = []
        for stream, fields in batch:
            words += [stream, len(fields)]
            for pair in fields.items():
                words += pair
        append(args=words)
    client.close()
