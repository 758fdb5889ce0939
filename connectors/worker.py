"""The process that runs an application."""

from __future__ import annotations

from faust.worker import Worker as FaustWorker


class Worker(FaustWorker):
    """Faust's, which ends with 1 and says nothing where something raises while it stops."""

    def stop_and_shutdown(self) -> None:
        try:
            super().stop_and_shutdown()
        except BaseException as error:  # a cancellation too, of which Faust logs nothing
            self.log.exception("Stopping failed: %r", error)
            raise
