"""The partitions of each worker, and the relays: what ``redfaust workers`` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel

from app.status.broker_facts import ask_logs, ask_relays
from app.status.collector import lag_of
from redfaust.brokers.broker import Broker, Roll
from redfaust.postgres.database import Database
from redfaust.postgres.queries import load
from redfaust.printable import printable


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


class RelayRole(BaseModel):
    """A relay that is there, of whichever database."""

    name: str
    role: str
    """``active`` or ``spare``."""
    app: str


class Shares(BaseModel):
    """The members of the group and what they have."""

    workers: Sequence[str]
    """In the order in which they joined, those among them that have nothing."""
    drained: Sequence[str]
    """Names of those that are to have nothing."""
    lost: Mapping[str, AwareDatetime]
    """Names of workers and relays that are gone without having left, and since when."""
    relays: Sequence[RelayRole]
    shares: Sequence[Share]


async def ask_shares(broker: Broker, database: Database, app: str) -> Shares:
    """Raises :class:`~redfaust.errors.ConnectorError`."""
    roll = await broker.roll(app)
    lags: Counter[int] = Counter()
    for tp, survey in (await ask_logs(broker, app)).items():
        lags[tp.partition] += lag_of(survey, app)
    relays = await ask_relays(broker)
    async with database.transaction() as connection:
        epochs = {
            row["partition"]: row["epoch"]
            for row in await connection.fetch(load("app", "select_epochs"), app)
        }
    return Shares(
        workers=list(roll.register.members),
        drained=sorted(roll.register.drained),
        lost={
            name: since
            for name, since in {**_lost(roll), **relays.lost, **relays.silent}.items()
            if since is not None
        },
        relays=[RelayRole(name=r.name, role=r.role, app=r.app) for r in relays.relays],
        shares=_shares(roll, lags, epochs),
    )


def _lost(roll: Roll) -> dict[str, datetime]:
    return {name: datetime.fromtimestamp(since, UTC) for name, since in roll.register.lost.items()}


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
    workers = [printable(worker) for worker in shares.workers]
    if not workers:
        others = [*_relay_lines(shares), *_lost_lines(shares)]
        remedy = "start one: `redfaust worker` for the shop, otherwise `faust -A <module> worker`."
        return "\n".join([f"No worker is running: {remedy}", *others])
    width = max(len("worker"), *map(len, workers))
    lines = [f"partition  {'worker':{width}}  {'since':19}  {'lag':>8}  epoch"]
    for share in shares.shares:
        since = "" if share.since is None else f"{share.since:%Y-%m-%d %H:%M:%S}"
        lines.append(
            f"{share.partition:9}  {printable(share.worker or 'on its way'):{width}}  {since:19}  "
            f"{share.lag:8}  {'-' if share.epoch is None else share.epoch:>5}"
        )
    owners = {share.worker for share in shares.shares}
    spare = [worker for worker in shares.workers if worker not in owners]
    if spare:
        lines.append(f"without any: {', '.join(map(printable, spare))}")
    if shares.drained:
        lines.append(f"drained: {', '.join(map(printable, shares.drained))}")
    return "\n".join([*lines, *_relay_lines(shares), *_lost_lines(shares)])


def _relay_lines(shares: Shares) -> list[str]:
    return [
        f"relay: {printable(relay.name)}, {printable(relay.role)}, of {printable(relay.app)}"
        for relay in shares.relays
    ]


def _lost_lines(shares: Shares) -> list[str]:
    return [
        f"lost: {printable(name)}, since {since:%Y-%m-%d %H:%M:%S}"
        for name, since in shares.lost.items()
    ]
