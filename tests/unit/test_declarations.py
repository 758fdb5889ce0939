"""What is declared wrongly is refused where it is declared, with what to write."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Any
from uuid import uuid4

import faust
import pytest
from faust.exceptions import ImproperlyConfigured
from pydantic import BaseModel

from app.settings import Settings, SettingsError
from redfaust.brokers.kafka.address import Address as KafkaAddress
from redfaust.brokers.redis.address import Address
from redfaust.errors import BrokerError, MailError
from redfaust.mail import Mailer
from redfaust.processing.retries import NO_RETRIES, Retries

POSTGRES = "postgresql://nowhere.invalid/none"


class Account(BaseModel):
    bank: str


class GiveUp:
    async def __call__(self, event: Any, error: Exception) -> None: ...


async def give_up(event: Any, error: Exception) -> None: ...


async def note(name: str, event: Any, error: Exception) -> None: ...


async def of_one(event: Any) -> None: ...


@pytest.fixture
def app() -> Any:
    # Any: what is tested here is what the annotations do not allow.
    return faust.App(uuid4().hex, broker="memory://", store=POSTGRES, web_enabled=False)


async def fun(stream: Any) -> None: ...


AGENTS: list[tuple[dict[str, Any], str]] = [
    ({"retries": 5}, r"retries=5: write retries=Retries\(attempts=5\)"),
    ({"retries": None}, "write retries=NO_RETRIES"),
    ({"retries": Retries}, r"Retries\("),
    ({"retrys": Retries()}, "'retrys' is no option: did you mean 'retries'"),
    ({"on_giveup": give_up}, "did you mean 'on_give_up'"),
    ({"concurency": 2}, "did you mean 'concurrency'"),
    ({"on_give_up": 3}, "async function of two arguments"),
    ({"on_give_up": of_one}, "async function of two arguments"),
    ({"on_give_up": lambda *_: None}, "async function of two arguments"),
    ({"delivery": "sharde"}, "did you mean 'shared'"),
    ({"delivery": None}, "did you mean"),
    ({"concurrency": 0}, "concurrency=0"),
    ({"concurrency": -1}, "concurrency=-1"),
    ({"concurrency": True}, "concurrency=True"),
    ({"concurrency": "2"}, "concurrency='2'"),
]


@pytest.mark.parametrize(("options", "complaint"), AGENTS)
def test_an_agent_that_is_declared_wrongly_is_refused(
    app: Any, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=complaint):
        app.agent(app.topic("orders"), name="orders", **options)(fun)


@pytest.mark.parametrize(
    "options",
    [
        {"retries": NO_RETRIES, "on_give_up": give_up, "delivery": "shared", "concurrency": 64},
        {"on_give_up": functools.partial(note, "orders")},
        {"on_give_up": GiveUp()},
        {"isolated_partitions": True, "use_reply_headers": False, "sink": []},
        {"supervisor_strategy": None, "on_give_up": None, "delivery": "ordered"},
    ],
)
def test_an_agent_of_fausts_and_our_options_is_declared(app: Any, options: dict[str, Any]) -> None:
    app.agent(app.topic("orders"), name="orders", **options)(fun)
    assert "orders" in app.agents


def test_an_agent_may_say_what_its_own_topic_is(app: Any) -> None:
    agent = app.agent("orders", key_type=str, partitions=3, retention=60, maxsize=5)(fun)
    assert agent.channel.partitions == 3


RETRIES: list[dict[str, Any]] = [
    {"attempts": 0},
    {"attempts": 2.5},
    {"attempts": "3"},
    {"attempts": True},
    {"delay": float("nan")},
    {"delay": float("inf"), "max_delay": float("inf")},
    {"delay": "1"},
    {"factor": float("nan")},
    {"max_delay": None},
    {"jitter": float("nan")},
    {"never": ("x",)},
    {"never": ValueError},
    {"never": [ValueError]},
    {"never": (KeyboardInterrupt,)},
]


@pytest.mark.parametrize("policy", RETRIES)
def test_retries_that_make_no_sense_are_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(policy))):
        Retries(**policy)


TOPICS: list[tuple[dict[str, Any], str]] = [
    ({"partitions": 0}, "partitions=0"),
    ({"partitions": 10**9}, "from 1 to 10000"),
    ({"partitions": "4"}, "partitions='4'"),
    ({"partitions": True}, "partitions=True"),
    ({"retention": -5}, "retention=-5"),
    ({"retention": timedelta(-1)}, "retention="),
    ({"retention": float("nan")}, "retention=nan"),
    ({"retention": "1 day"}, "retention='1 day'"),
    ({"config": {"retention.m": 5}}, "'retention.m' is no option: did you mean 'retention.ms'"),
    ({"config": {"retention_ms": 5}}, "did you mean 'retention.ms'"),
    ({"config": {"retention.ms": "long"}}, "write a number"),
    ({"config": {"cleanup.policy": "compacted"}}, "write 'compact'"),
]


@pytest.mark.parametrize(("options", "complaint"), TOPICS)
def test_a_topic_that_is_declared_wrongly_is_refused(
    app: Any, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=complaint):
        app.topic("orders", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"partitions": 1, "retention": 0, "compacting": True, "deleting": False, "replicas": 3},
        {"retention": timedelta(days=1), "acks": False, "maxsize": 5, "allow_empty": True},
        {"config": {"retention.ms": "-1", "segment.ms": 5, "cleanup.policy": "compact, delete"}},
    ],
)
def test_a_topic_of_fausts_and_kafkas_options_is_declared(
    app: Any, options: dict[str, Any]
) -> None:
    assert list(app.topic("orders", **options).topics) == ["orders"]


TABLES: list[tuple[dict[str, Any], str]] = [
    ({"options": {"cached_row": 5}}, "'cached_row' is no option: did you mean 'cached_rows'"),
    ({"options": {"cached_rows": 0}}, "cached_rows=0"),
    ({"options": {"cached_rows": 5, "prefetch_for": "orders"}}, r"prefetch_for='orders'"),
    ({"options": {"cached_rows": 5, "prefetch_for": {"orders": 1}}}, "prefetch_for="),
    ({"options": {"cached_rows": 5, "prefetch_for": [1]}}, "prefetch_for="),
    ({"options": {"prefetch_for": ["orders"]}}, "needs cached_rows"),
    ({"options": {"indexes": ["nope"]}, "value_type": Account}, "'nope' is no option"),
    ({"options": {"indexes": ["banks"]}, "value_type": Account}, "did you mean 'bank'"),
    ({"options": {"indexes": "bank"}, "value_type": Account}, "indexes='bank'"),
    ({"partitions": 0}, "partitions=0"),
    ({"partitions": 10**9}, "from 1 to 10000"),
    ({"keytype": str}, "'keytype' is no option: did you mean 'key_type'"),
    ({"store": "memory://t", "options": {"cached_rows": 5}}, "cached_rows means nothing here"),
    ({"store": "memory://"}, "write memory://tables"),
]


@pytest.mark.parametrize(("options", "complaint"), TABLES)
@pytest.mark.parametrize("kind", ["Table", "SetTable"])
def test_a_table_that_is_declared_wrongly_is_refused(
    app: Any, kind: str, options: dict[str, Any], complaint: str
) -> None:
    if kind == "SetTable" and "bank'" in complaint and "did you" in complaint:
        pytest.skip("sets have no fields")
    with pytest.raises(ImproperlyConfigured, match=complaint):
        getattr(app, kind)("accounts", **options)


def test_a_global_table_that_is_declared_wrongly_is_refused(app: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="did you mean 'value_type'"):
        app.GlobalTable("accounts", valuetype=int)


def test_tables_of_fausts_and_our_options_are_declared(app: Any) -> None:
    options = {"cached_rows": 5, "prefetch_for": ["orders"], "indexes": ["bank", "updated_at"]}
    app.Table("accounts", value_type=Account, default=Account, help="…", options=options)
    app.Table("seen", default=int, use_partitioner=True).tumbling(10.0)
    app.SetTable("members", value_type=str, partitions=4, start_manager=False)
    app.GlobalTable("rates", default=int, partitions=1, recovery_buffer_size=10)
    assert len(app.tables) == 4


BROKERS = [
    ("redis://h?dbb=4", "'dbb' is no option: did you mean 'db'"),
    ("redis://h?db=1&db=2", "db is given twice"),
    ("redis+sentinel://h/name?sentinel_pasword=x", "did you mean 'sentinel_password'"),
    ("redis://h?decode_responses=1", "'decode_responses' is no option"),
    ("redis://h?ssl_ca_certs=/ca.pem", "'ssl_ca_certs' is no option"),
]


@pytest.mark.parametrize(("url", "complaint"), BROKERS)
def test_an_option_of_the_brokers_url_that_is_none_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(BrokerError, match=complaint):
        Address.parse(url)
    with pytest.raises(BrokerError, match=complaint):
        _ = faust.App("bank", broker=url, store=POSTGRES).conf


def test_kafkas_options_are_given_once() -> None:
    with pytest.raises(BrokerError, match="did you mean 'sasl_mechanism'"):
        KafkaAddress.parse("kafka://h?sasl_mechanisms=PLAIN")
    with pytest.raises(BrokerError, match="is given twice"):
        KafkaAddress.parse("kafka://h?sasl_mechanism=PLAIN&sasl_mechanism=PLAIN")


STORES = [
    ("?shema=public", "did you mean schema"),
    ("?schema=a&schema=b", "schema is given twice"),
    ("?ssl_mode=require", "did you mean sslmode"),
]


@pytest.mark.parametrize(("query", "complaint"), STORES)
def test_an_option_of_the_stores_url_that_is_none_is_refused(query: str, complaint: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=complaint):
        _ = faust.App("bank", broker="redis://h", store=POSTGRES + query).conf
    with pytest.raises(SettingsError, match="REDFAUST_DATABASE"):
        Settings.load({"REDFAUST_BROKER": "redis://h", "REDFAUST_DATABASE": POSTGRES + query})


@pytest.mark.parametrize("query", ["?schema=public&sslmode=require", "?random_page_cost=1.1"])
def test_options_of_postgres_pass(query: str) -> None:
    assert faust.App("bank", broker="redis://h", store=POSTGRES + query).conf.store


def test_a_mail_servers_url_has_no_options() -> None:
    for url in ("smtp://h:25?tls=1", "smtp://h/path"):
        with pytest.raises(MailError):
            Mailer(url, "shop@localhost")
        with pytest.raises(SettingsError, match="REDFAUST_SMTP"):
            Settings.load(
                {
                    "REDFAUST_BROKER": "redis://h",
                    "REDFAUST_DATABASE": POSTGRES,
                    "REDFAUST_SMTP": url,
                }
            )


def test_an_error_about_a_url_holds_no_secret() -> None:
    with pytest.raises(BrokerError) as refused:
        Address.parse("redis://h?hun!ter2@host=1")
    assert "hun" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"id": "bank/pay"}, "has a slash"),
        ({"id": "bank\x1b"}, "cannot be printed"),
        (
            {"id": "bank", "store": "postgre://h/d"},
            "the store's URL: 'postgre' is not a valid name",
        ),
        (
            {"id": "bank", "topic_partitons": 8},
            "application bank: 'topic_partitons' is no option: did you mean 'topic_partitions'",
        ),
    ],
)
def test_an_application_that_cannot_be_is_refused(
    arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=complaint):
        _ = faust.App(**{"broker": "memory://", "store": "memory://"} | arguments).conf
