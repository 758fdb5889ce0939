"""What cannot be stored or published is refused where it is sent, whichever way it is sent."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import faust
import pytest

from redfaust.outbox.outbox import Outbox
from redfaust.postgres.database import Database
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_failures_agents import all_finished
from tests.integration.test_failures_tables import fetch

Send = Callable[[faust.App, Any], Awaitable[object]]

FAR = datetime.max.replace(tzinfo=timezone(-timedelta(hours=23, minutes=59)))
LONG_AGO = datetime.min.replace(tzinfo=timezone(timedelta(hours=23, minutes=59)))

REFUSED: dict[str, tuple[Send, str]] = {
    "a partition beyond the last": (
        lambda _, topic: topic.send(key="k", value=1, partition=4),
        "has no partition 4: write one from 0 to 3",
    ),
    "a partition beyond four bytes": (
        lambda _, topic: topic.send(key="k", value=1, partition=2**31),
        "has no partition",
    ),
    "a partition below the first": (
        lambda _, topic: topic.send(key="k", value=1, partition=-1),
        "has no partition",
    ),
    "a partition that is no number": (
        lambda _, topic: topic.send(key="k", value=1, partition="0"),
        "write a number from 0",
    ),
    "a partition of a topic that is not there yet": (
        lambda app, _: app.topic("new").send(key="k", value=1, partition=4),
        "has no partition 4: write one from 0 to 3",
    ),
    "a partition of a topic with more of them": (
        lambda app, _: app.topic("wide", partitions=8).send(key="k", value=1, partition=8),
        "has no partition 8: write one from 0 to 7",
    ),
    "a time that is no number": (
        lambda _, topic: topic.send(key="k", value=1, timestamp=float("nan")),
        "write seconds since 1970",
    ),
    "a time beyond all dates": (
        lambda _, topic: topic.send(key="k", value=1, timestamp=1e308),
        "write seconds since 1970",
    ),
    "a time before all dates": (
        lambda _, topic: topic.send(key="k", value=1, timestamp=-1.0),
        "write seconds since 1970",
    ),
    "a time that is a date": (
        lambda _, topic: topic.send(key="k", value=1, timestamp=datetime.now(UTC)),
        "write seconds since 1970",
    ),
    "a topic with NUL": (lambda app, _: app.send("a\0b", key="k", value=1), "cannot be printed"),
    "a topic without a name": (lambda app, _: app.send("", key="k", value=1), "has no name"),
    "a topic with too long a name": (
        lambda app, _: app.send("t" * 250, key="k", value=1),
        "use up to 249",
    ),
    "a header's name with NUL": (
        lambda _, topic: topic.send(key="k", value=1, headers={"a\0": b""}),
        "leave them out",
    ),
    "a header's name that is none": (
        lambda _, topic: topic.send(key="k", value=1, headers={5: b""}),
        "the name of a header is a text",
    ),
    "a header's text with surrogates": (
        lambda _, topic: topic.send(key="k", value=1, headers={"a": "\ud800"}),
        "send it as bytes",
    ),
    "soon, a partition": (
        lambda _, topic: _soon(topic, key="k", value=1, partition=4),
        "has no partition 4",
    ),
    "soon, a time": (
        lambda _, topic: _soon(topic, key="k", value=1, timestamp=float("inf")),
        "write seconds since 1970",
    ),
    "by the producer, a value that is text": (
        lambda app, topic: app.producer.send(
            topic.get_topic_name(), None, cast("bytes", "1"), None, None, None
        ),
        "has to be bytes here, not str",
    ),
    "by the producer, a key that is a number": (
        lambda app, topic: app.producer.send_and_wait(
            topic.get_topic_name(), cast("bytes", 1), b"1", None, None, None
        ),
        "has to be bytes here, not int",
    ),
    "by the producer, a topic": (
        lambda app, _: app.producer.send("a\nb", None, b"1", None, None, None),
        "cannot be printed",
    ),
    "to an agent, a partition": (
        lambda app, _: app.agents["asked"].cast(1, partition=4),
        "has no partition 4",
    ),
    "as a question, a time": (
        lambda app, _: app.agents["asked"].ask(1, timestamp=float("nan")),
        "write seconds since 1970",
    ),
    "later, a time that is none in UTC": (
        lambda _, topic: topic.schedule(at=FAR, value=1),
        "write a time from 1970 to 9999",
    ),
    "later, a time before all in UTC": (
        lambda _, topic: topic.schedule(at=LONG_AGO, value=1),
        "write a time from 1970 to 9999",
    ),
    "later, a time without a zone": (
        lambda _, topic: topic.schedule(at=datetime(2040, 1, 1), value=1),  # noqa: DTZ001
        "needs a time zone",
    ),
    "later, no time": (
        lambda _, topic: topic.schedule(at="now", value=1),
        "write a datetime",
    ),
    "later, a header": (
        lambda _, topic: topic.schedule(at=datetime.now(UTC), value=1, headers={"a\0": b""}),
        "leave them out",
    ),
}


async def _soon(topic: Any, **options: Any) -> None:
    topic.send_soon(**options)


def new_senders(store: str, delivery: str, refusals: dict[str, str], seen: list[int]) -> Any:
    """An application whose agent tries to send all of that."""
    app = new_app(f"memory://{uuid.uuid4().hex}", store)
    tries, out = app.topic("tries", key_type=str), app.topic("out")

    @app.agent(app.topic("questions"), name="asked")
    async def asked(stream: Any) -> None:
        async for _ in stream:
            pass

    @app.agent(out)
    async def see(stream: Any) -> None:
        async for number in stream:
            seen.append(number)

    @app.agent(tries, delivery=delivery)
    async def forward(stream: Any) -> None:
        async for what in stream:
            try:
                await REFUSED[what][0](app, out)
            except (ValueError, TypeError) as error:
                refusals[what] = str(error)
            await out.send(key="k", value=len(refusals))

    return app


@pytest.mark.parametrize("delivery", ["ordered", "shared"])
async def test_what_cannot_be_sent_is_refused_in_the_agents_own_stack(
    database_url: str, delivery: str
) -> None:
    refusals: dict[str, str] = {}
    seen: list[int] = []
    app = new_senders(database_url, delivery, refusals, seen)
    async with running(app):
        for what in REFUSED:
            await app.topic("tries").send(key="k", value=what)
        await eventually(lambda: app.crashed or len(seen) >= len(REFUSED))
    assert [what for what, (_, says) in REFUSED.items() if says not in refusals.get(what, "")] == []
    assert await fetch(database_url, "SELECT error FROM redfaust.dead_letters") == []


async def test_what_cannot_be_sent_is_refused_outside_of_agents() -> None:
    seen: list[int] = []
    app = new_senders("memory://", "ordered", {}, seen)
    out = app.topic("out")
    async with running(app):
        for what, (send, says) in REFUSED.items():
            if "later" not in what:
                with pytest.raises((ValueError, TypeError), match=says):
                    await send(app, out)
        await out.send(key="k", value=1)
        await eventually(lambda: seen == [1])


async def test_what_can_be_sent_is(database_url: str) -> None:
    app = new_app(f"memory://{uuid.uuid4().hex}", database_url)
    out: Any = app.topic("out")
    seen: list[int] = []

    @app.agent(out)
    async def see(stream: Any) -> None:
        async for number in stream:
            seen.append(number)

    async with running(app):
        await out.send(key="k", value=1, partition=3, timestamp=0)
        await out.send(key="k", value=2, timestamp=253_402_300_799.0)
        await out.send(key="ö", value=3, headers={"ö": "ö", "n": 5, "b": bytearray(b"\xff")})
        await app.producer.send_and_wait("out", None, b"4", 0, None, None)
        await out.schedule(at=datetime(1970, 1, 1, tzinfo=UTC), value=5)
        await eventually(lambda: app.crashed or len(seen) >= 5)
        await eventually(lambda: all_finished(app, "out"))
    assert sorted(seen) == [1, 2, 3, 4, 5]


async def test_a_topic_with_a_name_that_none_can_have_is_refused_at_its_declaration() -> None:
    app = new_app("memory://names")
    with pytest.raises(ValueError, match="use up to 249"):
        app.topic("t" * 250)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"topic": "a\0b"}, "cannot be printed"),
        ({"topic": ""}, "has no name"),
        ({"value": "text"}, "has to be bytes"),
        ({"key": 5}, "has to be bytes"),
        ({"headers": {"a": "\0"}}, "leave them out"),
        ({"headers": {"a": 5}}, "write a text for each name"),
        ({"available_at": FAR}, "write a time from 1970 to 9999"),
        ({"available_at": LONG_AGO}, "write a time from 1970 to 9999"),
        ({"available_at": datetime(2040, 1, 1)}, "needs a time zone"),  # noqa: DTZ001
    ],
)
async def test_the_outbox_refuses_what_cannot_be_sent_and_its_transaction_goes_on(
    migrated_url: str, options: dict[str, Any], says: str
) -> None:
    database = await Database.connect(migrated_url)
    given: dict[str, Any] = {"topic": "t", "value": b"1", **options}
    async with Outbox(database).transaction() as transaction:
        with pytest.raises((ValueError, TypeError), match=says):
            await transaction.publish(**given)
        assert await transaction.connection.fetchval("SELECT 1") == 1
    await database.close()
