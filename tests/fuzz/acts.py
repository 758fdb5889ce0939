"""What hostile and odd clients do to an installation, and how hypothesis draws it.

Each act is a value, so that a report can show it. What an act does to a server may be refused: that
is the server's right, and no finding.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fuzz.ledger import EDITED_KEYS, GOOD_KEYS, NOTICES, PARTITIONS, PAYMENTS, RECEIPTS, TOLD

BIG = 200_000
"""Bytes of the largest value that is drawn."""


@dataclass(frozen=True)
class Append:
    """An entry of a foreign producer."""

    topic: str
    partition: int
    fields: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Forge:
    """An entry that claims to be of a producer of redfaust, with a sequence that it never gave."""

    topic: str
    partition: int
    ahead: int
    """By how much the sequence is above the last one of that producer."""


@dataclass(frozen=True)
class WriteField:
    """A field of a hash that redfaust reads."""

    key: str
    field: bytes
    value: bytes


@dataclass(frozen=True)
class Replace:
    """Another type at a key of redfaust, until the end of the round."""

    key: str


@dataclass(frozen=True)
class Delete:
    """A key of redfaust is deleted, or evicted."""

    key: str


@dataclass(frozen=True)
class AddGroup:
    """A consumer group of somebody else."""

    topic: str
    partition: int
    name: bytes


@dataclass(frozen=True)
class InsertRow:
    """A row of the outbox, as SQL writes it."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: str
    timestamp: float | None
    available_at: str | None


@dataclass(frozen=True)
class Publish:
    """A call of the SQL function ``redfaust.publish``."""

    topic: str
    key: str | None
    value: str
    headers: str


@dataclass(frozen=True)
class EditRow:
    """A row of a table is edited by hand, until the end of the round."""

    table: str
    key: str
    value: str


@dataclass(frozen=True)
class Ask:
    """A request to the web server of the application."""

    path: str
    headers: tuple[tuple[str, str], ...]


Act: TypeAlias = (
    Append | Forge | WriteField | Replace | Delete | AddGroup | InsertRow | Publish | EditRow | Ask
)

_TOPICS = st.sampled_from((PAYMENTS, RECEIPTS, NOTICES, TOLD))
_PARTITIONS = st.integers(0, PARTITIONS - 1)
_ODD_NUMBERS = st.sampled_from(
    (b"0", b"-5", b"x", b"", b"nan", b"1e30", b"9007199254740992", b"99999999999999999999999")
)
_BYTES = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.integers(1, BIG).map(lambda size: b"x" * size),
    _ODD_NUMBERS,
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
_VICTIMS = st.one_of(
    st.sampled_from(("bad-1", "bad-2", "", "bad\x00", "bad\u202e")), st.text(max_size=12)
).filter(lambda key: key not in (*GOOD_KEYS, *EDITED_KEYS))


def _encoded(value: Any) -> bytes:
    # The standard library's, which writes NaN as well.
    return json.dumps(value).encode()


_VALUES = st.one_of(
    _BYTES,
    _JSON.map(_encoded),
    st.just(b'{"number": 1, "amount": 5}'),
    st.just(b'{"number": 1, "amount": NaN}'),
    st.just(b"[" * 30_000),
)
_KEYS = st.one_of(_VICTIMS.map(lambda key: key.encode("utf-8", "replace")), st.binary(max_size=30))
_GOOD = frozenset(key.encode() for key in GOOD_KEYS)
_RESERVED = st.one_of(
    st.tuples(st.just(b"_v"), _VALUES),
    st.tuples(st.just(b"_n"), st.just(b"")),
    st.tuples(st.just(b"_k"), _KEYS.filter(lambda key: key not in _GOOD)),
    st.tuples(st.just(b"_t"), _BYTES),
    st.tuples(st.just(b"_i"), st.one_of(_BYTES, _ODD_NUMBERS.map(lambda number: b"x:" + number))),
    st.tuples(st.binary(max_size=10).map(lambda name: b"_h:" + name), _BYTES),
    st.tuples(st.just(b"_h:redfaust-replay-for"), _BYTES),
)
_FIELDS = st.lists(
    st.one_of(_RESERVED, st.tuples(st.binary(min_size=1, max_size=10), _BYTES)),
    min_size=1,
    max_size=5,
).map(tuple)

