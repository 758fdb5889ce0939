"""Members of a group in this process, and what their holders are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from faust.types import TP

from redfaust.brokers.assignor import GroupAssignment, name_of
from redfaust.brokers.broker import GroupState, Heartbeat
from redfaust.brokers.draining import drain
from redfaust.brokers.membership import NAME, Membership, MemberState
from redfaust.brokers.memory.broker import MemoryBroker, _logs
from redfaust.errors import BrokerUnavailable, WorkerUnknown

PATIENCE = 10.0
GROUP = "group"
ALL = frozenset(TP("topic", number) for number in range(4))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("failure_detector", "membership"):
        monkeypatch.setattr(f"redfaust.brokers.{module}.HEARTBEAT", 0.01)
        monkeypatch.setattr(f"redfaust.brokers.{module}.SILENCE", 0.5)


@pytest.fixture
def broker() -> MemoryBroker:
    _logs.pop("memory://membership", None)
    return MemoryBroker("memory://membership", default_partitions=1)


class Notes:
    """A listener that notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, frozenset[TP]]] = []
        self.has: frozenset[TP] = frozenset()
        self.may_hand_over = asyncio.Event()
        self.may_hand_over.set()
        self._told = asyncio.Event()

    async def gain(self, tps: frozenset[TP]) -> None:
        assert not tps & self.has
        self._note("gain", tps, self.has | tps)

    async def hand_over(self, tps: frozenset[TP]) -> None:
        assert tps <= self.has
        await self.may_hand_over.wait()
        self._note("hand over", tps, self.has - tps)

    async def start_over(self, tps: frozenset[TP]) -> None:
        self._note("start over", tps, tps)

    def _note(self, call: str, tps: frozenset[TP], has: frozenset[TP]) -> None:
        self.calls.append((call, tps))
        self.has = has
        self._told.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._told.clear()
                await self._told.wait()

    async def has_count(self, count: int) -> None:
        await self.until(lambda: len(self.has) == count and bool(self.calls))


@asynccontextmanager
async def member(
    broker: MemoryBroker, notes: Notes, tps: frozenset[TP] = ALL
) -> AsyncIterator[Membership]:
    membership = Membership(broker, GROUP, notes)
    membership.member = f"member-{id(notes)}~1"  # not that of this process
    membership.want(tps)
    running = asyncio.create_task(membership.run())
    try:
        yield membership
    finally:
        if running.done():
            running.result()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_the_first_one_begins_with_everything(broker: MemoryBroker) -> None:
    notes = Notes()
    async with member(broker, notes) as membership:
        await notes.has_count(4)
        assert membership.owns
        assert membership.standing is MemberState.MEMBER
    assert notes.calls == [("start over", ALL)]


async def test_one_who_gets_nothing_is_told_so(broker: MemoryBroker) -> None:
    first, second = Notes(), Notes()
    one = frozenset({TP("topic", 0)})
    async with member(broker, first, one), member(broker, second, one):
        await first.has_count(1)
        await second.until(lambda: bool(second.calls))
        assert second.calls == [("start over", frozenset())]


async def test_one_who_joins_gets_its_share_once_it_is_handed_over(broker: MemoryBroker) -> None:
    first, second = Notes(), Notes()
    async with member(broker, first):
        await first.has_count(4)
        first.may_hand_over.clear()
        async with member(broker, second):
            await second.until(lambda: bool(second.calls))
            assert not second.has
            first.may_hand_over.set()
            await second.has_count(2)
            await first.has_count(2)
            assert first.has | second.has == ALL
    assert [call for call, _ in first.calls] == ["start over", "hand over"]


async def test_what_one_leaves_is_taken_at_once(broker: MemoryBroker) -> None:
    first, second = Notes(), Notes()
    async with member(broker, second):
        async with member(broker, first) as leaving:
            await first.has_count(2)
        await leaving.leave()
        assert not leaving.owns
        await second.has_count(4)
        assert (await broker.group_state(GROUP)).heartbeats.keys().isdisjoint({leaving.member})


