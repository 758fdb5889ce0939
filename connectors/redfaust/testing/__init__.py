"""An application in one process, without servers, for its own tests.

``async with in_memory(app) as run:`` runs the application's own object on memory, with the time in
the test's hands. Needs ``pip install redfaust[test]``.
"""

from redfaust.testing.running import AppInMemory, SentEvent, in_memory

__all__ = ["AppInMemory", "SentEvent", "in_memory"]
