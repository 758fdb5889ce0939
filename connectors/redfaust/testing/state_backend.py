"""The state backend of an application whose state is in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from faust.types import TP

from redfaust.brokers.broker import Broker
from redfaust.outbox.outbox import Scheduled
from redfaust.processing.dead_letters import NewDeadLetter
from redfaust.processing.parking import KeyQueue, Row
from redfaust.processing.shared.inbox import Finished, Known, Noting
from redfaust.processing.shared.message import SharedMessage
from redfaust.processing.state_backend import StateBackend, TableStore
from redfaust.processing.unit_of_work import Rows
from redfaust.testing.state import MemoryState


class MemoryStateBackend(StateBackend):
    """As that in Postgres, until the end of a test."""

    def __init__(self, state: MemoryState, tables: Callable[[], Iterable[Rows]]) -> None:
        super().__init__(tables)
        self.committer = self.publisher = self._state = state

    async def close(self) -> None:
        """The state is there to be looked at."""

    async def warnings(self) -> Sequence[str]:
        return ()

    async def load(self, store: TableStore, partitions: Collection[int]) -> None:
        for key, partition, encoded in self._state.rows_of(store, partitions):
            store.put(key, encoded, partition)

    async def schedule(self, scheduled: Sequence[Scheduled]) -> None:
        self._state.schedule(scheduled)

    async def keep(self, letter: NewDeadLetter) -> int:
        return self._state.add(letter)

    async def select_parked(
        self, lines: Sequence[KeyQueue], limit: int
    ) -> Sequence[tuple[KeyQueue, Row]]:
        return [(line, row) for line in lines for row in self._state.first_of(line, limit)]

    def inbox(self, agent: str, log: str) -> Noting:  # noqa: ARG002
        return _NothingKnown(log)

    def shared_store(
        self,
        agent: str,  # noqa: ARG002
        inbox: Noting,  # noqa: ARG002
        *,
        be_sure_of_claims: Callable[[], Awaitable[None]],  # noqa: ARG002 - nobody takes them
    ) -> _SharedStore:
        return _SharedStore(self._state)

    async def relay(self, broker: Broker) -> None:
        """Nothing is left to be carried: time moves by hand."""


class _NothingKnown:
    """The inbox of a worker that is alone, and has everything of an event itself."""

    def __init__(self, log: str) -> None:
        self.log = log

    async def look_up(
        self,
        messages: Collection[SharedMessage],  # noqa: ARG002
    ) -> Mapping[SharedMessage, Known]:
        return {}

    async def floors(self) -> Mapping[TP, int]:
        return {}

    async def forget(self, finished: Mapping[TP, Finished]) -> None:
        """It knows nothing."""


class _SharedStore:
    def __init__(self, state: MemoryState) -> None:
        self._state = state

    async def commit(
        self,
        finished: Sequence[SharedMessage],
        failed: Mapping[SharedMessage, Known],  # noqa: ARG002 - this worker knows it
    ) -> None:
        await self._state.commit_shared(finished)
