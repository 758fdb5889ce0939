from __future__ import annotations

from pathlib import Path

import pytest

from redfaust.postgres.queries import load

ROOT = Path(__file__).parents[2]


def test_a_query_is_the_text_of_its_file() -> None:
    file = ROOT / "connectors" / "redfaust" / "postgres" / "sql" / "create_schema.sql"
    assert load("redfaust.postgres", "create_schema") == file.read_text()


def test_a_query_is_read_once() -> None:
    first = load("redfaust.postgres", "create_schema")
    assert load("redfaust.postgres", "create_schema") is first


def test_a_missing_query_names_the_file_that_was_looked_for() -> None:
    with pytest.raises(FileNotFoundError, match=r"redfaust\.postgres.*sql/nothing\.sql"):
        load("redfaust.postgres", "nothing")


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("connectors/redfaust/*/sql/*.sql")), ids=lambda f: f.stem
)
def test_a_file_holds_one_statement(file: Path) -> None:
    assert ";" not in file.read_text()
