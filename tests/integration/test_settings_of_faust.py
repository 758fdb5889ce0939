"""Faust's settings: each is known to mean something here or not, and what means nothing is told."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import faust
import pytest
from faust.types.settings import Settings

from redfaust.processing.commit_timer import CommitTimer
from redfaust.transports.commits import Commits
from redfaust.transports.consumer import Consumer
from redfaust.transports.settings import IGNORED
from tests.integration.faust_apps import PATIENCE, eventually, running

README = Path(__file__).parents[2] / "connectors" / "redfaust" / "transports" / "README.md"

_LEFT_TO_FAUST = """
    Agent Event GlobalTable HttpClient LeaderAssignor Monitor PartitionAssignor Router Schema
    Serializers SetGlobalTable SetTable Stream Table TableManager Topic Worker
    aerospike_retries_on_exception aerospike_sleep_seconds_between_retries_on_exception
    agent_supervisor autodiscover blocking_timeout broker_client_id cache canonical_url
    crash_app_on_aerospike_exception cython_optimizations datadir debug env_prefix id_format
    key_serializer logging_config loghandlers origin recovery_consistency_check reply_create_topic
    reply_expires reply_to_prefix store store_check_exists stream_ack_cancelled_tasks
    stream_ack_exceptions stream_publish_on_commit stream_recovery_delay table_cleanup_interval
    table_key_index_size tabledir timezone topic_disable_leader
    value_serializer version web web_application_options web_cors_options web_enabled
    web_graph_enabled web_host web_in_thread web_metrics_enabled web_port web_router_enabled
    web_ssl_context web_stats_enabled web_tables_enabled web_transport worker_redirect_stdouts
    worker_redirect_stdouts_level
"""
LEFT_TO_FAUST = frozenset(_LEFT_TO_FAUST.split())
"""Tables, streams, agents, the web, the worker: what Faust does is what happens."""


def new_app(**settings: Any) -> faust.App:
    return faust.App(
        "test", broker=f"memory://{uuid4().hex}", web_enabled=False, topic_partitions=1, **settings
    )


def honoured() -> set[str]:
    table = README.read_text().split("## Settings")[1].split("## ")[0]
    first_cells = re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE)
    return {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}


def test_each_setting_is_in_one_list() -> None:
    lists = [*honoured(), *IGNORED, *LEFT_TO_FAUST]
    assert sorted(lists) == sorted(set(lists))
    assert set(lists) == set(Settings.SETTINGS)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "redfaust.transports.settings"]


async def test_an_application_that_sets_nothing_is_told_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(new_app()):
        assert told(caplog) == []


async def test_settings_that_mean_nothing_are_told_in_one_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_SESSION_TIMEOUT", "10")
    app = new_app(producer_threaded=True, table_standby_replicas=0, producer_linger=0.1)
    async with running(app):
        [line] = told(caplog)
    named = re.findall(r"(\w+) \(", line)
    assert named == sorted(
        ["broker_session_timeout", "producer_linger", "producer_threaded", "table_standby_replicas"]
    )


async def test_credentials_with_tls_are_told(caplog: pytest.LogCaptureFixture) -> None:
    credentials = faust.SASLCredentials(username="u", password="p", ssl_context=cast("Any", "x"))
    async with running(new_app(broker_credentials=credentials)):
        assert "rediss:// is TLS" in told(caplog)[0]


async def test_no_more_is_read_at_a_time_than_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    app, seen, limits = new_app(broker_max_poll_records=3), [], set()
    numbers = app.topic("numbers")

    @app.agent(numbers)
    async def collect(stream: Any) -> None:
        async for number in stream:
            seen.append(number)

    broker = app.transport.broker  # type: ignore[attr-defined] # ours
    read = broker.read

    async def noted(positions: Any, *, limit: int, wait: float) -> Any:
        limits.add(limit)
        return await read(positions, limit=limit, wait=wait)

    monkeypatch.setattr(broker, "read", noted)
    async with running(app):
        for number in range(10):
            await numbers.send(value=number)
        await eventually(lambda: seen == list(range(10)))
    assert limits == {3}


async def test_the_next_commit_does_not_wait_for_more_events_than_were_set() -> None:
    app = new_app(broker_commit_every=2, broker_commit_interval=36_000)
    commit_timer = Commits(cast("Consumer", app.consumer)).commit_timer
    assert isinstance(commit_timer, CommitTimer)
    commit_timer.took(1_000.0)  # so that the next one is far away, unless there are too many events
    commit_timer.want()
    due = asyncio.create_task(commit_timer.due())
    await asyncio.sleep(0)
    commit_timer.delivered(3, 1)
    await asyncio.wait_for(due, PATIENCE)


async def test_events_in_progress_are_not_waited_for_if_so_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("redfaust.transports.commits.DRAIN_FOR", 10 * PATIENCE)
    monkeypatch.setattr("redfaust.transports.commits.STOP_FOR", 10 * PATIENCE)
    app, begun, never = new_app(stream_wait_empty=False), asyncio.Event(), asyncio.Event()
    numbers = app.topic("numbers")

    @app.agent(numbers)
    async def wait(stream: Any) -> None:
        async for _ in stream:
            begun.set()
            await never.wait()

    async with running(app):
        await numbers.send(value=1)
        await asyncio.wait_for(begun.wait(), PATIENCE)


@pytest.mark.parametrize("said", [None, "option", "WEB_BIND", "FAUST_WEB_BIND"])
def test_the_web_server_is_open_to_other_machines_only_where_that_is_said(
    said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WEB_BIND", "FAUST_WEB_BIND"):
        monkeypatch.delenv(name, raising=False)
    settings: dict[str, Any] = {"env_prefix": "FAUST"} if said == "FAUST_WEB_BIND" else {}
    if said == "option":
        settings["web_bind"] = "0.0.0.0"
    elif said is not None:
        monkeypatch.setenv(said, "0.0.0.0")
    app = faust.App("bank", broker="memory://", **settings)
    assert app.conf.web_bind == ("127.0.0.1" if said is None else "0.0.0.0")
