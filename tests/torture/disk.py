"""A disk that can be full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = 1 << 30
"""Bytes that it holds."""


class Disk:
    """Mounted on a directory."""

    def __init__(self, directory: Path) -> None:
        self._ballast = directory / "ballast"

    def fill(self) -> None:
        """Leave no space to anybody."""
        with self._ballast.open("wb") as file:
            free = os.fstatvfs(file.fileno())
            # Others take some meanwhile: what is left for them then is a page or two.
            for size in (free.f_bavail * free.f_frsize, 1 << 20, 1 << 12):
                self._grow(file.fileno(), size)

    def _grow(self, descriptor: int, step: int) -> None:
        try:
            while True:
                os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, step)
        except OSError:
            return

    def free(self) -> None:
        """Have all of that again."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(directory: Path) -> Iterator[Disk | None]:
    """A disk of its own for a directory, in memory; ``None`` where mounting is not permitted."""
    directory.mkdir(mode=0o700)
    if not _mount("-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", str(directory)):
        yield None
        return
    try:
        yield Disk(directory)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def _mount(*arguments: str) -> bool:
    try:
        return (
            subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0
        )
    except FileNotFoundError:
        return False
