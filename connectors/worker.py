"""The process that runs an application."""

from __future__ import annotations

import asyncio

from faust.worker import Worker as FaustWorker

END_FOR = 1.0
"""Seconds that tasks are given to end which were cancelled when the worker had stopped."""


class Worker(FaustWorker):
    """Faust's, which ends with 1 and says nothing where something raises while it stops."""

    def stop_and_shutdown(self) -> None:
        try:
            super().stop_and_shutdown()
        except Exception as error:
            self.log.exception("Stopping failed: %r", error)
            raise

    async def _sentinel_task(self) -> None:
        # What runs last in the loop. Faust's sleeps for a second, whether or not anything is left.
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left, timeout=END_FOR)
