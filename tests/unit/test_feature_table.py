"""Each yes in the README's comparison names a test that there is."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def section() -> str:
    return (PROJECT / "README.md").read_text().split("\n## Beside others\n")[1].split("\n## ")[0]


def our_answers() -> list[str]:
    rows = [line.split("|") for line in section().splitlines() if line.startswith("|")]
    return [row[2].strip() for row in rows[2:]]


def named_tests() -> dict[str, tuple[str, str]]:
    named = re.findall(r'^\[(\w+)\]: (\S+) "(\w+)"$', section(), re.MULTILINE)
    return {name: (path, test) for name, path, test in named}


def test_each_yes_names_a_test() -> None:
    answers = our_answers()
    assert len(answers) > 10
    for answer in answers:
        assert "yes" not in re.sub(r"\[yes\]\[\w+\]", "", answer), answer
    named = {name for answer in answers for name in re.findall(r"\[yes\]\[(\w+)\]", answer)}
    assert named == named_tests().keys()


def test_each_named_test_is_there() -> None:
    for path, test in named_tests().values():
        assert re.search(rf"^(async )?def {test}\(", (PROJECT / path).read_text(), re.MULTILINE), (
            test
        )


def test_each_footnote_is_used_and_written() -> None:
    table, *notes = re.split(r"^(?=\[\^[\w-]+\]:)", section(), flags=re.MULTILINE)
    written = [note[2 : note.index("]")] for note in notes]
    assert set(re.findall(r"\[\^([\w-]+)\]", table)) == set(written)
    assert len(written) == len(set(written))
