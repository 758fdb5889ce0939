"""The shop, put together: settings, Faust application, command line, web, embedded servers."""

# Nothing here may need a new Python: `python -m app` has to get as far as saying that it does.
from typing import Any


def __getattr__(name: str) -> Any:
    """``app.app`` is what ``faust -A app worker`` looks for; it is built when asked for."""
    if name != "app":
        raise AttributeError("module 'app' has no attribute " + repr(name))
    from app.settings import Settings  # noqa: PLC0415 - importing a package reads no settings
    from app.shop import create_shop  # noqa: PLC0415

    globals()["app"] = shop = create_shop(Settings.load())
    return shop
