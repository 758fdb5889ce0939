"""The web application, put together."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.staticfiles import StaticFiles

from app.schema import SHOP
from app.settings import Settings
from app.status import Watch
from app.web import api, health, pages, status
from app.web.correlation import Correlation
from app.web.errors import install_handlers
from app.web.limits import BodyLimit, RequestLimit
from app.web.security import Access, SecurityHeaders
from app.web.services import Services


def create_web(settings: Settings, services: Services, *, bound_to: Collection[str]) -> FastAPI:
    """Status, pages, health and metrics of any application, and the shop's API where it is the
    shop. The services stay their owner's to close.

    ``bound_to``: the addresses that are really listened on; they decide who may come in.
    """
    web: FastAPI = FastAPIOffline(
        title="The shop",
        version=version("redfaust"),
        description="Every change is answered as soon as it is stored, together with its event; "
        "what follows from it happens within moments. Money is in minor units (cents).",
        redoc_url=None,
    )
    watch = Watch(services.sources, settings.app_id)
    if settings.app_id == SHOP:
        web.include_router(api.routes(services))
    web.include_router(status.routes(watch))
    web.include_router(health.routes(watch))
    web.include_router(pages.routes(watch, services), include_in_schema=False)
    static = resources.files("app.web").joinpath("static")
    web.mount("/static", StaticFiles(directory=str(static)), name="static")
    install_handlers(web)
    # The one added last sees a request first.
    web.add_middleware(RequestLimit)
    web.add_middleware(BodyLimit)
    web.add_middleware(Access, bound_to=bound_to, token=settings.token)
    web.add_middleware(SecurityHeaders)
    web.add_middleware(Correlation)
    return web
