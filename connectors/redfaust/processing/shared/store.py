"""One Postgres transaction for what a batch of an agent's events has done."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import asyncpg
from faust.types import AppT

from redfaust import failpoints
from redfaust.errors import DatabaseError
from redfaust.outbox.outbox import publish_all, schedule
from redfaust.postgres.database import Connection, Database
from redfaust.postgres.driver_errors import is_refusal
from redfaust.processing.dead_letters import DeadLetters, letter_about
from redfaust.processing.shared.inbox import Inbox, Known
from redfaust.processing.shared.message import Effects, SharedMessage, State

logger = logging.getLogger(__name__)


class Effecting(Protocol):
    """What acknowledger asks of a store."""

    async def commit(
        self, finished: Sequence[SharedMessage], failed: Mapping[SharedMessage, Known]
    ) -> None: ...


class Store:
    """Where the effects of one agent are committed."""

    def __init__(
        self,
        app: AppT,
        agent: str,
        database: Database,
        inbox: Inbox,
        *,
        be_sure_of_claims: Callable[[], Awaitable[None]],
    ) -> None:
        self._app = app
        self._agent = agent
        self._database = database
        self._inbox = inbox
        self._be_sure_of_claims = be_sure_of_claims
        self._dead_letters = DeadLetters(database)

    async def commit(
        self, finished: Sequence[SharedMessage], failed: Mapping[SharedMessage, Known]
    ) -> None:
        """Commit what finished messages have done, unless somebody has before, and note which
        others have failed.

        A message that is lost has never been here. One whose effects Postgres does not take becomes
        a dead letter instead. May be repeated, also after a commit whose answer was lost. Raises
        DatabaseError, and BrokerError.
        """
        try:
            try:
                await self._commit(finished, failed)
            except (asyncpg.PostgresError, UnicodeEncodeError) as error:
                if not is_refusal(error):
                    raise
                await self._commit_one_by_one(finished)
                await self._commit((), failed)
        except (asyncpg.PostgresError, UnicodeEncodeError) as error:
            raise DatabaseError(
                f"What agents have done cannot be written ({type(error).__name__}: {error}): mend "
                "that in Postgres, it is tried again"
            ) from error

    async def _commit_one_by_one(self, finished: Sequence[SharedMessage]) -> None:
        for message in finished:
            try:
                await self._commit([message], {})
            except (asyncpg.PostgresError, UnicodeEncodeError) as error:
                if not is_refusal(error):
                    raise
                logger.warning("%s: what an event did was refused: %s", self._agent, error)
                await self._give_up(message, error)

    async def _give_up(self, message: SharedMessage, error: Exception) -> None:
        """Commit an event as a dead letter, in a shorter form if Postgres takes no other."""
        attempts = message.attempts + 1
        letter = letter_about(self._app, message, error, agent=self._agent, attempts=attempts)
        for each in (letter, letter.shortened(error)):
            message.effects = Effects(letters=[each])
            try:
                await self._commit([message], {})
            except (asyncpg.PostgresError, UnicodeEncodeError) as refusal:
                if each.is_short or not is_refusal(refusal):
                    raise
            else:
                return

    async def _commit(
        self, finished: Sequence[SharedMessage], failed: Mapping[SharedMessage, Known]
    ) -> None:
        if not finished and not failed:
            return
        async with self._database.transaction() as connection:
            # Not before: if this process is stopped from here on, the server ends the transaction
            # long before anybody forgets that an heir has finished these messages.
            await self._be_sure_of_claims()
            finished = [message for message in finished if message.state is not State.LOST]
            failed = {m: known for m, known in failed.items() if m.state is not State.LOST}
            if finished:
                # First, since it also keeps everybody else from finishing these until the end.
                newly = await self._inbox.finish(connection, finished)
                failpoints.point("shared.noted")
                await self._write(connection, [message.effects for message in newly])
            if failed:
                await self._inbox.fail(connection, failed)
            failpoints.point("shared.written")

    async def _write(self, connection: Connection, done: Sequence[Effects]) -> None:
        for effects in done:
            for letter in effects.letters:
                await self._dead_letters.add(letter, connection=connection)
        if scheduled := [each for effects in done for each in effects.scheduled]:
            await schedule(connection, scheduled)
        if sent := [entry for effects in done for entry in effects.sent]:
            await publish_all(connection, sent)
