"""What is sent for a batch is sent on behalf of the right partition."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from connectors.processing.scope import Scope


def event(key: bytes | None, partition: int) -> Any:
    return SimpleNamespace(message=SimpleNamespace(key=key, tp=TP("words", partition)))


@pytest.mark.parametrize(
    ("key", "partition"), [(b"a", 2), (b"b", 1), (b"c", 3), (b"other", 2), (None, 2)]
)
def test_a_batch_sends_on_behalf_of_the_event_of_the_same_key(
    key: bytes | None, partition: int
) -> None:
    scope = Scope([event(b"a", 2), event(b"b", 1), event(b"a", 2), event(b"c", 3)])
    assert scope.source_of(key) == TP("words", partition)


def test_an_event_sends_on_behalf_of_its_own_partition() -> None:
    assert Scope([event(b"a", 2)]).source_of(b"b") == TP("words", 2)