_COMPANIONS = st.builds(
    lambda topic, partition, kind: f"{{{topic}:{partition}}}:{kind}",
    _TOPICS,
    _PARTITIONS,
    st.sampled_from(("producers", "known", "confirmed")),
)
_SHARED_KEYS = st.sampled_from(
    (
        "redfaust:topics",
        "redfaust:retentions",
        "redfaust:cleaner",
        "redfaust:identity",
        "redfaust:secret",
        "{redfaust:fuzz}:assignment",
        "{redfaust:fuzz}:heartbeats",
        "{redfaust:redfaust.relays}:heartbeats",
    )
)
_OWN_KEYS = _COMPANIONS | _SHARED_KEYS
_HASHES = _COMPANIONS | st.sampled_from(
    ("redfaust:topics", "redfaust:retentions", "{redfaust:fuzz}:heartbeats")
)
_SQL_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)
_SQL_TOPICS = st.one_of(_TOPICS, _SQL_TEXT)


def appends() -> SearchStrategy[Act]:
    """What foreign producers append, on any broker."""
    return st.builds(Append, _TOPICS, _PARTITIONS, _FIELDS)


def rows() -> SearchStrategy[Act]:
    """What SQL writes."""
    return st.one_of(
        st.builds(
            InsertRow,
            _SQL_TOPICS,
            st.none() | st.integers(-(2**31), 2**31 - 1) | _PARTITIONS,
            st.none() | _KEYS.filter(lambda key: key not in _GOOD),
            st.none() | _VALUES,
            st.sampled_from(("{}", '{"a": 1}', "[]", '[["a", "!"]]', "[5]", '{"a": {"b": []}}')),
            st.none() | st.floats(),
            st.none() | st.sampled_from(("infinity", "-infinity", "now", "4713-01-01 BC")),
        ),
        st.builds(
            Publish,
            _SQL_TOPICS,
            st.none()
            | st.sampled_from(EDITED_KEYS)
            | _VICTIMS.map(lambda key: key.replace("\0", "")),
            st.sampled_from(("null", "5", '{"number": 1, "amount": 2}', '"x"', "[]")),
            st.sampled_from(("{}", '{"type": null}', '{"version": 10000000000}', '{"a": "b"}')),
        ),
        st.builds(
            EditRow,
            st.sampled_from(("books", "checks", "heard")),
            st.sampled_from(EDITED_KEYS),
            st.sampled_from(("5", "null", '"x"', '{"count": "many"}', "[]", "{}")),
        ),
    )


def asks() -> SearchStrategy[Act]:
    """What is asked of the web server."""
    return st.builds(
        Ask,
        st.sampled_from(("/", "/api/status", "/metrics", "/health/ready", "/nothing", "/mails/0")),
        st.lists(
            st.tuples(
                st.sampled_from(("X-Correlation-ID", "Accept", "traceparent", "Cookie")),
                st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200),
            ),
            max_size=3,
        ).map(tuple),
    )


def on_redis() -> SearchStrategy[Act]:
    """What can be done to a Redis by somebody who may write all its keys, and to the database."""
    return st.one_of(
        appends(),
        st.builds(Forge, _TOPICS, _PARTITIONS, st.sampled_from((-1, 0, 1, 5, 10**6, 2**53))),
        st.builds(WriteField, _HASHES, _BYTES, st.one_of(_BYTES, _JSON.map(_encoded))),
        st.builds(Replace, _OWN_KEYS),
        st.builds(Delete, _OWN_KEYS),
        st.builds(AddGroup, _TOPICS, _PARTITIONS, _BYTES.filter(bool)),
        rows(),
        asks(),
    )


def on_kafka() -> SearchStrategy[Act]:
    """The same where the broker is a Kafka, whose own keys nobody else can write."""
    return st.one_of(appends(), rows(), asks())
