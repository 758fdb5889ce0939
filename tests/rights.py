"""The roles of tests: the least privileged one for what each does.

Fixtures give the URLs of workers. A test that does what an owner, an operator or an attacker does
says so: ``as_owner(database_url)``, ``as_administrator(broker_url)``.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast
from urllib.parse import urlsplit, urlunsplit

import faust
from yarl import URL

from app.embedded.logins import as_role
from app.embedded.secret import write_private
from redfaust.postgres.database import Database
from redfaust.processing.state_backend import StateBackend
from redfaust.rights import Role
from redfaust.tables.manager import TableManager, create_tables, open_postgres
from redfaust.tables.store import SCHEMA

PASSWORD = "let-me-in"
"""Of the administrator of each server that fixtures start."""


def with_known_password(directory: Path) -> Path:
    """The directory of a server that does not exist yet, with the administrator's password."""
    directory.mkdir(parents=True)
    write_private(directory / "password", PASSWORD)
    return directory


def as_administrator(url: str) -> str:
    """The URL of the administrator, who may do everything, from anybody's."""
    parts = urlsplit(url)
    name = "postgres" if parts.scheme.startswith("postgres") else "default"
    hosts = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{name}:{PASSWORD}@{hosts}"))


def as_worker(url: str) -> str:
    """The URL of a worker, from anybody's."""
    return as_role(as_administrator(url), Role.WORKER)


def as_owner(url: str) -> str:
    """The URL of the owner of the tables, from anybody's."""
    return as_role(as_administrator(url), Role.OWNER)


def as_relay(url: str) -> str:
    """The URL of a relay, from anybody's."""
    return as_role(as_administrator(url), Role.RELAY)


def as_web(url: str) -> str:
    """The URL of the web API, from anybody's."""
    return as_role(as_administrator(url), Role.WEB)


def as_console(url: str) -> str:
    """The URL of who may only read, from anybody's."""
    return as_role(as_administrator(url), Role.CONSOLE)


def as_producer(url: str) -> str:
    """The URL of a foreign producer, from anybody's. It may append to what it is granted."""
    return as_role(as_administrator(url), Role.PRODUCER)


async def create_tables_of(app: faust.App) -> None:
    """What an owner does before the workers start: ``faust create-tables``."""
    await _create_tables(cast("TableManager", app.tables), str(app.conf.store))


async def _create_tables(manager: TableManager, store: str) -> None:
    url = URL(store).without_query_params(SCHEMA)
    database = await Database.connect(as_owner(str(url)), max_size=1)
    try:
        await create_tables(manager, database)
    finally:
        await database.pool.close()


async def open_as_worker(manager: TableManager) -> StateBackend:
    """What :attr:`TableManager.opener` is in tests: tables are the owner's, and a worker's role
    uses them."""
    store = str(manager.app.conf.store)
    if URL(store).user == Role.WORKER:
        await _create_tables(manager, store)
    return await open_postgres(manager)
