"""Of each key one event at a time, and in order."""

from __future__ import annotations

import random
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

from mode.utils.queues import FlowControlEvent

from redfaust.processing.queue import KeyedQueue


def event(key: bytes | None, number: int) -> Any:
    return SimpleNamespace(message=SimpleNamespace(key=key), number=number)


def numbers(queue: KeyedQueue) -> list[int]:
    return [e.number for e in queue.buffered]  # type: ignore[attr-defined]


def test_an_event_waits_for_the_one_before_it_with_its_key() -> None:
    queue = KeyedQueue(flow_control=FlowControlEvent())
    queue.put_batch([event(b"a", 1), event(b"a", 2), event(b"b", 3)])
    assert numbers(queue) == [1, 3]
    first = queue.buffered.popleft()
    queue.done(first)
    assert numbers(queue) == [3, 2]


def test_an_event_that_is_tried_again_waits_for_nobody() -> None:
    queue = KeyedQueue(flow_control=FlowControlEvent())
    queue.put_batch([event(b"a", 1), event(b"a", 2), event(b"b", 3)])
    again = event(b"a", 0)
    queue.put_first([again])
    assert numbers(queue) == [0, 1, 3]
    queue.done(again)
    assert numbers(queue) == [0, 1, 3]


def test_events_without_a_key_wait_for_nobody() -> None:
    queue = KeyedQueue(flow_control=FlowControlEvent())
    queue.put_batch([event(None, 1), event(None, 2)])
    assert numbers(queue) == [1, 2]


def test_being_done_twice_releases_one_event() -> None:
    queue = KeyedQueue(flow_control=FlowControlEvent())
    queue.put_batch([event(b"a", 1), event(b"a", 2), event(b"a", 3)])
    first = queue.buffered.popleft()
    queue.done(first)
    queue.done(first)
    assert numbers(queue) == [2]


def test_any_number_of_consumers_keeps_the_order_of_each_key() -> None:
    choose = random.Random(7)
    queue = KeyedQueue(flow_control=FlowControlEvent())
    events = [event(b"%d" % choose.randrange(5), n) for n in range(500)]
    out: list[Any] = []
    finished = defaultdict(list)
    while events or queue.buffered or out:
        match choose.randrange(3):
            case 0 if events:
                queue.put_batch(events[:7])
                del events[:7]
            case 1 if queue.buffered:
                out.append(queue.buffered.popleft())
            case 2 if out:
                done = out.pop(choose.randrange(len(out)))
                finished[done.message.key].append(done.number)
                queue.done(done)
        assert len({e.message.key for e in out}) == len(out)
    assert sum(map(len, finished.values())) == 500
    assert all(order == sorted(order) for order in finished.values())
