"""Who may come in. The application behind it never needs its database here."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.settings import Settings
from app.web.application import create_web
from app.web.refusals import LINES
from app.web.security import Access, is_loopback
from app.web.services import Services
from redfaust.outbox.outbox import Outbox
from redfaust.postgres.database import Database

TOKEN = "correct horse battery"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
# Its validation comes after security and before the database, which is not there.
INVALID_USER = {"email": "none"}


class _NoDatabase:
    """Nothing that is let in here gets as far as this."""


@asynccontextmanager
async def client(
    *, host: str = "127.0.0.1", token: str | None = None, base_url: str = "http://localhost:7070"
) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(
        broker=SecretStr("memory://"),
        database=SecretStr("postgresql://user:hunter2@nowhere/db"),
        token=SecretStr(token) if token else None,
    )
    database = cast(Database, _NoDatabase())
    transport = httpx.ASGITransport(
        create_web(settings, Services(database, Outbox(database), None), bound_to=[host])
    )
    async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
        yield client


async def change(web: httpx.AsyncClient, **headers: str) -> int:
    """The status of a request that changes something; 422 says that it was let in."""
    return (await web.post("/api/users", json=INVALID_USER, headers=headers)).status_code


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:7070", "127.0.0.1:7070", "[::1]:7070", "LOCALHOST"]
)
async def test_on_loopback_names_of_this_machine_are_let_in(host: str) -> None:
    async with client() as web:
        assert (await web.get("/docs", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:7070", "", "user@evil", "["],
)
async def test_on_loopback_other_names_are_turned_away(host: str) -> None:
    async with client() as web:
        for path in ("/", "/docs", "/metrics", "/api/status"):
            answer = await web.get(path, headers={"Host": host})
            assert answer.status_code == 421
            assert "localhost" in answer.json()["detail"]
        assert await change(web, Host=host) == 421


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "shop.example"])
async def test_bound_wider_without_a_token_everything_is_closed(host: str) -> None:
    async with client(host=host, base_url="http://shop.example") as web:
        for path in ("/", "/docs", "/openapi.json", "/metrics", "/api/status", "/static/style.css"):
            answer = await web.get(path)
            assert answer.status_code == 403
            assert "REDFAUST_TOKEN" in answer.json()["detail"]
        assert await change(web) == 403
        assert await change(web, Authorization="Bearer ") == 403
        assert (await web.get("/health/live")).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
async def test_a_token_that_is_set_is_asked_for(host: str) -> None:
    async with client(host=host, token=TOKEN) as web:
        assert (await web.get("/health/live")).status_code == 200
        for headers in (BEARER, basic(TOKEN), {"Authorization": f"bearer {TOKEN}"}):
            assert (await web.get("/docs", headers=headers)).status_code == 200
            assert await change(web, **headers) == 422


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Token {TOKEN}"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(TOKEN.encode()).decode()},
        basic("wrong"),
        basic(""),
    ],
)
async def test_without_the_token_nobody_comes_in(headers: dict[str, str]) -> None:
    async with client(host="0.0.0.0", token=TOKEN) as web:
        answer = await web.get("/api/status", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
        assert TOKEN not in answer.text
        assert await change(web, **headers) == 401


OTHER_ORIGIN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://evil.example"},
    {"Origin": "http://localhost:9999"},
    {"Origin": "null"},
    {"Origin": "http://localhost:7070.evil.example"},
    {"Origin": "["},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:7070"},
]


@pytest.mark.parametrize("headers", OTHER_ORIGIN)
async def test_a_page_of_another_origin_changes_nothing(headers: dict[str, str]) -> None:
    async with client() as web:
        assert await change(web, **headers) == 403
        assert (await web.get("/docs", headers=headers)).status_code == 200
    async with client(host="0.0.0.0", token=TOKEN) as web:
        assert await change(web, **BEARER, **headers) == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:7070"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost:7070"},
    ],
)
async def test_our_own_pages_and_programs_change_things(headers: dict[str, str]) -> None:
    async with client() as web:
        assert await change(web, **headers) == 422


async def test_pages_load_nothing_from_elsewhere() -> None:
    async with client() as web:
        for path in ("/docs", "/health/live", "/nowhere", "/static/style.css"):
            answer = await web.get(path)
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert ("'unsafe-inline'" in policy) == (path == "/docs")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", False),  # it may be a name of anything
        ("::ffff:127.0.0.1", True),
        ("::ffff:0.0.0.0", False),
        ("::ffff:192.0.2.7", False),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
    ],
)
def test_what_counts_as_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "Via"])
async def test_on_loopback_a_proxy_needs_the_token(header: str) -> None:
    said = {header: "for=192.0.2.7"}
    async with client() as web:
        assert (await web.get("/docs", headers=said)).status_code == 403
        assert (await web.get("/health/live", headers=said)).status_code == 200
    async with client(token=TOKEN) as web:
        assert (await web.get("/docs", headers=said | BEARER)).status_code == 200


@pytest.mark.parametrize("others", [["0.0.0.0"], ["192.0.2.7"], ["::"]])
async def test_one_wide_address_among_several_is_wide(others: list[str]) -> None:
    access = Access(FastAPI(), bound_to=["127.0.0.1", *others], token=None)
    transport = httpx.ASGITransport(access)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as web:
        assert (await web.get("/")).status_code == 403


async def test_refused_logins_are_logged_a_few_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    async with client(host="0.0.0.0", token=TOKEN) as web:
        for number in range(50):
            wrong = {"Authorization": f"Bearer secret-{number}"}
            assert (await web.get("/api/status", headers=wrong)).status_code == 401
        assert (await web.get("/api/status")).status_code == 401  # nobody has tried anything
    lines = [r.getMessage() for r in caplog.records if r.name == "app.web.refusals"]
    assert len(lines) == LINES
    assert all("127.0.0.1" in line and "secret" not in line for line in lines)
