"""A worker that is told to stop ends without an error, whatever it is doing."""

from __future__ import annotations

from typing import Any

from tests.integration.faust_apps import eventually, new_app, running


async def test_a_worker_may_be_stopped_while_partitions_move() -> None:
    app = new_app("memory://moving")
    numbers = app.topic("numbers", key_type=str)

    @app.agent(numbers)
    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    async with running(app):
        await eventually(lambda: bool(app.consumer.assignment()))
        app.consumer.stop_flow()
        app.rebalancing = True
    assert not app.crashed
    assert app.crash_reason is None
