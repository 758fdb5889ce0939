"""What ``pip install redfaust`` gives: the wheel, in an environment of its own.

``parcels`` beside this file stands for that package. It is written against the published interface
alone. The shop is not there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import pytest

from tests.rights import as_owner

TOP = Path(__file__).parents[2]
PARCELS = Path(__file__).parent / "parcels"
SHOP = ("app", "agents", "models")

pytestmark = pytest.mark.long


class Environment(NamedTuple):
    """Where the wheel is installed."""

    directory: Path
    wheel: Path

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    def run(self, *arguments: str | Path) -> str:
        """What its Python prints. Nothing of this project's directory is importable there."""
        return run(self.python, "-P", *arguments, cwd=self.directory)


def run(*command: str | Path, cwd: Path = TOP) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "REDFAUST"))}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def pip(python: Path | str, *arguments: str | Path) -> None:
    run(python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The wheel of this project with the locked dependencies, and ``parcels``; without the shop."""
    built = tmp_path_factory.mktemp("wheels")
    for project in (TOP, PARCELS):
        pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "-w", built, project)
    [wheel] = built.glob("redfaust-*.whl")
    installed = Environment(tmp_path_factory.mktemp("environment"), wheel)
    run(sys.executable, "-m", "venv", installed.directory)
    locked = TOP / "requirements.lock"
    pip(installed.python, "install", "--no-deps", "--require-hashes", "--requirement", locked)
    pip(installed.python, "install", "--no-deps", *built.glob("*.whl"))
    pip(installed.python, "install", f"{wheel}[test]")
    [packages] = installed.directory.glob("lib/python3*/site-packages")
    assert not [package for package in SHOP if (packages / package).exists()]
    yield installed
    shutil.rmtree(installed.directory)


def test_the_wheel_holds_what_is_no_python(environment: Environment) -> None:
    with ZipFile(environment.wheel) as wheel:
        packed = {name for name in wheel.namelist() if not name.endswith("/")}
    tracked = run("git", "ls-files", "connectors/redfaust").splitlines()
    assert {name.removeprefix("connectors/") for name in tracked} <= packed
    assert "redfaust/py.typed" in packed
    assert {name.split("/")[0] for name in packed} == {"redfaust", "redfaust-0.1.0.dist-info"}


def test_the_library_comes_alone(environment: Environment) -> None:
    told: dict[str, Any] = json.loads(environment.run(Path(__file__).parent / "imports.py"))
    assert "redfaust.fixup" in told["imported"]
    assert not [name for name in told["loaded"] if name.split(".")[0] in SHOP]


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("redis://", "redfaust.transports.redis"),
        ("rediss+sentinel://", "redfaust.transports.redis"),
        ("redis+cluster://", "redfaust.transports.redis"),
        ("memory://", "redfaust.transports.memory"),
        ("audited://", "parcels.audited"),
    ],
)
def test_faust_finds_what_is_registered(environment: Environment, url: str, transport: str) -> None:
    code = f"from faust import transport as t; print(t.by_url({url!r}).__module__)"
    assert environment.run("-c", code).strip() == transport


def test_a_package_of_somebody_else_works(environment: Environment, database_url: str) -> None:
    told = json.loads(environment.run("-m", "parcels", as_owner(database_url)))
    assert told["parcels"] == [["p-1", "Bonn", 2]]
    refused = "Scan: place: String should have at least 1 character"
    assert told["errors"] == [
        ["LookupError", "nowhere"],
        ["faust.exceptions.ValueDecodeError", refused],
    ]
    assert {"scans": 4, "moved": 2}.items() <= told["written"].items()


def test_it_can_be_tested_without_servers(environment: Environment) -> None:
    environment.run("-m", "parcels.rehearsal")


def test_its_types_are_checked_against_ours(environment: Environment) -> None:
    run(
        sys.executable,
        *("-m", "mypy", "--strict", "--config-file", os.devnull),
        *("--cache-dir", environment.directory / "mypy-cache"),
        *("--python-executable", environment.python),
        *("--package", "parcels"),
        cwd=environment.directory,
    )


OWN = {
    "app.py": """
import faust

from agents.counting import count
from models import Seen

app = faust.App("own", broker="memory://", store="memory://", web_enabled=False)
seen = app.Table("seen", key_type=str, value_type=int, default=int)
app.agent(app.topic("visits", key_type=str, value_type=str), name="count")(count(seen))
assert Seen(n=1).n == 1
""",
    "models/__init__.py": """
from pydantic import BaseModel


class Seen(BaseModel):
    n: int
""",
    # A package without __init__.py, which one of ours would hide.
    "agents/counting.py": """
def count(seen):
    async def visits(stream):
        async for key, _ in stream.items():
            seen[key] += 1

    return visits
""",
    "connectors/__init__.py": "OURS = True\n",
    "main.py": """
import asyncio

import connectors
from app import app, seen
from redfaust import in_memory


async def main() -> None:
    async with in_memory(app) as run:
        await run.send("visits", key="ann", value="hello")
        await run.settled()
        assert seen["ann"] == 1


assert connectors.OURS
asyncio.run(main())
print("counted")
""",
}
"""A project whose modules are named as the folders of this repository are."""


def test_names_of_this_repository_are_free_for_others(
    environment: Environment, tmp_path: Path
) -> None:
    for name, text in OWN.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert run(environment.python, "main.py", cwd=tmp_path).splitlines()[-1] == "counted"
    behind = "import runpy, sys; sys.path.append('.'); runpy.run_path('main.py')"
    printed = run(environment.python, "-P", "-c", behind, cwd=tmp_path)
    assert printed.splitlines()[-1] == "counted"
    pip(environment.python, "uninstall", "--yes", "redfaust")
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.py")} == set(OWN)
    pip(environment.python, "install", "--no-deps", environment.wheel)
