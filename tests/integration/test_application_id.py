"""The shop works in a group of its own, and in no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple
from uuid import uuid4

import pytest
from pydantic import SecretStr

from app.application_id import claim_app_id
from app.errors import AppIdTaken
from app.schema import migrate_all
from app.settings import Settings
from redfaust.brokers.broker import Heartbeat, TopicSpec
from redfaust.brokers.memory.broker import MemoryBroker
from redfaust.postgres.database import Database
from tests.rights import as_owner


class Place(NamedTuple):
    """Where shops and others may work."""

    broker_url: str
    broker: MemoryBroker
    database_url: str
    database: Database

    async def claim(self, app_id: str) -> None:
        broker, database = SecretStr(self.broker_url), SecretStr(self.database_url)
        await claim_app_id(Settings(broker=broker, database=database, app_id=app_id))

    async def work(self, app: str, *topics: str) -> None:
        for topic in topics:
            await self.broker.create_topic(TopicSpec(topic, 2))
        await self.broker.join(app, topics, from_start=True)


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    url = f"memory://{uuid4().hex}"
    broker, database = (
        MemoryBroker(url, default_partitions=2),
        await Database.connect(as_owner(database_url)),
    )
    await broker.open()
    await migrate_all(database)
    yield Place(url, broker, database_url, database)
    await broker.close()
    await database.close()


async def test_a_shop_that_has_a_name_works_under_no_other(place: Place) -> None:
    await place.claim("shop")
    await place.claim("shop")
    with pytest.raises(AppIdTaken, match=r"works as shop, not as bank.*REDFAUST_APP_ID=shop"):
        await place.claim("bank")


async def test_a_new_shop_takes_no_name_of_an_application_that_has_run(place: Place) -> None:
    await place.work("bank", "payments")
    with pytest.raises(AppIdTaken, match="bank is another application, which reads payments"):
        await place.claim("bank")
    await place.claim("shop")


async def test_a_new_shop_takes_no_name_of_an_application_that_runs(place: Place) -> None:
    await place.work("audit", "orders")
    await place.broker.heartbeat("audit", "worker-1/a", Heartbeat(1))
    with pytest.raises(AppIdTaken, match="audit is another application"):
        await place.claim("audit")


async def test_a_new_shop_takes_no_name_that_the_database_knows(place: Place) -> None:
    await place.database.pool.execute(
        "INSERT INTO redfaust.positions (app, topic, partition, log, position) "
        "VALUES ('bank', 'payments', 0, 'another', 1)"
    )
    with pytest.raises(AppIdTaken, match="bank is another application"):
        await place.claim("bank")


async def test_a_shop_that_has_lost_its_database_begins_again(place: Place) -> None:
    await place.work("shop", "users", "orders", "notifications")
    await place.claim("shop")


async def test_a_worker_says_that_tables_are_missing(place: Place) -> None:
    await place.database.pool.execute("DROP TABLE application")
    with pytest.raises(AppIdTaken, match="redfaust migrate"):
        await place.claim("shop")
