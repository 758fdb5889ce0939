"""The process that runs an application."""

from __future__ import annotations

from typing import NoReturn

from faust.worker import Worker as FaustWorker


class Worker(FaustWorker):
    """Faust's, which may end with 1 and say nothing."""

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
