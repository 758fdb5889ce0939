"""Events that did what Postgres refuses, remembered until they have come again.

That is found when it is to be committed, merged with what other events did. So all is undone
and done again without them: when one of them comes, it becomes a dead letter instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from faust.types import TP, AppT

from redfaust.brokers.broker import Record
from redfaust.processing.failures import dead_letter
from redfaust.processing.log_message import LogMessage
from redfaust.processing.offset_tracker import EVERYBODY, Progress, Readers
from redfaust.processing.owned_partition import OwnedPartition
from redfaust.processing.parking import ParkedMessage
from redfaust.processing.refusals import EventsRefused


class _Refusal(NamedTuple):
    reader: str
    """The agent that did it; empty where it is none."""
    label: str
    """What it did."""
    error: Exception


class PoisonedEvents:
    """Of one application."""

    def __init__(self, app: AppT) -> None:
        self._app = app
        self._refusals: defaultdict[tuple[TP, int], list[_Refusal]] = defaultdict(list)

    def __bool__(self) -> bool:
        return bool(self._refusals)

    def add(self, refused: EventsRefused) -> None:
        """Remember them. Of a batch that is every event."""
        for (reader, tp, offset), (label, error) in refused.causes.items():
            self._refusals[tp, offset].append(_Refusal(reader, label, error))

    def dead_letter(
        self,
        owned_partition: OwnedPartition,
        records: Sequence[Record],
        done_by: dict[int, Readers],
    ) -> None:
        """Dead-letter the poisoned events among these, and note for which agents they are done."""
        tp, tracker = owned_partition.tp, owned_partition.tracker
        for record in records:
            offset = record.offset
            for reader, label, error in self._refusals.get((tp, offset), ()):
                done = done_by.get(offset)
                if done is not None and (done == EVERYBODY or reader in done):
                    continue  # as it was before: its dead letter is committed
                [message] = LogMessage.all([record], owned_partition, time_in=0)
                dead_letter(self._app, message, error, agent=reader or label)
                if reader:
                    tracker.finish_by(offset, reader)
                    done_by[offset] = (done or EVERYBODY) | {reader}
                else:
                    tracker.finish(offset)
                    done_by[offset] = EVERYBODY

    def set_parked_aside(self, message: ParkedMessage, reader: str) -> bool:
        """The same for an event that an agent was to try again; whether it is one of them. What
        another agent has made of it is another matter."""
        place = message.tp, message.offset
        refusals = self._refusals.get(place, [])
        refusal = next((each for each in refusals if each.reader == reader), None)
        if refusal is None:
            return False
        refusals.remove(refusal)
        if not refusals:
            del self._refusals[place]
        dead_letter(self._app, message, refusal.error, agent=reader, attempts=message.attempts + 1)
        return True

    def take_refusal(self, tp: TP, offset: int) -> Exception | None:
        """What Postgres had against the rows of something that is no event, once."""
        refusals = self._refusals.pop((tp, offset), None)
        return refusals[0].error if refusals else None

    def let_go(self, tps: Collection[TP]) -> None:
        """Forget those of partitions that are somebody else's now, who finds them anew."""
        for tp, offset in list(self._refusals):
            if tp in tps:
                del self._refusals[tp, offset]

    def forget(self, progress: Mapping[TP, Progress]) -> None:
        """Forget those that are below the committed positions."""
        for tp, offset in list(self._refusals):
            if tp in progress and offset < progress[tp].advance.position:
                del self._refusals[tp, offset]
