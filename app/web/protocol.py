"""HTTP/1.1 as the web API speaks it: stricter than h11, and with a bound for everything that waits.

A connection is in one of three states::

    (connected) ──▶ WAITING ──headers──▶ READING ──body──▶ ANSWERING
                       ▲                                       │
                       └───────────── answered ────────────────┘

Each state lasts a bounded time, however slowly bytes come. While there are too many connections,
each new one takes the place of the one that has been WAITING or READING for the longest time.
"""

from __future__ import annotations

import enum
import re
import resource
from asyncio import TimerHandle, Transport
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS: Final = 1000
RESERVE: Final = 100
"""Connections more that are taken while all others are ANSWERING, so that health is answered."""
MAX_HEAD_BYTES: Final = 16_384
"""Of a request line with its headers."""

_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")


class State(enum.Enum):
    """What a connection does."""

    WAITING = enum.auto()
    """For the headers of the next request."""
    READING = enum.auto()
    """The body of a request."""
    ANSWERING = enum.auto()
    """Also while the client does not read the answer."""


LONGEST: Final = {State.WAITING: 10.0, State.READING: 10.0, State.ANSWERING: 60.0}
"""Seconds after which a connection is closed. A body has 64 KiB at most."""


class Connections:
    """The connections of one server that hold no complete request, the oldest first."""

    def __init__(self) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Brokers, databases and logs need files too.
        self.limit = min(MAX_CONNECTIONS, files // 2)
        self.unfinished: dict[Protocol, None] = {}

    def make_room(self, newcomer: Protocol, count: int) -> None:
        """Close the oldest unfinished connection if there are too many; the newcomer is none."""
        if count <= self.limit:
            return
        oldest = next(iter(self.unfinished), None)
        if oldest is not None:
            oldest.abort()
        elif count > self.limit + RESERVE:
            newcomer.abort()


class StrictConnection(h11.Connection):
    """h11's, which refuses requests that another server in front of it may read otherwise."""

    def next_event(self) -> Any:
        """As h11's. Raises RemoteProtocolError for an ambiguous request."""
        if self.their_state is h11.IDLE:
            received, _ = self.trailing_data
            if (end := _END_OF_HEAD.search(received)) and (why := ambiguity(received[: end.end()])):
                raise h11.RemoteProtocolError(why)
        return super().next_event()


def ambiguity(head: bytes) -> str | None:
    """Why the length of a request is not certain; ``None`` if it is.

    See RFC 9112, sections 2.2, 5.2 and 6.3: a server may be lenient there, and two that are
    lenient in different ways take one request for two.
    """
    request_line, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if any(b"\n" in line or b"\r" in line for line in (request_line, *fields)):
        return "lines end with CR LF"
    if any(line[:1] in {b" ", b"\t"} for line in fields):
        return "a header has one line"
    named = [(name.lower(), value) for name, _, value in (line.partition(b":") for line in fields)]
    lengths = [value for name, value in named if name == b"content-length"]
    encoded = any(name == b"transfer-encoding" for name, _ in named)
    if len(lengths) > 1 or any(b"," in value for value in lengths):
        return "Content-Length is said once"
    if encoded and lengths:
        return "a request has Content-Length or Transfer-Encoding, not both"
    if encoded and not request_line.endswith(b"HTTP/1.1"):
        return "Transfer-Encoding needs HTTP/1.1"
    return None


class Protocol(H11Protocol):
    """uvicorn's protocol, of which nobody can keep others out by waiting."""

    def __init__(self, all_connections: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = StrictConnection(h11.SERVER, MAX_HEAD_BYTES)
        self._all = all_connections
        self._state: State | None = None
        self._deadline: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # as uvicorn
        super().connection_made(transport)
        self._all.make_room(self, len(self.connections))
        if not transport.is_closing():
            self._enter(State.WAITING)

    def connection_lost(self, exc: Exception | None) -> None:
        self._enter(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        self._enter(State.WAITING)
        super().on_response_complete()
        self._look()

    def abort(self) -> None:
        """Close at once, whatever is not sent yet."""
        self._enter(None)
        self.transport.abort()

    def _look(self) -> None:
        if self._state is None:
            return
        state = State.WAITING
        if self.cycle is not None and not self.cycle.response_complete:
            state = State.READING if self.cycle.more_body else State.ANSWERING
        if state is not self._state:
            self._enter(state)

    def _enter(self, state: State | None) -> None:
        """``None``: the connection is closed."""
        self._state = state
        self._all.unfinished.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if state is None:
            return
        if state is not State.ANSWERING:
            self._all.unfinished[self] = None
        self._deadline = self.loop.call_later(LONGEST[state], self.abort)
