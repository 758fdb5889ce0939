"""The bound is kept, and nothing that is in use makes room."""

from __future__ import annotations

import random
from collections import Counter

from redfaust.tables.cache import Cache, State


class Table:
    """What a cache knows of its table."""

    def __init__(self, size: int) -> None:
        self.unsaved: set[str] = set()
        self.forgotten: list[str] = []
        self.cache = Cache(size, self.unsaved.__contains__, self.forgotten.append)

    def visit(self, key: str) -> None:
        assert self.pin(key)
        self.cache.note(key, present=True)
        self.unpin(key)

    def pin(self, key: str, holder: str = "me") -> bool:
        return self.cache.pin(key, holder, at_most=self.cache.size)

    def unpin(self, key: str, holder: str = "me") -> None:
        self.cache.unpin(key, holder)


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
    table.pin("pinned")
    table.unsaved.add("written")
    table.visit("new")
    assert table.forgotten == ["idle"]
    table.pin("new")
    assert not table.pin("newer")
    assert len(table.cache) == 3
    table.unsaved.remove("written")
    table.cache.release("written")
    assert table.pin("newer")
    assert table.forgotten == ["idle", "written"]


def test_a_key_is_pinned_until_all_have_unpinned_it_as_often() -> None:
    table = Table(1)
    holders = ["me", "me", "you"]
    for holder in holders:
        assert table.pin("a", holder)
    for holder in holders:
        assert not table.pin("b")
        table.unpin("a", holder)
    assert table.pin("b")


def test_a_holder_pins_only_so_many_keys() -> None:
    cache = Table(4).cache
    assert cache.pin("a", "me", at_most=2)
    assert cache.pin("b", "me", at_most=2)
    assert not cache.pin("c", "me", at_most=2)
    assert cache.pin("a", "me", at_most=2)  # it is pinned anyway
    assert cache.pin("c", "you", at_most=2)
    assert (cache.pinned_by("me"), cache.pinned_by("you"), cache.pinned_by("them")) == (2, 1, 0)


def test_a_key_whose_row_never_came_makes_room_too() -> None:
    table = Table(1)
    table.pin("a")
    assert table.cache.state("a") is State.RESERVED
    table.unpin("a")
    table.visit("b")
    assert table.cache.state("a") is None


def test_at_random_the_bound_holds_and_no_place_is_lost() -> None:
    chance = random.Random(4)
    for size in (1, 2, 7):
        table = Table(size)
        pinned: Counter[tuple[str, str]] = Counter()
        for _ in range(5000):
            key, holder = chance.choice("abcdefghijkl"), chance.choice(["me", "you"])
            match chance.choice(["pin", "unpin", "write", "commit"]):
                case "pin":
                    used = {key for key, _ in pinned} | table.unsaved
                    room = key in used or len(used) < size
                    assert table.pin(key, holder) == room
                    if room:
                        pinned[key, holder] += 1
                        table.cache.note(key, present=True)
                case "unpin" if pinned[key, holder]:
                    pinned[key, holder] -= 1
                    table.unpin(key, holder)
                case "write" if pinned[key, holder]:
                    table.unsaved.add(key)
                case "commit":
                    written = set(table.unsaved)
                    table.unsaved.clear()
                    for other in written:
                        table.cache.release(other)
            pinned += Counter()
            assert len(table.cache) <= size
            used = {key for key, _ in pinned} | table.unsaved
            assert all(table.cache.state(key) for key in used)
