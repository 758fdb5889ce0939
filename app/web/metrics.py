"""The status in the text format of Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.status import Status
from app.status.problems import Kind

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def expose(status: Status) -> bytes:
    """All metrics. What could not be asked is left out, and its ``redfaust_…_up`` is 0."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(status))
    return generate_latest(registry)


class _Snapshot(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        yield from self._availability()
        yield from self._problems()
        yield from self._topics()
        yield from self._workers()
        yield from self._database()

    def _availability(self) -> Iterator[Metric]:
        status = self._status
        for name, part in (("broker", status.topics), ("database", status.outbox)):
            up = int(part is not None)
            yield GaugeMetricFamily(f"redfaust_{name}_up", f"1 if the {name} answers", up)

    def _problems(self) -> Iterator[Metric]:
        found = Counter(problem.kind for problem in self._status.problems)
        problems = GaugeMetricFamily(
            "redfaust_problem", "Problems of a kind, as the status page shows them", labels=["kind"]
        )
        for kind in Kind:
            problems.add_metric([kind.value], found[kind])
        yield problems
        ready = int(self._status.is_ready)
        yield GaugeMetricFamily("redfaust_ready", "1 if /health/ready answers 200", ready)

    def _topics(self) -> Iterator[Metric]:
        labels = ["topic", "partition"]
        length = GaugeMetricFamily(
            "redfaust_partition_length", "Entries that the partition holds", labels=labels
        )
        lag = GaugeMetricFamily(
            "redfaust_partition_lag", "Entries that the agents have not finished", labels=labels
        )
        owned = GaugeMetricFamily(
            "redfaust_partition_owned", "1 if a worker owns the partition", labels=labels
        )
        age = GaugeMetricFamily(
            "redfaust_partition_oldest_age_seconds",
            "Since the oldest entry was appended that the agents have not finished",
            labels=labels,
        )
        held = GaugeMetricFamily(
            "redfaust_partition_held_back",
            "1 if the partition keeps more than its retention, since the group has not finished it",
            labels=[*labels, "group"],
        )
        for topic in self._status.topics or ():
            for partition in topic.partitions:
                place = [topic.name, str(partition.partition)]
                length.add_metric(place, partition.length)
                lag.add_metric(place, partition.lag)
                owned.add_metric(place, int(partition.owner is not None))
                if partition.oldest_age_seconds is not None:
                    age.add_metric(place, partition.oldest_age_seconds)
                for group in partition.held_by:
                    held.add_metric([*place, group], 1)
        yield from (length, lag, age, owned, held)

    def _workers(self) -> Iterator[Metric]:
        workers = self._status.workers
        if workers is None:
            return
        yield GaugeMetricFamily("redfaust_workers", "Workers that are there", len(workers))
        if (relays := self._status.relays) is not None:
            yield GaugeMetricFamily("redfaust_relays", "Relays that are there", len(relays))
        labels = ["worker", "agent"]
        processed = CounterMetricFamily(
            "redfaust_agent_events", "Events that an agent has finished", labels=labels
        )
        failed = CounterMetricFamily(
            "redfaust_agent_failures", "Events that an agent could not process", labels=labels
        )
        retried = CounterMetricFamily(
            "redfaust_agent_retries", "Attempts that failed and are repeated", labels=labels
        )
        for worker in workers:
            for agent in worker.agents:
                processed.add_metric([worker.name, agent.name], agent.processed)
                failed.add_metric([worker.name, agent.name], agent.failed)
                retried.add_metric([worker.name, agent.name], agent.retried)
        waiting = GaugeMetricFamily(
            "redfaust_agent_waiting",
            "Events that an agent with shared delivery has not finished",
            labels=["agent"],
        )
        for each in self._status.agents or ():
            if each.waiting is not None:
                waiting.add_metric([each.name], each.waiting)
        yield from (processed, failed, retried, waiting)

    def _database(self) -> Iterator[Metric]:
        outbox, letters = self._status.outbox, self._status.dead_letters
        parked = self._status.parked
        if outbox is not None:
            yield GaugeMetricFamily(
                "redfaust_outbox_depth", "Events due and not published", outbox.depth
            )
            yield GaugeMetricFamily(
                "redfaust_outbox_oldest_age_seconds",
                "How long the oldest of them has been due",
                outbox.oldest_age_seconds,
            )
            yield GaugeMetricFamily(
                "redfaust_outbox_scheduled", "Events that are not due yet", outbox.scheduled
            )
        if parked is not None:
            waiting = GaugeMetricFamily(
                "redfaust_parked_events",
                "Events that wait for another attempt, or behind one that does",
                labels=["topic"],
            )
            for topic, events in parked.topics.items():
                waiting.add_metric([topic], events)
            yield waiting
        if letters is not None:
            yield GaugeMetricFamily(
                "redfaust_dead_letters_waiting",
                "Events that could not be processed, and wait for a decision",
                letters.waiting,
            )
