"""The pages: complete without JavaScript, and kept up to date where there is some."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse

from app import mailbox
from app.status import Watch
from app.status.models import DeadLetterHeading
from app.web.rendering import page
from app.web.services import Services
from redfaust.errors import DeadLetterUnknown
from redfaust.processing.dead_letters import DeadLetters

Number = Annotated[int, Path(ge=1, le=2**63 - 1)]


def routes(watch: Watch, services: Services) -> APIRouter:
    """The status page, and the pages it leads to."""
    pages = APIRouter(default_response_class=HTMLResponse)

    async def status() -> dict[str, Any]:
        return {"status": await watch.look()}

    @pages.get("/")
    async def status_page() -> HTMLResponse:
        return page("status.html", await status())

    @pages.get("/fragments/status")
    async def status_fragment() -> HTMLResponse:
        """The part of the status page that changes; the page's script asks for it."""
        return page("_status.html", await status())

    @pages.get("/dead-letters/{number}")
    async def dead_letter_page(number: Number) -> HTMLResponse:
        try:
            letter = await DeadLetters(services.database).heading(number)
        except DeadLetterUnknown:
            return _missing("dead letter", number)
        return page("dead_letter.html", {"letter": DeadLetterHeading.of(letter)})

    @pages.get("/mails/{number}")
    async def mail_page(number: Number) -> HTMLResponse:
        mail = await mailbox.find(services.database, number)
        return _missing("mail", number) if mail is None else page("mail.html", {"mail": mail})

    return pages


def _missing(what: str, number: int) -> HTMLResponse:
    return page("missing.html", {"what": what, "number": number}, status=HTTPStatus.NOT_FOUND)
