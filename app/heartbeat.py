"""What a worker tells the others about itself."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import cast

import faust
from mode import Service

from connectors.errors import BrokerError
from connectors.processing.agent import Agent
from connectors.transports.broker import HEARTBEAT, Member
from connectors.transports.consumer import Consumer

RETIRE_FOR = 1.0
"""Seconds that taking back the announcement may take."""


class Heartbeat(Service):
    """Announces this worker every few seconds, and retires it when it stops."""

    mundane_level = "debug"

    def __init__(self, app: faust.App, web_url: Callable[[], str]) -> None:
        super().__init__()
        self._app = app
        self._web_url = web_url
        self._started_at = datetime.now(UTC)

    @property
    def _consumer(self) -> Consumer:
        return cast(Consumer, self._app.consumer)

    async def on_stop(self) -> None:
        try:
            async with asyncio.timeout(RETIRE_FOR):
                await self._consumer.broker.retire(self._app.conf.id, self._consumer.member)
        except (BrokerError, TimeoutError) as error:
            self.log.warning("This worker's announcement will expire by itself: %s", error)

    @Service.task
    async def _beat(self) -> None:
        while not self.should_stop:
            member = Member(self._consumer.member, self._info())
            try:
                await self._consumer.broker.announce(self._app.conf.id, member)
            except BrokerError as error:
                self.log.warning("This worker cannot announce itself: %s", error)
            await self.sleep(HEARTBEAT)

    def _info(self) -> Mapping[str, object]:
        return {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started_at": self._started_at.isoformat(),
            "web": self._web_url(),
            "owns": sorted([tp.topic, tp.partition] for tp in self._consumer.assignment()),
            "agents": [
                {
                    "name": agent.name,
                    "topics": sorted(agent.get_topic_names()),
                    "processed": agent.processed_total,
                    "failed": agent.failed_total,
                }
                for agent in self._app.agents.values()
                if isinstance(agent, Agent)
            ],
        }
