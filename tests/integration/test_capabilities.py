"""What a broker cannot do is told when the application starts, or asks for it."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any
from uuid import uuid4

import pytest

from redfaust.brokers.broker import Broker
from redfaust.brokers.memory.broker import MemoryBroker
from redfaust.errors import BrokerError, BrokerUnsupported
from redfaust.tables.alteration import alter_partitions
from redfaust.transports import by_url
from redfaust.transports.memory import Transport
from tests.integration.faust_apps import eventually, new_app, running


class Poor(MemoryBroker):
    """Can do as little as a broker may."""

    capabilities = frozenset()


class PoorTransport(Transport):
    """As another package would have it."""

    @classmethod
    def new_broker(cls, url: str, default_partitions: int) -> Broker:
        return Poor(url, default_partitions=default_partitions)


@pytest.fixture
def poor_url(monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a broker that another package has registered with Faust."""
    registered = EntryPoints([EntryPoint("poor", f"{__name__}:PoorTransport", "faust.transports")])
    monkeypatch.setattr(by_url, "entry_points", registered.select)
    monkeypatch.setattr("faust.transport.by_url", lambda _: PoorTransport)
    return f"poor://{uuid4().hex}"


def test_a_registered_transport_is_a_broker_like_ours(poor_url: str) -> None:
    assert by_url.is_broker("poor")
    by_url.check_url(poor_url)
    assert isinstance(by_url.broker_by_url(poor_url, default_partitions=1), Poor)


def test_other_transports_are_none(poor_url: str) -> None:
    assert not by_url.is_broker("poorer")
    with pytest.raises(BrokerError, match="No broker for poorer:// URLs"):
        by_url.broker_by_url("poorer://", default_partitions=1)


async def test_agents_with_shared_delivery_get_their_events_in_order(
    poor_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = new_app(poor_url)
    letters, seen = app.topic("letters"), list[Any]()

    @app.agent(letters, name="mail", delivery="shared", concurrency=2)
    async def mail(stream: Any) -> None:
        async for letter in stream:
            seen.append(letter)

    async with running(app):
        for n in range(4):
            await letters.send(key="a", value=n)
        await eventually(lambda: sorted(seen) == [0, 1, 2, 3])
    assert caplog.text.count('mail asks for delivery="shared", which Poor has not') == 1


async def test_topics_are_not_altered(poor_url: str) -> None:
    app = new_app(poor_url)
    app.finalize()
    with pytest.raises(BrokerUnsupported, match="Poor has no topics that can get more partitions"):
        await alter_partitions(app, 8)
