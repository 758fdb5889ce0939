"""Faust's door for extensions: what an application gets by writing ``broker="redis://…"``.

Faust loads this by the entry point ``faust.fixups`` and tells it when the application's settings
have been read. Classes that the application chose itself stay.
"""

from __future__ import annotations

import os
from collections.abc import Set
from typing import Any

import faust
from faust import stores
from faust.app.router import Router as FaustRouter
from faust.assignor.leader_assignor import LeaderAssignor as FaustLeaderAssignor
from faust.assignor.partition_assignor import PartitionAssignor as FaustPartitionAssignor
from faust.exceptions import ImproperlyConfigured
from faust.fixups.base import Fixup as FaustFixup
from faust.serializers.registry import Registry as FaustRegistry
from faust.tables.manager import TableManager as FaustTableManager
from faust.topics import Topic as FaustTopic
from faust.types import AppT
from faust.types.enums import ProcessingGuarantee
from faust.worker import Worker as FaustWorker
from yarl import URL

from redfaust import commands  # noqa: F401 - registers them
from redfaust.brokers.kafka.address import KAFKA
from redfaust.brokers.url import BrokerUrl
from redfaust.gc_tuning import tune_gc
from redfaust.options import refuse_unknown
from redfaust.postgres.hosts import check_options, list_as_parameter
from redfaust.printable import printable
from redfaust.processing.agent import Agent
from redfaust.processing.commit_timer import MAX_EVENTS
from redfaust.processing.replies import ReplyConsumer
from redfaust.processing.serializers import Registry
from redfaust.processing.stream import Stream
from redfaust.processing.topic import Topic
from redfaust.tables.global_table import GlobalTable
from redfaust.tables.manager import POSTGRES, TableManager
from redfaust.tables.sets import SetTable
from redfaust.tables.store import SCHEMA
from redfaust.tables.table import Table
from redfaust.transports.assignor import PartitionAssignor
from redfaust.transports.by_url import check_url, is_broker
from redfaust.transports.leader import LeaderAssignor
from redfaust.transports.router import Router
from redfaust.worker import Worker

COMMIT_INTERVAL = 0.1
"""Seconds after which finished events are committed. Faust's 2.8 suit Kafka, where a commit goes
through the group's coordinator; here it is the time until a table's change shows in SQL."""

FAUST_COMMIT_INTERVAL = 2.8

FAUST_COMMIT_EVERY = 10_000

LOOPBACK = "127.0.0.1"
"""Where Faust's web server listens unless it is said. Faust's default is all interfaces, and its
pages show the rows of tables to everybody who comes."""

OLDER_SETTINGS = frozenset(
    {
        "client_id",
        "commit_interval",
        "create_reply_topic",
        "default_partitions",
        "num_standby_replicas",
        "replication_factor",
    }
)
"""Older names of settings, which Faust accepts with a warning."""

_CLASSES: dict[str, tuple[Any, Any]] = {
    "Agent": (faust.Agent, Agent),
    "Stream": (faust.Stream, Stream),
    "Topic": (FaustTopic, Topic),
    "Serializers": (FaustRegistry, Registry),
    "Table": (faust.Table, Table),
    "SetTable": (faust.SetTable, SetTable),
    "GlobalTable": (faust.GlobalTable, GlobalTable),
    "TableManager": (FaustTableManager, TableManager),
    "PartitionAssignor": (FaustPartitionAssignor, PartitionAssignor),
    "LeaderAssignor": (FaustLeaderAssignor, LeaderAssignor),
    "Router": (FaustRouter, Router),
    "Worker": (FaustWorker, Worker),
}


class Fixup(FaustFixup):
    """Sets the classes that our transports and stores work with."""

    def __init__(self, app: AppT) -> None:
        super().__init__(app)
        name, written = app._default_options
        if isinstance(store := written.get("store"), str):
            # A list of hosts is no URL for Faust, which reads its settings after this.
            app._default_options = name, {**written, "store": list_as_parameter(store)}
        app.on_configured.connect(_configure)  # type: ignore[arg-type] # as Faust sends it

    def enabled(self) -> bool:
        return True

    def on_worker_init(self) -> None:
        if _is_ours(self.app.conf):
            tune_gc()


