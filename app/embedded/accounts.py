"""Whom a server runs as.

Postgres refuses to run as root. So as root it runs as ``nobody``, who may enter neither a data
directory below ``/root`` nor an environment there. The data directory is no obstacle: the server
is started inside it and calls it ``/proc/self/cwd``, which needs no permission on the way. The
binaries, whose real path Postgres insists on, are copied once to where everybody may read.
"""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from app.embedded.binaries import PostgresInstallation
from app.errors import EmbeddedError

logger = logging.getLogger(__name__)

UNPRIVILEGED = "nobody"
SHARED_CACHE = Path("/var/cache/redfaust")
"""Where root keeps the copy of the binaries; can be deleted at any time while none runs."""
PROBE_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Account:
    """A user to run a server as."""

    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """``nobody`` when this process is root; ``None`` when it need not change."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise EmbeddedError(
            f"Postgres does not run as root, and there is no user {UNPRIVILEGED!r} to run it as: "
            "start redfaust as an ordinary user, or set REDFAUST_DATABASE"
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def runnable_by(
    account: Account | None, installation: PostgresInstallation
) -> PostgresInstallation:
    """The installation itself, or a copy of it that the account can reach."""
    if account is None or _can_run(account, installation):
        return installation
    copy = SHARED_CACHE / f"postgres-{installation.version}"
    if copy.exists():
        _open_to_all(copy)  # another umask may have made it
    else:
        logger.info(
            "Postgres runs as %r, who cannot reach its binaries: copying them to %s",
            UNPRIVILEGED,
            copy,
        )
        _copy(installation, copy)
    return installation.at(copy)


def _can_run(account: Account, installation: PostgresInstallation) -> bool:
    try:
        finished = subprocess.run(  # noqa: S603 - our own binary
            [installation.program("postgres"), "--version"],
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            capture_output=True,
            timeout=PROBE_PATIENCE,
            check=False,
        )
    except PermissionError:
        return False
    return finished.returncode == 0


def _open_to_all(directory: Path) -> None:
    """Let everybody read a directory with all that is in it, and the one that it is in."""
    directory.parent.chmod(directory.parent.stat().st_mode | 0o755)
    for folder, _, files in os.walk(directory):
        Path(folder).chmod(0o755)
        for path in (Path(folder, name) for name in files):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _copy(installation: PostgresInstallation, target: Path) -> None:
    """Copy beside the target first: whoever sees the target sees all of it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
        for source in installation.parts():
            shutil.copytree(
                source, partial / source.name, ignore=shutil.ignore_patterns("include", "*.py*")
            )
        _open_to_all(partial)
    except OSError as error:
        raise EmbeddedError(
            f"Postgres runs as {UNPRIVILEGED!r}, who cannot reach {installation.package}, and it "
            f"cannot be copied to {target} ({error}): move the environment out of a private "
            "directory, start redfaust as an ordinary user, or set REDFAUST_DATABASE"
        ) from error
    try:
        partial.rename(target)
    except OSError:  # somebody else was faster, and theirs is as good
        shutil.rmtree(partial)
