"""What a worker tells people of itself, with each heartbeat."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping
from datetime import datetime

from faust.types import TP, AppT

from redfaust.processing.agent import Agent


def worker_info(app: AppT, owned: Collection[TP], started_at: datetime) -> Mapping[str, object]:
    """Process, partitions and agents of a worker, as JSON."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started_at": started_at.isoformat(),
        "owns": sorted([tp.topic, tp.partition] for tp in owned),
        "agents": [
            {
                "name": agent.name,
                "topics": sorted(agent.get_topic_names()),
                "shared": agent.is_shared,
                "processed": agent.processed_total,
                "failed": agent.failed_total,
                "retried": agent.retried_total,
            }
            for agent in app.agents.values()
            if isinstance(agent, Agent)
        ],
    }
