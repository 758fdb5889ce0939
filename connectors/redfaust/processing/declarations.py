"""What may be said where agents, topics and tables are declared.

A mistake is refused there, by ImproperlyConfigured with what to write: later it would be ignored,
or fail at the first event that needs it.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, Final

import faust
from faust.agents.agent import Agent as FaustAgent
from faust.exceptions import ImproperlyConfigured

from redfaust.options import nearest, refuse_unknown
from redfaust.processing.retries import Retries

MAX_PARTITIONS: Final = 10_000
"""Of a topic: each is a stream in the broker and some rows in the database."""

KAFKAS_CONFIG: Final = frozenset(
    {
        "cleanup.policy",
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.type",
        "compression.zstd.level",
        "delete.retention.ms",
        "file.delete.delay.ms",
        "flush.messages",
        "flush.ms",
        "follower.replication.throttled.replicas",
        "index.interval.bytes",
        "leader.replication.throttled.replicas",
        "local.retention.bytes",
        "local.retention.ms",
        "max.compaction.lag.ms",
        "max.message.bytes",
        "message.downconversion.enable",
        "message.format.version",
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
        "message.timestamp.difference.max.ms",
        "message.timestamp.type",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "min.insync.replicas",
        "preallocate",
        "remote.storage.enable",
        "retention.bytes",
        "retention.entries",
        "retention.ms",
        "segment.bytes",
        "segment.index.bytes",
        "segment.jitter.ms",
        "segment.ms",
        "unclean.leader.election.enable",
    }
)
"""What Kafka lets be said of a topic, and ``retention.entries``.

See https://kafka.apache.org/documentation/#topicconfigs; most of it means nothing to other brokers.
"""
_POLICIES: Final = ({"compact"}, {"delete"}, {"compact", "delete"})


def _parameters(of: Any) -> frozenset[str]:
    parameters = inspect.signature(of).parameters.values()
    return frozenset(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)


OF_TOPICS: Final = _parameters(faust.App.topic)
OF_AGENTS: Final = (_parameters(FaustAgent.__init__) | _parameters(faust.App.agent) | OF_TOPICS) - {
    "app",
    "on_error",
    "help",
} | {"channel", "retries", "on_give_up", "delivery"}


def check_agent(
    name: str,
    *,
    retries: object,
    on_give_up: object,
    delivery: object,
    deliveries: Collection[str],
    concurrency: object,
    others: Mapping[str, object],
) -> None:
    """``others``: the options that are meant for the agent's topic."""
    what = f"agent {name}"
    refuse_unknown(what, others, OF_AGENTS, ImproperlyConfigured)
    if not isinstance(retries, Retries):
        advice = "NO_RETRIES" if retries is None else "Retries(attempts=5)"
        raise ImproperlyConfigured(
            f"{what}: retries={retries!r}: write retries={advice}, from redfaust"
        )
    if on_give_up is not None and not _takes_event_and_error(on_give_up):
        raise ImproperlyConfigured(
            f"{what}: on_give_up={on_give_up!r}: write an async function of two arguments, the "
            "event and the exception"
        )
    if delivery not in deliveries:
        raise ImproperlyConfigured(
            f"{what}: delivery={delivery!r}: did you mean {nearest(str(delivery), deliveries)!r}?"
        )
    if concurrency is not None and not _is_count(concurrency):
        raise ImproperlyConfigured(
            f"{what}: concurrency={concurrency!r}: write a whole number, at least 1"
        )


def check_topic_options(
    name: str, *, partitions: object, retention: object, config: Mapping[str, object]
) -> None:
    """See the module."""
    what = f"topic {name}"
    check_partitions(what, partitions)
    if retention is not None and not _is_duration(retention):
        raise ImproperlyConfigured(
            f"{what}: retention={retention!r}: write seconds or a timedelta, 0 for no bound"
        )
    refuse_unknown(f"{what}, config", config, KAFKAS_CONFIG, ImproperlyConfigured)
    policy = config.get("cleanup.policy", "delete")
    if {word.strip() for word in str(policy).split(",")} not in _POLICIES:
        raise ImproperlyConfigured(
            f"{what}, config: cleanup.policy={policy!r}: write 'compact', 'delete' or "
            "'compact,delete'"
        )


def check_partitions(what: str, partitions: object) -> None:
    """``None`` is what the application says of all topics."""
    if partitions is not None and not (_is_count(partitions, MAX_PARTITIONS)):
        raise ImproperlyConfigured(
            f"{what}: partitions={partitions!r}: write a whole number from 1 to {MAX_PARTITIONS}"
        )


def _is_count(value: object, most: float = math.inf) -> bool:
    return type(value) is int and 1 <= value <= most


def _is_duration(value: object) -> bool:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return type(seconds) in (int, float) and 0 <= seconds < math.inf  # type: ignore[operator]


def _takes_event_and_error(function: Any) -> bool:
    bare = function
    while isinstance(bare, functools.partial):
        bare = bare.func
    if not callable(bare):
        return False
    is_async = map(inspect.iscoroutinefunction, (bare, type(bare).__call__))
    if not any(is_async):
        return False
    try:
        inspect.signature(function).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True
