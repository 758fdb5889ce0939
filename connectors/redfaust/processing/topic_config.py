"""What an application says of its topics: how many partitions they have, and how much of them is
kept, in Faust's words and in Kafka's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from faust.exceptions import ImproperlyConfigured
from faust.types import AppT
from mode import Seconds, want_seconds

from redfaust.brokers.broker import Broker, Retention, TopicSpec

CLEANUP = "cleanup.policy"
DELETIONS = "delete.retention.ms"
AGE = "retention.ms"
SIZE = "retention.bytes"
ENTRIES = "retention.entries"
"""The one that Kafka does not have: entries of a partition."""

KNOWN = frozenset({CLEANUP, DELETIONS, AGE, SIZE, ENTRIES})
"""The names in a topic's ``config`` that mean something here."""

UNBOUNDED = -1
"""Kafka's number for it."""

logger = logging.getLogger(__name__)


def retention_of(
    *,
    retention: Seconds | None,
    compacting: bool | None,
    deleting: bool | None,
    config: Mapping[str, Any] | None,
) -> Retention | None:
    """What a topic is declared with; ``None`` if nothing is said about it.

    ``config`` goes before the others, as with Kafka. Raises ImproperlyConfigured if a number is
    none.
    """
    said = {name: value for name, value in (config or {}).items() if name in KNOWN}
    if not said and retention is None and compacting is None and deleting is None:
        return None
    compacts, deletes = _cleanup(compacting, deleting, said.get(CLEANUP))
    kept = Retention(compacted=compacts)
    if (deletions := _seconds(said, DELETIONS)) is not None:
        kept = replace(kept, deletions=deletions)
    if not deletes:
        return kept
    by_hand = want_seconds(retention) if retention else None
    age = _seconds(said, AGE) if AGE in said else by_hand
    return replace(kept, age=age, size=_bound(said, SIZE), entries=_bound(said, ENTRIES))


def _cleanup(compacting: bool | None, deleting: bool | None, cleanup: object) -> tuple[bool, bool]:
    """Whether it is compacted, and whether bounds count: as with Kafka, those of a topic that is
    only compacted do not."""
    if cleanup is not None:
        words = {word.strip() for word in str(cleanup).split(",")}
        return "compact" in words, "delete" in words
    return bool(compacting), not compacting if deleting is None else deleting


def _seconds(config: Mapping[str, Any], name: str) -> float | None:
    milliseconds = _bound(config, name)
    return None if milliseconds is None else milliseconds / 1000


def _bound(config: Mapping[str, Any], name: str) -> int | None:
    value = config.get(name, UNBOUNDED)
    try:
        bound = int(value)
    except (TypeError, ValueError):
        raise ImproperlyConfigured(
            f"config={{{name!r}: {value!r}}}: write a number, {UNBOUNDED} for no bound"
        ) from None
    if bound < UNBOUNDED:
        raise ImproperlyConfigured(f"config={{{name!r}: {bound}}}: write {UNBOUNDED} for no bound")
    return None if bound == UNBOUNDED else bound


class _Said(NamedTuple):
    partitions: int | None
    retention: Retention | None
    meaningless: frozenset[str]


_said: WeakKeyDictionary[AppT, dict[str, _Said]] = WeakKeyDictionary()
"""By application the topics of which something is said: Faust knows only those that it reads."""

_declared: WeakKeyDictionary[Broker, dict[str, _Said]] = WeakKeyDictionary()
"""What brokers know of it."""


def note(
    app: AppT,
    topics: Sequence[str],
    partitions: int | None,
    retention: Retention | None,
    config: Mapping[str, Any],
) -> None:
    """Remember what was said about topics, to be declared before anything is put on them."""
    meaningless = frozenset(config.keys() - KNOWN)
    if partitions is not None or retention is not None or meaningless:
        said = _Said(partitions, retention, meaningless)
        _said.setdefault(app, {}).update(dict.fromkeys(topics, said))


async def declare(app: AppT, broker: Broker) -> None:
    """Declare topics with what was said about them, which costs nothing once that is done. Raises
    what the broker raises: call it again."""
    declared = _declared.setdefault(broker, {})
    new = [
        (topic, said)
        for topic, said in _said.get(app, _NOTHING).items()
        if declared.get(topic) != said
    ]
    if not new:
        return
    # Tables in Postgres need none, but Faust asks for it.
    in_postgres = [table for table in app.tables.values() if getattr(table, "in_postgres", False)]
    unused = {table.changelog_topic_name for table in in_postgres}
    for topic, said in new:
        partitions, retention, _ = said
        bare = partitions is None and retention is None
        if app.conf.topic_allow_declare and not bare and topic not in unused:
            count = partitions or app.conf.topic_partitions
            await broker.create_topic(TopicSpec(topic, count, retention))
        # Not before: somebody else may be about to put something on it.
        declared[topic] = said
        if said.meaningless:
            logger.warning(
                "What %s is configured with means nothing to this broker: %s",
                topic,
                ", ".join(sorted(said.meaningless)),
            )


_NOTHING: Mapping[str, _Said] = {}
