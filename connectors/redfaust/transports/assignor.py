"""What Faust asks its assignor, answered for partitions that an assignment gives out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, cast

from faust.assignor.client_assignment import ClientAssignment
from faust.assignor.partition_assignor import PartitionAssignor as FaustPartitionAssignor
from faust.types import TP
from faust.types.assignor import HostToPartitionMap
from yarl import URL

from redfaust.brokers.partitioner import partition_of

if TYPE_CHECKING:
    from redfaust.transports.consumer import Consumer

WEB = "faust_web"
"""Under which name a worker tells the others where its web server is."""


class PartitionAssignor(FaustPartitionAssignor):
    """Faust's assignor speaks Kafka's group protocol; ours is told what this worker owns.

    Where the others have their web servers it knows from their heartbeats.
    """

    def assign_to_this_worker(self, owned: Iterable[TP]) -> None:
        """Note the partitions that this worker owns now."""
        state = self.app.sensors.on_assignment_start(self)
        actives: dict[str, list[int]] = {}
        for tp in sorted(owned):
            actives.setdefault(tp.topic, []).append(tp.partition)
        self._assignment = ClientAssignment(actives=actives, standbys={})
        self._active_tps = self._assignment.active_tps
        self._standby_tps = set()
        self.app.sensors.on_assignment_completed(self, state)

    # -- where keys are ----------------------------------------------------------------------

    def key_store(self, topic: str, key: bytes) -> URL:
        """The web server of the worker that has a key; raises KeyError where nobody is known."""
        owner = self._owners[partition_of(key, self._partitions(topic))]
        return URL(str(owner[WEB]))

    def external_key_store(self, topic: str, key: bytes) -> URL:
        """As :meth:`key_store`, of a topic that belongs to no table."""
        return self.key_store(topic, key)

    def table_metadata(self, topic: str) -> HostToPartitionMap:
        """By web server the partitions of one table, which is named by its changelog topic."""
        return self._places([topic])

    def tables_metadata(self) -> HostToPartitionMap:
        """By web server the partitions of all tables."""
        return self._places(self._changelogs)

    def external_topics_metadata(self) -> HostToPartitionMap:
        """By web server the partitions of all topics that belong to no table."""
        return self._places(self._consumer.shared_topics().keys() - self._changelogs)

    @property
    def _consumer(self) -> Consumer:
        return cast("Consumer", self.app.consumer)

    @property
    def _owners(self) -> Mapping[int, Mapping[str, object]]:
        return self._consumer.owners()

    @property
    def _changelogs(self) -> set[str]:
        # The name of a table to Faust, also where it is in Postgres and has no such topic.
        return {table.changelog_topic.get_topic_name() for table in self.app.tables.values()}

    def _places(self, topics: Iterable[str]) -> HostToPartitionMap:
        counts = {topic: self._partitions(topic) for topic in sorted(topics)}
        places: HostToPartitionMap = defaultdict(dict)
        for number, owner in sorted(self._owners.items()):
            for topic, count in counts.items():
                if WEB in owner and number < count:
                    places[str(owner[WEB])].setdefault(topic, []).append(number)
        return dict(places)

    def _partitions(self, topic: str) -> int:
        topics = self._consumer.shared_topics()
        if topic in topics:
            return topics[topic]
        # A table in Postgres is partitioned as the topics whose events write it. They usually all
        # have the same number, but for the leader's.
        alone = self._consumer.randomly_assigned_topics
        counts = {count for name, count in topics.items() if name not in alone}
        return counts.pop() if len(counts) == 1 else self.app.conf.topic_partitions
