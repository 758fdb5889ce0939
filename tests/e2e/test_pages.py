"""The pages in headless Chromium, served by the real server on a real Postgres."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect
from pydantic import SecretStr

from app.mailbox import keep
from app.schema import migrate_all
from app.settings import Settings
from app.web.application import create_web
from app.web.listening import addresses, listen
from app.web.server import WebServer
from app.web.services import Services
from redfaust.brokers.broker import Heartbeat, Outgoing, TopicSpec
from redfaust.brokers.memory.broker import MemoryBroker
from redfaust.mail import ReceivedMail
from redfaust.outbox.outbox import Outbox
from redfaust.postgres.database import Database
from redfaust.processing.dead_letters import DeadLetters, NewDeadLetter
from tests.rights import as_owner, as_web

CHROMIUM = Path("/usr/bin/chromium")
PHONE = {"width": 360, "height": 740}
TOKEN = "correct-horse-battery"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
]


@dataclass
class Site:
    """A shop with a worker, a mail, and an event that failed."""

    url: str
    database: Database
    broker: MemoryBroker
    dead_letter: int


@pytest.fixture
async def site(database_url: str) -> AsyncIterator[Site]:
    async for site in serve(database_url, token=None):
        yield site


@pytest.fixture
async def closed_site(database_url: str) -> AsyncIterator[Site]:
    """One that asks for the token."""
    async for site in serve(database_url, token=TOKEN):
        yield site


async def serve(database_url: str, token: str | None) -> AsyncIterator[Site]:
    database = await Database.connect(as_owner(database_url))
    await migrate_all(database)
    webs = await Database.connect(as_web(database_url))
    broker = MemoryBroker(f"memory://{database_url.rpartition('/')[2]}", default_partitions=4)
    await broker.open()
    dead_letter = await something_to_show(database, broker)
    settings = Settings(
        broker=SecretStr("memory://"),
        database=SecretStr(database_url),
        token=SecretStr(token) if token else None,
    )
    services, sockets = Services(webs, Outbox(webs), broker), listen("127.0.0.1", 0)
    web = create_web(settings, services, bound_to=addresses(sockets))
    server, stop = WebServer(web, sockets), asyncio.Event()
    serving = asyncio.create_task(server.run_until(stop))
    yield Site(f"http://127.0.0.1:{server.port}", database, broker, dead_letter)
    stop.set()
    await serving
    await broker.close()
    await webs.close()
    await database.close()


async def parked(database: Database, *topics: str) -> None:
    """An event of each topic that waits for another attempt."""
    await database.pool.execute(
        """
        INSERT INTO redfaust.parked
            (app, agent, topic, partition, position, timestamp, headers, attempts, due_at)
        SELECT 'shop', topic, topic, 0, 0, 0, '[]', 1, now() FROM unnest($1::text[]) AS topic
        """,
        topics,
    )


async def something_to_show(database: Database, broker: MemoryBroker) -> int:
    await broker.create_topic(TopicSpec("orders", 4))
    await broker.join("shop", ["orders"], from_start=True)
    await broker.heartbeat("shop", "worker-1", worker(processed=5))
    await keep(database, [ReceivedMail("<1@x>", "shop@x", ("ann@example.org",), "Hello", "Hi Ann")])
    return await DeadLetters(database).add(
        NewDeadLetter(
            app="shop",
            agent="orders",
            topic="orders",
            partition=1,
            position=4,
            key=None,
            value=b"not json",
            headers=(),
            error=ValueError("<b>garbage</b>"),
            attempts=1,
        )
    )


def worker(*, processed: int) -> Heartbeat:
    agent = {"name": "orders", "topics": ["orders"], "processed": processed, "failed": 1}
    info = {"pid": 7, "host": "a-host-with-a-long-name", "web": None, "agents": [agent]}
    info |= {"started_at": datetime.now(UTC).isoformat()}
    return Heartbeat(1, info=info | {"owns": [["orders", number] for number in range(4)]})


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    # Chromium refuses its own sandbox to root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        await browser.close()


async def opened(browser: Browser, complaints: list[str], **options: Any) -> Page:
    """A page that notes whatever the browser complains of."""
    page = await (await browser.new_context(**options)).new_page()
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page


async def test_the_status_page_keeps_itself_up_to_date(site: Site, browser: Browser) -> None:
    complaints: list[str] = []
    page = await opened(browser, complaints)
    await page.goto(site.url)
    agents = page.get_by_role("region", name="Agents")
    topic = page.get_by_role("region", name="Topic orders")
    await expect(page.get_by_role("heading", level=1)).to_have_text("shop")
    await expect(agents.get_by_role("row").nth(1)).to_contain_text("5")
    await expect(topic.get_by_role("row").nth(3)).to_contain_text("worker-1")

    await site.broker.heartbeat("shop", "worker-1", worker(processed=4711))
    await site.broker.append([Outgoing("orders", b"{}", partition=2) for _ in range(42)])

    await expect(agents.get_by_role("row").nth(1)).to_contain_text("4,711")
    await expect(topic.get_by_role("row").nth(3)).to_contain_text("42")
    await expect(page.get_by_text("Live: updates by itself.")).to_be_visible()
    await expect(page.get_by_text("for another attempt")).not_to_be_attached()

    await parked(site.database, "orders", "notifications", "orders")

    await expect(
        page.get_by_text("3 events wait for another attempt: notifications 1, orders 2.")
    ).to_be_visible()
    assert complaints == []


async def test_the_focus_stays_where_it_is_when_the_page_updates(
    site: Site, browser: Browser
) -> None:
    page = await opened(browser, [])
    await page.goto(site.url)
    link = page.get_by_role("link", name="Hello")
    await link.focus()
    await site.broker.heartbeat("shop", "worker-1", worker(processed=4711))
    await expect(page.get_by_role("region", name="Agents")).to_contain_text("4,711")
    await expect(link).to_be_focused()


async def test_the_page_says_when_it_is_no_longer_live(site: Site, browser: Browser) -> None:
    page = await opened(browser, [])
    await page.goto(site.url)
    await page.route("**/fragments/status", lambda route: route.abort())
    await expect(page.get_by_text("No longer live")).to_be_visible()
    await expect(page.get_by_role("region", name="Agents")).to_be_visible()


async def test_the_pages_are_complete_without_javascript(site: Site, browser: Browser) -> None:
    complaints: list[str] = []
    page = await opened(browser, complaints, java_script_enabled=False)
    await page.goto(site.url)
    for heading in ("Workers", "Agents", "Topics", "Outbox", "Dead letters", "Mailbox"):
        await expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    await page.get_by_role("link", name=f"Dead letter {site.dead_letter}").click()
    await expect(page.get_by_text("<b>garbage</b>")).to_be_visible()
    await expect(page.get_by_text("not json")).to_be_visible()
    await page.get_by_role("link", name="Back to the status").click()
    await page.get_by_role("link", name="Hello").click()
    await expect(page.get_by_text("Hi Ann")).to_be_visible()
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_pages_fit_a_phone(site: Site, browser: Browser, scheme: Any) -> None:
    page = await opened(browser, [], viewport=PHONE, color_scheme=scheme)
    for path in ("/", f"/dead-letters/{site.dead_letter}", "/mails/1", "/mails/999"):
        await page.goto(site.url + path)
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{path} is wider than the screen"


# The ratio of WCAG 2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio, of each text to the
# nearest ground behind it.
CONTRASTS = """() => {
  const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) =>
    0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.body.querySelectorAll("*")]
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()))
    .map((e) => {
      const [a, b] = [parse(getComputedStyle(e).color), ground(e)].map(luminance);
      return [e.textContent.trim(), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_stands_out_from_its_ground(
    site: Site, browser: Browser, scheme: Any
) -> None:
    page = await opened(browser, [], color_scheme=scheme)
    for path in ("/", f"/dead-letters/{site.dead_letter}"):
        await page.goto(site.url + path)
        contrasts = await page.evaluate(CONTRASTS)
        assert len(contrasts) > 10
        assert [each for each in contrasts if each[1] < 4.5] == []


async def test_the_api_is_described_without_the_internet(site: Site, browser: Browser) -> None:
    complaints: list[str] = []
    page = await opened(browser, complaints)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{site.url}/docs")
    await expect(page.get_by_text("/api/orders", exact=True)).to_be_visible()
    assert [url for url in asked if not url.startswith((site.url, "data:"))] == []
    assert complaints == []


async def test_a_browser_logs_in_with_the_token_as_password(
    closed_site: Site, browser: Browser
) -> None:
    stranger = await opened(browser, [])
    answer = await stranger.request.get(closed_site.url)
    assert answer.status == 401
    known = await opened(browser, [], http_credentials={"username": "anybody", "password": TOKEN})
    await known.goto(closed_site.url)
    await expect(known.get_by_text("Live: updates by itself.")).to_be_visible()
