"""The bound is kept, and nothing that is in use makes room."""

from __future__ import annotations

import random
from collections import Counter

from connectors.tables.cache import Cache, State


class Table:
    """What a cache knows of its table."""

    def __init__(self, size: int) -> None:
        self.unsaved: set[str] = set()
        self.forgotten: list[str] = []
        self.cache = Cache(size, self.unsaved.__contains__, self.forgotten.append)

    def visit(self, key: str) -> None:
        assert self.cache.pin(key, at_most=self.cache.size)
        self.cache.note(key, present=True)
        self.cache.unpin(key)


def test_the_least_recently_used_key_makes_room() -> None:
    table = Table(3)
    for key in ("a", "b", "c", "a", "d", "e"):
        table.visit(key)
    assert table.forgotten == ["b", "c"]
    assert table.cache.state("b") is None
    assert table.cache.state("a") is State.PRESENT


def test_what_is_pinned_or_not_saved_stays() -> None:
    table = Table(3)
    for key in ("pinned", "written", "idle"):
        table.visit(key)
    table.cache.pin("pinned", at_most=3)
    table.unsaved.add("written")
    table.visit("new")
    assert table.forgotten == ["idle"]
    table.cache.pin("new", at_most=3)
    assert not table.cache.pin("newer", at_most=3)
    assert len(table.cache) == 3
    table.unsaved.remove("written")
    table.cache.release("written")
    assert table.cache.pin("newer", at_most=3)
    assert table.forgotten == ["idle", "written"]


def test_a_key_is_pinned_until_it_was_unpinned_as_often() -> None:
    table = Table(1)
    for _ in range(2):
        assert table.cache.pin("a", at_most=1)
    for _ in range(2):
        assert not table.cache.pin("b", at_most=1)
        table.cache.unpin("a")
    assert table.cache.pin("b", at_most=1)


def test_only_so_many_keys_are_pinned() -> None:
    table = Table(4)
    assert table.cache.pin("a", at_most=2)
    assert table.cache.pin("b", at_most=2)
    assert not table.cache.pin("c", at_most=2)
    assert table.cache.pin("a", at_most=2)  # it is pinned anyway
    assert table.cache.pin("c", at_most=4)


def test_a_key_whose_row_never_came_makes_room_too() -> None:
    table = Table(1)
    table.cache.pin("a", at_most=1)
    assert table.cache.state("a") is State.RESERVED
    table.cache.unpin("a")
    table.visit("b")
    assert table.cache.state("a") is None


def test_at_random_the_bound_holds_and_no_place_is_lost() -> None:
    chance = random.Random(4)
    for size in (1, 2, 7):
        table = Table(size)
        pinned: Counter[str] = Counter()
        for _ in range(5000):
            key = chance.choice("abcdefghijkl")
            match chance.choice(["pin", "unpin", "write", "commit"]):
                case "pin":
                    used = {*pinned, *table.unsaved}
                    room = key in used or len(used) < size
                    assert table.cache.pin(key, at_most=size) == room
                    if room:
                        pinned[key] += 1
                        table.cache.note(key, present=True)
                case "unpin" if pinned[key]:
                    pinned[key] -= 1
                    table.cache.unpin(key)
                case "write" if pinned[key]:
                    table.unsaved.add(key)
                case "commit":
                    written = set(table.unsaved)
                    table.unsaved.clear()
                    for other in written:
                        table.cache.release(other)
            pinned += Counter()
            assert len(table.cache) <= size
            assert all(table.cache.state(key) for key in {*pinned, *table.unsaved})
