"""Faust without Kafka: stream processing on Redis Streams and Postgres, exactly once.

An application is written with Faust, and gets this library by its URLs::

    app = faust.App("bank", broker="redis://localhost", store="postgresql://localhost/bank")

What an application may need beyond that is here:

- :class:`App`: ``faust.App`` with types for what this library adds
- :class:`Retries`, :data:`NO_RETRIES`: how often an agent tries an event again, as in
  ``app.agent(retries=Retries(attempts=5))``
- :class:`Outbox`, :class:`Transaction`: rows and events in one transaction, for processes without
  agents
- :class:`DeadLetters`, :class:`DeadLetter`, :class:`DeadLetterState`: events that failed for good
- :class:`Database`, :func:`migrate`: the connection pool, and the schema ``redfaust``
- :class:`Relay`, :func:`broker_by_url`, :func:`dead_letter_rejected`: a relay in a process of your
  own
- :func:`alter_partitions`, :class:`Altered`: more partitions for an application at rest
- :func:`in_memory`, :class:`AppInMemory`, :class:`SentEvent`: the application in one process, for
  its tests (``pip install redfaust[test]``)
- :class:`RedfaustError` and its subclasses: all that this library raises; :mod:`redfaust.errors`
  draws the tree

Names are imported when they are first used, so ``import redfaust`` costs next to nothing. The
modules behind them are private: they may change with any release.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from redfaust.app import App
    from redfaust.errors import (
        AlterationRefused,
        AwaitedCancelled,
        BrokerError,
        BrokerUnavailable,
        BrokerUnsupported,
        CachedTableError,
        CacheFull,
        ContentRefused,
        DatabaseBusy,
        DatabaseError,
        DatabaseRewound,
        DatabaseUnavailable,
        DeadLetterError,
        DeadLetterResolved,
        DeadLetterUnknown,
        Fenced,
        GroupGone,
        MailError,
        MailRejected,
        MailUnavailable,
        MaxDeliveriesExceeded,
        MigrationChanged,
        PartitionMoves,
        PartitionsDiffer,
        Postponed,
        ProducerFenced,
        RedfaustError,
        ResetRefused,
        RightsMissing,
        RowNotLoaded,
        RowUnreadable,
        SchemaTooNew,
        TableNotShared,
        TableNotWhole,
        TopicClosed,
        WorkerUnknown,
        WrongPartition,
    )
    from redfaust.outbox.outbox import Outbox, Transaction
    from redfaust.outbox.relay import Relay
    from redfaust.postgres.database import Database
    from redfaust.postgres.migrate import migrate
    from redfaust.processing.dead_letters import DeadLetter, DeadLetters, DeadLetterState
    from redfaust.processing.rejected import dead_letter_rejected
    from redfaust.processing.retries import NO_RETRIES, Retries
    from redfaust.tables.alteration import Altered, alter_partitions
    from redfaust.testing.running import AppInMemory, SentEvent, in_memory
    from redfaust.transports.by_url import broker_by_url

__all__ = [
    "NO_RETRIES",
    "AlterationRefused",
    "Altered",
    "App",
    "AppInMemory",
    "AwaitedCancelled",
    "BrokerError",
    "BrokerUnavailable",
    "BrokerUnsupported",
    "CacheFull",
    "CachedTableError",
    "ContentRefused",
    "Database",
    "DatabaseBusy",
    "DatabaseError",
    "DatabaseRewound",
    "DatabaseUnavailable",
    "DeadLetter",
    "DeadLetterError",
    "DeadLetterResolved",
    "DeadLetterState",
    "DeadLetterUnknown",
    "DeadLetters",
    "Fenced",
    "GroupGone",
    "MailError",
    "MailRejected",
    "MailUnavailable",
    "MaxDeliveriesExceeded",
    "MigrationChanged",
    "Outbox",
    "PartitionMoves",
    "PartitionsDiffer",
    "Postponed",
    "ProducerFenced",
    "RedfaustError",
    "Relay",
    "ResetRefused",
    "Retries",
    "RightsMissing",
    "RowNotLoaded",
    "RowUnreadable",
    "SchemaTooNew",
    "SentEvent",
    "TableNotShared",
    "TableNotWhole",
    "TopicClosed",
    "Transaction",
    "WorkerUnknown",
    "WrongPartition",
    "alter_partitions",
    "broker_by_url",
    "dead_letter_rejected",
    "in_memory",
    "migrate",
]

_HOMES: Final[Mapping[str, str]] = {
    "App": "redfaust.app",
    "Outbox": "redfaust.outbox.outbox",
    "Transaction": "redfaust.outbox.outbox",
    "Relay": "redfaust.outbox.relay",
    "Database": "redfaust.postgres.database",
    "migrate": "redfaust.postgres.migrate",
    "DeadLetter": "redfaust.processing.dead_letters",
    "DeadLetterState": "redfaust.processing.dead_letters",
    "DeadLetters": "redfaust.processing.dead_letters",
    "dead_letter_rejected": "redfaust.processing.rejected",
    "NO_RETRIES": "redfaust.processing.retries",
    "Retries": "redfaust.processing.retries",
    "Altered": "redfaust.tables.alteration",
    "alter_partitions": "redfaust.tables.alteration",
    "AppInMemory": "redfaust.testing.running",
    "SentEvent": "redfaust.testing.running",
    "in_memory": "redfaust.testing.running",
    "broker_by_url": "redfaust.transports.by_url",
}
"""By name, the module that has it; every other name of ``__all__`` is an error."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "redfaust.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
