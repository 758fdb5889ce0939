"""What is done to the processes, and when, as a function of the seed."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from random import Random
from typing import NamedTuple


class Fault(enum.Enum):
    """What can happen to a system, by the name that a report gives it."""

    WORKER_KILLED = "worker killed with SIGKILL"
    WORKER_STOPPED = "worker stopped by SIGSTOP for a while"
    RELAY_KILLED = "relay killed with SIGKILL"
    RELAY_STOPPED = "relay stopped by SIGSTOP for a while"
    VALKEY_KILLED = "Valkey killed with SIGKILL and restarted"
    POSTGRES_KILLED = "Postgres killed with SIGKILL and restarted"
    POSTGRES_SHUT_DOWN = "Postgres shut down immediately and restarted"
    SESSIONS_ENDED = "sessions ended by pg_terminate_backend"
    CLIENTS_KILLED = "connections ended by CLIENT KILL"


PER_MINUTE: Mapping[Fault, float] = {
    Fault.WORKER_KILLED: 5,
    Fault.WORKER_STOPPED: 1.5,
    Fault.RELAY_KILLED: 2.5,
    Fault.RELAY_STOPPED: 0.5,
    Fault.VALKEY_KILLED: 0.7,
    Fault.POSTGRES_KILLED: 0.7,
    Fault.POSTGRES_SHUT_DOWN: 0.7,
    Fault.SESSIONS_ENDED: 1.5,
    Fault.CLIENTS_KILLED: 1.5,
}
AT_LEAST: Mapping[Fault, int] = {
    Fault.WORKER_KILLED: 40,
    Fault.VALKEY_KILLED: 5,
    Fault.POSTGRES_KILLED: 5,
    Fault.POSTGRES_SHUT_DOWN: 5,
}
"""In a run that counts, however short it is; of all others one."""


class Scheduled(NamedTuple):
    """A fault and its time."""

    at: float
    """Seconds after the start."""
    fault: Fault


def how_many(minutes: float) -> Mapping[Fault, int]:
    """The faults of a run of this length."""
    return {
        fault: max(AT_LEAST.get(fault, 1), round(rate * minutes))
        for fault, rate in PER_MINUTE.items()
    }


def schedule(seed: int, seconds: float, counts: Mapping[Fault, int]) -> Iterator[Scheduled]:
    """Faults in any order, each somewhere within its share of the time."""
    choose = Random(f"faults {seed}")
    faults = [fault for fault, count in counts.items() for _ in range(count)]
    choose.shuffle(faults)
    for place, fault in enumerate(faults):
        yield Scheduled((place + choose.random()) * seconds / len(faults), fault)
