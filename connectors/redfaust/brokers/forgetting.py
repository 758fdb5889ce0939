"""Forgets a member that was lost, so that nobody looks for it any more."""

from __future__ import annotations

import time

from redfaust.brokers import assignor
from redfaust.brokers.attendance import silent_members
from redfaust.brokers.broker import Broker
from redfaust.errors import BrokerUnavailable, WorkerUnknown

ATTEMPTS = 100
"""Times that the assignment may be written by somebody else just before."""


async def forget(broker: Broker, group: str, name: str) -> None:
    """Forget a lost or silent member of a group. If it is alive after all, it comes back by itself.

    Raises WorkerUnknown if none of that name is lost, and BrokerError, BrokerUnavailable if others
    write the assignment all the time.
    """
    name = assignor.name_of(name)
    for _ in range(ATTEMPTS):
        group_state = await broker.group_state(group)
        silent = {
            m: n for m, n in silent_members(group_state).items() if assignor.name_of(m) == name
        }
        if not silent and name not in group_state.assignment.lost:
            lost = {
                assignor.name_of(m) for m in silent_members(group_state)
            } | group_state.assignment.lost.keys()
            there = f"there are {', '.join(sorted(lost))}" if lost else "none is"
            raise WorkerUnknown(f"no worker or relay called {name} is lost: {there}")
        assignment = assignor.without_lost(group_state.assignment, name)
        for member in silent:
            assignment = assignor.without(assignment, member, time.time())
        if await broker.reassign(group, assignment, version=group_state.version, silent=silent):
            return
    raise BrokerUnavailable(f"could not forget {name}: the assignment changed too often; try again")
