"""Has a worker hand over what it owns, so that it can be stopped without anybody waiting for it."""

from __future__ import annotations

from redfaust.brokers import shares
from redfaust.brokers.broker import Broker
from redfaust.errors import BrokerUnavailable, WorkerUnknown

ATTEMPTS = 100
"""Times that the register may be written by somebody else just before."""


async def drain(broker: Broker, group: str, name: str, *, back: bool = False) -> None:
    """Have a member own nothing from now on, or (``back``) its share again.

    ``name`` is that under which it is started, or with what tells processes of that name apart. It
    stays drained when it is started again under that name. What it owns it keeps while there is
    nobody else.

    Raises WorkerUnknown if no member has the name, and BrokerError, BrokerUnavailable if others
    write the register all the time.
    """
    name = shares.name_of(name)
    for _ in range(ATTEMPTS):
        roll = await broker.roll(group)
        register = roll.register
        names = sorted({shares.name_of(member) for member in register.members})
        if name not in names and not (back and name in register.drained):
            there = f"there are {', '.join(names)}" if names else "none is running"
            raise WorkerUnknown(f"no worker is called {name}: {there}")
        changed = shares.drained(register, name, back=back)
        if await broker.reassign(group, changed, version=roll.version, silent={}):
            return
    raise BrokerUnavailable(f"{name} could not be told, so busy is the register: try again")
