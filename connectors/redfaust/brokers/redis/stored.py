"""What lies at redfaust's own keys in Redis, where anybody may have written something else.

One function for each kind of entry. They return what the entry means, or raise :class:`Malformed`
with what is wrong about it, in printable characters; whoever reads ignores the entry then.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, NamedTuple, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from redfaust.brokers import assignor, heartbeats
from redfaust.brokers.assignor import GroupAssignment
from redfaust.brokers.broker import MAX_PARTITIONS, Heartbeat, Retention
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.client import WRONG_TYPE, pipelined
from redfaust.errors import BrokerUnavailable
from redfaust.printable import printable

CLOSED = b" closed"
"""What stands behind a topic's number of partitions while nobody may append to it."""

LONGEST_TOPIC = 249
"""Characters, as in Kafka."""

LONGEST = 1e12
"""Seconds, of which Redis computes milliseconds with what a double holds."""

SHOWN = 60
"""Characters of a bad entry that are shown."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_COUNT = re.compile(rb"(\d{1,6})( closed)?", re.ASCII)
_IDENTITY = re.compile(rb"[\w-]{1,64}", re.ASCII)
_BEAT = re.compile(rb"(\d{1,18}) (\d{1,18}) (.*)", re.ASCII | re.DOTALL)


class Malformed(ValueError):
    """An entry that redfaust did not write."""


class CatalogEntry(NamedTuple):
    """What the catalog says of a topic."""

    partitions: int
    is_closed: bool


def shown_name(name: bytes) -> str:
    """A group's name, escaped where it is no text."""
    return name.decode("utf-8", "backslashreplace")


def shown(content: bytes) -> str:
    """The beginning of an entry, to be read by people."""
    text = printable(content[: 4 * SHOWN].decode("utf-8", "backslashreplace"))
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def topic_name(name: bytes) -> str:
    """A topic's name."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise Malformed(f"{shown(name)} is no name of a topic: it is not UTF-8") from None
    if not 1 <= len(text) <= LONGEST_TOPIC or _CONTROL.search(text):
        raise Malformed(
            f"{shown(name)} is no name of a topic: that has 1 to {LONGEST_TOPIC} characters, and "
            "none of them is a control character"
        )
    return text


def catalog_entry(name: str, value: bytes) -> CatalogEntry:
    """What the catalog has of a topic."""
    found = _COUNT.fullmatch(value)
    if found is None or not 1 <= int(found[1]) <= MAX_PARTITIONS:
        raise Malformed(
            f"{printable(name)} has {shown(value)} for its number of partitions, which goes from 1 "
            f"to {MAX_PARTITIONS}: correct it (HSET), or remove it (HDEL)"
        )
    return CatalogEntry(int(found[1]), found[2] is not None)


def retention(name: str, value: bytes) -> Retention:
    """How much is kept of a topic. Fields that another release has added are passed over."""
    try:
        said = orjson.loads(value)
        known = {field.name for field in fields(Retention)}
        given = {field: said[field] for field in said.keys() & known}
        _check_retention(**given)
        return Retention(**given)
    except (ValueError, TypeError, AttributeError):
        raise Malformed(
            f"{printable(name)} has {shown(value)} for its retention: declare the topic again, or "
            "remove it (HDEL)"
        ) from None


def _check_retention(
    age: object = None,
    size: object = None,
    entries: object = None,
    compacted: object = False,
    deletions: object = 0.0,
    until: object = None,
) -> None:
    is_good = (
        all(seconds is None or _is_seconds(seconds) for seconds in (age, until))
        and all(bound is None or _is_count(bound) for bound in (size, entries))
        and isinstance(compacted, bool)
        and _is_seconds(deletions)
    )
    if not is_good:
        raise ValueError


def _is_seconds(value: object) -> bool:
    return (isinstance(value, float) or type(value) is int) and 0 <= value < LONGEST


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def assignment_entry(group: str, entry: Any) -> tuple[str, GroupAssignment]:
    """The version of an assignment, and what it says."""
    version, flat = entry
    said = dict(zip(flat[::2], flat[1::2], strict=True)).get(b"assignment", b"")
    try:
        return version.decode(), assignor.from_json(orjson.loads(said))
    except ValueError as error:
        raise Malformed(
            f"the assignment of {printable(group)} cannot be read ({printable(str(error))}): its "
            "members write it anew"
        ) from None


def heartbeat_entry(name: bytes, value: bytes, now: int) -> tuple[str, Heartbeat]:
    """A member and its last heartbeat."""
    try:
        found = _BEAT.fullmatch(value)
        if found is None:
            raise ValueError(heartbeats.OTHER_FORM)
        age = (now - int(found[2])) / 1000
        return name.decode(), heartbeats.from_json(int(found[1]), orjson.loads(found[3]), age)
    except ValueError as error:
        raise Malformed(
            f"the heartbeat of {shown(name)} cannot be read ({printable(str(error)[:200])}): "
            "it is forgotten after a minute, or remove it (HDEL)"
        ) from None


async def identity_of(client: Redis) -> str:
    """See :meth:`~redfaust.brokers.broker.Broker.identity`."""
    copies = await pipelined(client, (("GET", key) for key in keys.IDENTITIES))
    found = next((copy for copy in copies if _is_identity(copy)), None)
    if found is None:
        with of_type(keys.IDENTITY, "string"):
            await client.set(keys.IDENTITY, secrets.token_hex(8), nx=True)
            found = cast("bytes", await client.get(keys.IDENTITY) or b"")
        if not _is_identity(found):
            # What somebody else has put there tells logs apart as well.
            return hashlib.sha256(found).hexdigest()
    for key, copy in zip(keys.IDENTITIES, copies, strict=True):
        if copy is None:
            await client.set(key, found, nx=True)
    return found.decode()


def _is_identity(copy: object) -> bool:
    return isinstance(copy, bytes) and _IDENTITY.fullmatch(copy) is not None


def wrong_type(key: str, wanted: str) -> str:
    """What to do about a key that holds something else."""
    return (
        f"the key {printable(key)} holds something else than redfaust's {wanted}: rename or delete "
        "it, and it is made anew"
    )


@contextmanager
def of_type(key: str, wanted: str) -> Iterator[None]:
    """Say which key it is that holds something else, as long as it does."""
    try:
        yield
    except ResponseError as error:
        if WRONG_TYPE in str(error):
            raise BrokerUnavailable(f"Redis: {wrong_type(key, wanted)}") from error
        raise
