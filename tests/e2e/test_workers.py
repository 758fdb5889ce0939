"""``redfaust workers`` and ``redfaust worker drain``, beside a running shop."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from redfaust.brokers.assignor import name_of
from tests.e2e.test_up import READY_PATIENCE, refused, up

PARTITIONS = 4


async def ask(directory: Path, *arguments: str) -> str:
    code, output = await refused(*arguments, REDFAUST_DATA_DIR=str(directory))
    assert code == 0, output
    return output


async def until_shared(directory: Path, **shares: int) -> dict[str, Any]:
    """Return what is shown when the workers of these names have so many partitions each."""
    async with asyncio.timeout(READY_PATIENCE):
        while True:
            shown: dict[str, Any] = json.loads(await ask(directory, "workers", "--json"))
            found = Counter(name_of(each["worker"] or "") for each in shown["shares"])
            if found == {name.replace("_", "-"): share for name, share in shares.items()}:
                return shown


@pytest.mark.long
async def test_who_works_on_what_and_whom_to_relieve(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    async with up(directory, "--no-demo", "--workers", "2") as running:
        await running.until_ready()
        shown = await until_shared(directory, worker_1=2, worker_2=2)
        assert [each["partition"] for each in shown["shares"]] == list(range(PARTITIONS))
        assert all(each["epoch"] >= 1 and each["lag"] == 0 for each in shown["shares"])

        assert "worker-1 hands over" in await ask(directory, "worker", "drain", "worker-1")
        shown = await until_shared(directory, worker_2=PARTITIONS)
        assert shown["drained"] == ["worker-1"]
        text = await ask(directory, "workers")
        assert "without any: worker-1~" in text
        assert "drained: worker-1" in text
        roles = {
            name_of(worker["name"]): worker["drained"]
            for worker in (await running.get("/api/status"))["workers"]
        }
        assert roles == {"worker-1": True, "worker-2": False}

        await ask(directory, "worker", "drain", "worker-1", "--back")
        await until_shared(directory, worker_1=2, worker_2=2)

        code, output = await refused(
            "worker", "drain", "worker-3", REDFAUST_DATA_DIR=str(directory)
        )
        assert code == 1
        assert "no worker is called worker-3: there are worker-1, worker-2" in output
        await running.stop()
    code, output = await refused("workers", REDFAUST_DATA_DIR=str(directory))
    assert code == 1
