"""The ``traceparent`` header, by which tracing tools join what happens in many processes.

Its form is ``00-<trace id>-<span id>-<flags>`` in lower-case hex, see
https://www.w3.org/TR/trace-context/#traceparent-header.
"""

from __future__ import annotations

import re
from random import getrandbits

_FORM = re.compile(
    r"[0-9a-f]{2}-(?P<trace>(?!0{32})[0-9a-f]{32})"
    r"-(?!0{16})[0-9a-f]{16}-(?P<flags>[0-9a-f]{2})(?P<later>-.*)?"
)
_SAMPLED = 0x01
_LONGEST = 512
"""Characters, with what later versions append."""


def new_trace() -> str:
    """A trace that begins here."""
    return f"00-{_number(128)}-{_number(64)}-{_SAMPLED:02x}"


def readable(traceparent: str) -> str:
    """What is given, if it can be read; otherwise a new trace."""
    return traceparent if _read(traceparent) else new_trace()


def child_of(traceparent: str | None) -> str:
    """A new span in the same trace; a new trace if what is given is none.

    Starting anew is what the specification asks for where the header cannot be read.
    """
    match = _read(traceparent or "")
    if match is None:
        return new_trace()
    # Only flags that version 00 defines may be handed on.
    flags = int(match["flags"], 16) & _SAMPLED
    return f"00-{match['trace']}-{_number(64)}-{flags:02x}"


def _read(text: str) -> re.Match[str] | None:
    match = _FORM.fullmatch(text) if len(text) <= _LONGEST else None
    # Version ff is forbidden; only versions after 00 may append fields of their own.
    if match is None or text[:2] == "ff" or (text[:2] == "00" and match["later"]):
        return None
    return match


def _number(bits: int) -> str:
    """Never 0, which means none. No secret, so that none is asked of the system for each event."""
    return f"{getrandbits(bits) or 1:0{bits // 4}x}"
