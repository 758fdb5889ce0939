from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from redfaust.failpoints import VARIABLE, armed

PROGRAM = """
from redfaust.failpoints import point
for name in ("a", "b", "a", "c"):
    print(name, flush=True)
    point("test." + name)
"""


@pytest.mark.parametrize(
    ("where", "passed", "code"),
    [
        ("", "abac", 0),
        ("test.z", "abac", 0),
        ("test.a:3", "abac", 0),
        ("test.a", "a", -signal.SIGKILL),
        ("test.b", "ab", -signal.SIGKILL),
        ("test.a:2", "aba", -signal.SIGKILL),
    ],
)
def test_a_process_dies_at_the_point_that_is_named(where: str, passed: str, code: int) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={VARIABLE: where}, capture_output=True, check=False
    )
    assert "".join(finished.stdout.decode().split()) == passed
    assert finished.returncode == code


@pytest.mark.parametrize("where", ["test.a:0", "test.a:-1", "test.a:often", "test.a:1:2"])
def test_a_count_that_is_none_is_an_error(where: str) -> None:
    with pytest.raises(ValueError, match=r"invalid literal|counting begins at 1"):
        armed({VARIABLE: where})
