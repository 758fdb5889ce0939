"""Who works on which partitions: what ``redfaust workers`` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel

from app.broker import topics_of
from connectors.brokers.broker import Broker, Roll
from connectors.postgres.database import Database
from connectors.postgres.queries import load


class Share(BaseModel):
    """A number: partition so-and-so of every topic."""

    partition: int
    worker: str | None
    """``None``: it is on its way from one to another."""
    since: AwareDatetime | None
    lag: int
    """Events of the application's topics that are not finished."""
    epoch: int | None
    """Of the topic whose partition was taken most often; ``None``: never."""


class Shares(BaseModel):
    """The members of the group and what they have."""

    workers: Sequence[str]
    """In the order in which they joined, those among them that have nothing."""
    drained: Sequence[str]
    """Names of those that are to have nothing."""
    shares: Sequence[Share]


async def ask_shares(broker: Broker, database: Database, app: str) -> Shares:
    """Raises :class:`~connectors.errors.ConnectorError`."""
    roll = await broker.roll(app)
    lags: Counter[int] = Counter()
    for partitions in (await broker.statuses(app, await topics_of(broker, app))).values():
        for number, partition in enumerate(partitions):
            lags[number] += partition.lag
    async with database.transaction() as connection:
        epochs = {
            row["partition"]: row["epoch"]
            for row in await connection.fetch(load("app", "select_epochs"), app)
        }
    return Shares(
        workers=list(roll.register.members),
        drained=sorted(roll.register.drained),
        shares=_shares(roll, lags, epochs),
    )


def _shares(roll: Roll, lags: Mapping[int, int], epochs: Mapping[int, int]) -> list[Share]:
    return [
        Share(
            partition=number,
            worker=owned.member or None,
            since=datetime.fromtimestamp(owned.since, UTC) if owned.member else None,
            lag=lags.get(number, 0),
            epoch=epochs.get(number),
        )
        for number, owned in sorted(roll.register.owners.items())
    ]


def render(shares: Shares) -> str:
    """As a table for people."""
    if not shares.workers:
        return "No worker is running: start one with `redfaust worker`."
    width = max(len("worker"), *map(len, shares.workers))
    lines = [f"partition  {'worker':{width}}  {'since':19}  {'lag':>8}  epoch"]
    for share in shares.shares:
        since = "" if share.since is None else f"{share.since:%Y-%m-%d %H:%M:%S}"
        lines.append(
            f"{share.partition:9}  {share.worker or 'on its way':{width}}  {since:19}  "
            f"{share.lag:8}  {'-' if share.epoch is None else share.epoch:>5}"
        )
    owners = {share.worker for share in shares.shares}
    spare = [worker for worker in shares.workers if worker not in owners]
    if spare:
        lines.append(f"without any: {', '.join(spare)}")
    if shares.drained:
        lines.append(f"drained: {', '.join(shares.drained)}")
    return "\n".join(lines)
