"""Compares what happened with what should have happened, exactly.

Each invariant looks at a history and says what is wrong with which key. Together they follow the
money: from the plan to the stream, from each stream through its agents into rows, dead letters
and what they send, and from there to the next stream.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import orjson

from redfaust.brokers.partitioner import partition_of
from tests.torture.history import Entry, History, Letter
from tests.torture.ledger import (
    AUDITED,
    BOOKED,
    ENTRIES,
    PARTITIONS,
    READS,
    TRANSFERS,
    Agent,
    Row,
)
from tests.torture.oracle import Oracle, Run, books
from tests.torture.plan import Route, Step

REPEATED_WITHIN = 20
"""Events of a key after which one that is booked twice is not recognised as such any more."""


SHOWN = 80
"""Bytes of a value that a report shows."""


class Violation(NamedTuple):
    """Something that must not be."""

    invariant: str
    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.key}: {self.what}"


Place: TypeAlias = tuple[str, int, int]
"""A topic, a partition of it, and an offset there."""

Findings: TypeAlias = Iterator[tuple[str, str]]
"""Keys, and what is wrong with each."""


def check(history: History) -> Mapping[str, Sequence[Violation]]:
    """The violations of each invariant."""
    oracle = Oracle(history)
    return {
        name: [Violation(name, key, what) for key, what in invariant(history, oracle)]
        for name, invariant in INVARIANTS.items()
    }


def _transfers(history: History, oracle: Oracle) -> Findings:
    """Each transfer that was sent is on its stream once, with its bytes, in the order of its key;
    one that was taken back is not."""
    expected: dict[str, list[int | None]] = defaultdict(list)
    for transfer in history.plan.sent():
        expected[transfer.payer].append(transfer.number)
    found: dict[str, list[int | None]] = defaultdict(list)
    for entry in history.streams[TRANSFERS]:
        found[entry.key].append(entry.number)
        transfer_of = oracle.transfers.get(entry.number or 0)
        if transfer_of is not None and transfer_of.value != entry.value:
            yield entry.key, f"transfer {entry.number} has other bytes: {_shown(entry.value)}"
    back = {n for step in history.plan.steps if step.taken_back for n in _numbers(step)}
    for key in sorted({*expected, *found}):
        for what in _differences(expected[key], found[key]):
            yield key, f"transfer {what}"
        for phantom in back.intersection(found[key]):
            yield key, f"transfer {phantom} was taken back with its transaction"


def _transactions(history: History, _: Oracle) -> Findings:
    """Rows and events of a transaction are all there, or none of them is."""
    on_stream = {entry.number for entry in history.streams[TRANSFERS]}
    unknown = history.written - {n for step in history.plan.steps for n in _numbers(step)}
    for number in sorted(unknown):
        yield str(number), "nobody wrote this row"
    for step in history.plan.steps:
        if step.route is not Route.OUTBOX:
            continue
        wanted = 0 if step.taken_back else len(step.transfers)
        rows = sum(number in history.written for number in _numbers(step))
        events = sum(number in on_stream for number in _numbers(step))
        if (rows, events) != (wanted, wanted):
            name = f"transaction {step.transfers[0].number}…{step.transfers[-1].number}"
            yield name, f"{rows} rows and {events} events are there instead of {wanted} each"


def _partitions(history: History, _: Oracle) -> Findings:
    """An event lies in the partition of its key."""
    for topic, entries in history.streams.items():
        for entry in entries:
            own = partition_of(entry.key.encode(), PARTITIONS)
            if entry.partition != own:
                yield entry.key, f"{topic} has it in partition {entry.partition} instead of {own}"


def _letters(history: History, oracle: Oracle) -> Findings:
    """What an agent cannot process is its dead letter, once and with its bytes; nothing else is."""
    expected = Counter(
        _letter(agent, run.entry)
        for agent, runs in oracle.runs.items()
        for run in runs
        if not run.booked
    )
    entries = {
        (topic, entry.partition, entry.offset): entry
        for topic, of_topic in history.streams.items()
        for entry in of_topic
    }
    letters = _as_they_lie(history, entries.keys()) if history.failed_over else history.letters
    found = Counter(letters)
    for letter in sorted({*expected, *found}, key=repr):
        if found[letter] == expected[letter]:
            continue
        entry = entries.get((letter.topic, letter.partition, letter.offset))
        key, number = (entry.key, entry.number) if entry else (letter.topic, None)
        what = f"{letter.agent} has {found[letter]} dead letters about transfer {number}"
        if not expected[letter]:
            what += f", which it should process; its bytes: {_shown(letter.value)}"
        else:
            what += f" instead of {expected[letter]}"
        yield key, what


def _as_they_lie(history: History, places: Collection[Place]) -> Sequence[Letter]:
    """Letters about entries that were lost and came again, with the offset that these have now.
    Each has a number in its bytes."""
    now = {
        (topic, entry.partition, entry.value): entry.offset
        for topic, of_topic in history.streams.items()
        for entry in of_topic
    }
    return [
        letter
        if (letter.topic, letter.partition, letter.offset) in places
        else letter._replace(
            offset=now.get((letter.topic, letter.partition, letter.value), letter.offset)
        )
        for letter in history.letters
    ]


def _letter(agent: Agent, entry: Entry) -> Letter:
    return Letter(agent, READS[agent], entry.partition, entry.offset, entry.value)


def _tables(history: History, oracle: Oracle) -> Findings:
    """Each row is what its agent makes of the events of its key, in their order."""
    for agent, runs in oracle.runs.items():
        of_key: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            of_key[run.entry.key].append(run)
        rows = history.tables[agent]
        for key in sorted({*of_key, *rows}):
            expected = of_key[key][-1].row if of_key[key] else Row()
            if rows.get(key, Row()) != expected:
                guess = _explanation(oracle, of_key[key], rows.get(key, Row()))
                yield key, f"{agent} has {rows.get(key)} instead of {expected}{guess}"


def _explanation(oracle: Oracle, runs: Sequence[Run], row: Row) -> str:
    """Which single mistake would have made the row so, if there is one."""
    booked = [run.entry.number or 0 for run in runs if run.booked]
    for what, numbers in _mistakes(booked, [run.entry.number or 0 for run in runs]):
        if len(numbers) != row.bookings:
            continue
        attempt = Row()
        for number in numbers:
            transfer = oracle.transfers[number]
            attempt = attempt.and_then(number, transfer.amount)
        if attempt == row:
            return f": {what}"
    return ""


def _mistakes(booked: Sequence[int], all_: Sequence[int]) -> Iterator[tuple[str, Sequence[int]]]:
    for length in range(len(booked)):
        yield f"it is as old as before transfer {booked[length]}", booked[:length]
    for at, number in enumerate(booked):
        yield f"transfer {number} is left out", [*booked[:at], *booked[at + 1 :]]
        for again in range(at + 1, min(at + REPEATED_WITHIN, len(booked) + 1)):
            twice = [*booked[:again], number, *booked[again:]]
            yield f"transfer {number} is booked twice", twice
    for at in range(len(booked) - 1):
        first, second = booked[at], booked[at + 1]
        swapped = [*booked[:at], second, first, *booked[at + 2 :]]
        yield f"transfer {second} is booked before {first}", swapped
    for dead in set(all_) - set(booked):
        yield (
            f"transfer {dead} is booked, and a dead letter too",
            [number for number in all_ if number == dead or number in set(booked)],
        )


def _outputs(history: History, oracle: Oracle) -> Findings:
    """What is sent for an event that is booked is on its stream once, in order per key and
    sender; what is sent for one that is not, is not."""
    found: dict[str, list[str]] = defaultdict(list)
    for topic in (ENTRIES, BOOKED, AUDITED):
        for entry in history.streams[topic]:
            found[_line(topic, entry.key, entry.value)].append(_text(entry.value))
    sent: dict[str, list[str]] = defaultdict(list)
    attempted: dict[str, list[str]] = defaultdict(list)
    for runs in oracle.runs.values():
        for run in runs:
            for output in run.sends:
                value = orjson.dumps(output.value)
                line = _line(output.topic, output.key, value)
                (sent if run.booked else attempted)[line].append(_text(value))
    for line in sorted({*sent, *attempted, *found}):
        for what in _differences(sent[line], found[line]):
            yield line, what
        phantoms = set(attempted[line]) - set(sent[line])
        for phantom in phantoms.intersection(found[line]):
            yield line, f"{phantom} was sent by a run that failed"


def _line(topic: str, key: str, value: bytes | None) -> str:
    """Within what there is an order: the topic, its key, and who sends."""
    decoded = _decoded(value)
    sender = decoded.get("from") or decoded.get("as")
    return f"{topic} under {key}" + (f" from {sender}" if sender else "")


def _decoded(value: bytes | None) -> Mapping[str, object]:
    try:
        decoded = orjson.loads(value or b"null")
    except orjson.JSONDecodeError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _text(value: bytes | None) -> str:
    decoded = _decoded(value)
    if not decoded:
        return repr(value)
    return orjson.dumps(decoded, option=orjson.OPT_SORT_KEYS).decode()


def _balances(history: History, oracle: Oracle) -> Findings:
    """The money of each account is what the plan alone says."""
    seed = history.plan.seed
    paid: Counter[str] = Counter()
    received: Counter[str] = Counter()
    for transfer in history.plan.sent():
        if books(seed, Agent.DEBIT, transfer):
            paid[transfer.payer] += transfer.amount
            if books(seed, Agent.CREDIT, transfer):
                received[transfer.receiver] += transfer.amount
    for agent, sums in ((Agent.DEBIT, paid), (Agent.CREDIT, received)):
        rows = history.tables[agent]
        for account in sorted({*sums, *rows}):
            has = rows.get(account, Row()).total
            if has != sums[account]:
                yield account, f"{agent} comes to {has} instead of {sums[account]}"


def _left(history: History, _: Oracle) -> Findings:
    """Nothing waits any more, and Redis tells so."""
    for name, count in history.left._asdict().items():
        if count:
            yield name, f"{count} instead of 0"


def _differences(expected: Sequence[object], found: Sequence[object]) -> Iterator[str]:
    missing = Counter(expected) - Counter(found)
    extra = Counter(found) - Counter(expected)
    for item in missing:
        yield f"{item} is lost"
    wanted = set(expected)
    for item in extra:
        if item in wanted:
            yield f"{item} is there {found.count(item)} times"
        else:
            yield f"{item} should not be there"
    if not missing and not extra:
        for wanted_here, is_here in zip(expected, found, strict=True):
            if wanted_here != is_here:
                yield f"{is_here} comes before {wanted_here}"
                return


def _shown(value: bytes | None) -> str:
    return repr(value if value is None else value[:SHOWN])


def _numbers(step: Step) -> Sequence[int]:
    return [transfer.number for transfer in step.transfers]


INVARIANTS: Mapping[str, Callable[[History, Oracle], Findings]] = {
    "transfers once, in order": _transfers,
    "whole transactions": _transactions,
    "partition of the key": _partitions,
    "dead letters": _letters,
    "rows of the tables": _tables,
    "what agents send": _outputs,
    "balances": _balances,
    "nothing left": _left,
}
"""By the name that a report gives them."""
