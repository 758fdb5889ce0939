"""How the body of an older version becomes the body of the next one.

An upcaster is a pure function from body to body. Upcasters are chained, so each only knows its
neighbour, and agents only ever see the newest version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Body = Mapping[str, Any]
Upcaster = Callable[[Body], Body]


def order_created_v1_to_v2(body: Body) -> Body:
    """Version 1 knew one article an order, and no currency but the euro."""
    return {
        "order_id": body["order_id"],
        "user_id": body["user_id"],
        "items": [{name: body[name] for name in ("sku", "quantity", "unit_price")}],
        "currency": "EUR",
    }
