"""Faust's settings, and which of them mean something here.

Those of :data:`IGNORED` are Kafka's. An application that sets one is told once, when its worker
starts; nothing else comes of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from faust.types import AppT

_SOCKETS = "the client has its own: socket_timeout=… and the like behind the URL's question mark"
_MEMBERS = "a worker heartbeats twice a second, and counts as dead after six seconds of silence"
_BATCHES = "what is sent while the last batch is on its way is the next one"
_VERSIONS = "it is found out which commands the broker has"
_LIVELOCK = "events may take as long as they do; lag and age show which wait"
_COPIES = "copies are the broker's or Postgres's own affair"

IGNORED: Mapping[str, str] = {
    "broker_api_version": _VERSIONS,
    "broker_check_crcs": "entries come over a connection that checks what it carries",
    "broker_commit_livelock_soft_timeout": _LIVELOCK,
    "broker_heartbeat_interval": _MEMBERS,
    "broker_max_poll_interval": _LIVELOCK,
    "broker_producer": "what is sent goes with the commit, to the broker that is read from",
    "broker_rebalance_timeout": "events in progress have five seconds before partitions move",
    "broker_request_timeout": f"but for tables that recover from changelogs, {_SOCKETS}",
    "broker_session_timeout": _MEMBERS,
    "consumer_api_version": _VERSIONS,
    "consumer_connections_max_idle_ms": _SOCKETS,
    "consumer_group_instance_id": "FAUST_WORKER_NAME names a worker that gets back what it had",
    "consumer_max_fetch_size": "broker_max_poll_records bounds what is read in one go",
    "consumer_metadata_max_age_ms": "workers hear of changes when they happen",
    "ConsumerScheduler": "all partitions that have something are read in one go",
    "producer_acks": "an append is done when the broker confirms it; see min-replicas-to-write",
    "producer_api_version": _VERSIONS,
    "producer_compression_type": "entries are stored as they are",
    "producer_connections_max_idle_ms": _SOCKETS,
    "producer_linger": _BATCHES,
    "producer_linger_ms": _BATCHES,
    "producer_max_batch_size": _BATCHES,
    "producer_max_request_size": "an entry may be as large as the broker takes it",
    "producer_metadata_max_age_ms": "how many partitions a topic has is asked every few seconds",
    "producer_partitioner": "keys go where Kafka's own hash puts them; send with partition=…",
    "producer_request_timeout": "what is sent is repeated until it is there",
    "producer_threaded": "sending never waits for the broker, in no thread",
    "ssl_context": "rediss:// is TLS, with ssl_ca_certs=… behind the URL's question mark",
    "stream_processing_timeout": _LIVELOCK,
    "table_standby_replicas": _COPIES,
    "topic_allow_declare": "topics that are read are declared, and stay as they are if they exist",
    "topic_replication_factor": _COPIES,
}
"""By name, what holds instead."""

logger = logging.getLogger(__name__)


def tell_of_ignored(app: AppT) -> None:
    """Say once, in one line, which of the settings that an application made mean nothing."""
    _, written = app._default_options
    heeded: frozenset[str] = app.transport.heeds  # type: ignore[attr-defined] # ours
    made = [n for n in IGNORED if n not in heeded and _is_made(app.conf, n, written)]
    reasons = [f"{name} ({IGNORED[name]})" for name in made]
    credentials = written.get("broker_credentials")
    if "ssl_context" not in heeded and getattr(credentials, "ssl_context", None) is not None:
        reasons.append(f"broker_credentials.ssl_context ({IGNORED['ssl_context']})")
    if reasons:
        logger.warning("Settings that mean nothing to this broker: %s", "; ".join(reasons))


def _is_made(conf: Any, name: str, written: Mapping[str, Any]) -> bool:
    """Whether the application, its environment or its configuration has set it to something."""
    if written.get(name) is not None:
        return True
    setting = conf.SETTINGS[name]
    if setting.deprecated:
        return False  # it is an alias: reading it warns
    value = setting.on_get(conf)
    if setting.default_alias:
        return bool(value != conf.SETTINGS[setting.default_alias].on_get(conf))
    if setting.default is None:
        return bool(value)
    return bool(value != setting.to_python(conf, setting.default))
