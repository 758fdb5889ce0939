"""Who works on which partitions of a group.

A *number* is the unit: whoever owns number 3 works on partition 3 of every topic that has one, so
that co-partitioned topics, and what a table keeps of them, have one owner. The *assignment* of a
group says who owns which number. Each member reads it, asks :func:`plan` what it should say, and
writes that if nobody has written meanwhile. A member changes only what concerns itself: it enters
itself, takes free numbers, and frees its own; and it strikes out members that it knows to be dead.

A number goes its way::

    free ──taken──▶ owned ──owner is dead, has left, or has handed it over──▶ free

Numbers that the same topics have form a *class*. Members' shares of each class, and of all numbers,
differ by one at most; what is left over goes round among the members in the order in which they
joined, on from class to class.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

LOST_FOR = 900.0
"""Seconds for which it is remembered that a member was lost: long enough for somebody who is called
to read it."""

MAX_LOST = 20
"""Lost members that are remembered at a time, the latest of them."""
_NUMBER = re.compile(r"\d{1,5}", re.ASCII)
"""Below :data:`~redfaust.brokers.broker.MAX_PARTITIONS`."""

SEPARATOR = "~"
"""Stands before the part of a member's name that tells two processes of the same name apart."""


class Owned(NamedTuple):
    """What the assignment says of a number."""

    member: str
    """Its owner; empty: it is free."""
    before: str
    """Who had it before; empty: nobody."""
    since: float
    """Since when it is owned, or free, in seconds since the epoch by the writer's clock. For people
    to read."""


@dataclass(frozen=True, slots=True)
class GroupAssignment:
    """What is written down for a group."""

    members: tuple[str, ...] = ()
    """In the order in which they joined."""
    owners: Mapping[int, Owned] = field(default_factory=dict)
    drained: frozenset[str] = frozenset()
    """Names, without what tells processes apart, of members that are to own nothing."""
    lost: Mapping[str, float] = field(default_factory=dict)
    """Names of members that others struck out, and since when, in seconds since the epoch by the
    writer's clock. For people to read."""

    def owned_by(self, member: str) -> frozenset[int]:
        """The numbers of a member."""
        return frozenset(number for number, owned in self.owners.items() if owned.member == member)

    def is_drained(self, member: str) -> bool:
        """Whether a member is to own nothing."""
        return name_of(member) in self.drained


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now, as one member sees it."""

    assignment: GroupAssignment
    """As it should be; the same as it was if nothing is to be changed."""
    hand_over: frozenset[int]
    """What the member works on and somebody else waits for: to be finished and let go. The next
    plan frees it."""


def name_of(member: str) -> str:
    """A member's name without what tells processes of that name apart."""
    return member.rpartition(SEPARATOR)[0] or member


def quotas(members: Sequence[str], classes: Iterable[Collection[int]]) -> list[dict[str, int]]:
    """How many numbers of each class each member should own."""
    found, offset = [], 0
    for numbers in classes:
        each, left_over = divmod(len(numbers), len(members)) if members else (0, 0)
        lucky = {members[(offset + n) % len(members)] for n in range(left_over)}
        found.append({member: each + (member in lucky) for member in members})
        offset += left_over
    return found


def classes_of(counts: Iterable[int]) -> list[range]:
    """The classes of numbers where topics have so many partitions."""
    bounds = sorted({0, *counts})
    return [range(low, high) for low, high in pairwise(bounds)]


def plan(
    assignment: GroupAssignment,
    me: str,
    *,
    counts: Iterable[int],
    held: Collection[int],
    silent: Collection[str],
    now: float,
) -> Plan:
    """What ``me`` should do.

    ``counts`` are the numbers of partitions of all topics, ``held`` the numbers that I work on,
    ``silent`` the members that I know to be dead, and ``now`` is in seconds since the epoch.

    Repeated by all members until nothing changes, it leaves every number with an owner and nobody
    with more than its quota. No member gives away more than exceeds its quota.
    """
    attended = attend(assignment, me, silent=silent, now=now)
    members = attended.members
    classes = classes_of(counts)
    owners = _freed(assignment.owners, members, classes, now)
    entitled = [member for member in members if name_of(member) not in assignment.drained]
    hand_over: set[int] = set()
    for numbers, quota in zip(classes, quotas(entitled, classes), strict=True):
        share = _Share(numbers, quota, owners, me)
        owners |= {n: Owned(me, owners[n].before, now) for n in share.to_take(held)}
        surplus = share.surplus(held)
        hand_over |= surplus.intersection(held)
        owners |= {n: _free(owners[n], now) for n in surplus.difference(held)}
    # What no topic has any more is let go as well.
    for number in [n for n, o in owners.items() if o.member == me and not _in(n, classes)]:
        if number in held:
            hand_over.add(number)
        else:
            del owners[number]
    changed = replace(attended, owners=owners)
    return Plan(assignment if changed == assignment else changed, frozenset(hand_over))


def attend(
    assignment: GroupAssignment, me: str, *, silent: Collection[str], now: float
) -> GroupAssignment:
    """The assignment with ``me`` among its members, and without those known to be dead, who are
    remembered as lost for :data:`LOST_FOR` seconds unless they come back."""
    members = tuple(m for m in assignment.members if m not in silent)
    if me not in members:
        members += (me,)
    there = set(map(name_of, members))
    struck_out = {name_of(member) for member in assignment.members if member in silent}
    lost = {**dict.fromkeys(struck_out, now), **assignment.lost}
    kept = {n: t for n, t in lost.items() if n not in there and now - t < LOST_FOR}
    latest = sorted(kept, key=lambda name: (-kept[name], name))[:MAX_LOST]
    return replace(assignment, members=members, lost={name: kept[name] for name in sorted(latest)})