def _configure(app: Any, conf: Any, **_: Any) -> None:
    broker, store = _scheme_of_broker(conf), _scheme_of_store(conf)
    if not _is_ours(conf):
        if store in POSTGRES:
            raise ImproperlyConfigured(
                f"store={store}:// needs a broker that commits with it: redis://, rediss://, "
                f"kafka:// or memory://, not {broker}://"
            )
        return
    _, written = app._default_options
    refuse_unknown(
        f"the application {printable(conf.id)}", written, _settings(conf), ImproperlyConfigured
    )
    if "/" in conf.id or conf.id != printable(conf.id):
        raise ImproperlyConfigured(
            f"the application's id {printable(conf.id)} has a slash, or something that cannot be "
            "printed: a slash stands between application and agent in the names of groups"
        )
    try:
        stores.by_url(str(_current(conf, "store")))
    except ImportError as error:
        raise ImproperlyConfigured(f"the store's URL: {error}") from None
    check_url(str(BrokerUrl.of_parts([str(part) for part in _current(conf, "broker")])))
    if store in POSTGRES:
        try:
            check_options(str(_current(conf, "store")), SCHEMA)
        except ValueError as error:
            raise ImproperlyConfigured(f"the store's URL: {error}") from None
    if broker == KAFKA:
        from redfaust.transports.kafka import (  # noqa: PLC0415 - with Kafka's clients
            Transport as KafkaTransport,
        )

        # Its scheme is that of Faust's own driver, which commits to Kafka.
        app.transport = app.producer_transport = KafkaTransport(_current(conf, "broker"), app)
    for name, (default, ours) in _CLASSES.items():
        if _current(conf, name) is default:
            setattr(conf, name, ours)
    # Faust has no setting for it.
    app._reply_consumer = ReplyConsumer(app, beacon=app.beacon)
    _guarantee(app, conf, store)
    if _current(conf, "broker_commit_interval") == FAUST_COMMIT_INTERVAL:
        conf.broker_commit_interval = COMMIT_INTERVAL
    if _current(conf, "broker_commit_every") == FAUST_COMMIT_EVERY:
        conf.broker_commit_every = MAX_EVENTS
    if not _binds_web(app):
        conf.web_bind = LOOPBACK
    conf.producer_threaded = False  # Faust would start a thread that only Kafka's driver has


def _settings(conf: Any) -> Set[str]:
    """The names of all settings, those that Faust still takes for an older one included."""
    return frozenset(conf.SETTINGS) | OLDER_SETTINGS


def _binds_web(app: Any) -> bool:
    """Returns True if the application or a variable says where Faust's web server listens.

    ``worker --web-bind`` is read later, and counts for more.
    """
    _, written = app._default_options
    said = any(value for name, value in os.environ.items() if name.endswith("WEB_BIND"))
    return said or written.get("web_bind") is not None


def _guarantee(app: Any, conf: Any, store: str) -> None:
    """Exactly once is the default with Postgres, and cannot be had without."""
    if store not in POSTGRES:
        if _current(conf, "processing_guarantee") is ProcessingGuarantee.EXACTLY_ONCE:
            raise ImproperlyConfigured(
                'processing_guarantee="exactly_once" needs a store that commits what events '
                f"do together with their positions: postgresql://, not {store}://"
            )
        return
    # Faust's default is a value like any other; what the application wrote tells them apart.
    _, written = app._default_options
    if written.get("processing_guarantee") is None:
        conf.processing_guarantee = ProcessingGuarantee.EXACTLY_ONCE


def _is_ours(conf: Any) -> bool:
    """Whether the application works with our machinery; on Kafka, with Postgres alone."""
    broker = _scheme_of_broker(conf)
    return is_broker(broker) or (broker == KAFKA and _scheme_of_store(conf) in POSTGRES)


def _scheme_of_broker(conf: Any) -> str:
    return URL(str(_current(conf, "broker")[0])).scheme


def _scheme_of_store(conf: Any) -> str:
    return URL(_current(conf, "store")).scheme


def _current(conf: Any, name: str) -> Any:
    """A setting's value, without marking it as used: it could not be set any more."""
    return getattr(type(conf), name).on_get(conf)
