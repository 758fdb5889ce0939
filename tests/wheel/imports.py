"""Imports all of ``redfaust`` and prints as JSON what came with it, in another environment."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys

import redfaust

modules = [found.name for found in pkgutil.walk_packages(redfaust.__path__, "redfaust.")]
for module in modules:
    importlib.import_module(module)
print(json.dumps({"imported": modules, "loaded": sorted(sys.modules)}))  # noqa: T201
