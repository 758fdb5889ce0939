"""The database beside a Kafka cluster, which keeps what Kafka has no place for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg
from faust.types import TP
from yarl import URL

from redfaust.brokers.kafka.clients import Admin
from redfaust.brokers.sequences import Signer
from redfaust.errors import BrokerError, BrokerUnavailable, DatabaseError, DatabaseUnavailable
from redfaust.postgres.database import Connection, Database
from redfaust.postgres.migrate import migrate
from redfaust.postgres.queries import load

SCHEMA = "schema"
"""What the URL of a store may say, and is no affair of the server's."""


class Store:
    """What is kept in Postgres about the logs of one cluster. Errors are the broker's."""

    def __init__(self, database: Database, admin: Admin) -> None:
        self._database = database
        self._admin = admin
        self.log = ""
        """The cluster's id."""
        self.losses = 0
        """How often it had lost something when that was last looked at."""
        self.signer = Signer([])
        """Signs the sources of entries in it."""

    @classmethod
    async def connect(cls, url: str, admin: Admin) -> Store:
        """Connect, with the schema as it should be."""
        with database_errors():
            database = await Database.connect(
                str(URL(url).without_query_params(SCHEMA)), application_name="redfaust kafka"
            )
            try:
                await migrate(database)
            except BaseException:
                await database.close()
                raise
        return cls(database, admin)

    async def close(self) -> None:
        """Disconnect."""
        await self._database.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """As :meth:`Database.transaction`."""
        with database_errors():
            async with self._database.transaction() as connection:
                yield connection

    @asynccontextmanager
    async def dedicated(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """As :meth:`Database.dedicated`."""
        with database_errors():
            async with self._database.dedicated() as connection:
                yield connection

    async def identity(self) -> str:
        """The cluster's id, asked anew: another cluster may answer now."""
        self.log = await self._admin.cluster_id()
        return self.log

    async def incarnation(self) -> str:
        """Another one after somebody has noted a loss, and where another cluster answers.

        A role that may not append, such as that of the web API, has no part in the secret, and
        takes every entry for one of a foreign producer.
        """
        await self.identity()
        async with self.transaction() as connection:
            if await connection.fetchval(query("select_may_sign")):
                await connection.execute(query("enter_log"), self.log)
                await connection.execute(query("draw_secret"), self.log)
                self.signer = Signer([await connection.fetchval(query("select_secret"), self.log)])
        return await self.incarnation_of_log()

    async def incarnation_of_log(self) -> str:
        """The same of the cluster that answered last."""
        async with self.transaction() as connection:
            self.losses = await connection.fetchval(query("select_losses"), self.log)
        return f"{self.log}/{self.losses}"

    async def note_loss(self) -> None:
        """Note that the cluster has lost what it had confirmed, unless somebody has meanwhile."""
        async with self.transaction() as connection:
            await connection.execute(query("note_loss"), self.log, self.losses)


def query(name: str) -> str:
    """The statement of this name."""
    return load("redfaust.brokers.kafka", name)


def columns(tps: Iterable[TP]) -> tuple[list[str], list[int]]:
    """Partitions as two arrays."""
    tps = list(tps)
    return [tp.topic for tp in tps], [tp.partition for tp in tps]


@contextmanager
def database_errors() -> Iterator[None]:
    """Raise the database's errors as the broker's."""
    try:
        yield
    except DatabaseUnavailable as error:
        raise BrokerUnavailable(str(error)) from error
    except (DatabaseError, asyncpg.PostgresError) as error:
        raise BrokerError(f"what is kept beside Kafka cannot be used: {error}") from error
