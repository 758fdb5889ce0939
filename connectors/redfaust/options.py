"""Options by name: those of declarations, and those behind the question mark of a URL."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from urllib.parse import parse_qsl

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like another one."""
    [near] = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return near


def refuse_unknown(
    what: str, given: Iterable[object], known: Collection[str], error: type[Exception]
) -> None:
    """Raise ``error`` for the first option that is not known, with the nearest that is.

    ``what`` says where the options stand.
    """
    for name in given:
        if name not in known:
            # Of a URL it may be a part of a password that was not percent-encoded.
            shown = repr(name) if _NAME.fullmatch(str(name)) else "what is written there"
            raise error(
                f"{what}: {shown} is no option: did you mean {nearest(str(name), known)!r}? "
                f"There are {', '.join(sorted(known))}"
            )


def query_options(
    what: str, query: str, known: Collection[str], error: type[Exception]
) -> dict[str, str]:
    """The options of a URL's query. Raises ``error`` for one that is unknown or given twice."""
    pairs = parse_qsl(query, keep_blank_values=True)
    refuse_unknown(what, (name for name, _ in pairs), known, error)
    options = dict(pairs)
    if len(options) < len(pairs):
        twice = next(name for name in options if sum(name == each for each, _ in pairs) > 1)
        raise error(f"{what}: {twice} is given twice: write it once")
    return options
