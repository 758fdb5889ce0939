"""What comes back for questions that agents were asked (``agent.ask``).

A question leaves at once, in the middle of an event too: whoever asks waits for the answer, and
would wait in vain for a question that leaves with the commit of its own event. So it is sent at
least once: an event that is tried again asks again. The answer is sent like all that an agent
sends: where ``processing_guarantee`` is ``exactly_once`` it leaves with the commit of the
question's event, and tells what is committed.
"""

from __future__ import annotations

from faust.agents.models import ReqRepResponse
from faust.agents.replies import ReplyConsumer as FaustReplyConsumer
from faust.agents.replies import ReplyPromise
from faust.models import maybe_model
from faust.types import ChannelT


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
        self._fetchers[topic_name] = self.add_future(self._drain_replies(topic))

    async def _drain_replies(self, channel: ChannelT[ReqRepResponse]) -> None:
        async for reply in channel.stream():
            for promise in self._waiting.pop(reply.correlation_id, ()):
                if not promise.done():
                    promise.fulfill(reply.correlation_id, maybe_model(reply.value))
