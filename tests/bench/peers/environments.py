"""The environments of peers, each with the releases that its lock file pins.

They lie in the one that the benchmark itself runs in, as ``.venv/peers``, and are made when they
are needed: once, and again when the lock file has changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = Path(sys.prefix) / "peers"

INSTALL_FOR = 600.0
"""Seconds after which a package counts as not to be installed."""


class Unavailable(Exception):
    """A peer cannot be run, or has failed. Its text is the last that was heard of it."""


async def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made if need be."""
    lock = HERE / peer / "requirements.lock"
    environment, python = ENVIRONMENTS / peer, ENVIRONMENTS / peer / "bin" / "python"
    stamp, digest = environment / "lock", hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="ascii") != digest:
        shutil.rmtree(environment, ignore_errors=True)
        await run(sys.executable, "-m", "venv", str(environment), within=INSTALL_FOR)
        await run(
            *(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--require-hashes", "--requirement", str(lock)),
            within=INSTALL_FOR,
        )
        stamp.write_text(digest, encoding="ascii")
    return python


async def run(*command: str, within: float) -> str:
    """What a process prints that ends well within so many seconds; raises Unavailable if not."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(within):
            printed, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise Unavailable(f"not done within {within:.0f} s") from None
    if process.returncode:
        raise Unavailable((errors.decode().strip().splitlines() or ["no word"])[-1])
    return printed.decode()
