"""The events that are measured with: the same for us and for our peers.

Imported in environments that have nothing of ours installed: nothing but Python here.
"""

from __future__ import annotations

from typing import Any

TOPIC = "bench"
OUTPUT = "bench-out"
PARTITIONS = 4
BATCH = 1000
KEYS = 1000


def value(number: int) -> dict[str, Any]:
    """Of an event, as JSON some 200 bytes."""
    return {"number": number, "amount": number * 7, "note": "x" * 150}


def key(number: int, keys: int = KEYS) -> str:
    """Of an event. Each key comes once before any comes again."""
    return f"key-{number % keys}"


def twice(value: dict[str, Any]) -> dict[str, Any]:
    """What is sent for an event where something is."""
    return {"twice": value["amount"] * 2, **value}