def without_lost(assignment: GroupAssignment, name: str) -> GroupAssignment:
    """The assignment after a lost member was forgotten."""
    lost = {each: since for each, since in assignment.lost.items() if each != name}
    return replace(assignment, lost=lost)


def drained(assignment: GroupAssignment, name: str, *, back: bool) -> GroupAssignment:
    """The assignment in which members of a name own nothing, or (``back``) their share again."""
    names = assignment.drained - {name} if back else assignment.drained | {name}
    return replace(assignment, drained=names)


def without(assignment: GroupAssignment, member: str, now: float) -> GroupAssignment:
    """The assignment after a member has left. Nothing is remembered of it."""
    members = tuple(m for m in assignment.members if m != member)
    owners = {n: _free(o, now) if o.member == member else o for n, o in assignment.owners.items()}
    return replace(assignment, members=members, owners=owners)


def as_json(assignment: GroupAssignment) -> dict[str, Any]:
    """An assignment as it is stored."""
    return {
        "members": assignment.members,
        "owners": {str(n): owned._asdict() for n, owned in sorted(assignment.owners.items())},
        "drained": sorted(assignment.drained),
        "lost": dict(assignment.lost),
    }


def from_json(stored: object) -> GroupAssignment:
    """An assignment that was stored. Raises ValueError, with the reason, if it is none."""
    match stored:
        case {"members": [*members], "owners": {**owners}, "drained": [*drained], **others}:
            names = _names("members", members)
            if len(set(names)) < len(names):
                raise ValueError("a member stands in it twice")
            return GroupAssignment(
                members=names,
                owners=dict(_owned(number, owner) for number, owner in owners.items()),
                drained=frozenset(_names("drained", drained)),
                lost=dict(_lost(others.get("lost", {}))),
            )
        case _:
            raise ValueError("it is no object with members, owners and drained")


def _names(of: str, names: Sequence[object]) -> tuple[str, ...]:
    texts = tuple(name for name in names if isinstance(name, str))
    if len(texts) < len(names):
        raise ValueError(f"{of} are no names")
    return texts


def _lost(lost: object) -> Iterator[tuple[str, float]]:
    if not isinstance(lost, dict):
        raise ValueError("what it says of lost members is no object")
    for name, since in lost.items():
        if not isinstance(name, str) or not isinstance(since, int | float):
            raise ValueError("a lost member has another form")
        yield name, float(since)


def _owned(number: object, owned: object) -> tuple[int, Owned]:
    match owned:
        case {"member": str(member), "before": str(before), "since": int() | float() as since}:
            if isinstance(number, str) and _NUMBER.fullmatch(number):
                return int(number), Owned(member, before, float(since))
    raise ValueError("it has an owner of another form")


def _free(owned: Owned, now: float) -> Owned:
    return Owned("", owned.member, now)


def _in(number: int, classes: Sequence[range]) -> bool:
    return bool(classes) and number < classes[-1].stop


def _freed(
    owners: Mapping[int, Owned],
    members: Collection[str],
    classes: Sequence[range],
    now: float,
) -> dict[int, Owned]:
    """Every number with its owner, free where that is none of the members."""
    nobody = Owned("", "", now)
    found = {number: owners.get(number, nobody) for numbers in classes for number in numbers}
    found |= {n: o for n, o in owners.items() if not _in(n, classes) and o.member in members}
    return {
        n: _free(owned, now) if owned.member and owned.member not in members else owned
        for n, owned in found.items()
    }


class _Share:
    """One member's part in one class."""

    def __init__(
        self, numbers: range, quota: Mapping[str, int], owners: Mapping[int, Owned], me: str
    ) -> None:
        self._owners = {number: owners[number] for number in numbers}
        self._me = me
        owned = [o.member for o in self._owners.values() if o.member]
        short = {member: due - owned.count(member) for member, due in quota.items()}
        self._room = short.get(me, -owned.count(me))
        others = {member: lack for member, lack in short.items() if member != me and lack > 0}
        self._waited_for = sum(others.values())
        self._waiting = {name_of(member) for member in others}

    def to_take(self, held: Collection[int]) -> list[int]:
        """Free numbers up to the quota: those I work on, those I had before, those that nobody
        else who waits had before."""
        free = [number for number, owned in self._owners.items() if not owned.member]

        def unattractive(number: int) -> tuple[bool, bool, bool]:
            before = name_of(self._owners[number].before)
            return number not in held, before != name_of(self._me), before in self._waiting

        return sorted(free, key=unattractive)[: max(0, self._room)]

    def surplus(self, held: Collection[int]) -> set[int]:
        """What is beyond the quota and others wait for: first what I do not work on, then what
        they had before, then what I got last."""
        mine = [number for number, owned in self._owners.items() if owned.member == self._me]
        free = sum(not owned.member for owned in self._owners.values())
        count = min(-self._room, self._waited_for - free)

        def dear(number: int) -> tuple[bool, bool, float, int]:
            _, before, since = self._owners[number]
            return number in held, name_of(before) not in self._waiting, -since, -number

        return set(sorted(mine, key=dear)[: max(0, count)])
