"""What a user's pytest shows of this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def fixtures(directory: Path, *arguments: str) -> str:
    """What pytest prints of the fixtures that a test may ask for."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--fixtures", "-p", "no:cacheprovider", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    ).stdout


def test_fixtures_of_a_dependency_are_not_shown(tmp_path: Path) -> None:
    shown = fixtures(tmp_path)
    assert "tmp_path" in shown
    assert "valkey_" not in shown


def test_they_can_be_had_by_who_wants_them(tmp_path: Path) -> None:
    assert "valkey_client" in fixtures(tmp_path, "-p", "no:redfaust")
