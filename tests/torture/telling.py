"""Runs a module as ``python -m`` does. On SIGUSR1 it tells what each of its tasks waits for, as
workers of Faust do by themselves."""

from __future__ import annotations

import asyncio
import runpy
import signal
import sys


def tell(*_: object) -> None:
    """Print the stacks of all tasks."""
    for task in asyncio.all_tasks():
        task.print_stack()
    sys.stderr.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, tell)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
