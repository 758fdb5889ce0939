"""What aiokafka raises, as errors of :mod:`redfaust.errors`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.errors import (
    AuthenticationFailedError,
    CorruptRecordException,
    DuplicateSequenceNumber,
    IllegalStateError,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTimestampError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    RecordListTooLargeError,
    RecordTooLargeError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownProducerId,
)

from redfaust.errors import BrokerError, BrokerUnavailable

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError, RecordTooLargeError)
"""What says that a batch has to be smaller, or that its only entry is not taken."""

REFUSED = (*TOO_LARGE, CorruptRecordException, InvalidTimestampError)
"""What says that an entry is not taken, however often it is tried."""

NOT_ALLOWED = (TopicAuthorizationFailedError,)
"""What says that nothing is taken there, until somebody grants it."""

_NOT_NOW = (
    KafkaTimeoutError,
    IllegalStateError,
    # A new producer begins another sequence.
    DuplicateSequenceNumber,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    UnknownProducerId,
    TimeoutError,
    OSError,
)


@contextmanager
def our_errors(shown: str) -> Iterator[None]:
    """Raise as ours what comes of the clients; ``shown`` is the URL as it may be told."""
    try:
        yield
    except (AuthenticationFailedError, SaslAuthenticationFailed) as error:
        raise BrokerError(
            f"Kafka at {shown} refused the login: correct user and password in the broker's URL"
        ) from error
    except InvalidTopicError as error:
        raise BrokerError(
            f"Kafka at {shown} has no topics of such a name ({error}): "
            "name them by letters, digits, dots, - and _"
        ) from error
    except (KafkaError, TimeoutError, OSError) as error:
        if isinstance(error, _NOT_NOW) or getattr(error, "retriable", False):
            raise BrokerUnavailable(
                f"Kafka at {shown} does not answer ({_reason(error)}): "
                "is it running, is the URL right?"
            ) from error
        raise BrokerError(f"Kafka at {shown} refused a request: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
