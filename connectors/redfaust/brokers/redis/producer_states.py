"""Appending once: beside each stream lies a hash of the last sequences that producers have come to.

Hash and stream share a slot and are changed by one script, so they are written, replicated and lost
together: what the hash says is true of the stream that it lies beside.

A last sequence is stored as the signed source of the producer's last entry. One that is not signed,
or not for this log and producer, counts as missing: the producer begins anew there, and readers
skip the entries that they know. The script compares the stored texts and knows no numbers; numbers
are compared here, exactly::

    known last sequence ──append what is above it──▶ OK: it is the last entry's source now
         ▲                              │
         └── read it, verify it ◀── SEQUENCE: another one is there, nothing was appended
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, cast

from faust.types import TP
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from redfaust.brokers.broker import (
    EntriesRefused,
    LogsBlocked,
    LogTruncated,
    Place,
    Refused,
    SequencedEntry,
)
from redfaust.brokers.partition_batch import PartitionBatch
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.client import reading, script
from redfaust.brokers.redis.entry import encode_sequenced
from redfaust.brokers.redis.offsets import offset_of
from redfaust.brokers.redis.sequences import Sequences
from redfaust.brokers.sequences import LONGEST_SOURCE, LogSigner
from redfaust.errors import BrokerError, BrokerUnavailable

CALL_BYTES = 1 << 20
"""Bytes after which a call of the script takes no further entry: Redis does nothing else while
it runs, and holds it in memory twice."""

REMEMBERED = 100_000
"""Last sequences that are remembered. Of one that is not, Redis tells by a round trip more."""

TRIES = 16
"""How often a last sequence may have changed between two looks. One process appends for a producer,
so only its successor sees a change."""

_Reply: TypeAlias = list[bytes]


class SignedSequence(NamedTuple):
    """A producer's last sequence in a log, as it was seen last."""

    text: bytes
    """As it lies there; empty if there is none."""
    number: int
    """The number that is signed; 0 if there is none, or if it is not signed."""


_ACL_FAILURES = ("ACL failure", "The user executing the script")
"""How servers name a missing right within a script; the second one is Redis 7.0's."""

NO_SEQUENCE = SignedSequence(b"", 0)


@dataclass(slots=True)
class _Sending:
    """How far a partition batch has come."""

    partition_batch: PartitionBatch
    last_sequence: SignedSequence
    tries: int = 0
    position: int = 0
    """Behind the producer's last entry, or further, once Redis has said so."""

    def left(self) -> list[SequencedEntry]:
        """What is above the last sequence; a number that comes twice counts once."""
        reached, left = self.last_sequence.number, []
        for sequenced in self.partition_batch.entries:
            if sequenced.number > reached:
                left.append(sequenced)
                reached = sequenced.number
        return left


class _Call(NamedTuple):
    """One call of the script."""

    sending: _Sending
    arguments: list[bytes | int]
    """What is behind the producer."""
    entries: Sequence[SequencedEntry]
    is_last: bool


