"""What supervisors and Prometheus ask."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Response
from pydantic import BaseModel

from app.status import Watch
from app.status.problems import Kind, Severity
from app.web.metrics import CONTENT_TYPE, expose


class Health(BaseModel):
    """Whether to send requests here. Names no address, since everybody may ask."""

    status: str
    reasons: tuple[str, ...] = ()
    """Why not."""
    problems: tuple[Kind, ...] = ()
    """All that is wrong, whether or not it stops the application."""


def routes(watch: Watch) -> APIRouter:
    """``/health/live``, ``/health/ready`` and ``/metrics``."""
    health = APIRouter(tags=["health"])

    @health.get("/health/live")
    async def live() -> Health:
        """200 while the process answers at all; restart it if it does not. Waits for nothing."""
        return Health(status="live")

    @health.get("/health/ready", responses={503: {"model": Health}})
    async def ready(response: Response) -> Health:
        """200 if events are processed and commands take effect; otherwise 503 says why not."""
        status = await watch.look()
        kinds = tuple(dict.fromkeys(problem.kind for problem in status.problems))
        stopped = [p.kind.reason for p in status.problems if p.severity is Severity.STOPPED]
        if status.is_ready:
            return Health(status="ready", problems=kinds)
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return Health(status="not ready", reasons=tuple(dict.fromkeys(stopped)), problems=kinds)

    @health.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """In the text format of Prometheus."""
        return Response(expose(await watch.look()), media_type=CONTENT_TYPE)

    return health
