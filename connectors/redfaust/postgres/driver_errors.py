"""What each error of the driver means for the caller.

::

    AWAY        the server cannot be used now: wait, another host may be the primary
    BUSY        the server ended this transaction, and would perhaps not end another one: repeat it
    DATA        a value cannot be stored, however often that is tried: find the event that made it
    STATEMENT   rights, missing tables, mistakes: somebody has to mend something first
"""

from __future__ import annotations

import enum

import asyncpg
from asyncpg.exceptions import (
    InvalidCachedStatementError,
    OutdatedSchemaCacheError,
    TargetServerAttributeNotMatched,
)

from redfaust.errors import WrongPartition

DRIVER = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""What the driver raises on the way to the server; a ``TimeoutError`` is an ``OSError``."""


class Kind(enum.Enum):
    """See the table above."""

    AWAY = "away"
    BUSY = "busy"
    DATA = "data"
    STATEMENT = "statement"


CLASSES = {
    "00": Kind.STATEMENT,  # successful completion
    "01": Kind.STATEMENT,  # warning
    "02": Kind.STATEMENT,  # no data
    "03": Kind.STATEMENT,  # SQL statement not yet complete
    "08": Kind.AWAY,  # connection exception
    "09": Kind.DATA,  # triggered action exception
    "0A": Kind.STATEMENT,  # feature not supported
    "0B": Kind.STATEMENT,  # invalid transaction initiation
    "0F": Kind.STATEMENT,  # locator exception
    "0L": Kind.STATEMENT,  # invalid grantor
    "0P": Kind.STATEMENT,  # invalid role specification
    "0Z": Kind.STATEMENT,  # diagnostics exception
    "10": Kind.DATA,  # XQuery error
    "20": Kind.DATA,  # case not found, in PL/pgSQL
    "21": Kind.DATA,  # cardinality violation
    "22": Kind.DATA,  # data exception
    "23": Kind.DATA,  # integrity constraint violation
    "24": Kind.STATEMENT,  # invalid cursor state
    "25": Kind.STATEMENT,  # invalid transaction state
    "26": Kind.STATEMENT,  # invalid SQL statement name
    "27": Kind.DATA,  # triggered data change violation
    "28": Kind.STATEMENT,  # invalid authorization specification
    "2B": Kind.STATEMENT,  # dependent privilege descriptors still exist
    "2D": Kind.STATEMENT,  # invalid transaction termination
    "2F": Kind.DATA,  # SQL routine exception
    "34": Kind.STATEMENT,  # invalid cursor name
    "38": Kind.DATA,  # external routine exception
    "39": Kind.DATA,  # external routine invocation exception
    "3B": Kind.STATEMENT,  # savepoint exception
    "3D": Kind.STATEMENT,  # invalid catalog name
    "3F": Kind.STATEMENT,  # invalid schema name
    "40": Kind.BUSY,  # transaction rollback: serialization failure, deadlock
    "42": Kind.STATEMENT,  # syntax error, missing table, insufficient privilege
    "44": Kind.DATA,  # WITH CHECK OPTION violation
    "53": Kind.AWAY,  # insufficient resources: connections, memory, disk
    "54": Kind.DATA,  # program limit exceeded
    "55": Kind.STATEMENT,  # object not in prerequisite state
    "57": Kind.AWAY,  # operator intervention: shutting down, starting up
    "58": Kind.AWAY,  # system error: input and output
    "72": Kind.BUSY,  # snapshot too old
    "F0": Kind.STATEMENT,  # configuration file error
    "HV": Kind.STATEMENT,  # foreign data wrapper error
    "P0": Kind.DATA,  # PL/pgSQL: what a trigger raises
    "XX": Kind.STATEMENT,  # internal error
}
"""By the first two characters of SQLSTATE. A class that is not here is a trigger's own
(``RAISE … USING ERRCODE``), and so about a row."""

CODES = {
    "25006": Kind.AWAY,  # it was the primary and is a standby now, or was set to take no writes
    "25P03": Kind.AWAY,  # the session was ended: idle in transaction
    "25P04": Kind.AWAY,  # the session was ended: transaction timeout
    "40002": Kind.DATA,  # integrity constraint violation
    "55006": Kind.BUSY,  # object in use
    "55P03": Kind.BUSY,  # lock not available: lock_timeout
    "57014": Kind.BUSY,  # query cancelled: statement_timeout, or somebody
}
"""Those that are otherwise than their class."""

_CLASSES_OF_THE_DRIVER: tuple[tuple[type[BaseException], Kind], ...] = (
    # A migration or another worker has changed a table: the next attempt prepares anew.
    (InvalidCachedStatementError, Kind.BUSY),
    (OutdatedSchemaCacheError, Kind.BUSY),
    (TargetServerAttributeNotMatched, Kind.AWAY),
    (OSError, Kind.AWAY),
    (UnicodeEncodeError, Kind.DATA),
)

_TOO_LARGE = "invalid memory alloc request size"
"""How the server says that a value, or an array of them, would be larger than 1 GB."""


def kind_of(error: BaseException) -> Kind:
    """What an error means, whether the driver or the server made it."""
    for raised, kind in _CLASSES_OF_THE_DRIVER:
        if isinstance(error, raised):
            return kind
    if isinstance(error, asyncpg.PostgresError):
        if isinstance(error, asyncpg.InternalServerError) and _TOO_LARGE in str(error):
            return Kind.DATA
        code = error.sqlstate or "XX000"
        return CODES.get(code) or CLASSES.get(code[:2], Kind.DATA)
    return Kind.STATEMENT


def is_refusal(error: BaseException) -> bool:
    """Returns True if a value cannot be stored, however often that is tried."""
    return isinstance(error, WrongPartition) or kind_of(error) is Kind.DATA
