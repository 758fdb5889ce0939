"""What all that does a fault has in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from tests.torture.faults import Fault

Strike: TypeAlias = Callable[[], Awaitable[None]]
"""Does a fault, and returns when it is healed: everything runs again, or is about to start."""
Strikes: TypeAlias = Mapping[Fault, Strike]


class Impossible(Exception):
    """A fault that cannot be done on this machine, and why."""
