"""Files that only their owner may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_BYTES = 24


def write_private(path: Path, text: str) -> None:
    """Write all of it or nothing, readable by the owner alone from the first moment."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    partial.replace(path)


def password_in(path: Path) -> str:
    """The password kept in a file; made up the first time."""
    if not path.exists():
        write_private(path, secrets.token_hex(_BYTES))
    return path.read_text(encoding="utf-8")
