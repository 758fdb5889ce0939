"""What Faust asks its assignor, answered for partitions that a register gives out."""

from __future__ import annotations

from collections.abc import Iterable

from faust.assignor.client_assignment import ClientAssignment
from faust.assignor.partition_assignor import PartitionAssignor as FaustPartitionAssignor
from faust.types import TP


class PartitionAssignor(FaustPartitionAssignor):
    """Faust's assignor speaks Kafka's group protocol; ours is told what this worker owns."""

    def assign_to_this_worker(self, owned: Iterable[TP]) -> None:
        """Note the partitions that this worker owns now."""
        actives: dict[str, list[int]] = {}
        for tp in sorted(owned):
            actives.setdefault(tp.topic, []).append(tp.partition)
        self._assignment = ClientAssignment(actives=actives, standbys={})
        self._active_tps = self._assignment.active_tps
        self._standby_tps = set()
