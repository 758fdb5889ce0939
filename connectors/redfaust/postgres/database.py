"""The way to Postgres: a bounded pool, transactions, and errors that say what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Literal, TypeAlias, cast
from urllib.parse import urlsplit

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy
from asyncpg.transaction import Transaction

from redfaust import exact_json
from redfaust.errors import DatabaseBusy, DatabaseError, DatabaseUnavailable, RightsMissing
from redfaust.postgres.driver_errors import DRIVER, Kind, kind_of
from redfaust.postgres.hosts import Hosts
from redfaust.postgres.pooling import refusal_of, refuse_shared_sessions
from redfaust.postgres.queries import load

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

Isolation: TypeAlias = Literal["read_committed", "repeatable_read", "serializable"]

if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection  # which knows its type of rows in stubs alone

ACQUIRE_TIMEOUT = 30.0
"""Seconds to wait for a free connection of the pool."""
COMMAND_TIMEOUT = 30.0
"""Seconds a statement may take, unless the caller gives it a timeout of its own."""
SILENT_FOR = 10.0
"""Seconds that a transaction may wait for its client's next statement. The server ends one whose
process was stopped: others wait for its locks, and take over."""
RELEASE_TIMEOUT = 1.0
"""Seconds until a connection that is given back and does not answer is given up."""
CLOSE_TIMEOUT = 2.0
"""Seconds that :meth:`Database.close` leaves to running transactions. A process that stops has
waited before for what it has to wait for."""

# A dedicated connection may hold a lock. These let the server notice within 25 seconds that the
# client's machine has vanished; the defaults of an operating system take two hours.
_KEEPALIVES = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


class _Session(_Connection):
    """A connection of the pool, which resets it whenever it is given back. That is a round trip,
    and what nobody has changed, and what answers, needs none."""

    _is_as_before = False

    def is_as_before(self) -> None:
        """Say that what was done has ended well, and left nothing behind in the session."""
        self._is_as_before = True

    async def reset(self, *, timeout: float | None = None) -> None:
        if self._is_as_before:
            self._is_as_before = False
        else:
            await super().reset(timeout=timeout)


class Database:
    """A pool of connections to one database. JSONB values are Python objects, through orjson.

    Whatever goes wrong on the way to the server is raised as
    :class:`~redfaust.errors.DatabaseUnavailable`, and as
    :class:`~redfaust.errors.DatabaseBusy`, which is one, what ended a single transaction: a
    deadlock, a serialization failure, ``lock_timeout`` or ``statement_timeout``. A right that the
    role lacks is raised as :class:`~redfaust.errors.RightsMissing`, and other errors of the
    statements themselves as asyncpg raises them (:func:`our_statements`). A commit whose answer
    was lost is unavailable too: it may have happened.

    Transactions are READ COMMITTED, whatever the server's default is.
    """

    def __init__(
        self, hosts: Hosts, where: str, application_name: str, pool: asyncpg.Pool[asyncpg.Record]
    ) -> None:
        self._hosts = hosts
        self._where = where
        self._application_name = application_name
        self.pool = pool

    @classmethod
    async def connect(
        cls, url: str, *, application_name: str = "redfaust", max_size: int = 8
    ) -> Database:
        """Open the pool with one connection; it grows to ``max_size`` as needed.

        The URL may name several hosts (:mod:`redfaust.postgres.hosts`). Raises
        :class:`~redfaust.errors.DatabaseUnavailable` if no server can be reached now, and
        :class:`~redfaust.errors.DatabaseError` if the URL or the login is wrong.
        """
        try:
            hosts = Hosts(url)
            where = f"the database {hosts}{urlsplit(url).path}"
        except ValueError:
            raise DatabaseError(
                "the database URL cannot be understood: "
                "write postgresql://user:password@host:port/database"
            ) from None
        try:
            pool = await asyncpg.create_pool(
                connect=hosts.connect,
                min_size=1,
                max_size=max_size,
                command_timeout=COMMAND_TIMEOUT,
                server_settings={
                    "application_name": application_name,
                    "idle_in_transaction_session_timeout": f"{SILENT_FOR * 1000:.0f}",
                },
                init=_prepare,
                connection_class=_Session,
            )
            await refuse_shared_sessions(pool, hosts, where)
        except (*DRIVER, ValueError) as error:
            raise _refused(error, where) from error
        return cls(hosts, where, application_name, pool)

    async def close(self) -> None:
        """Close after running transactions, or without them after ``CLOSE_TIMEOUT``."""
        try:
            await asyncio.wait_for(self.pool.close(), CLOSE_TIMEOUT)
        except DRIVER:
            self.pool.terminate()

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows of one statement, which is a transaction of its own and one round trip."""
        async with self._connection() as connection:
            rows = await connection.fetch(query, *arguments)
            cast("_Session", connection).is_as_before()
            return rows

    @asynccontextmanager
    async def transaction(
        self, *, reset: bool = False, isolation: Isolation | None = "read_committed"
    ) -> AsyncIterator[Connection]:
        """A transaction on a connection of the pool; an exception rolls it back.

        A :class:`TimeoutError` in the block counts as the database's. ``reset`` has forgotten
        afterwards, for one more round trip, what the block may have set for longer than the
        transaction. ``isolation=None`` is the server's default.
        """
        async with self._connection() as connection:
            transaction = connection.transaction(isolation=isolation)
            await transaction.start()
            try:
                yield connection
            except BaseException:
                await _roll_back(transaction)
                raise
            await transaction.commit()
            if not reset:
                cast("_Session", connection).is_as_before()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            connection = await self.pool.acquire(timeout=ACQUIRE_TIMEOUT)
        except DRIVER as error:
            raise _refused(error, self._where) from error
        try:
            yield connection
        except DRIVER as error:
            if _is_lost(error, connection):
                # The others of the pool lead to the same server, which may not be the primary.
                await self.pool.expire_connections()
                raise _unreachable(error, self._where) from error
            if kind_of(error) is Kind.BUSY:
                raise _busy(error, self._where) from error
            if isinstance(error, asyncpg.InsufficientPrivilegeError):
                raise _not_granted(error, self._where) from error
            raise
        finally:
            # What was committed stays so, even where the connection cannot be used again.
            with suppress(*DRIVER):
                await self.pool.release(connection, timeout=RELEASE_TIMEOUT)

    async def warnings(self) -> Sequence[str]:
        """How the database may lose what it has committed, or why it takes nothing, by what the
        server is configured with: a line for each, which says what to change."""
        with our_statements("The server's settings cannot be read"):
            [row] = await self.fetch(load("redfaust.postgres", "select_durability"))
        found = []
        if row["is_standby"]:
            found.append("the database is a standby, which takes no writes: connect to the primary")
        found += [
            f"the database has {name}=off, and may lose all when its machine fails: set it to on"
            for name in row["off"]
        ]
        return found

    @asynccontextmanager
    async def dedicated(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """A connection outside the pool, for session locks and LISTEN."""
        try:
            connection = await self._hosts.connect(
                command_timeout=COMMAND_TIMEOUT,
                server_settings={"application_name": self._application_name, **_KEEPALIVES},
            )
            await _prepare(connection)
        except DRIVER as error:
            raise _refused(error, self._where) from error
        try:
            yield connection
        except DRIVER as error:
            if _is_lost(error, connection):
                raise _unreachable(error, self._where) from error
            if kind_of(error) is Kind.BUSY:
                raise _busy(error, self._where) from error
            if isinstance(error, asyncpg.InsufficientPrivilegeError):
                raise _not_granted(error, self._where) from error
            raise
        finally:
            with suppress(*DRIVER):
                await connection.close(timeout=RELEASE_TIMEOUT)


async def _prepare(connection: Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: b"\x01" + orjson.dumps(value),  # 1 is the version of the format
        decoder=lambda data: exact_json.loads(data[1:]),
        format="binary",
    )


async def _roll_back(transaction: Transaction) -> None:
    """What went wrong first is the error to tell. A server that does not answer ends the
    transaction when the connection is given up."""
    with suppress(*DRIVER):
        async with asyncio.timeout(RELEASE_TIMEOUT):
            await transaction.rollback()


@contextmanager
def our_statements(what: str) -> Iterator[None]:
    """Within, an error of a statement is a :class:`~redfaust.errors.DatabaseError`: a caller that
    waits for the database waits for that to be mended, too. ``what`` cannot be done meanwhile."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise DatabaseError(
            f"{what} now ({type(error).__name__}: {error}): mend that in Postgres, it is tried "
            "again"
        ) from error


def _is_lost(error: BaseException, connection: Connection) -> bool:
    # The file that the block of a transaction misses is none of the database's affairs.
    if kind_of(error) is Kind.AWAY and isinstance(error, asyncpg.PostgresError | TimeoutError):
        return True
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has taken it back, as it does with a dead one
        return True


def _not_granted(error: asyncpg.PostgresError, where: str) -> RightsMissing:
    return RightsMissing(
        f"{where} refuses this role something ({error}): grant the role its rights, as "
        "connectors/redfaust/rights/roles.sql does"
    )


def _refused(error: BaseException, where: str) -> DatabaseError:
    """Why there is no connection: wait, or mend something first?"""
    if (pooler := refusal_of(error, where)) is not None:
        return pooler
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return DatabaseError(f"{where} refuses the login ({error}): correct user or password")
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return DatabaseError(f"{where} does not exist ({error}): create it or correct the URL")
    if isinstance(error, ValueError):
        return DatabaseError(
            f"the database URL cannot be used ({error}): "
            "write postgresql://user:password@host:port/database"
        )
    return _unreachable(error, where)


def _unreachable(error: BaseException, where: str) -> DatabaseUnavailable:
    reason = _reason(error)
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return DatabaseUnavailable(
            f"{where} takes no writes now ({reason}): check that it is the primary, and its "
            "default_transaction_read_only"
        )
    if isinstance(error, asyncpg.DiskFullError):
        return DatabaseUnavailable(f"{where} has no space left ({reason}): make room on its disk")
    return DatabaseUnavailable(
        f"{where} cannot be reached now ({reason}): check that Postgres runs there and try again"
    )


def _busy(error: BaseException, where: str) -> DatabaseBusy:
    return DatabaseBusy(
        f"{where} has ended a transaction ({_reason(error)}): repeat it. Should that not help, "
        "look for who holds locks (pg_stat_activity), and at lock_timeout and statement_timeout"
    )


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
