"""How long the shop waits for what will perhaps be better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from models.errors import NewerEventVersion
from redfaust.processing.retries import Retries

ROLLOUT_ATTEMPTS: Final = 12
"""With pauses from 0.1 s to 10 min that is nearly an hour, in which workers are upgraded."""


@dataclass(frozen=True)
class PatientRetries(Retries):
    """As Retries, and longer for events that a newer release has written."""

    def allow(self, attempts: int, error: Exception) -> bool:
        if isinstance(error, NewerEventVersion):
            return attempts < max(self.attempts, ROLLOUT_ATTEMPTS)
        return Retries.allow(self, attempts, error)


PATIENT: Final = PatientRetries()
