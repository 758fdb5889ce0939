"""The partitions of each worker, and the relays: what ``redfaust workers`` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel

from app.status.broker_facts import ask_logs, ask_relays, lost_members
from app.status.watch import lag_of
from redfaust.brokers.broker import Broker, GroupState
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


class Ownership(BaseModel):
    """The members of the group and what they have."""

    workers: Sequence[str]
    """In the order in which they joined, those among them that have nothing."""
    drained: Sequence[str]
    """Names of those that are to have nothing."""
    lost: Mapping[str, AwareDatetime]
    """Names of workers and relays that are gone without having left, and since when."""
    relays: Sequence[RelayRole]
    shares: Sequence[Share]


async def ask_ownership(broker: Broker, database: Database, app: str) -> Ownership:
    """Raises :class:`~redfaust.errors.RedfaustError`."""
    group_state = await broker.group_state(app)
    lags: Counter[int] = Counter()
    for tp, survey in (await ask_logs(broker, app)).items():
        lags[tp.partition] += lag_of(survey, app)
    relays = await ask_relays(broker)
    async with database.transaction() as connection:
        epochs = {
            row["partition"]: row["epoch"]
            for row in await connection.fetch(load("app", "select_epochs"), app)
        }
    return Ownership(
        workers=list(group_state.assignment.members),
        drained=sorted(group_state.assignment.drained),
        lost={
            name: since
            for name, since in {**lost_members(group_state), **relays.lost, **relays.silent}.items()
            if since is not None
        },
        relays=[RelayRole(name=r.name, role=r.role, app=r.app) for r in relays.relays],
        shares=_shares(group_state, lags, epochs),
    )


def _shares(
    group_state: GroupState, lags: Mapping[int, int], epochs: Mapping[int, int]
) -> list[Share]:
    return [
        Share(
            partition=number,
            worker=owned.member or None,
            since=datetime.fromtimestamp(owned.since, UTC) if owned.member else None,
            lag=lags.get(number, 0),
            epoch=epochs.get(number),
        )
        for number, owned in sorted(group_state.assignment.owners.items())
    ]


def render(ownership: Ownership) -> str:
    """As a table for people."""
    workers = [printable(worker) for worker in ownership.workers]
    if not workers:
        others = [*_relay_lines(ownership), *_lost_lines(ownership)]
        remedy = "start one: `redfaust worker` for the shop, otherwise `faust -A <module> worker`."
        return "\n".join([f"No worker is running: {remedy}", *others])
    width = max(len("worker"), *map(len, workers))
    lines = [f"partition  {'worker':{width}}  {'since':19}  {'lag':>8}  epoch"]
    for share in ownership.shares:
        since = "" if share.since is None else f"{share.since:%Y-%m-%d %H:%M:%S}"
        lines.append(
            f"{share.partition:9}  {printable(share.worker or 'on its way'):{width}}  {since:19}  "
            f"{share.lag:8}  {'-' if share.epoch is None else share.epoch:>5}"
        )
    owners = {share.worker for share in ownership.shares}
    spare = [worker for worker in ownership.workers if worker not in owners]
    if spare:
        lines.append(f"without any: {', '.join(map(printable, spare))}")
    if ownership.drained:
        lines.append(f"drained: {', '.join(map(printable, ownership.drained))}")
    return "\n".join([*lines, *_relay_lines(ownership), *_lost_lines(ownership)])


def _relay_lines(ownership: Ownership) -> list[str]:
    return [
        f"relay: {printable(relay.name)}, {printable(relay.role)}, of {printable(relay.app)}"
        for relay in ownership.relays
    ]


def _lost_lines(ownership: Ownership) -> list[str]:
    return [
        f"lost: {printable(name)}, since {since:%Y-%m-%d %H:%M:%S}"
        for name, since in ownership.lost.items()
    ]
