from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import orjson
import pytest
from click.testing import CliRunner, Result

from app.cli import main
from redfaust.errors import DeadLetterResolved, DeadLetterUnknown
from redfaust.outbox.headers import unpack
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from redfaust.processing.dead_letters import (
    ADDRESSEE_HEADER,
    HEADING_LENGTH,
    REPLAY_HEADER,
    TEXT_LIMIT,
    DeadLetters,
    DeadLetterState,
    NewDeadLetter,
)

WAITING, REPLAYED, DISCARDED = DeadLetterState


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url)
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture
def letters(database: Database) -> DeadLetters:
    return DeadLetters(database)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def new(**changes: Any) -> NewDeadLetter:
    fields: dict[str, Any] = {
        "app": "shop",
        "agent": "orders",
        "topic": "orders",
        "partition": 3,
        "position": 1700000000000 << 64,
        "key": b"o-1",
        "value": b'{"sku":"tea"}',
        "headers": (("correlation_id", b"c-1"),),
        "error": raised(LookupError("no such thing")),
        "attempts": 1,
    }
    return NewDeadLetter(**{**fields, **changes})


async def outbox(database: Database) -> list[asyncpg.Record]:
    async with database.transaction() as connection:
        return await connection.fetch("SELECT * FROM redfaust.outbox ORDER BY id")


async def test_a_dead_letter_keeps_everything(letters: DeadLetters) -> None:
    added = new(
        key=b"\xff\x00",
        value=b"\x00\xfe garbage",
        headers=(("b", b"\xff\x00"), ("correlation_id", b"c-1"), ("b", b"")),
        position=10**39 - 1,
        attempts=4,
    )
    letter = await letters.get(await letters.add(added))

    for name in ("app", "agent", "topic", "partition", "position", "key", "value", "headers"):
        assert getattr(letter, name) == getattr(added, name), name
    assert (letter.error_type, letter.error) == ("LookupError", "no such thing")
    assert "in raised" in letter.traceback
    assert (letter.attempts, letter.correlation_id) == (4, "c-1")
    assert (letter.state, letter.resolved_at) == (WAITING, None)
    assert letter.preview == "\\x00\\xfe garbage"


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("a\0b\ud800c"), "ab?c"),
        (ValueError("x" * 2 * TEXT_LIMIT), "x" * TEXT_LIMIT),
        (Unspeakable(), "(Unspeakable cannot be shown: RuntimeError)"),
        (asyncio.CancelledError(), ""),
    ],
    ids=["refused by Postgres", "long", "unspeakable", "cancelled"],
)
async def test_no_error_prevents_keeping_the_event(
    letters: DeadLetters, error: BaseException, text: str
) -> None:
    headers = (("correlation_id", b"\xff\x00c"), ("a\0\ud800", b"x"))
    letter = await letters.get(await letters.add(new(error=raised(error), headers=headers)))
    assert letter.error == text
    assert letter.correlation_id == "�c"
    assert letter.headers == (("correlation_id", b"\xff\x00c"), ("a?", b"x"))


async def test_listing_filters_and_shows_the_newest_first(letters: DeadLetters) -> None:
    one = await letters.add(new())
    two = await letters.add(new(topic="users"))
    three = await letters.add(new(app="other"))
    await letters.discard([one])

    async def numbers(**filters: Any) -> list[int]:
        return [letter.id for letter in await letters.list(**filters)]

    assert await numbers() == [three, two, one]
    assert await numbers(limit=2) == [three, two]
    assert await numbers(app="shop") == [two, one]
    assert await numbers(topic="orders", app="shop") == [one]
    assert await numbers(state=WAITING) == [three, two]
    assert await letters.waiting() == [two, three]
    assert await letters.waiting(app="other", topic="orders") == [three]
    four = await letters.add(new(agent="carts", error=raised(ValueError("no"))))
    for filters in ({"agent": "carts"}, {"error_type": "ValueError"}):
        assert await numbers(**filters) == await letters.waiting(**filters) == [four]


async def test_counts_are_of_those_that_wait(database: Database, letters: DeadLetters) -> None:
    numbers = [await letters.add(new()) for _ in range(3)]
    await letters.add(new(topic="users"))
    await letters.add(new(topic="users", app="other"))
    await letters.replay(numbers[:1])
    assert await letters.names("shop") == {
        "agent": {"orders": 3},
        "error": {"LookupError": 3},
        "topic": {"orders": 2, "users": 1},
    }
    assert await letters.names("nobody") == {}


