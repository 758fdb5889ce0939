"""The shares of a group's members, simulated: who reads an old register writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from redfaust.brokers.shares import (
    LOST_FOR,
    MAX_LOST,
    Owned,
    Plan,
    Register,
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
    register: Register,
    me: str,
    counts: Iterable[int],
    held: Collection[int] | None = None,
    silent: Collection[str] = (),
) -> Plan:
    mine = register.owned_by(me) if held is None else held
    return plan(register, me, counts=counts, held=mine, silent=silent, now=1.0)


def owned(owners: Mapping[int, str]) -> dict[int, Owned]:
    return {number: Owned(member, "", 0.0) for number, member in owners.items()}


def owners(register: Register) -> dict[int, str]:
    return {number: owned.member for number, owned in register.owners.items()}


# -- who is remembered -----------------------------------------------------------------------


def test_a_member_that_others_strike_out_is_remembered_as_lost() -> None:
    register = Register(("a~1", "b~2"))
    after = plan(register, "b~2", counts=[2], held=(), silent={"a~1"}, now=100.0).register
    assert (after.members, after.lost) == (("b~2",), {"a": 100.0})


def test_a_member_that_leaves_is_not_remembered() -> None:
    assert without(Register(("a~1", "b~2")), "a~1", 100.0).lost == {}


def test_a_lost_member_is_forgotten_when_it_comes_back_under_its_name() -> None:
    register = Register(("b~2",), lost={"a": 100.0})
    assert attend(register, "a~9", silent=(), now=101.0).lost == {}
    assert attend(register, "c~9", silent=(), now=101.0).lost == {"a": 100.0}


def test_a_lost_member_is_forgotten_after_a_time() -> None:
    register = Register(("b~2",), lost={"a": 100.0})
    assert attend(register, "b~2", silent=(), now=99.0 + LOST_FOR).lost == {"a": 100.0}
    assert attend(register, "b~2", silent=(), now=100.0 + LOST_FOR).lost == {}


def test_no_more_lost_members_are_remembered_than_are_worth_reading() -> None:
    crashed = {f"host-{number}": float(number) for number in range(100)}
    lost = attend(Register(lost=crashed), "b~2", silent=(), now=200.0).lost
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
    assert owners(planned(Register(), "a", {1, 4}).register) == dict.fromkeys(range(4), "a")


def test_one_who_joins_takes_nothing_that_has_an_owner() -> None:
    register = planned(Register(), "a", {4}).register
    joined = planned(register, "b", {4})
    assert joined.register.members == ("a", "b")
    assert owners(joined.register) == owners(register)
    assert len(planned(joined.register, "a", {4}).hand_over) == 2


def test_what_is_worked_on_is_freed_only_when_it_was_handed_over() -> None:
    register = Register(("a", "b"), owned(dict.fromkeys(range(4), "a")))
    first = planned(register, "a", {4})
    assert first.register is register
    kept = set(range(4)) - first.hand_over
    second = planned(register, "a", {4}, held=kept)
    assert {n for n, owner in owners(second.register).items() if not owner} == first.hand_over
    assert not second.hand_over
    assert owners(planned(second.register, "b", {4}).register) == {
        n: "a" if n in kept else "b" for n in range(4)
    }


def test_a_member_that_is_back_gets_what_it_had() -> None:
    register = Register(("a~1", "b~1"), owned({0: "a~1", 1: "b~1", 2: "a~1", 3: "b~1"}))
    register = planned(register, "b~1", {4}, silent=["a~1"]).register
    assert set(owners(register).values()) == {"b~1"}
    register = planned(register, "a~2", {4}).register
    given = planned(register, "b~1", {4}).hand_over
    assert given == {0, 2}


def test_one_who_waits_is_given_what_it_had_and_of_that_what_was_taken_last() -> None:
    taken = [("a~1", 2.0), ("a~1", 3.0), ("c~1", 4.0), ("a~1", 1.0)]
    owners = {number: Owned("b~1", before, since) for number, (before, since) in enumerate(taken)}
    register = Register(("b~1", "a~2"), owners)
    assert planned(register, "b~1", {4}).hand_over == {0, 1}


def test_what_is_free_goes_to_who_had_it_before() -> None:
    before = {0: "a~1", 1: "b~1", 2: "a~1", 3: "b~1"}
    register = Register((), {n: Owned("", member, 0.0) for n, member in before.items()})
    register = replace(register, members=("b~2", "a~2"))
    for member in register.members:
        register = planned(register, member, {4}).register
    assert {n: name_of(m) for n, m in owners(register).items()} == {0: "a", 1: "b", 2: "a", 3: "b"}


def test_what_is_worked_on_is_taken_again_first() -> None:
    register = Register(("a", "b"), owned(dict.fromkeys(range(4), "")))
    assert planned(register, "a", {4}, held={1, 3}).register.owned_by("a") == {1, 3}


def test_one_who_is_drained_hands_everything_over_once_there_is_somebody() -> None:
    register = Register(("a",), owned(dict.fromkeys(range(3), "a")), frozenset({"a"}))
    assert not planned(register, "a", {3}).hand_over
    register = planned(register, "b~1", {3}).register
    assert planned(register, "a", {3}).hand_over == {0, 1, 2}


def test_one_who_is_drained_takes_nothing() -> None:
    register = planned(Register(drained=frozenset({"a"})), "a~7", {3}).register
    assert register.members == ("a~7",)
    assert not register.owned_by("a~7")


def test_numbers_of_no_topic_are_let_go() -> None:
    register = Register(("a",), owned(dict.fromkeys(range(4), "a")))
    step = planned(register, "a", {2})
    assert step.hand_over == {2, 3}
    step = planned(step.register, "a", {2}, held={0, 1})
    assert step.register.owners.keys() == {0, 1}


def test_one_who_left_owns_nothing() -> None:
    register = Register(("a", "b"), owned({0: "a", 1: "b"}))
    left = without(register, "a", 1.0)
    assert left.members == ("b",)
    assert left.owners == {0: Owned("", "a", 1.0), 1: Owned("b", "", 0.0)}


# -- a group -----------------------------------------------------------------------------------


@dataclass
class Worker:
    """A member as its membership drives it: it acts on what it has read last."""

    name: str
    read: tuple[int, Register] = (0, Register())
    held: set[int] = field(default_factory=set)


class Group:
    """A register and those who write it, each when it is its turn."""

    def __init__(self, counts: Iterable[int]) -> None:
        self.counts = frozenset(counts)
        self.version = 0
        self.register = Register()
        self.workers: dict[str, Worker] = {}
        self.moved = 0
        """Numbers that were handed over."""

    def reads(self, worker: Worker) -> None:
        worker.read = (self.version, self.register)
        # What the register gives to others is lost.
        worker.held &= self.register.owned_by(worker.name)

    def acts(self, worker: Worker) -> bool:
        """One turn. Whether something was to be done."""
        version, register = worker.read
        silent = set(register.members) - self.workers.keys()
        done = planned(register, worker.name, self.counts, worker.held, silent)
        if done.register is not register:
            self.write(done.register, version)
            self.reads(worker)
            return True
        gained = register.owned_by(worker.name) - worker.held
        if version == self.version:
            assert not any(gained & other.held for other in self.workers.values())
            worker.held |= gained
            worker.held -= done.hand_over
            self.moved += len(done.hand_over)
            return bool(gained or done.hand_over)
        self.reads(worker)
        return True

    def write(self, register: Register, version: int) -> None:
        if version == self.version:
            self.version, self.register = version + 1, register

    def settle(self) -> None:
        """Let all act until nobody has anything to do."""
        bound = 4 * (len(self.workers) + 1) * (max(self.counts) + 2)
        for _ in range(bound):
            for worker in self.workers.values():
                self.reads(worker)
            acted = [self.acts(worker) for worker in self.workers.values()]
            if not any(acted):
                return
        raise AssertionError(f"still moving after {bound} rounds: {self.register}")

    def is_fair(self) -> None:
        """Every number has an owner, and shares differ by one at most."""
        members = [m for m in self.register.members if name_of(m) not in self.register.drained]
        assert set(self.register.members) == self.workers.keys()
        for worker in self.workers.values():
            assert worker.held == self.register.owned_by(worker.name)
        if not members:
            return
        numbers = classes_of(self.counts)
        for part in (*numbers, range(max(self.counts))):
            shares = [len(self.register.owned_by(m).intersection(part)) for m in members]
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
        self.group.write(without(self.group.register, worker.name, 1.0), self.group.version)

    @rule(name=st.sampled_from("abcdef"))
    def drain(self, name: str) -> None:
        register = self.group.register
        self.group.write(replace(register, drained=register.drained ^ {name}), self.group.version)

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
    before = owners(group.register)
    group.workers["new"] = Worker("new")
    group.settle()
    group.is_fair()
    after = owners(group.register)
    due = quotas(group.register.members, classes_of(counts))
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
    before = owners(group.register)
    group.workers.pop(data.draw(st.sampled_from(members)))
    group.settle()
    group.is_fair()
    due = quotas(group.register.members, classes_of(counts))
    for numbers, quota in zip(classes_of(counts), due, strict=True):
        for member in group.workers:
            had = {n for n in numbers if before[n] == member}
            kept = had & group.register.owned_by(member)
            assert len(kept) == min(len(had), quota[member])


@given(COUNTS, MEMBERS)
@settings(deadline=None)
def test_what_has_settled_stays(counts: set[int], members: list[str]) -> None:
    group = settled(counts, members)
    version = group.version
    group.settle()
    assert (group.version, group.moved) == (version, 0)
