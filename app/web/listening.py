"""Taking the port, before anything else is started."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from app.errors import AppError


class PortUnusable(AppError):
    """Nobody can listen where it was asked for."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on every address of a host; port 0 is a free one, the same on each.

    Raises :class:`PortUnusable`.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((each[0], each[4][0]) for each in found):
            chosen = sockets[0].getsockname()[1] if sockets else port
            opened = socket.create_server((str(address), chosen), family=family)
            # asyncio sees to this only where the socket names its protocol, which these do not;
            # an answer of several parts would wait 40 ms for an acknowledgement.
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sockets.append(opened)
    except OSError as error:
        for opened in sockets:
            opened.close()
        # socket.create_server appends the address, which is in the line already.
        reason = (error.strerror or str(error)).partition(" (")[0]
        raise PortUnusable(
            f"port {port} of {host} cannot be used ({reason}): "
            "stop what listens there, or choose another with REDFAUST_HOST and REDFAUST_PORT"
        ) from error
    return sockets


def addresses(sockets: Iterable[socket.socket]) -> frozenset[str]:
    """What the sockets are bound to, such as ``127.0.0.1`` or ``::``."""
    return frozenset(str(each.getsockname()[0]) for each in sockets)
