"""What supervisors and Prometheus ask."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Response
from pydantic import BaseModel

from app.settings import Settings
from app.status import collect
from app.status.readiness import reasons_against
from app.web.metrics import CONTENT_TYPE, expose
from app.web.services import Services


class Health(BaseModel):
    """Whether to send requests here."""

    status: str
    reasons: tuple[str, ...] = ()


def routes(settings: Settings, services: Services) -> APIRouter:
    """``/health/live``, ``/health/ready`` and ``/metrics``."""
    health = APIRouter(tags=["health"])

    @health.get("/health/live")
    async def live() -> Health:
        """200 while the process answers at all; restart it if it does not."""
        return Health(status="live")

    @health.get("/health/ready", responses={503: {"model": Health}})
    async def ready(response: Response) -> Health:
        """200 if broker and database answer and a worker is there; otherwise 503 says why not."""
        reasons = await reasons_against(services, settings)
        if not reasons:
            return Health(status="ready")
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return Health(status="not ready", reasons=reasons)

    @health.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """In the text format of Prometheus."""
        status = await collect(services, settings)
        return Response(expose(status), media_type=CONTENT_TYPE)

    return health
