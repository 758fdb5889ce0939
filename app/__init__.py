"""The shop, put together: settings, Faust application, command line, web, embedded servers."""

from __future__ import annotations

from functools import cache
from typing import Any


def __getattr__(name: str) -> Any:
    """``app.app`` is what ``faust -A app worker`` looks for; it is built when asked for."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _shop()


@cache
def _shop() -> Any:
    from app.settings import Settings  # noqa: PLC0415 - importing a package reads no settings
    from app.shop import create_shop  # noqa: PLC0415

    return create_shop(Settings.load())
