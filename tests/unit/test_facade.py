"""``import redfaust``: what an application may use."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import redfaust
from redfaust import errors


def test_each_name_is_there_and_is_documented() -> None:
    for name in redfaust.__all__:
        value = getattr(redfaust, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name


def test_all_errors_are_there() -> None:
    raised = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.RedfaustError)
    }
    assert raised <= set(redfaust.__all__)


def test_type_checkers_see_the_same_names() -> None:
    assert redfaust.__file__ is not None
    module = ast.parse(Path(redfaust.__file__).read_text())
    [checked] = [node for node in module.body if isinstance(node, ast.If)]
    seen = [
        alias.name
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(seen) == sorted(redfaust.__all__)


def test_nothing_is_loaded_before_it_is_used() -> None:
    code = "import sys, redfaust; print(*(m for m in sys.modules if m.startswith('redfaust')))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["redfaust"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(redfaust, "Kafka")
    assert "Retries" in dir(redfaust)
