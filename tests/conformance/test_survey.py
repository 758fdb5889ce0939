"""What people are told of all groups, held against every broker."""

from __future__ import annotations

import pytest
from faust.types import TP

from redfaust.brokers.broker import Advance, Broker, Outgoing, TopicSpec
from redfaust.brokers.capabilities import Capability

PATIENCE = 20.0


async def test_a_survey_tells_what_each_group_has_not_finished(broker: Broker) -> None:
    await broker.create_topic(TopicSpec("events", 2))
    await broker.join("one", ["events"], from_start=True)
    await broker.join("other", ["events"], from_start=True)
    appended = await broker.append([Outgoing("events", b"", partition=0) for _ in range(3)])
    first, second = TP("events", 0), TP("events", 1)
    await broker.commit("other", {first: Advance(appended[-1].offset + 1, 3)})
    found = await broker.survey([first, second])
    assert (found[first].length, found[second].length) == (3, 0)
    assert {group: progress.lag for group, progress in found[first].groups.items()} == {
        "one": 3,
        "other": 0,
    }
    age = found[first].groups["one"].oldest_age
    assert age is not None
    assert 0 <= age < PATIENCE
    assert found[first].groups["other"].oldest_age is None
    assert {progress.lag for progress in found[second].groups.values()} <= {0}
    assert found[first].blocked is found[second].blocked is None


async def test_a_survey_of_what_is_not_there_is_empty(broker: Broker) -> None:
    await broker.create_topic(TopicSpec("events", 1))
    found = await broker.survey([TP("events", 0)])
    assert found[TP("events", 0)][:2] == (0, {})
    assert await broker.survey([]) == {}


@pytest.mark.needs(Capability.SHARED_DELIVERY)
async def test_a_survey_counts_what_is_in_hand_as_not_finished(broker: Broker) -> None:
    await broker.create_topic(TopicSpec("events", 1))
    consumer = broker.share_group("app/mail", "c-1")
    await consumer.join(["events"], from_start=True)
    await broker.append([Outgoing("events", b"", partition=0) for _ in range(3)])
    await consumer.claim(2, wait=0)
    progress = (await broker.survey([TP("events", 0)]))[TP("events", 0)].groups["app/mail"]
    assert (progress.lag, progress.claimed) == (3, 2)
    assert progress.oldest_age is not None
    await consumer.close()


async def test_a_broker_that_is_well_has_no_troubles(broker: Broker) -> None:
    assert not await broker.troubles()
