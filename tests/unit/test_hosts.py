"""URLs that name several hosts, and which of them is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import asyncpg
import faust
import pytest
from yarl import URL

from redfaust.postgres.driver_errors import Kind, kind_of
from redfaust.postgres.hosts import Hosts, each_host, list_as_parameter

LISTED = "postgresql://me:a%2Cb@one:5432,two:5433/shop?schema=public"


def test_a_list_becomes_a_parameter_that_other_parsers_let_pass() -> None:
    url = list_as_parameter(LISTED)
    assert url == "postgresql://me:a%2Cb@/shop?host=one:5432,two:5433&schema=public"
    assert URL(url).password == "a,b"
    assert list_as_parameter(url) == url


@pytest.mark.parametrize(
    "url", ["postgresql://me:a,b@one/shop", "postgresql:///shop?host=/run/postgresql", "postgres:"]
)
def test_a_single_host_is_left_alone(url: str) -> None:
    assert list_as_parameter(url) == url
    assert each_host(url) == [url]


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://one:1,two:2/shop", ["host=one:1", "host=two:2"]),
        ("postgresql://one:1,[::1]:2/shop", ["host=one:1", "host=[::1]:2"]),
        ("postgresql:///shop?host=one,two&port=1,2", ["host=one&port=1", "host=two&port=2"]),
        ("postgresql:///shop?host=one,two&port=1", ["host=one&port=1", "host=two&port=1"]),
        ("postgresql:///shop?host=/a,[::1]:2", ["host=/a", "host=[::1]:2"]),
    ],
)
def test_each_host_is_asked_whether_it_takes_writes(url: str, hosts: list[str]) -> None:
    assert each_host(url) == [
        f"postgresql:/shop?{host}&target_session_attrs=read-write" for host in hosts
    ]


def test_what_the_url_asks_of_a_host_stays() -> None:
    for url in each_host("postgresql://one,two/shop?target_session_attrs=primary"):
        assert url.endswith("target_session_attrs=primary")


def test_lists_have_to_match() -> None:
    with pytest.raises(ValueError, match="zip"):
        each_host("postgresql:///shop?host=one,two&port=1,2,3")


class Servers:
    """What each host answers, and which were asked."""

    def __init__(self, answers: Mapping[str, object]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []

    async def connect(self, url: str, **_: Any) -> object:
        host = next(name for name in self.answers if f"host={name}" in url)
        self.asked.append(host)
        answer = self.answers[host]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    servers = Servers({"one": TimeoutError(), "two": "a connection"})
    monkeypatch.setattr("asyncpg.connect", servers.connect)
    return servers


async def test_one_that_does_not_answer_does_not_stand_before_the_others(servers: Servers) -> None:
    hosts = Hosts(LISTED)
    for _ in range(2):
        assert cast("object", await hosts.connect()) == "a connection"
    assert servers.asked == ["one", "two", "two"]
    servers.answers = {"one": "back", "two": asyncpg.ReadOnlySQLTransactionError("read-only")}
    assert cast("object", await hosts.connect()) == "back"
    assert servers.asked[3:] == ["two", "one"]


async def test_where_none_answers_each_is_named(servers: Servers) -> None:
    servers.answers["two"] = asyncpg.CannotConnectNowError("it starts up")
    with pytest.raises(ConnectionError, match="one:5432: no answer; two:5433: it starts up"):
        await Hosts(LISTED).connect()


async def test_what_no_host_would_mend_is_told_at_once(servers: Servers) -> None:
    servers.answers["one"] = asyncpg.InvalidPasswordError("wrong")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await Hosts(LISTED).connect()
    assert servers.asked == ["one"]


@pytest.mark.parametrize("state", ["08006", "25006", "53100", "53300", "57P01", "57P02", "57P03"])
def test_what_passes_by_itself_or_on_another_host_is_unavailable(state: str) -> None:
    error = asyncpg.PostgresError.new({"C": state, "M": "not now"})
    assert kind_of(error) is Kind.AWAY


def test_an_application_may_name_several_hosts() -> None:
    app = faust.App("listed", broker="memory://", store=LISTED)
    assert app.conf.store.query["host"] == "one:5432,two:5433"
