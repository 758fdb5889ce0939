"""A database for the tests of a module."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.conftest import new_database
from tests.rights import as_worker


@pytest.fixture(scope="module")
def module_database_url(postgres_url: str, template: str) -> Iterator[str]:
    """A new database with the library's schema, for a worker."""
    with asyncio.Runner() as runner:
        database = new_database(postgres_url, template)
        yield as_worker(runner.run(database.__aenter__()))
        runner.run(database.__aexit__(None, None, None))
