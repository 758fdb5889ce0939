"""Which partition a key belongs to.

Kafka's own hash (murmur2, as in ``org.apache.kafka.common.utils.Utils``), so that a topic that
moves to Kafka keeps its placement, and producers in other languages agree.
"""

from __future__ import annotations

import random
from functools import lru_cache
from struct import Struct

_SEED = 0x9747B28C
_M = 0x5BD1E995
_WORD = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF

REMEMBERED = 8_192
"""Keys whose hash is remembered, since it costs more than all else that is done for an entry."""
REMEMBERED_BYTES = 64
"""Of the longest of them."""


def partition_of(key: bytes | None, partitions: int) -> int:
    """The partition of a key; without a key, any."""
    if key is None:
        return random.randrange(partitions)  # noqa: S311 - spreads load, hides nothing
    known = _remembered if len(key) <= REMEMBERED_BYTES else _murmur2
    return (known(key) & _POSITIVE) % partitions


def partition_of_sequenced(key: bytes | None, number: int, partitions: int) -> int:
    """The partition of a key; without a key, one that a repeat of the number finds again."""
    return number % partitions if key is None else partition_of(key, partitions)


_UNPACK = [Struct(f"<{words}I").unpack_from for words in range(REMEMBERED_BYTES // 4 + 1)]
"""By number of words: to find out how takes a part of the time of a short key."""


def _murmur2(key: bytes) -> int:
    size = len(key)
    state = _SEED ^ size
    words = size // 4
    unpack = _UNPACK[words] if words < len(_UNPACK) else Struct(f"<{words}I").unpack_from
    for word in unpack(key):
        mixed = word * _M & _WORD
        state = (state * _M ^ (mixed ^ mixed >> 24) * _M) & _WORD
    if left := size % 4:
        state = (state ^ int.from_bytes(key[-left:], "little")) * _M & _WORD
    state = (state ^ state >> 13) * _M & _WORD
    return state ^ state >> 15


_remembered = lru_cache(REMEMBERED)(_murmur2)
