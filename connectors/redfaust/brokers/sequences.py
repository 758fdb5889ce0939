"""Sequences that only redfaust can have written.

An entry that is appended once carries its *source*: the id of the producer that sent it, and its
number there. Readers skip what is not above the last number that they know of a producer. So if
anybody could write a source, anybody could make a later event a repeat. Where strangers may write
entries, a source is
therefore signed::

    producer:number:tag        tag = BLAKE2b(log, producer and number; a secret of the broker)

The tag holds for one log: an entry that is copied to another one has no source there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeAlias

from redfaust.errors import BrokerError

Source: TypeAlias = tuple[str, int]
"""A producer, and a number in it."""

SECRET_BYTES = 32
TAG_BYTES = 8
"""One guess in 2**64 is right, and nobody tells the guesser which."""

END_OF_NUMBERS = 2**53
"""Numbers are below: that far every number is exact wherever it may be kept, in JSON for example.
A million events a second reach it after 285 years."""

LONGEST_SOURCE = 512
"""Bytes of a signed source. What is longer is none, and is not hashed."""

REMEMBERED_LOGS = 10_000
"""Logs whose hash is kept ready."""

_PRODUCER_ID = re.compile(r"[!-9;-~]{1,200}")


def check_producer_id(producer_id: str) -> None:
    """Raise BrokerError unless a producer has a proper name."""
    if not _PRODUCER_ID.fullmatch(producer_id):
        raise BrokerError(
            f"producer {producer_id[:200]!a} has no proper id: use up to 200 characters of ASCII "
            "that can be printed, without spaces and colons"
        )


class LogSigner:
    """Signs and verifies the sources of one log."""

    __slots__ = ("_hashes", "refused")

    def __init__(self, secrets: Sequence[bytes], log: bytes) -> None:
        # Its beginning is the same for all sources: a copy costs half of a new hash.
        self._hashes = [blake2b(log + b"\0", key=key, digest_size=TAG_BYTES) for key in secrets]
        self.refused = 0
        """How many sources were not verified."""

    def sign(self, producer_id: bytes, number: int) -> bytes:
        """A source as it is written into an entry."""
        text = b"%b:%d" % (producer_id, number)
        tag = self._hashes[0].copy()
        tag.update(text)
        return b"%b:%b" % (text, tag.hexdigest().encode())

    def verify(self, signed: bytes) -> Source | None:
        """The source that was signed; ``None`` for all that this broker's secrets did not sign."""
        text, _, claimed = signed[:LONGEST_SOURCE].rpartition(b":")
        for begun in self._hashes:
            tag = begun.copy()
            tag.update(text)
            if tag.hexdigest().encode() == claimed:
                producer_id, _, number = text.rpartition(b":")
                return producer_id.decode(), int(number)
        self.refused += 1
        return None


class Signer:
    """Signs with the first of some secrets, and verifies with all of them."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets
        self._logs: dict[bytes, LogSigner] = {}

    def log(self, name: bytes) -> LogSigner:
        """The signer of one log, whatever the broker calls it."""
        try:
            return self._logs[name]
        except KeyError:
            if len(self._logs) >= REMEMBERED_LOGS:
                self._logs.clear()
            signer = self._logs[name] = LogSigner(self._secrets, name)
            return signer
