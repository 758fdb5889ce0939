"""How often, and after which pauses, an event that made an agent raise is tried again."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from redfaust.errors import TableNotShared, WrongPartition


@dataclass(frozen=True, slots=True)
class Retries:
    """The policy of an agent: ``@app.agent(topic, retries=Retries(attempts=5))``.

    The pause grows by ``factor`` with each attempt, from ``delay`` to at most ``max_delay``
    seconds, and is spread at random by ``jitter`` of itself in both directions, so that what
    failed together does not come back together. An exception of a class in ``never`` is not
    tried again, nor is the use of a row that is another worker's. After the last attempt the event
    becomes a dead letter.
    """

    attempts: int = 3
    """Including the first; 1 is no retry."""
    delay: float = 0.1
    factor: float = 5.0
    max_delay: float = 600.0
    jitter: float = 0.2
    never: tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for a policy that makes no sense."""
        if type(self.attempts) is not int or self.attempts < 1:
            raise ValueError(
                f"attempts={self.attempts!r}: write a whole number; it counts the first attempt "
                "too, so it is at least 1"
            )
        for name in ("delay", "factor", "max_delay", "jitter"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not math.isfinite(value):
                raise ValueError(f"{name}={value!r}: write a finite number")
        if not (isinstance(self.never, tuple) and all(map(_is_exception, self.never))):
            raise ValueError(
                f"never={self.never!r}: write classes of exceptions in a tuple: (ValueError,)"
            )
        if not (0 <= self.delay <= self.max_delay and self.factor >= 1 and 0 <= self.jitter <= 1):
            raise ValueError(
                "pauses do not shrink: 0 <= delay <= max_delay, factor >= 1, 0 <= jitter <= 1"
            )

    def allow(self, attempts: int, error: Exception) -> bool:
        """Whether to try again after so many attempts, the last of which raised this."""
        hopeless = (*self.never, WrongPartition, TableNotShared)
        return attempts < self.attempts and not isinstance(error, hopeless)

    def pause(self, attempts: int) -> float:
        """Seconds until the next attempt after so many."""
        # Beyond a thousand doublings a float has no room, and the bound is reached long before.
        growth = self.factor ** min(attempts - 1, 100)
        spread = 1 + self.jitter * random.uniform(-1, 1)  # noqa: S311 - hides nothing
        return min(self.delay * growth, self.max_delay) * spread


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


NO_RETRIES = Retries(attempts=1)
