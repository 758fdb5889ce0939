"""The process that runs an application."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from faust.worker import Worker as FaustWorker

END_FOR = 1.0
"""Seconds that tasks are given to end which were cancelled when the worker had stopped."""


class Worker(FaustWorker):
    """Faust's, which may end with 1 and say nothing, and sleeps before it ends."""

    def execute_from_commandline(self) -> NoReturn:
        try:
            super().execute_from_commandline()
        except SystemExit as end:
            if end.code:
                self.log.error("The worker failed", exc_info=end.__context__ or end)
            raise
        except BaseException as error:
            self.log.error("The worker failed", exc_info=error)
            raise

    async def _sentinel_task(self) -> None:
        # What runs last in the loop. Faust's sleeps for a second, whether or not anything is left.
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left, timeout=END_FOR)
