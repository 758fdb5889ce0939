"""SQL lives in files named after what they do: ``<package>/sql/<name>.sql``, one statement each."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def load(package: str, name: str) -> str:
    """The statement ``<package>/sql/<name>.sql``, read once.

    Raises :class:`FileNotFoundError` naming the file that was looked for.
    """
    file = resources.files(package).joinpath("sql", f"{name}.sql")
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no query {name!r} in {package}: {file} does not exist") from error
