"""The checker finds what is wrong with a history, and nothing wrong with a good one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count

import orjson
import pytest

from redfaust.brokers.partitioner import partition_of
from tests.torture.checker import Violation, check
from tests.torture.history import Entry, History, Left, Letter
from tests.torture.ledger import (
    AUDITED,
    BOOKED,
    ENTRIES,
    PARTITIONS,
    READS,
    TABLES,
    TRANSFERS,
    Agent,
    Fate,
    Row,
    fate,
    outputs,
)
from tests.torture.plan import Kind, Plan, Route, make_plan

SEED = 4
PLAN = make_plan(SEED, 1500)


def perform(plan: Plan) -> History:
    """What happens where nothing goes wrong."""
    history = History(
        plan,
        streams={TRANSFERS: [], ENTRIES: [], BOOKED: [], AUDITED: []},
        written={
            transfer.number
            for step in plan.steps
            if step.route is Route.OUTBOX and not step.taken_back
            for transfer in step.transfers
        },
        tables={agent: {} for agent in TABLES},
        letters=[],
        left=Left(0, 0, 0, 0),
    )
    offsets = count(1)

    def append(topic: str, key: str, value: bytes, number: int) -> None:
        partition = partition_of(key.encode(), PARTITIONS)
        history.streams[topic].append(Entry(partition, next(offsets), number, key, value))

    for transfer in plan.sent():
        append(TRANSFERS, transfer.payer, transfer.value, transfer.number)
    kinds = {transfer.number: transfer.kind for transfer in plan.sent()}
    for agent in Agent:
        rows = history.tables[agent]
        for entry in history.streams[READS[agent]]:
            assert entry.number is not None
            kind = kinds[entry.number]
            unreadable = kind in {Kind.UNDECODABLE, Kind.WRONG_TYPE}
            poisoned = unreadable or (agent is Agent.DEBIT and kind is not Kind.GOOD)
            if poisoned or fate(plan.seed, agent, entry.number) is Fate.POISON:
                history.letters.append(
                    Letter(agent, READS[agent], entry.partition, entry.offset, entry.value)
                )
                continue
            value = orjson.loads(entry.value or b"")
            row = rows.get(entry.key, Row()).and_then(entry.number, value["amount"])
            rows[entry.key] = row
            for output in outputs(agent, value, row):
                append(output.topic, output.key, orjson.dumps(output.value), entry.number)
    return history


def violations(history: History) -> list[Violation]:
    return [violation for found in check(history).values() for violation in found]


def test_a_good_history_is_good() -> None:
    assert violations(perform(PLAN)) == []


def test_plan_is_a_function_of_its_seed_and_holds_what_it_should() -> None:
    assert make_plan(SEED, 1500) == PLAN
    assert make_plan(SEED + 1, 1500) != PLAN
    kinds = Counter(transfer.kind for transfer in make_plan(SEED, 20_000).sent())
    assert set(kinds) == set(Kind)
    assert 0.005 < 1 - kinds[Kind.GOOD] / kinds.total() < 0.02
    fates = Counter(fate(SEED, Agent.CREDIT, number) for number in range(20_000))
    assert 1800 < fates[Fate.FAILS_ONCE] < 2200
    assert 150 < fates[Fate.POISON] < 250


# -- one mutation each -----------------------------------------------------------------------


def lose_a_transfer(history: History) -> str:
    lost = history.streams[TRANSFERS].pop(_good(history, Route.XADD))
    return f"transfers once, in order: {lost.key}: transfer {lost.number} is lost"


def double_a_transfer(history: History) -> str:
    entry = history.streams[TRANSFERS][_good(history, Route.XADD)]
    history.streams[TRANSFERS].append(entry._replace(offset=10**9))
    return f"transfers once, in order: {entry.key}: transfer {entry.number} is there 2 times"


def swap_transfers(history: History) -> str:
    first, second = _two_of_a_key(history.streams[TRANSFERS])
    _swap(history.streams[TRANSFERS], first, second)
    return (
        f"transfers once, in order: {first.key}: "
        f"transfer {second.number} comes before {first.number}"
    )


def change_the_bytes_of_a_transfer(history: History) -> str:
    at = _good(history, Route.XADD)
    entry = history.streams[TRANSFERS][at]
    history.streams[TRANSFERS][at] = entry._replace(value=entry.value and entry.value + b" ")
    return f"transfers once, in order: {entry.key}: transfer {entry.number} has other bytes"


def misplace_a_transfer(history: History) -> str:
    at = _good(history, Route.XADD)
    entry = history.streams[TRANSFERS][at]
    wrong = (entry.partition + 1) % PARTITIONS
    history.streams[TRANSFERS][at] = entry._replace(partition=wrong)
    return f"partition of the key: {entry.key}: transfers has it in partition {wrong}"


def lose_an_event_of_a_transaction(history: History) -> str:
    lost = history.streams[TRANSFERS].pop(_good(history, Route.OUTBOX))
    step = next(s for s in PLAN.steps if lost.number in {t.number for t in s.transfers})
    count_ = len(step.transfers)
    return f"{_name(step.transfers[0].number)}: {count_} rows and {count_ - 1} events"


def lose_a_row_of_a_transaction(history: History) -> str:
    lost = min(history.written)
    history.written.remove(lost)
    step = next(s for s in PLAN.steps if lost in {t.number for t in s.transfers})
    count_ = len(step.transfers)
    return f"{_name(step.transfers[0].number)}: {count_ - 1} rows and {count_} events"


def publish_from_a_transaction_taken_back(history: History) -> str:
    phantom = next(step for step in PLAN.steps if step.taken_back).transfers[0]
    partition = partition_of(phantom.payer.encode(), PARTITIONS)
    history.streams[TRANSFERS].append(
        Entry(partition, 10**9, phantom.number, phantom.payer, phantom.value)
    )
    return (
        f"transfers once, in order: {phantom.payer}: "
        f"transfer {phantom.number} was taken back with its transaction"
    )


def keep_rows_of_a_transaction_taken_back(history: History) -> str:
    step = next(step for step in PLAN.steps if step.taken_back)
    history.written |= {transfer.number for transfer in step.transfers}
    return f"{_name(step.transfers[0].number)}: {len(step.transfers)} rows and 0 events"


def lose_a_dead_letter(history: History) -> str:
    lost = history.letters.pop()
    return f"{lost.agent} has 0 dead letters about transfer {_number(history, lost)} instead of 1"


def double_a_dead_letter(history: History) -> str:
    letter = history.letters[0]
    history.letters.append(letter)
    number = _number(history, letter)
    return f"{letter.agent} has 2 dead letters about transfer {number} instead of 1"


def change_the_bytes_of_a_dead_letter(history: History) -> str:
    history.letters[0] = history.letters[0]._replace(value=b"other")
    return "which it should process; its bytes: b'other'"


def bury_what_is_booked_too(history: History) -> str:
    entry = history.streams[TRANSFERS][_good(history, Route.XADD)]
    history.letters.append(
        Letter(Agent.DEBIT, TRANSFERS, entry.partition, entry.offset, entry.value)
    )
    return f"debit has 1 dead letters about transfer {entry.number}, which it should process"


def book_what_is_a_dead_letter_too(history: History) -> str:
    letter = next(
        letter
        for letter in history.letters
        if letter.agent == Agent.CREDIT and letter.topic == ENTRIES
    )
    number = _number(history, letter)
    key = next(e.key for e in history.streams[ENTRIES] if e.number == number)
    letters = {letter.offset for letter in history.letters if letter.agent == Agent.CREDIT}
    row = Row()
    for entry in history.streams[ENTRIES]:
        if entry.key == key and (entry.number == number or entry.offset not in letters):
            row = row.and_then(entry.number or 0, entry.decoded["amount"])
    history.tables[Agent.CREDIT][key] = row
    return f"transfer {number} is booked, and a dead letter too"


def leave_a_row_as_it_was(history: History) -> str:
    key, numbers, amounts = _busy_account(history)
    row = Row()
    for number in numbers[:-1]:
        row = row.and_then(number, amounts[number])
    history.tables[Agent.AUDIT][key] = row
    return f"rows of the tables: {key}: audit has {row}"


def book_twice(history: History) -> str:
    key, numbers, amounts = _busy_account(history)
    row = Row()
    for number in [*numbers[:2], numbers[1], *numbers[2:]]:
        row = row.and_then(number, amounts[number])
    history.tables[Agent.AUDIT][key] = row
    return f"transfer {numbers[1]} is booked twice"


def leave_out_a_booking(history: History) -> str:
    key, numbers, amounts = _busy_account(history)
    row = Row()
    for number in numbers[1:]:
        row = row.and_then(number, amounts[number])
    history.tables[Agent.AUDIT][key] = row
    return f"transfer {numbers[0]} is left out"


def book_in_another_order(history: History) -> str:
    key, numbers, amounts = _busy_account(history)
    row = Row()
    for number in [numbers[1], numbers[0], *numbers[2:]]:
        row = row.and_then(number, amounts[number])
    history.tables[Agent.AUDIT][key] = row
    return f"transfer {numbers[1]} is booked before {numbers[0]}"


def make_money(history: History) -> str:
    key, row = next(iter(history.tables[Agent.CREDIT].items()))
    history.tables[Agent.CREDIT][key] = row._replace(total=row.total + 1)
    return f"balances: {key}: credit comes to {row.total + 1} instead of {row.total}"


def write_a_row_for_nobody(history: History) -> str:
    history.tables[Agent.BATCH]["nobody"] = Row(1, 1, 1, 1)
    return "rows of the tables: nobody: batch has Row(bookings=1"


def lose_an_output(history: History) -> str:
    lost = history.streams[AUDITED].pop()
    return f"what agents send: audited under {lost.key} from batch: {_value(lost)} is lost"


def double_an_output(history: History) -> str:
    entry = history.streams[BOOKED][7]
    history.streams[BOOKED].append(entry._replace(offset=10**9))
    return f"{_value(entry)} is there 2 times"


def swap_outputs(history: History) -> str:
    first, second = _two_of_a_key(history.streams[AUDITED])
    _swap(history.streams[AUDITED], first, second)
    return f"{_value(second)} comes before {_value(first)}"


def keep_the_output_of_a_failed_run(history: History) -> str:
    letter = next(
        letter
        for letter in history.letters
        if letter.agent == Agent.AUDIT
        and fate(SEED, Agent.AUDIT, _number(history, letter)) is Fate.POISON
        and (letter.value or b"").startswith(b"{")
    )
    entry = next(e for e in history.streams[TRANSFERS] if e.offset == letter.offset)
    amounts = {t.number: t.amount for t in PLAN.sent()}
    row = Row()
    for other in history.streams[TRANSFERS]:
        number = other.number or 0
        if other.key == entry.key and other.offset < entry.offset:
            dead = {ltr.offset for ltr in history.letters if ltr.agent == Agent.AUDIT}
            row = row if other.offset in dead else row.and_then(number, amounts[number])
    row = row.and_then(entry.number or 0, amounts[entry.number or 0])
    value = {"as": "audit", "number": entry.number, "place": row.bookings, "total": row.total}
    history.streams[AUDITED].append(entry._replace(offset=10**9, value=orjson.dumps(value)))
    return "was sent by a run that failed"


def send_nonsense(history: History) -> str:
    entry = history.streams[ENTRIES][0]
    history.streams[ENTRIES].append(entry._replace(offset=10**9, number=None, value=b"\xff"))
    return "b'\\xff' should not be there"


def leave_the_outbox_full(history: History) -> str:
    history.left = Left(outbox=3, parked=0, lag=0, ahead=0)
    return "nothing left: outbox: 3 instead of 0"


BROKEN: list[Callable[[History], str]] = [
    lose_a_transfer,
    double_a_transfer,
    swap_transfers,
    change_the_bytes_of_a_transfer,
    misplace_a_transfer,
    lose_an_event_of_a_transaction,
    lose_a_row_of_a_transaction,
    publish_from_a_transaction_taken_back,
    keep_rows_of_a_transaction_taken_back,
    lose_a_dead_letter,
    double_a_dead_letter,
    change_the_bytes_of_a_dead_letter,
    bury_what_is_booked_too,
    book_what_is_a_dead_letter_too,
    leave_a_row_as_it_was,
    book_twice,
    leave_out_a_booking,
    book_in_another_order,
    make_money,
    write_a_row_for_nobody,
    lose_an_output,
    double_an_output,
    swap_outputs,
    keep_the_output_of_a_failed_run,
    send_nonsense,
    leave_the_outbox_full,
]


@pytest.mark.parametrize("mutate", BROKEN, ids=lambda mutate: mutate.__name__)
def test_what_went_wrong_is_named(mutate: Callable[[History], str]) -> None:
    history = perform(PLAN)
    expected = mutate(history)
    report = "\n".join(map(str, violations(history)))
    assert expected in report


def _good(history: History, route: Route) -> int:
    """Where a transfer of this route lies that every agent books."""
    routes = {t.number: step.route for step in PLAN.steps for t in step.transfers}
    return next(
        at
        for at, entry in enumerate(history.streams[TRANSFERS])
        if entry.number
        and routes[entry.number] is route
        and entry.value
        and entry.value.startswith(b"{")
        and all(fate(SEED, agent, entry.number) is Fate.FINE for agent in Agent)
    )


def _two_of_a_key(entries: list[Entry]) -> tuple[Entry, Entry]:
    first = entries[0]
    return first, next(entry for entry in entries[1:] if entry.key == first.key)


def _swap(entries: list[Entry], first: Entry, second: Entry) -> None:
    at, other = entries.index(first), entries.index(second)
    entries[at] = second._replace(offset=first.offset)
    entries[other] = first._replace(offset=second.offset)


def _name(first_number: int) -> str:
    last = next(
        step.transfers[-1].number for step in PLAN.steps if step.transfers[0].number == first_number
    )
    return f"whole transactions: transaction {first_number}…{last}"


def _number(history: History, letter: Letter) -> int:
    entry = next(e for e in history.streams[letter.topic] if e.offset == letter.offset)
    assert entry.number is not None
    return entry.number


def _busy_account(history: History) -> tuple[str, list[int], dict[int, int]]:
    """An account, the transfers that audit has booked for it, and all amounts."""
    dead = {letter.offset for letter in history.letters if letter.agent == Agent.AUDIT}
    key = max(history.tables[Agent.AUDIT], key=lambda key: history.tables[Agent.AUDIT][key][0])
    numbers = [
        entry.number
        for entry in history.streams[TRANSFERS]
        if entry.key == key and entry.number and entry.offset not in dead
    ]
    return key, numbers, {transfer.number: transfer.amount for transfer in PLAN.sent()}


def _value(entry: Entry) -> str:
    return orjson.dumps(entry.decoded, option=orjson.OPT_SORT_KEYS).decode()


# -- after a failover ------------------------------------------------------------------------


def _neighbours(history: History, *, same_producer: bool) -> tuple[Entry, Entry]:
    """Two booked entries of a key with none between them, of one payer's partition or of two."""
    last: dict[str, Entry] = {}
    for entry in history.streams[ENTRIES]:
        if fate(SEED, Agent.CREDIT, entry.number or 0) is Fate.POISON:
            last.pop(entry.key, None)
            continue
        before = last.get(entry.key)
        if before is not None and same_producer == (_producer(before) == _producer(entry)):
            return before, entry
        last[entry.key] = entry
    raise AssertionError("the plan has none")


def _producer(entry: Entry) -> int:
    return partition_of(entry.decoded["from"].encode(), PARTITIONS)


def test_what_several_had_sent_may_come_again_in_another_order() -> None:
    history = perform(PLAN)
    _swap(history.streams[ENTRIES], *_neighbours(history, same_producer=False))
    assert violations(history) != []
    history.failed_over = True
    assert violations(history) == []


@pytest.mark.parametrize("failed_over", [True, False])
def test_a_dead_letter_may_be_about_an_entry_that_came_again(*, failed_over: bool) -> None:
    history = perform(PLAN)
    history.failed_over = failed_over
    letter = history.letters[0]
    history.letters[0] = letter._replace(offset=10**9)
    assert (violations(history) == []) is failed_over
    history.letters.append(letter)
    assert violations(history) != []


def test_what_one_had_sent_may_not() -> None:
    history = perform(PLAN)
    history.failed_over = True
    _swap(history.streams[ENTRIES], *_neighbours(history, same_producer=True))
    assert violations(history) != []
