"""What is done to the processes, and when, as a function of the seed."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from random import Random
from typing import NamedTuple


class Fault(enum.Enum):
    """What can happen to a system, by the name that a report gives it."""

    WORKER_KILLED = "worker killed with SIGKILL"
    WORKER_STOPPED = "worker stopped by SIGSTOP for a moment"
    WORKER_SILENT = "worker stopped by SIGSTOP until others have its partitions"
    WORKER_LEFT = "worker left by SIGTERM and was started again"
    WORKER_JOINED = "another worker joined, having left if it was there"
    WORKER_CLOCK = "a worker's clock jumped by an hour and back"
    RELAY_KILLED = "relay killed with SIGKILL"
    RELAY_STOPPED = "relay stopped by SIGSTOP for a while"
    REDIS_KILLED = "Redis primary killed with SIGKILL and restarted"
    REDIS_DIED = "Redis primary died, its replica was promoted"
    REDIS_CUT_OFF = "Redis primary cut off with its clients, replica promoted"
    REDIS_CLOCK = "a Redis's clock jumped by an hour and back"
    CLIENTS_KILLED = "connections ended by CLIENT KILL"
    POSTGRES_KILLED = "Postgres killed with SIGKILL and restarted"
    POSTGRES_SHUT_DOWN = "Postgres shut down immediately and restarted"
    POSTGRES_FULL = "no space left for Postgres"
    SESSIONS_ENDED = "sessions ended by pg_terminate_backend"
    COMMITS_UNANSWERED = "connections cut before COMMIT was answered"


PER_MINUTE: Mapping[Fault, float] = {
    Fault.WORKER_KILLED: 4,
    Fault.WORKER_STOPPED: 0.5,
    Fault.WORKER_SILENT: 0.5,
    Fault.WORKER_LEFT: 0.8,
    Fault.WORKER_JOINED: 0.6,
    Fault.WORKER_CLOCK: 0.4,
    Fault.RELAY_KILLED: 1.0,
    Fault.RELAY_STOPPED: 0.3,
    Fault.REDIS_KILLED: 0.5,
    Fault.REDIS_DIED: 0.4,
    Fault.REDIS_CUT_OFF: 0.4,
    Fault.REDIS_CLOCK: 0.4,
    Fault.CLIENTS_KILLED: 0.6,
    Fault.POSTGRES_KILLED: 0.5,
    Fault.POSTGRES_SHUT_DOWN: 0.5,
    Fault.POSTGRES_FULL: 0.3,
    Fault.SESSIONS_ENDED: 0.6,
    Fault.COMMITS_UNANSWERED: 0.8,
}


OF_REDIS = frozenset(
    {
        Fault.REDIS_KILLED,
        Fault.REDIS_DIED,
        Fault.REDIS_CUT_OFF,
        Fault.REDIS_CLOCK,
        Fault.CLIENTS_KILLED,
    }
)
"""What cannot be done where there is none."""


class Scheduled(NamedTuple):
    """A fault and its time."""

    at: float
    """Seconds after the start."""
    fault: Fault


def how_many(minutes: float) -> Mapping[Fault, int]:
    """The faults of a run of this length, each at least once."""
    return {fault: max(1, round(rate * minutes)) for fault, rate in PER_MINUTE.items()}


def schedule(seed: int, seconds: float, counts: Mapping[Fault, int]) -> Iterator[Scheduled]:
    """Faults in any order, each somewhere within its share of the time."""
    choose = Random(f"faults {seed}")
    faults = [fault for fault, count in counts.items() for _ in range(count)]
    choose.shuffle(faults)
    for place, fault in enumerate(faults):
        yield Scheduled((place + choose.random()) * seconds / len(faults), fault)