async def test_what_a_dead_one_had_is_taken_after_its_silence(broker: MemoryBroker) -> None:
    first, second = Notes(), Notes()
    async with member(broker, second) as heir:
        async with member(broker, first) as dead:
            await first.has_count(2)
            await second.has_count(2)
        await second.has_count(4)
        group_state = await broker.group_state(GROUP)
    assert group_state.assignment.members == (heir.member,)
    assert dead.member not in group_state.heartbeats


async def test_one_who_was_struck_out_begins_anew_as_a_member(
    broker: MemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Notes(), Notes()
    async with member(broker, first) as zombie, member(broker, second):
        await first.has_count(2)
        await zombie._asking.acquire()  # as if it was stopped
        await second.has_count(4)
        assert not zombie.owns
        zombie._asking.release()
        await first.until(lambda: len(first.calls) > 1)
        await first.until(lambda: len(first.has) == 2)
        await second.has_count(2)
        assert zombie.owns
    assert caplog.text.count("others count it as dead") == 1


@pytest.mark.parametrize(
    ("error", "told"), [(BrokerUnavailable("away"), "away"), (TimeoutError(), "no answer")]
)
async def test_a_broker_that_was_away_makes_nobody_dead(
    broker: MemoryBroker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    told: str,
) -> None:
    first, second = Notes(), Notes()
    async with member(broker, first) as one, member(broker, second) as other:
        await first.has_count(2)
        await second.has_count(2)
        calls = len(first.calls), len(second.calls)
        await _away(monkeypatch, error, until=lambda: not (one.owns or other.owns))
        await _until(lambda: one.owns and other.owns)
        assert (len(first.calls), len(second.calls)) == calls
    assert f"The group is not heard: {told}" in caplog.text


async def _away(
    monkeypatch: pytest.MonkeyPatch, error: Exception, until: Callable[[], bool]
) -> None:
    async def refuse(*_: object, **__: object) -> GroupState:
        raise error

    with monkeypatch.context() as patch:
        for method in ("heartbeat", "reassign", "reassigned"):
            patch.setattr(MemoryBroker, method, refuse)
        await _until(until)


async def _until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody tells."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_register_that_was_wiped_is_written_again(broker: MemoryBroker) -> None:
    first, second = Notes(), Notes()
    async with member(broker, first), member(broker, second):
        await first.has_count(2)
        await second.has_count(2)
        before = (await broker.group_state(GROUP)).assignment
        calls = len(first.calls), len(second.calls)
        _logs["memory://membership"].registries.clear()
        registries = _logs["memory://membership"].registries
        await _until(lambda: registries[GROUP].group_state().assignment != GroupAssignment())
        assert (await broker.group_state(GROUP)).assignment == before
        assert (len(first.calls), len(second.calls)) == calls


async def test_a_register_of_old_is_brought_up_to_date(broker: MemoryBroker) -> None:
    first, second = Notes(), Notes()
    async with member(broker, first):
        await first.has_count(4)
        old = (await broker.group_state(GROUP)).assignment
        async with member(broker, second):
            await second.has_count(2)
            await first.has_count(2)
            await _write(broker, old)
            await _until(lambda: first.has | second.has == ALL and not first.has & second.has)
            await first.has_count(2)
            await second.has_count(2)


async def _write(broker: MemoryBroker, assignment: GroupAssignment) -> None:
    while True:
        version = (await broker.group_state(GROUP)).version
        if await broker.reassign(GROUP, assignment, version=version, silent={}):
            return


async def test_one_who_was_fenced_begins_anew_with_what_the_register_says(
    broker: MemoryBroker,
) -> None:
    notes = Notes()
    async with member(broker, notes) as membership:
        await notes.has_count(4)
        membership.give_up([TP("topic", 1)])
        assert not membership.owns
        await notes.until(lambda: len(notes.calls) == 2)
        assert membership.owns
    assert notes.calls[1] == ("start over", ALL)


async def test_all_begin_anew_when_asked_to(broker: MemoryBroker) -> None:
    notes = Notes()
    async with member(broker, notes) as membership:
        await notes.has_count(4)
        membership.start_over()
        await notes.until(lambda: len(notes.calls) == 2)
    assert notes.calls[1] == ("start over", ALL)


async def test_new_topics_are_gained(broker: MemoryBroker) -> None:
    notes = Notes()
    async with member(broker, notes) as membership:
        await notes.has_count(4)
        more = frozenset(TP("another", number) for number in range(6))
        membership.want(ALL | more)
        await notes.has_count(10)
        membership.want(more)
        await notes.has_count(6)
    assert {call for call, _ in notes.calls[1:]} == {"gain", "hand over"}


async def test_what_is_of_no_interest_to_others_is_always_there(broker: MemoryBroker) -> None:
    first, second = Notes(), Notes()
    answers = TP("answers", 0)
    async with member(broker, first), member(broker, second) as membership:
        await second.has_count(2)
        membership.want(ALL, alone=frozenset({answers}))
        await second.has_count(3)
        assert answers in second.has
        assert (await broker.group_state(GROUP)).assignment.owners.keys() == set(range(4))


async def test_one_who_is_drained_hands_everything_over(broker: MemoryBroker) -> None:
    first, second = Notes(), Notes()
    async with member(broker, first) as one, member(broker, second):
        await first.has_count(2)
        await drain(broker, GROUP, one.member)
        await second.has_count(4)
        await first.has_count(0)
        await drain(broker, GROUP, name_of(one.member), back=True)
        await first.has_count(2)


async def test_of_all_who_are_drained_the_one_that_is_back_gets_everything(
    broker: MemoryBroker,
) -> None:
    first, second = Notes(), Notes()
    async with member(broker, first) as one:
        await first.has_count(4)
        await drain(broker, GROUP, one.member)
        async with member(broker, second) as other:
            await second.has_count(4)
            await first.has_count(0)
            await drain(broker, GROUP, other.member)
            await drain(broker, GROUP, one.member, back=True)
            await first.has_count(4)


async def test_one_whom_nobody_knows_cannot_be_drained(broker: MemoryBroker) -> None:
    with pytest.raises(WorkerUnknown, match="none is running"):
        await drain(broker, GROUP, "worker-1")


async def test_a_name_comes_from_the_environment(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, "worker-1")
    members = {Membership(broker, GROUP, Notes()).member for _ in range(2)}
    assert len(members) == 2
    assert {name_of(name) for name in members} == {"worker-1"}


async def test_a_beat_tells_what_is_asked_for(broker: MemoryBroker) -> None:
    notes = Notes()
    async with member(broker, notes) as membership:
        membership.info = lambda: {"pid": 7}
        await notes.has_count(4)
        await _until(lambda: "pid" in _heartbeat_of(membership).info)
        assert _heartbeat_of(membership).counts == {4}


def _heartbeat_of(membership: Membership) -> Heartbeat:
    return (
        _logs["memory://membership"].registries[GROUP].group_state().heartbeats[membership.member]
    )


async def test_a_stop_is_heard_that_is_swallowed_while_partitions_are_taken(
    broker: MemoryBroker,
) -> None:
    taking = asyncio.Event()

    class Swallowing(Notes):
        async def start_over(self, _: frozenset[TP]) -> None:
            taking.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    membership = Membership(broker, GROUP, Swallowing())
    membership.want(ALL)
    running = asyncio.create_task(membership.run())
    await asyncio.wait_for(taking.wait(), PATIENCE)
    running.cancel()
    ended, _ = await asyncio.wait({running}, timeout=PATIENCE)
    assert ended
    assert running.cancelled()


async def test_a_stop_is_heard_by_one_whose_holder_wants_to_begin_anew_at_once(
    broker: MemoryBroker,
) -> None:
    class Restless(Notes):
        async def start_over(self, tps: frozenset[TP]) -> None:
            self._note("start over", tps, tps)
            membership.start_over()

    notes = Restless()
    membership = Membership(broker, GROUP, notes)
    membership.want(ALL)
    running = asyncio.create_task(membership.run())
    await notes.until(lambda: bool(notes.calls))
    running.cancel()
    ended, _ = await asyncio.wait({running}, timeout=PATIENCE)
    assert ended
    assert len(notes.calls) < 10  # by its lease alone it would have ended after thousands
