"""The ``faust`` commands, as processes of their own."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.integration.faust_apps import PATIENCE, eventually
from tests.rights import as_owner

APPLICATION = '''
import faust

app = faust.App("commanded", broker={broker!r}, store={store!r}, topic_partitions=4)

class Payment(faust.Record, namespace="commanded.Payment"):
    account: str
    amount: int

payments = app.topic("payments", key_type=str)
balances = app.Table("balances", key_type=str, value_type=int, default=int, help="What is there")

@app.agent(payments)
async def book(stream):
    """Book payments."""
    async for account, amount in stream.items():
        balances[account] += amount

@app.agent()
async def double(stream):
    async for number in stream:
        yield number * 2

@app.command()
async def pay(self):
    for _ in range(3):
        await payments.send(key="ann", value=10)

@app.command(faust.cli.argument("number", type=int))
async def doubled(self, number: int):
    self.say(f"doubled: {{await double.ask(number)}}")

if __name__ == "__main__":
    app.main()
'''


class Commands:
    """The commands of one application in a directory."""

    def __init__(self, directory: Path, broker: str, database: str) -> None:
        self._directory = directory
        self._database = database
        (directory / "commanded.py").write_text(
            APPLICATION.format(broker=broker, store=database).replace(
                "import faust\n", "import faust, faust.cli\n", 1
            )
        )

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "faust",
            "-A",
            "commanded",
            *arguments,
            cwd=self._directory,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "F_DATADIR": str(self._directory)},
        )

    async def run(self, *arguments: str, code: int = 0) -> str:
        process = await self.start(*arguments)
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == code, output.decode()
        return output.decode()

    async def publish(self, topic: str, key: str, value: str) -> None:
        connection = await asyncpg.connect(self._database)
        try:
            await connection.execute(
                "SELECT redfaust.publish($1, $2, $3::jsonb)", topic, key, value
            )
        finally:
            await connection.close()

    async def waiting(self) -> int:
        """How many rows of the outbox are left."""
        connection = await asyncpg.connect(self._database)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM redfaust.outbox"))
        finally:
            await connection.close()

    async def balance(self) -> int | None:
        connection = await asyncpg.connect(self._database)
        try:
            found = await connection.fetchval("SELECT value::int FROM commanded.balances")
        except asyncpg.UndefinedTableError:
            return None
        else:
            return None if found is None else int(found)
        finally:
            await connection.close()


@pytest.fixture
async def commands(tmp_path: Path, empty_valkey_url: str, database_url: str) -> Commands:
    """With a worker's rights, behind an owner who has created the tables."""
    await Commands(tmp_path, empty_valkey_url, as_owner(database_url)).run("create-tables")
    return Commands(tmp_path, empty_valkey_url, database_url)


async def until(commands: Commands, balance: int) -> None:
    async def reached() -> bool:
        return await commands.balance() == balance

    await eventually(reached)


@pytest.mark.long
async def test_faust_commands(commands: Commands) -> None:
    listed = await asyncio.gather(
        commands.run("agents"),
        commands.run("tables"),
        commands.run("models"),
        commands.run("model", "commanded.Payment"),
        commands.run("clean-versions"),
    )
    expected = ["@book", "balances", "Payment", "amount", ""]
    assert [want in output for want, output in zip(expected, listed, strict=True)] == [True] * 5
    worker = await commands.start("worker", "-l", "error", "--without-web")
    try:
        await commands.run("pay")
        await until(commands, 30)
        sent = await commands.run("send", "payments", "5", "--key", "ann")
        assert '"topic":"payments"' in sent
        await until(commands, 35)
        assert "doubled: 42" in await commands.run("doubled", "21")
        assert "workers run" in await commands.run("reset", code=1)
        assert await commands.balance() == 35
    finally:
        worker.terminate()
        await asyncio.wait_for(worker.communicate(), PATIENCE)
    assert worker.returncode == 0
    assert "Table balances: 1 rows deleted" in await commands.run("reset")
    assert await commands.balance() is None
    worker = await commands.start("worker", "-l", "error", "--without-web")
    try:
        await until(commands, 35)
    finally:
        worker.terminate()
        await asyncio.wait_for(worker.communicate(), PATIENCE)


async def test_a_workers_banner_shows_no_password(tmp_path: Path) -> None:
    where = "127.0.0.1:1"  # where nobody listens, so that it ends
    commands = Commands(
        tmp_path,
        f"redis+sentinel://ann:secret@{where},{where}/primary?sentinel_password=secret",
        f"postgresql://ann:secret@{where}/bank?schema=public&sslpassword=secret",
    )
    printed = await commands.run("worker", "--without-web", code=1)
    assert f"redis+sentinel://ann@{where},{where}/primary" in printed
    assert f"postgresql://ann@{where}/bank?schema=public" in printed
    assert "secret" not in printed


async def test_a_banner_may_have_no_url(tmp_path: Path) -> None:
    commands = Commands(tmp_path, "memory://", "memory:")
    worker = await commands.start("worker", "--without-web")
    assert worker.stdout is not None
    async with asyncio.timeout(PATIENCE):
        while b"store" not in (line := await worker.stdout.readline()):
            assert line
    worker.terminate()
    await asyncio.wait_for(worker.communicate(), PATIENCE)
    assert b"memory:" in line


@pytest.mark.parametrize("relays", [True, False])
async def test_a_worker_runs_a_relay_unless_it_is_told_not_to(
    commands: Commands, relays: bool
) -> None:
    arguments = [] if relays else ["--no-relay"]
    worker = await commands.start("worker", "-l", "error", "--without-web", *arguments)
    try:
        await commands.run("pay")
        await until(commands, 30)
        await commands.publish("payments", "ann", "5")
        await commands.run("pay")
        await until(commands, 65 if relays else 60)
        assert await commands.waiting() == (0 if relays else 1)
    finally:
        worker.terminate()
        await asyncio.wait_for(worker.communicate(), PATIENCE)
    assert worker.returncode == 0