class ProducerStates:
    """The last sequences of one Redis."""

    def __init__(self, client: Redis, sequences: Sequences) -> None:
        self._client = client
        self._sequences = sequences
        self._script = script(client, "blocked_log", "append_once").script
        self._blocked = script(client, "blocked_log", "tell_blocked")
        self._last_sequences: dict[tuple[str, TP], SignedSequence] = {}

    async def append(
        self, partition_batches: Iterable[PartitionBatch], refused: Iterable[Refused]
    ) -> dict[str, dict[TP, Place]]:
        """See :meth:`~redfaust.brokers.broker.Broker.append_once`; ``refused`` were entries that
        are not in the partition_batches.

        One round trip, unless a last sequence has changed, or a stream's entries are larger than
        ``CALL_BYTES``. Then its next call waits for the success of the one before: a last sequence
        must not pass an entry that has failed.
        """
        await self._sequences.ready()
        set_back: set[str] = set()
        refused = list(refused)
        blocked: dict[TP, str] = {}
        places: dict[str, dict[TP, Place]] = {}
        sendings = [
            _Sending(
                partition_batch,
                self._last_sequences.get(
                    (partition_batch.producer_id, partition_batch.tp), NO_SEQUENCE
                ),
            )
            for partition_batch in partition_batches
        ]
        while sendings:
            calls = [self._next_call(sending) for sending in sendings]
            sendings = []
            for call, reply in zip(calls, await self._evaluate(calls), strict=True):
                sending = call.sending
                producer_id, tp, after, _ = sending.partition_batch
                match reply:
                    case [b"SEQUENCE", text]:
                        await self._see(sending, text)
                        sendings.append(sending)
                    case [b"BLOCKED", reason]:
                        blocked[tp] = reason.decode("utf-8", "replace")
                    case [b"REFUSED", count, reason]:
                        refused.append(_refusal(call, int(count), reason))
                    case [_, last_id]:
                        self._move(call, last_id)
                        if sending.last_sequence.number < after:
                            set_back.add(producer_id)
                        elif not call.is_last:
                            sendings.append(sending)
                        else:
                            place = Place(sending.last_sequence.number, sending.position)
                            places.setdefault(producer_id, {})[tp] = place
        if set_back:
            raise LogTruncated(set_back)
        if refused:
            raise EntriesRefused(refused)
        if blocked:
            raise LogsBlocked(blocked, places)
        return places

    def _next_call(self, sending: _Sending) -> _Call:
        """As much of what is left as one call takes; nothing where the log was set back, so that
        only the last sequence is looked at."""
        producer_id, tp, after, _ = sending.partition_batch
        signer = self._signer(tp)
        arguments: list[bytes | int] = [sending.last_sequence.text]
        left = sending.left() if sending.last_sequence.number >= after else []
        size = count = 0
        for number, entry in left:
            if size >= CALL_BYTES:
                break
            fields = encode_sequenced(producer_id.encode(), number, entry, signer)
            arguments += (len(fields), *fields)
            size += sum(map(len, fields))
            count += 1
        return _Call(sending, arguments, left[:count], count == len(left))

    async def _see(self, sending: _Sending, text: bytes) -> None:
        """Go on from the last sequence that is there."""
        sending.tries += 1
        if sending.tries > TRIES:
            raise BrokerUnavailable(
                f"the last sequences of {sending.partition_batch.tp.topic} change all the time: "
                "somebody else appends for the same producer, try again"
            )
        # Where a last sequence was lost, the secret may be as well: nothing is signed with one that
        # is gone.
        await self._sequences.renew()
        producer_id, tp, _, _ = sending.partition_batch
        sending.last_sequence = self._remember(producer_id, tp, text)

    def _move(self, call: _Call, last_id: bytes) -> None:
        sending = call.sending
        sending.position = offset_of(last_id) + 1
        if call.entries:
            producer_id, tp, _, _ = sending.partition_batch
            source, number = call.arguments[-1], call.entries[-1].number
            sending.last_sequence = self._last_sequences[producer_id, tp] = SignedSequence(
                cast("bytes", source), number
            )

    def _signer(self, tp: TP) -> LogSigner:
        return self._sequences.log(keys.stream(tp).encode())

    def _remember(self, producer_id: str, tp: TP, text: bytes) -> SignedSequence:
        if len(self._last_sequences) >= REMEMBERED:
            self._last_sequences.clear()
        source = self._signer(tp).verify(text) if text else None
        number = source[1] if source is not None and source[0] == producer_id else 0
        last_sequence = self._last_sequences[producer_id, tp] = SignedSequence(
            text[: LONGEST_SOURCE + 1], number
        )
        return last_sequence

    async def _evaluate(self, calls: Sequence[_Call]) -> list[_Reply]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for sending, arguments, _, _ in calls:
                producer_id, tp, _, _ = sending.partition_batch
                # The source rather than its hash, which Redis may have forgotten.
                pipeline.execute_command(
                    "EVAL",
                    self._script,
                    2,
                    keys.stream(tp),
                    keys.producers(tp),
                    producer_id,
                    *arguments,
                )
            # Redis-py's own error of a pipeline shows the command, and so the event.
            replies: list[_Reply | Exception] = await pipeline.execute(raise_on_error=False)
        for place, reply in enumerate(replies):
            if _lacks_permission(reply):
                reason = f"this user of Redis lacks a permission ({reply}): grant it"
                replies[place] = [b"BLOCKED", reason.encode()]
            elif isinstance(reply, Exception):
                raise reply
        return cast("list[_Reply]", replies)

    async def last_sequences(
        self, producer_ids: Collection[str], tps: Iterable[TP]
    ) -> dict[str, dict[TP, int]]:
        """The last sequences of the producers in each log where they have one.

        What somebody else has put in their place is none: one log must not stop all producers.
        """
        tps, producer_ids = list(tps), list(producer_ids)
        found: dict[str, dict[TP, int]] = {producer_id: {} for producer_id in producer_ids}
        if not found:
            return found
        async with self._client.pipeline(transaction=False) as pipeline:
            for tp in tps:
                pipeline.hmget(keys.producers(tp), producer_ids)
            replies = await pipeline.execute(raise_on_error=False)
        texts: dict[TP, Sequence[bytes | None]] = {}
        for tp, reply in zip(tps, replies, strict=True):
            if not isinstance(reply, Exception):
                texts[tp] = reply
            elif not (str(reply).startswith("WRONGTYPE") or _lacks_permission(reply)):
                raise reply
        await self._sequences.renew()
        for tp, of_tp in texts.items():
            for producer_id, text in zip(producer_ids, of_tp, strict=True):
                last_sequence = self._remember(producer_id, tp, text or b"")
                if last_sequence.number:
                    found[producer_id][tp] = last_sequence.number
        return found

    async def blocked(self, tps: Collection[TP]) -> dict[TP, str]:
        """The logs to which nothing can be appended as they are, with what to do."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for tp in tps:
                of_tp = [keys.stream(tp), keys.producers(tp)]
                pipeline.execute_command(*reading(self._blocked, of_tp))
            replies = await pipeline.execute(raise_on_error=False)
        found: dict[TP, str] = {}
        for tp, reply in zip(tps, replies, strict=True):
            if _lacks_permission(reply):
                found[tp] = f"this user of Redis lacks a permission ({reply}): grant it"
            elif isinstance(reply, Exception):
                raise reply
            elif reply:
                found[tp] = reply.decode("utf-8", "replace")
        return found


def _refusal(call: _Call, count: int, reason: bytes) -> Refused:
    producer_id, tp, _, _ = call.sending.partition_batch
    said = reason.decode("utf-8", "replace")
    error = BrokerError(f"Redis refused an entry for {tp.topic}: {said}")
    return Refused(producer_id, call.entries[count - 1].number, error)


def _lacks_permission(reply: object) -> bool:
    """Returns True for an error that a missing right of this user of Redis has caused."""
    return isinstance(reply, NoPermissionError) or (
        isinstance(reply, ResponseError) and any(text in str(reply) for text in _ACL_FAILURES)
    )
