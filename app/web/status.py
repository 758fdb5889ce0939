"""``/api/status``: the same as on the page, as JSON."""

from __future__ import annotations

from fastapi import APIRouter

from app.status import Status, Watch


def routes(watch: Watch) -> APIRouter:
    """The one route."""
    api = APIRouter(prefix="/api", tags=["status"])

    @api.get("/status")
    async def get_status() -> Status:
        """What is wrong; workers, agents, topics with their lag, outbox, dead letters."""
        return await watch.look()

    return api