async def test_a_replay_sends_the_same_event_again(
    database: Database, letters: DeadLetters
) -> None:
    headers = (("type", b"\xff\x00"), ("type", b"twice"))
    second = await letters.add(new(key=None, value=None, agent=None))
    first = await letters.add(new(headers=headers, agent="x" * 100))
    await letters.replay([first, second])

    two, one = await outbox(database)
    assert (one["topic"], one["key"], one["value"]) == ("orders", b"o-1", b'{"sku":"tea"}')
    assert unpack(one["headers"]) == (
        *headers,
        (REPLAY_HEADER, str(first).encode()),
        (ADDRESSEE_HEADER, b"shop/" + b"x" * 100),
    )
    assert (two["key"], two["value"]) == (None, None)
    assert one["available_at"] is None
    letter = await letters.get(first)
    assert letter.state is REPLAYED
    assert letter.resolved_at is not None


async def test_a_replay_may_correct_the_value(database: Database, letters: DeadLetters) -> None:
    one, two = await letters.add(new()), await letters.add(new())
    await letters.replay([one], value=b"")
    with pytest.raises(ValueError, match="one dead letter at a time"):
        await letters.replay([one, two], value=b"{}")
    assert [row["value"] for row in await outbox(database)] == [b""]
    assert (await letters.get(one)).value == b'{"sku":"tea"}'


@pytest.mark.parametrize("action", ["replay", "discard"])
async def test_resolving_is_all_or_nothing_and_once(
    database: Database, letters: DeadLetters, action: str
) -> None:
    act = {"replay": letters.replay, "discard": letters.discard}[action]
    one, two = await letters.add(new()), await letters.add(new())
    await letters.discard([two])
    with pytest.raises(DeadLetterResolved, match=f"dead letter {two} is discarded already"):
        await act([one, two])
    with pytest.raises(DeadLetterUnknown, match="there is no dead letter 99"):
        await act([one, 99])
    assert (await letters.get(one)).state is WAITING
    assert await outbox(database) == []


async def waiting_for_a_lock(database: Database) -> int:
    async with database.transaction() as connection:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return count


