"""Publishes what a process has committed, while its next commit is on its way."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from connectors.outbox.entries import Staged
from connectors.outbox.journal import Logs, SetAside
from connectors.outbox.lanes import Lane
from connectors.postgres.database import Database

MAX_UNPUBLISHED = 10_000
"""Entries that may wait to be published; committing more waits."""
RETRY_EVERY = 0.5
"""Seconds between two attempts while broker or database are away."""


class Publisher:
    """Publishes the batches of the lanes that one process owns, each lane strictly in order.

    An entry that the broker refuses for good is set aside; nothing else is passed over.
    """

    def __init__(self, database: Database, logs: Logs, *, set_aside: SetAside) -> None: ...

    async def take_over(self, producers: Collection[str]) -> Mapping[str, Lane]:
        """Own the lanes of these producers from now on, and no others.

        The caller has fenced off who owned them before. What is left of them is published first,
        and their numbers are raised above all marks, so that a database that was set back does not
        use a number again. Returns each producer's lane with its last number. Lanes that were
        owned before are left alone, and returned with the last number that :meth:`put` has seen.

        Raises :class:`~connectors.errors.BrokerUnavailable` and
        :class:`~connectors.errors.DatabaseUnavailable`; then nothing new is owned: call it again.
        """
        raise NotImplementedError

    def put(self, staged: Sequence[Staged]) -> None:
        """Publish what was committed, soon. Batches of a lane come in their order.

        Those of lanes that were lost are left to their heir.
        """

    async def has_room(self) -> None:
        """Wait while more than ``MAX_UNPUBLISHED`` entries are not published."""

    async def drained(self) -> None:
        """Wait until everything put so far is published."""

    async def run(self) -> None:
        """Publish until cancelled. While broker or database are away this tries again."""
