"""The composition root of a worker: settings in, the shop's Faust application out."""

from __future__ import annotations

import faust
from yarl import URL

import agents.mail
import agents.notifications
import agents.orders
import agents.topics
import agents.users
from app.mail_gateway import MailGateway
from app.settings import Settings
from app.web.service import WebService
from app.worker_info import WorkerInfo
from redfaust.postgres.hosts import list_as_parameter
from redfaust.tables.store import SCHEMA


class Shop(faust.App):
    """Faust's application, with the mail gateway open before the first event arrives."""

    mundane_level = "debug"

    def __init__(self, settings: Settings) -> None:
        self.mail_gateway = MailGateway(settings)
        database = URL(list_as_parameter(settings.database.get_secret_value()))
        super().__init__(
            settings.app_id,
            broker=settings.broker.get_secret_value(),
            store=str(database.update_query({SCHEMA: "public"})),
            topic_partitions=settings.partitions,
            web_bind=settings.host,
        )

    async def on_first_start(self) -> None:
        # Faust would make a directory for local state here. The shop's state is in Postgres.
        await self.mail_gateway.open()

    async def on_shutdown(self) -> None:
        await super().on_shutdown()
        await self.mail_gateway.close()


def create_shop(settings: Settings, *, web_port: int | None = None) -> Shop:
    """Declare topics, tables and agents, the worker's web server, and what it tells of itself."""
    shop = Shop(settings)
    topics = agents.topics.declare(shop, settings.partitions, settings.retention)
    agents.users.install(shop, topics)
    agents.orders.install(shop, topics)
    agents.mail.install(shop, topics, shop.mail_gateway, shop.mail_gateway.address_of)
    agents.notifications.install(shop, topics)
    web = WebService(settings, shop, port=web_port)
    shop.web_server(web)
    shop.service(WorkerInfo(shop, web.get_web_url))  # type: ignore[arg-type] # takes instances too
    return shop
