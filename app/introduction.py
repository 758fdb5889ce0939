"""What a worker tells of itself."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import cast

import faust
from mode import Service

from connectors.processing.agent import Agent
from connectors.transports.consumer import Consumer


class Introduction(Service):
    """Has this worker's beats say what people want to know of it."""

    mundane_level = "debug"

    def __init__(self, app: faust.App, web_url: Callable[[], str]) -> None:
        super().__init__()
        self._app = app
        self._web_url = web_url
        self._started_at = datetime.now(UTC)

    @property
    def _consumer(self) -> Consumer:
        return cast(Consumer, self._app.consumer)

    async def on_start(self) -> None:
        self._consumer.announce(self._info)

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
                    "shared": agent.is_shared,
                    "processed": agent.processed_total,
                    "failed": agent.failed_total,
                    "retried": agent.retried_total,
                }
                for agent in self._app.agents.values()
                if isinstance(agent, Agent)
            ],
        }
