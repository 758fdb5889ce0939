"""Forgets a member that was lost, so that nobody looks for it any more."""

from __future__ import annotations

import time

from redfaust.brokers import shares
from redfaust.brokers.attendance import silent_members
from redfaust.brokers.broker import Broker
from redfaust.errors import BrokerUnavailable, WorkerUnknown

ATTEMPTS = 100
"""Times that the register may be written by somebody else just before."""


async def forget(broker: Broker, group: str, name: str) -> None:
    """Forget a lost or silent member of a group. If it is alive after all, it comes back by itself.

    Raises WorkerUnknown if none of that name is lost, and BrokerError, BrokerUnavailable if others
    write the register all the time.
    """
    name = shares.name_of(name)
    for _ in range(ATTEMPTS):
        roll = await broker.roll(group)
        silent = {m: n for m, n in silent_members(roll).items() if shares.name_of(m) == name}
        if not silent and name not in roll.register.lost:
            lost = {shares.name_of(m) for m in silent_members(roll)} | roll.register.lost.keys()
            there = f"there are {', '.join(sorted(lost))}" if lost else "none is"
            raise WorkerUnknown(f"no worker or relay called {name} is lost: {there}")
        register = shares.without_lost(roll.register, name)
        for member in silent:
            register = shares.without(register, member, time.time())
        if await broker.reassign(group, register, version=roll.version, silent=silent):
            return
    raise BrokerUnavailable(f"{name} could not be forgotten, so busy is the register: try again")