async def test_two_replays_at_once_send_it_once(database: Database, letters: DeadLetters) -> None:
    number = await letters.add(new())
    async with database.transaction() as holder:
        await holder.execute("SELECT FROM redfaust.dead_letters WHERE id = $1 FOR UPDATE", number)
        replays = [asyncio.create_task(letters.replay([number])) for _ in range(2)]
        async with asyncio.timeout(10):
            while await waiting_for_a_lock(database) < len(replays):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    outcomes = await asyncio.gather(*replays, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {type(None), DeadLetterResolved}
    assert len(await outbox(database)) == 1


async def test_an_unknown_dead_letter_is_an_error(letters: DeadLetters) -> None:
    with pytest.raises(DeadLetterUnknown, match="there is no dead letter 7"):
        await letters.get(7)


Cli: TypeAlias = Callable[..., Any]


@pytest.fixture
def cli(database_url: str, database: Database) -> Cli:
    """Runs the command in a thread, since it brings an event loop of its own."""
    environ = {"REDFAUST_DATABASE": database_url, "REDFAUST_BROKER": "redis://127.0.0.1:1"}

    async def run(*arguments: str, stdin: bytes | None = None) -> Result:
        invoke = CliRunner(env=environ).invoke
        return await asyncio.to_thread(invoke, main, ("dead-letters", *arguments), input=stdin)

    return run


async def test_cli_list_is_masked_and_filtered(cli: Cli, letters: DeadLetters) -> None:
    assert (await cli("list")).output == "No dead letters are waiting.\n"
    one = await letters.add(new(value=b'{"password":"hush"}'))
    await letters.discard([await letters.add(new(topic="users"))])

    result = await cli("list")
    assert result.exit_code == 0
    assert result.output.split() == [
        str(one), *result.output.split()[1:3], "waiting", "orders:3", "orders", "LookupError",
        "key", "o-1", '{"password":"***"}', "error:", "no", "such", "thing",
        "header", "correlation_id:", "c-1",
    ]  # fmt: skip
    found = orjson.loads((await cli("list", "--state", "all", "--json")).stdout)
    assert [each["topic"] for each in found] == ["users", "orders"]
    assert found[1]["position"] == str(1700000000000 << 64)


async def test_cli_show_tells_everything_and_raw_gives_the_bytes(
    cli: Cli, letters: DeadLetters
) -> None:
    value = b'\xff\x00\x1b[2J "password": "hush"'
    headers = (("authorization", b"Bearer hush"), ("correlation_id", b"c-1"))
    error = raised(ValueError("bad mail ada@example.org\x1b[2J"))
    number = str(await letters.add(new(value=value, headers=headers, error=error)))

    shown = (await cli("show", number)).output
    for text in ("waiting", "orders", "c-1", "a***@example.org", "authorization: ***", "in raised"):
        assert text in shown
    assert "hush" not in shown
    assert "\x1b" not in shown
    detail = orjson.loads((await cli("show", number, "--json")).stdout)
    assert (detail["size"], detail["error_type"]) == (len(value), "ValueError")
    assert "hush" not in str(detail)
    assert (await cli("show", number, "--raw")).stdout_bytes == value


async def test_cli_replays_by_number_with_another_value(
    cli: Cli, database: Database, letters: DeadLetters, tmp_path: Path
) -> None:
    one, two = await letters.add(new()), await letters.add(new())
    file = tmp_path / "value.json"
    file.write_bytes(b"\xffmended")
    result = await cli("replay", str(one), "--value", str(file))
    assert (result.exit_code, result.output) == (0, "Replayed 1.\n")
    assert (await cli("replay", str(two), "--value", "-", stdin=b"typed")).exit_code == 0
    assert [row["value"] for row in await outbox(database)] == [b"\xffmended", b"typed"]


async def test_cli_replays_all_in_order(
    cli: Cli, database: Database, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.dead_letters.REPLAY_BATCH", 2)
    values = [b"%d" % n for n in range(5)]
    for value in values:
        await letters.add(new(value=value))
    await letters.add(new(topic="users", value=b"user"))
    await letters.add(new(agent="carts", value=b"cart"))
    await letters.add(new(error=raised(ValueError("no")), value=b"bad"))
    assert (await cli("replay", "--topic", "users")).stdout == "Replayed 1.\n"
    assert (await cli("replay", "--agent", "carts")).stdout == "Replayed 1.\n"
    nothing = await cli("replay", "--error", "ValueError", "--topic", "users")
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert (await cli("replay", "--error", "ValueError")).stdout == "Replayed 1.\n"
    assert (await cli("replay", "--all")).stdout == "Replayed 5.\n"
    assert (await cli("replay", "--all")).stdout == "Replayed 0.\n"
    assert [row["value"] for row in await outbox(database)] == [
        *(b"user", b"cart", b"bad"),
        *values,
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay",),
        ("replay", "1", "--all"),
        ("replay", "--all", "--topic", "orders"),
        ("replay", "1", "2", "--value", "-"),
        ("replay", "--all", "--value", "-"),
        ("replay", "1", "--app", "shop"),
        ("replay", "--app", "shop"),
        ("replay", "1", "--agent", "orders"),
        ("replay", "--all", "--error", "ValueError"),
        ("discard",),
        ("show", "0"),
    ],
)
async def test_cli_refuses_what_is_ambiguous(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert (await cli(*arguments)).exit_code == 2


async def test_cli_discard_asks(cli: Cli, letters: DeadLetters) -> None:
    await letters.add(new())
    number = await letters.add(new())
    asked = await cli("discard", str(number), stdin=b"n\n")
    assert asked.exit_code == 1
    assert f"Discard {number} for good?" in asked.output
    assert (await letters.get(number)).state is WAITING
    assert (await cli("discard", str(number), "--yes")).exit_code == 0
    assert (await letters.get(number)).state is DISCARDED


@pytest.mark.parametrize("arguments", [("show", "7"), ("replay", "7"), ("discard", "7", "--yes")])
async def test_cli_says_in_one_line_what_is_wrong(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = await cli(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: there is no dead letter 7")
    assert result.stderr.count("\n") == 1


async def test_cli_replay_of_what_nobody_gave_up_says_what_there_is(
    cli: Cli, letters: DeadLetters
) -> None:
    await letters.add(new())
    await letters.add(new(topic="users", agent="mail\x1b[2J"))
    result = await cli("replay", "--agent", "ordres")
    assert result.exit_code == 1
    assert "no dead letter of agent ordres waits" in result.stderr
    for there in ("orders (1)", "mail\\x1b[2J (1)", "users (1)", "LookupError (2)"):
        assert there in result.stderr
    assert "\x1b" not in result.stderr
    assert (await cli("replay", "--all")).stdout == "Replayed 2.\n"
    assert (await cli("replay", "--all")).stdout == "Replayed 0.\n"


async def test_cli_list_pages_by_cursor(cli: Cli, letters: DeadLetters) -> None:
    numbers = [await letters.add(new()) for _ in range(5)]
    first = await cli("list", "--limit", "2")
    assert f"add --after {numbers[3]}" in first.stdout
    found = orjson.loads((await cli("list", "--json", "--after", str(numbers[3]))).stdout)
    assert [each["id"] for each in found] == numbers[2::-1]
    assert (
        await cli("list", "--after", str(numbers[0]))
    ).stdout == "No dead letters are waiting.\n"


async def test_a_list_reads_the_beginnings_of_large_values_alone(letters: DeadLetters) -> None:
    large = b'{"text":"' + b"x" * 5_000_000 + b'"}'
    await letters.add(new(value=large, key=b"k" * 100_000, headers=(("h", b"x" * 1_000_000),)))
    [heading] = await letters.list()
    assert heading.size == len(large)
    assert heading.value == large[:HEADING_LENGTH]
    assert heading.headers == ()
    assert len(heading.key or b"") == HEADING_LENGTH
    assert heading.preview.startswith('{"text":"xxx')
