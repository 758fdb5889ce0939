"""The shares of a group's members, simulated: who reads an old assignment writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from redfaust.brokers.assignor import (
    LOST_FOR,
    MAX_LOST,
    GroupAssignment,
    Owned,
    Plan,
    attend,
    classes_of,
    name_of,
    plan,
    quotas,
    without,
)

COUNTS = st.sets(st.integers(1, 12), min_size=1, max_size=4)
MEMBERS = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=9, unique=True)


def planned(
    assignment: GroupAssignment,
    me: str,
    counts: Iterable[int],
    held: Collection[int] | None = None,
    silent: Collection[str] = (),
) -> Plan:
    mine = assignment.owned_by(me) if held is None else held
    return plan(assignment, me, counts=counts, held=mine, silent=silent, now=1.0)


def owned(owners: Mapping[int, str]) -> dict[int, Owned]:
    return {number: Owned(member, "", 0.0) for number, member in owners.items()}


def owners(assignment: GroupAssignment) -> dict[int, str]:
    return {number: owned.member for number, owned in assignment.owners.items()}


# -- who is remembered -----------------------------------------------------------------------


def test_a_member_that_others_strike_out_is_remembered_as_lost() -> None:
    assignment = GroupAssignment(("a~1", "b~2"))
    after = plan(assignment, "b~2", counts=[2], held=(), silent={"a~1"}, now=100.0).assignment
    assert (after.members, after.lost) == (("b~2",), {"a": 100.0})


def test_a_member_that_leaves_is_not_remembered() -> None:
    assert without(GroupAssignment(("a~1", "b~2")), "a~1", 100.0).lost == {}


def test_a_lost_member_is_forgotten_when_it_comes_back_under_its_name() -> None:
    assignment = GroupAssignment(("b~2",), lost={"a": 100.0})
    assert attend(assignment, "a~9", silent=(), now=101.0).lost == {}
    assert attend(assignment, "c~9", silent=(), now=101.0).lost == {"a": 100.0}


def test_a_lost_member_is_forgotten_after_a_time() -> None:
    assignment = GroupAssignment(("b~2",), lost={"a": 100.0})
    assert attend(assignment, "b~2", silent=(), now=99.0 + LOST_FOR).lost == {"a": 100.0}
    assert attend(assignment, "b~2", silent=(), now=100.0 + LOST_FOR).lost == {}


def test_no_more_lost_members_are_remembered_than_are_worth_reading() -> None:
    crashed = {f"host-{number}": float(number) for number in range(100)}
    lost = attend(GroupAssignment(lost=crashed), "b~2", silent=(), now=200.0).lost
    assert len(lost) == MAX_LOST
    assert min(lost.values()) == 100.0 - MAX_LOST


# -- one step --------------------------------------------------------------------------------


@given(COUNTS, MEMBERS)
def test_quotas_of_each_class_and_of_all_differ_by_one_at_most(
    counts: set[int], members: list[str]
) -> None:
    classes = classes_of(counts)
    found = quotas(members, classes)
    assert [sum(quota.values()) for quota in found] == [len(numbers) for numbers in classes]
    totals = {member: sum(quota[member] for quota in found) for member in members}
    for shares in (*found, totals):
        assert max(shares.values()) - min(shares.values()) <= 1


def test_numbers_of_the_same_topics_are_a_class() -> None:
    assert classes_of([8, 1, 4, 4]) == [range(1), range(1, 4), range(4, 8)]
    assert classes_of([]) == []


def test_the_first_member_takes_everything() -> None:
    assert owners(planned(GroupAssignment(), "a", {1, 4}).assignment) == dict.fromkeys(
        range(4), "a"
    )


def test_one_who_joins_takes_nothing_that_has_an_owner() -> None:
    assignment = planned(GroupAssignment(), "a", {4}).assignment
    joined = planned(assignment, "b", {4})
    assert joined.assignment.members == ("a", "b")
    assert owners(joined.assignment) == owners(assignment)
    assert len(planned(joined.assignment, "a", {4}).hand_over) == 2


def test_what_is_worked_on_is_freed_only_when_it_was_handed_over() -> None:
    assignment = GroupAssignment(("a", "b"), owned(dict.fromkeys(range(4), "a")))
    first = planned(assignment, "a", {4})
    assert first.assignment is assignment
    kept = set(range(4)) - first.hand_over
    second = planned(assignment, "a", {4}, held=kept)
    assert {n for n, owner in owners(second.assignment).items() if not owner} == first.hand_over
    assert not second.hand_over
    assert owners(planned(second.assignment, "b", {4}).assignment) == {
        n: "a" if n in kept else "b" for n in range(4)
    }


def test_a_member_that_is_back_gets_what_it_had() -> None:
    assignment = GroupAssignment(("a~1", "b~1"), owned({0: "a~1", 1: "b~1", 2: "a~1", 3: "b~1"}))
    assignment = planned(assignment, "b~1", {4}, silent=["a~1"]).assignment
    assert set(owners(assignment).values()) == {"b~1"}
    assignment = planned(assignment, "a~2", {4}).assignment
    given = planned(assignment, "b~1", {4}).hand_over
    assert given == {0, 2}


def test_one_who_waits_is_given_what_it_had_and_of_that_what_was_taken_last() -> None:
    taken = [("a~1", 2.0), ("a~1", 3.0), ("c~1", 4.0), ("a~1", 1.0)]
    owners = {number: Owned("b~1", before, since) for number, (before, since) in enumerate(taken)}
    assignment = GroupAssignment(("b~1", "a~2"), owners)
    assert planned(assignment, "b~1", {4}).hand_over == {0, 1}


def test_what_is_free_goes_to_who_had_it_before() -> None:
    before = {0: "a~1", 1: "b~1", 2: "a~1", 3: "b~1"}
    assignment = GroupAssignment((), {n: Owned("", member, 0.0) for n, member in before.items()})
    assignment = replace(assignment, members=("b~2", "a~2"))
    for member in assignment.members:
        assignment = planned(assignment, member, {4}).assignment
    assert {n: name_of(m) for n, m in owners(assignment).items()} == {
        0: "a",
        1: "b",
        2: "a",
        3: "b",
    }


def test_what_is_worked_on_is_taken_again_first() -> None:
    assignment = GroupAssignment(("a", "b"), owned(dict.fromkeys(range(4), "")))
    assert planned(assignment, "a", {4}, held={1, 3}).assignment.owned_by("a") == {1, 3}


def test_one_who_is_drained_hands_everything_over_once_there_is_somebody() -> None:
    assignment = GroupAssignment(("a",), owned(dict.fromkeys(range(3), "a")), frozenset({"a"}))
    assert not planned(assignment, "a", {3}).hand_over
    assignment = planned(assignment, "b~1", {3}).assignment
    assert planned(assignment, "a", {3}).hand_over == {0, 1, 2}


def test_one_who_is_drained_takes_nothing() -> None:
    assignment = planned(GroupAssignment(drained=frozenset({"a"})), "a~7", {3}).assignment
    assert assignment.members == ("a~7",)
    assert not assignment.owned_by("a~7")


def test_numbers_of_no_topic_are_let_go() -> None:
    assignment = GroupAssignment(("a",), owned(dict.fromkeys(range(4), "a")))
    step = planned(assignment, "a", {2})
    assert step.hand_over == {2, 3}
    step = planned(step.assignment, "a", {2}, held={0, 1})
    assert step.assignment.owners.keys() == {0, 1}


def test_one_who_left_owns_nothing() -> None:
    assignment = GroupAssignment(("a", "b"), owned({0: "a", 1: "b"}))
    left = without(assignment, "a", 1.0)
    assert left.members == ("b",)
    assert left.owners == {0: Owned("", "a", 1.0), 1: Owned("b", "", 0.0)}


# -- a group -----------------------------------------------------------------------------------


@dataclass
class Worker:
    """A member as its membership drives it: it acts on what it has read last."""

    name: str
    read: tuple[int, GroupAssignment] = (0, GroupAssignment())
    held: set[int] = field(default_factory=set)


class Group:
    """An assignment and those who write it, each when it is its turn."""

    def __init__(self, counts: Iterable[int]) -> None:
        self.counts = frozenset(counts)
        self.version = 0
        self.assignment = GroupAssignment()
        self.workers: dict[str, Worker] = {}
        self.moved = 0
        """Numbers that were handed over."""

    def reads(self, worker: Worker) -> None:
        worker.read = (self.version, self.assignment)
        # What the assignment gives to others is lost.
        worker.held &= self.assignment.owned_by(worker.name)

    def acts(self, worker: Worker) -> bool:
        """One turn. Whether something was to be done."""
        version, assignment = worker.read
        silent = set(assignment.members) - self.workers.keys()
        done = planned(assignment, worker.name, self.counts, worker.held, silent)
        if done.assignment is not assignment:
            self.write(done.assignment, version)
            self.reads(worker)
            return True
        gained = assignment.owned_by(worker.name) - worker.held
        if version == self.version:
            assert not any(gained & other.held for other in self.workers.values())
            worker.held |= gained
            worker.held -= done.hand_over
            self.moved += len(done.hand_over)
            return bool(gained or done.hand_over)
        self.reads(worker)
        return True

    def write(self, assignment: GroupAssignment, version: int) -> None:
        if version == self.version:
            self.version, self.assignment = version + 1, assignment

    def settle(self) -> None:
        """Let all act until nobody has anything to do."""
        bound = 4 * (len(self.workers) + 1) * (max(self.counts) + 2)
        for _ in range(bound):
            for worker in self.workers.values():
                self.reads(worker)
            acted = [self.acts(worker) for worker in self.workers.values()]
            if not any(acted):
                return
        raise AssertionError(f"still moving after {bound} rounds: {self.assignment}")

    def is_fair(self) -> None:
        """Every number has an owner, and shares differ by one at most."""
        members = [m for m in self.assignment.members if name_of(m) not in self.assignment.drained]
        assert set(self.assignment.members) == self.workers.keys()
        for worker in self.workers.values():
            assert worker.held == self.assignment.owned_by(worker.name)
        if not members:
            return
        numbers = classes_of(self.counts)
        for part in (*numbers, range(max(self.counts))):
            shares = [len(self.assignment.owned_by(m).intersection(part)) for m in members]
            assert sum(shares) == len(part)
            assert max(shares) - min(shares) <= 1


class Comings(RuleBasedStateMachine):
    """Members come and go in any order, and act on what they read at any time."""

    @initialize(counts=COUNTS)
    def begin(self, counts: set[int]) -> None:
        self.group = Group(counts)
        self.born = 0

    @rule(name=st.sampled_from("abcdef"))
    def join(self, name: str) -> None:
        self.born += 1
        worker = Worker(f"{name}~{self.born}")
        self.group.workers[worker.name] = worker
        self.group.reads(worker)

    @precondition(lambda self: self.group.workers)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self.group.workers.pop(self._any(data).name)

    @precondition(lambda self: self.group.workers)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        worker = self.group.workers.pop(self._any(data).name)
        self.group.write(without(self.group.assignment, worker.name, 1.0), self.group.version)

    @rule(name=st.sampled_from("abcdef"))
    def drain(self, name: str) -> None:
        assignment = self.group.assignment
        self.group.write(
            replace(assignment, drained=assignment.drained ^ {name}), self.group.version
        )

    @precondition(lambda self: self.group.workers)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        self.group.reads(self._any(data))

    @precondition(lambda self: self.group.workers)
    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        self.group.acts(self._any(data))

    @rule()
    def settle(self) -> None:
        self.group.settle()
        if self.group.workers:
            self.group.is_fair()

    @invariant()
    def no_number_is_worked_on_twice(self) -> None:
        if not hasattr(self, "group"):
            return
        held = [n for worker in self.group.workers.values() for n in worker.held]
        assert len(held) == len(set(held))

    def _any(self, data: st.DataObject) -> Worker:
        return self.group.workers[data.draw(st.sampled_from(sorted(self.group.workers)))]

    def teardown(self) -> None:
        if hasattr(self, "group") and self.group.workers:
            self.settle()


Comings.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestComings = Comings.TestCase


def settled(counts: Iterable[int], members: Iterable[str]) -> Group:
    group = Group(counts)
    for member in members:
        group.workers[member] = Worker(member)
        group.settle()
    group.moved = 0
    return group


@given(COUNTS, MEMBERS)
@settings(deadline=None)
def test_one_who_joins_gets_its_share_and_nothing_else_moves_needlessly(
    counts: set[int], members: list[str]
) -> None:
    group = settled(counts, members)
    before = owners(group.assignment)
    group.workers["new"] = Worker("new")
    group.settle()
    group.is_fair()
    after = owners(group.assignment)
    due = quotas(group.assignment.members, classes_of(counts))
    surplus = sum(
        max(0, [before[n] for n in numbers].count(member) - quota[member])
        for numbers, quota in zip(classes_of(counts), due, strict=True)
        for member in members
    )
    assert sum(before[n] != after[n] for n in before) == group.moved == surplus


@given(COUNTS, MEMBERS, st.data())
@settings(deadline=None)
def test_who_stays_keeps_what_is_within_its_quota(
    counts: set[int], members: list[str], data: st.DataObject
) -> None:
    assume(len(members) > 1)
    group = settled(counts, members)
    before = owners(group.assignment)
    group.workers.pop(data.draw(st.sampled_from(members)))
    group.settle()
    group.is_fair()
    due = quotas(group.assignment.members, classes_of(counts))
    for numbers, quota in zip(classes_of(counts), due, strict=True):
        for member in group.workers:
            had = {n for n in numbers if before[n] == member}
            kept = had & group.assignment.owned_by(member)
            assert len(kept) == min(len(had), quota[member])


@given(COUNTS, MEMBERS)
@settings(deadline=None)
def test_what_has_settled_stays(counts: set[int], members: list[str]) -> None:
    group = settled(counts, members)
    version = group.version
    group.settle()
    assert (group.version, group.moved) == (version, 0)
