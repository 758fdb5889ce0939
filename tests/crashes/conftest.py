"""Where a scenario happens, and who knows how it has to end."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from tests.crashes.oracle import Oracle
from tests.crashes.scenario import IMPATIENT, Place, new_app, send_numbers
from tests.rights import create_tables_of


@pytest.fixture(params=["redis"])
def place(
    request: pytest.FixtureRequest, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Place:
    """Servers with all numbers, and nothing done yet."""
    for name, value in IMPATIENT.items():
        monkeypatch.setattr(name, value)
    broker = (
        f"memory://{uuid.uuid4().hex}"
        if request.param == "memory"
        else request.getfixturevalue("empty_valkey_url")
    )
    return Place(broker, database_url)


@pytest.fixture
async def oracle(place: Place) -> AsyncIterator[Oracle]:
    database = await Database.connect(place.database)
    await migrate(database)
    await create_tables_of(new_app(place))
    await send_numbers(place, database)
    oracle = Oracle(place, database)
    yield oracle
    await oracle.close()
    await database.close()
