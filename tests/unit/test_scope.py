"""What an event writes and sends stays with it, until it is finished."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.types import TP

from redfaust.processing.changes import LATER, Causes, Row
from redfaust.processing.scope import Scope, current_scope, open_scope


class Store:
    """A table's store that remembers what was made part of it."""

    def __init__(self) -> None:
        self.applied: list[tuple[Any, Row, Causes | None]] = []

    def apply(self, key: Any, row: Row, causes: Causes | None) -> None:
        self.applied.append((key, row, causes))


def event(key: bytes | None, partition: int, offset: int = 0) -> Any:
    message = SimpleNamespace(key=key, tp=TP("words", partition), offset=offset)
    return SimpleNamespace(message=message)


def row(value: int) -> Row:
    return (0, value, LATER)


@pytest.mark.parametrize(
    ("key", "partition"), [(b"a", 2), (b"b", 1), (b"c", 3), (b"other", 2), (None, 2)]
)
def test_a_batch_sends_on_behalf_of_the_event_of_the_same_key(
    key: bytes | None, partition: int
) -> None:
    scope = open_scope([event(b"a", 2), event(b"b", 1), event(b"a", 2), event(b"c", 3)])
    assert scope.source_of(key) == TP("words", partition)


def test_an_event_sends_on_behalf_of_its_own_partition() -> None:
    assert open_scope([event(b"a", 2)]).source_of(b"b") == TP("words", 2)


def test_an_event_reads_what_it_has_written() -> None:
    scope, store, other = open_scope([event(b"a", 0)]), Store(), Store()
    assert scope.row(store, "a") is None
    scope.write(store, "a", row(1))
    scope.write(store, "a", row(2))
    assert scope.row(store, "a") == row(2)
    assert scope.row(store, "b") is scope.row(other, "a") is None
    assert scope.rows(store) == {"a": row(2)}
    scope.write(other, "a", row(3))
    scope.write(store, "b", row(4))
    assert scope.rows(store) == {"a": row(2), "b": row(4)}
    assert (scope.row(store, "b"), scope.row(other, "a")) == (row(4), row(3))


def test_what_an_event_has_written_counts_once_it_is_finished() -> None:
    scope, store = open_scope([event(b"a", 0, offset=5)], "agent"), Store()
    scope.write(store, "a", row(1))
    assert not store.applied
    scope.join()
    scope.join()
    assert store.applied == [("a", row(1), ("agent", TP("words", 0), 5))]


def test_all_rows_count_with_all_events_of_a_batch() -> None:
    scope, store, other = (
        open_scope([event(b"a", 0, 5), event(b"b", 1, 6)], "agent"),
        Store(),
        Store(),
    )
    scope.write(store, "a", row(1))
    scope.write(other, "b", row(2))
    scope.write(store, "b", row(3))
    scope.join()
    causes = [("agent", TP("words", 0), 5), ("agent", TP("words", 1), 6)]
    assert store.applied == [("a", row(1), causes), ("b", row(3), causes)]
    assert other.applied == [("b", row(2), causes)]


def test_nothing_counts_of_an_event_that_failed() -> None:
    scope, store = open_scope([event(b"a", 0)]), Store()
    scope.write(store, "a", row(1))
    scope.drop()
    scope.join()
    assert not store.applied
    assert scope.row(store, "a") is None


async def test_a_task_belongs_to_the_event_during_which_it_was_started() -> None:
    goes_on = asyncio.Event()

    async def look() -> tuple[Any, Scope | None, Scope | None]:
        before = current_scope()
        await goes_on.wait()
        return faust.current_event(), before, current_scope()

    first = event(b"a", 0)
    scope = open_scope((first,))
    started = asyncio.create_task(look())
    await asyncio.sleep(0)
    scope.join()
    second = open_scope((event(b"b", 0),))
    goes_on.set()
    assert await started == (first, scope, None)
    assert current_scope() is second
    assert faust.current_event() is second.events[0]
