"""Replies of which no more is taken in than they may have.

How large entries are is known when they are there. A reader asks for as many as the last ones let
it expect; where others come it gives up what it has, and asks for fewer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from faust.types import TP
from redis._parsers import _AsyncHiredisParser
from redis.asyncio import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

REPLY_BYTES = 64 << 20
"""Bytes of a reply. An entry may be larger, if it is asked for alone."""

FEWER = 8
"""How many times fewer entries are asked for then."""


class ReplyTooLarge(RedisError):
    """A reply was given up, and its connection closed."""


class BoundedParser(_AsyncHiredisParser):
    """Parses replies, and counts their bytes."""

    _stream: Any
    _reader: Any
    left: int | None = None
    """Bytes that may come still; ``None``: any."""

    async def read_from_socket(self) -> bool:
        if self.left is None:
            return bool(await super().read_from_socket())  # type: ignore[no-untyped-call]
        buffer = await self._stream.read(self._read_size)
        if not buffer:
            raise RedisConnectionError("Connection closed by server.")
        self.left -= len(buffer)
        if self.left < 0:
            raise ReplyTooLarge("a reply has more bytes than were expected")
        self._reader.feed(buffer)
        return True


def bound(connection: Connection, size: int | None) -> None:
    """Take in no more than so many bytes of what is asked for next."""
    parser: Any = connection._parser
    parser.left = size


def bound_for(positions: Mapping[TP, int], limit: int) -> int | None:
    """What a reply may have. One entry is taken however large it is: it cannot be had in parts."""
    return None if limit == len(positions) == 1 else REPLY_BYTES


def fewer(positions: Mapping[TP, int], limit: int) -> tuple[Mapping[TP, int], int]:
    """What to ask for after a reply was too large: fewer entries, at last of fewer partitions, any
    of them."""
    if limit > 1:
        return positions, max(1, limit // FEWER)
    return dict(random.sample(list(positions.items()), (len(positions) + 1) // 2)), 1
