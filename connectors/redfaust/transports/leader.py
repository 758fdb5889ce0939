"""Which worker does what only one should (``on_leader=True``)."""

from __future__ import annotations

from typing import cast

from faust.assignor.leader_assignor import LeaderAssignor as FaustLeaderAssignor

from redfaust.transports.consumer import Consumer


class LeaderAssignor(FaustLeaderAssignor):
    """The leader is whoever owns the one partition of a topic that is there for nothing else.

    So it moves as partitions do: at once when its worker stops, and when that has been silent for
    :data:`~redfaust.brokers.broker.SILENCE` seconds. Who is not sure any more whether others
    count it as dead does not lead, so there are never two. For a moment there may be none.
    """

    mundane_level = "debug"

    def is_leader(self) -> bool:
        return super().is_leader() and cast(Consumer, self.app.consumer).owns()
