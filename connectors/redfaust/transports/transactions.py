"""Faust's transactions, where the commit to Postgres has them all."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from faust.transport.consumer import TransactionManager as FaustTransactionManager
from faust.types import TP, FutureMessage, HeadersArg, RecordMetadata


class TransactionManager(FaustTransactionManager):
    """Where ``processing_guarantee`` is ``exactly_once``, Faust sends through this in a worker.

    For Kafka it keeps a producer with a transaction for each partition. Here what events send is
    stored in the transaction of their commit, so it has nothing to do but to pass things on.
    """

    mundane_level = "debug"

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP]
    ) -> None:
        """No transaction is begun before the commit."""

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: HeadersArg | None,
        *,
        transactional_id: str | None = None,  # noqa: ARG002 - Kafka's
    ) -> Awaitable[RecordMetadata]:
        return await self.producer.send(topic, key, value, partition, timestamp, headers)

    def send_soon(self, fut: FutureMessage) -> None:
        self.producer.send_soon(fut)

    async def commit(
        self,
        offsets: Mapping[TP, int],
        start_new_transaction: bool = True,
    ) -> bool:
        raise NotImplementedError("Consumer.force_commit commits")
