"""Finds out that a pooler hands one session of Postgres to many clients in turn.

PgBouncer does so with ``pool_mode=transaction`` and ``statement``. What belongs to a session does
not work then: ``LISTEN``, advisory locks between transactions, prepared statements. Without them
two relays would believe that they are the active one, so such a pooler is refused.
"""

from __future__ import annotations

import asyncpg

from redfaust.errors import DatabaseError
from redfaust.postgres.hosts import Hosts
from redfaust.postgres.queries import load

ATTEMPTS = 3
"""Times that two connections are compared. A pooler with other clients may hand out two sessions,
though it does not keep them apart."""

CLOSE_TIMEOUT = 2.0
"""Seconds that the second connection is given to say goodbye."""

PARAMETERS = (
    "idle_in_transaction_session_timeout",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_keepalives_count",
)
"""What our connections set for their session when they begin."""

_REMEDY = (
    "connect to Postgres itself, or to a pool of PgBouncer with pool_mode=session and "
    f"ignore_startup_parameters={','.join(PARAMETERS)}"
)


def refusal_of(error: BaseException, where: str) -> DatabaseError | None:
    """What the error of a new connection says of a pooler, if it is about one."""
    match error:
        case asyncpg.ProtocolViolationError() if "startup parameter" in str(error):
            return DatabaseError(
                f"{where} is a pooler that refuses our session ({error}): {_REMEDY}"
            )
        case asyncpg.DuplicatePreparedStatementError() | asyncpg.InvalidSQLStatementNameError():
            return _shared(where)
        case _:
            return None


async def refuse_shared_sessions(
    pool: asyncpg.Pool[asyncpg.Record], hosts: Hosts, where: str
) -> None:
    """Raise :class:`~redfaust.errors.DatabaseError` if a pooler does not keep sessions apart.

    One round trip where there is no pooler: the server's process is the one that the connection
    was told at its beginning. Otherwise a session that two connections have at a time is shared.
    """
    async with pool.acquire() as one:
        session = await one.fetchval(_query("select_session"))
        if session == one.get_server_pid():
            return
        other = await hosts.connect()
        try:
            for _ in range(ATTEMPTS):
                if await other.fetchval(_query("select_session")) == session:
                    raise _shared(where)
                session = await one.fetchval(_query("select_session"))
        finally:
            await other.close(timeout=CLOSE_TIMEOUT)


def _shared(where: str) -> DatabaseError:
    return DatabaseError(
        f"{where} is a pooler that shares one session of Postgres among many clients, as PgBouncer "
        "does with pool_mode=transaction: locks, LISTEN and prepared statements do not work there. "
        f"Let redfaust {_REMEDY}"
    )


def _query(name: str) -> str:
    return load("redfaust.postgres", name)
