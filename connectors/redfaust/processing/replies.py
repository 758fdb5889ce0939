"""What comes back for questions that agents were asked (``agent.ask``).

A question leaves at once, in the middle of an event too: whoever asks waits for the answer, and
would wait in vain for a question that leaves with the commit of its own event. So it is sent at
least once: an event that is tried again asks again. The answer is sent like all that an agent
sends: where ``processing_guarantee`` is ``exactly_once`` it leaves with the commit of the
question's event, and tells what is committed.

The topic of answers is the process's own. It is deleted with the last of its questions answered
when the process stops; if it was killed, by the broker's housekeeper ten minutes later. On Kafka
the topic stays, with answers for as long as ``reply_expires`` says.
"""

from __future__ import annotations

import time

from faust.agents.models import ReqRepResponse
from faust.agents.replies import ReplyConsumer as FaustReplyConsumer
from faust.agents.replies import ReplyPromise
from faust.models import maybe_model
from faust.types import ChannelT

from redfaust.brokers.broker import Broker, Retention, TopicSpec
from redfaust.brokers.capabilities import Capability
from redfaust.errors import BrokerError

LEFT_AFTER = 600.0
"""Seconds after which the topic of a process counts as left behind. Clocks may differ by less."""
HOLD_EVERY = 60.0
"""Seconds between two signs of life."""


class ReplyConsumer(FaustReplyConsumer):
    """Faust's, without what keeps its worker from ever stopping.

    Faust's subscribes to a topic of answers twice, the first time with a channel that nobody reads:
    no answer was acknowledged. It waits three seconds before it reads at all, ends for good when an
    answer comes twice, and never forgets a question.
    """

    mundane_level = "debug"

    async def add(self, correlation_id: str, promise: ReplyPromise) -> None:
        """Have a promise kept when the answer comes."""
        self._waiting[correlation_id].add(promise)
        await self._start_fetcher(promise.reply_to)

    async def _start_fetcher(self, topic_name: str) -> None:
        if topic_name in self._fetchers:
            return
        self._fetchers[topic_name] = None  # taken: what follows is to happen once
        topic = self._reply_topic(topic_name)
        await topic.maybe_declare()
        if topic_name == self.app.conf.reply_to:
            self.add_future(self._hold(topic_name))
        self._fetchers[topic_name] = self.add_future(self._drain_replies(topic))

    async def _hold(self, topic_name: str) -> None:
        """Keep this process's own topic, which is deleted some time after it was killed."""
        broker = self._broker
        if Capability.RETENTION not in broker.capabilities:
            return
        while not self.should_stop:
            kept = Retention(age=self.app.conf.reply_expires, until=time.time() + LEFT_AFTER)
            try:
                await broker.create_topic(TopicSpec(topic_name, 1, kept))
            except BrokerError as error:
                self.log.warning("The topic of answers waits for the broker: %s", error)
            await self.sleep(HOLD_EVERY)

    async def delete_topics(self) -> None:
        """Delete this process's own topic, when nobody reads it any more."""
        own = self.app.conf.reply_to
        if Capability.RETENTION not in self._broker.capabilities:
            return  # Kafka's clients would create it again as long as they are there
        if own in self._fetchers and not any(self._waiting.values()):
            try:
                await self._broker.delete_topics([own])
            except BrokerError as error:
                self.log.info("%s is left to the housekeeper: %s", own, error)

    @property
    def _broker(self) -> Broker:
        broker: Broker = self.app.transport.broker  # type: ignore[attr-defined] # ours
        return broker

    async def _drain_replies(self, channel: ChannelT[ReqRepResponse]) -> None:
        async for reply in channel.stream():
            for promise in self._waiting.pop(reply.correlation_id, ()):
                if not promise.done():
                    promise.fulfill(reply.correlation_id, maybe_model(reply.value))
