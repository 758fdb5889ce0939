"""Named points at which a test may let something happen, in the order in which they are passed.

``FAUST_FAILPOINT=outbox.appended`` kills the process with SIGKILL where it passes the point of
that name, ``FAUST_FAILPOINT=outbox.appended:3`` where it does so for the third time. A test may
put any other function in the place of :data:`point`, with :func:`at`. Otherwise a point does
nothing. Its name is ``<room>.<what has just happened>``; none lies on the way of each single event.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping

VARIABLE = "FAUST_FAILPOINT"

POINTS = (
    # A worker gets partitions, or loses them.
    "shares.written",
    "rebalance.revoked",
    "commit.taken",
    "outbox.taken_over",
    "rebalance.taken",
    "tables.loaded",
    "rebalance.assigned",
    "shares.handed_over",
    "shares.left",
    # Events are read and processed.
    "consumer.read",
    "consumer.delivered",
    "consumer.finished",
    "agent.failed",
    "agent.parked",
    "retry.fetched",
    "retry.delivered",
    # What they have done is committed.
    "commit.begun",
    "commit.confirmed",
    "commit.fenced",
    "outbox.staged",
    "commit.written",
    "commit.committed",
    "commit.settled",
    "commit.acknowledged",
    # What they have sent is published.
    "relay.claimed",
    "outbox.dead_lettered",
    "producers.appended",
    "outbox.appended",
    "outbox.published",
    "outbox.restored",
    "outbox.deleted",
    # An event is delivered to one of many.
    "shared.claimed",
    "shared.claimed_stale",
    "shared.failed",
    "shared.noted",
    "shared.written",
    "shared.committed",
    "shared.acked",
    "shared.given_back",
    # Topics get more partitions.
    "alteration.closed",
    "alteration.committed",
    # An application is set back to its beginning.
    "reset.left",
    # A mail is sent.
    "mail.taken",
    "mail.recorded",
)


def at(name: str, do: Callable[[], object], *, time: int = 1) -> Callable[[str], None]:
    """A :data:`point` that does this where it is passed, once: the first time or a later one."""
    left = time

    def act(passed: str) -> None:
        nonlocal left
        if passed == name:
            left -= 1
            if not left:
                do()

    return act


def armed(environ: Mapping[str, str]) -> Callable[[str], None]:
    """What :data:`point` is in such an environment.

    Raises :class:`ValueError` if what stands behind the colon is no number from 1.
    """
    name, _, count = environ.get(VARIABLE, "").partition(":")
    time = int(count or 1)
    if time < 1:
        raise ValueError(f"{VARIABLE}={environ[VARIABLE]}: counting begins at 1")
    return at(name, _die, time=time) if name else _nothing


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _nothing(_: str) -> None:
    pass


point = armed(os.environ)
"""Call it with the point's name."""
