"""Has a worker hand over what it owns, so that it can be stopped without anybody waiting for it."""

from __future__ import annotations

from redfaust.brokers import assignor
from redfaust.brokers.broker import Broker
from redfaust.errors import BrokerUnavailable, WorkerUnknown

ATTEMPTS = 100
"""Times that the assignment may be written by somebody else just before."""


async def drain(broker: Broker, group: str, name: str, *, back: bool = False) -> None:
    """Have a member own nothing from now on, or (``back``) its share again.

    ``name`` is that under which it is started, or with what tells processes of that name apart. It
    stays drained when it is started again under that name. What it owns it keeps while there is
    nobody else.

    Raises WorkerUnknown if no member has the name, and BrokerError, BrokerUnavailable if others
    write the assignment all the time.
    """
    name = assignor.name_of(name)
    for _ in range(ATTEMPTS):
        group_state = await broker.group_state(group)
        assignment = group_state.assignment
        names = sorted({assignor.name_of(member) for member in assignment.members})
        if name not in names and not (back and name in assignment.drained):
            there = f"there are {', '.join(names)}" if names else "none is running"
            raise WorkerUnknown(f"no worker is called {name}: {there}")
        changed = assignor.drained(assignment, name, back=back)
        if await broker.reassign(group, changed, version=group_state.version, silent={}):
            return
    raise BrokerUnavailable(f"could not drain {name}: the assignment changed too often; try again")
