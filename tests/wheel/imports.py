"""Imports all of ``connectors`` and prints as JSON what came with it, in another environment."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys

import connectors

modules = [found.name for found in pkgutil.walk_packages(connectors.__path__, "connectors.")]
for module in modules:
    importlib.import_module(module)
print(json.dumps({"imported": modules, "loaded": sorted(sys.modules)}))  # noqa: T201
