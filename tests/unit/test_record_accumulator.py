from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from faust.exceptions import ProducerSendError
from faust.sensors import Monitor
from faust.types import TP

from redfaust.brokers.broker import Appended, Outgoing
from redfaust.processing.record_accumulator import (
    BATCH,
    MAX_BUFFERED,
    MAX_WHILE_AWAY,
    RecordAccumulator,
)

TOPIC = "events"
BAD = b"bad"


class Log:
    """Takes entries, once it may."""

    def __init__(self) -> None:
        self.entries: list[Outgoing] = []
        self.batches: list[int] = []
        self.may = asyncio.Event()
        self.monitor = Monitor()
        self.sending = RecordAccumulator(self.append, self.monitor)

    async def append(self, entries: Sequence[Outgoing]) -> Sequence[Appended | Exception]:
        await self.may.wait()
        self.batches.append(len(entries))
        outcomes: list[Appended | Exception] = []
        for entry in entries:
            if entry.value == BAD:
                outcomes.append(ProducerSendError("bad"))
            else:
                self.entries.append(entry)
                outcomes.append(Appended(TP(TOPIC, 0), len(self.entries), 1.5))
        return outcomes


@pytest.fixture
async def log() -> AsyncIterator[Log]:
    log = Log()
    log.sending.begin()
    running = asyncio.create_task(log.sending.run())
    yield log
    running.cancel()


def entry(number: int) -> Outgoing:
    return Outgoing(TOPIC, b"%d" % number)


async def settle() -> None:
    """Let everybody go as far as they get."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_is_sent_is_appended_in_order_and_says_where(log: Log) -> None:
    log.may.set()
    futures = [await log.sending.send(entry(number)) for number in range(1200)]
    metadata = await asyncio.gather(*futures)
    assert log.entries == [entry(number) for number in range(1200)]
    assert [each.offset for each in metadata] == list(range(1, 1201))
    last = metadata[-1]
    assert (last.topic, last.partition, last.topic_partition) == (TOPIC, 0, TP(TOPIC, 0))
    assert (last.timestamp, last._asdict()["offset"]) == (1.5, "1200")


async def test_a_batch_leaves_while_the_next_one_is_made(log: Log) -> None:
    log.may.set()
    for number in range(BATCH):
        await log.sending.send(entry(number))
    assert log.batches == [BATCH]


async def test_no_more_than_so_much_is_accepted(log: Log) -> None:
    senders = [asyncio.create_task(log.sending.send(entry(n))) for n in range(3 * MAX_BUFFERED)]
    await settle()
    assert log.sending.accepted == MAX_BUFFERED
    log.may.set()
    await asyncio.gather(*await asyncio.gather(*senders))
    assert log.entries == [entry(number) for number in range(3 * MAX_BUFFERED)]


async def test_more_is_accepted_while_the_broker_is_away(log: Log) -> None:
    async def send(numbers: range) -> None:
        for number in numbers:
            await log.sending.send(entry(number))

    sender = asyncio.create_task(send(range(2 * MAX_WHILE_AWAY)))
    await settle()
    for _ in range(2):
        log.sending.broker_is_away()
        await settle()
        assert log.sending.accepted == MAX_WHILE_AWAY
    log.may.set()
    await log.sending.sent()
    log.may.clear()
    await settle()
    assert log.sending.accepted - log.sending.done == MAX_BUFFERED
    sender.cancel()


async def test_who_cannot_wait_may_wait_before(log: Log) -> None:
    for number in range(2 * MAX_BUFFERED):
        log.sending.send_soon(entry(number))
    assert log.sending.accepted == 2 * MAX_BUFFERED
    waiting = asyncio.create_task(log.sending.has_room())
    await settle()
    assert log.sending.is_full
    assert not waiting.done()
    log.may.set()
    await waiting
    assert not log.sending.is_full
    assert log.sending.done > MAX_BUFFERED


async def test_who_comes_later_does_not_pass_who_waits(log: Log) -> None:
    futures = [log.sending.send_soon(entry(number)) for number in range(MAX_BUFFERED)]
    waiting = [asyncio.create_task(log.sending.send(entry(MAX_BUFFERED + n))) for n in range(2)]
    await settle()
    log.may.set()
    await futures[0]
    await (await log.sending.send(entry(MAX_BUFFERED + 2)))
    await asyncio.gather(*waiting)
    assert log.entries == [entry(number) for number in range(MAX_BUFFERED + 3)]


async def test_who_gives_up_waiting_has_sent_nothing_and_takes_no_room(log: Log) -> None:
    for number in range(MAX_BUFFERED):
        log.sending.send_soon(entry(number))
    waiting = asyncio.create_task(log.sending.send(entry(-1)))
    await settle()
    waiting.cancel()
    log.may.set()
    await log.sending.sent()
    assert entry(-1) not in log.entries
    log.may.clear()
    more = [asyncio.create_task(log.sending.send(entry(n))) for n in range(2 * MAX_BUFFERED)]
    await settle()
    assert log.sending.accepted == 2 * MAX_BUFFERED
    for task in more:
        task.cancel()


async def test_a_refused_entry_is_raised_where_it_is_awaited(log: Log) -> None:
    log.may.set()
    good = await log.sending.send(entry(1), log.monitor.time())
    bad = await log.sending.send(Outgoing(TOPIC, BAD), log.monitor.time())
    untold = await log.sending.send(entry(2))
    with pytest.raises(ProducerSendError, match="bad"):
        await bad
    assert [(await each).offset for each in (good, untold)] == [1, 2]
    assert (len(log.monitor.send_latency), log.monitor.send_errors) == (1, 1)


async def test_who_waits_for_all_does_not_wait_for_what_comes_later(log: Log) -> None:
    for number in range(BATCH):
        log.sending.send_soon(entry(number))
    all_sent = asyncio.create_task(log.sending.sent())
    await settle()
    assert not all_sent.done()
    log.may.set()
    while not log.batches:
        log.sending.send_soon(entry(0))
        await asyncio.sleep(0)
    log.may.clear()
    await all_sent
    assert log.sending.done >= BATCH
