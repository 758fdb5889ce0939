"""What a broker's URL says about Redis."""

from __future__ import annotations

import pytest

from redfaust.brokers.redis.address import Address, Kind, without_password
from redfaust.brokers.url import BrokerUrl
from redfaust.errors import BrokerError

SENTINELS = "redis+sentinel://me:p%40%2Css@one:1,[::1]:2,three/primary/3?sentinel_password=hidden"


def test_one_server() -> None:
    address = Address.parse("redis://localhost/2?health_check_interval=5")
    assert address.kind is Kind.ONE
    assert address.hosts == (("localhost", 6379),)
    assert address.options == {"db": 2, "health_check_interval": 5}
    assert not address.encrypted


def test_sentinels() -> None:
    address = Address.parse(SENTINELS)
    assert address.kind is Kind.SENTINEL
    assert address.hosts == (("one", 1), ("::1", 2), ("three", 26379))
    assert address.name == "primary"
    assert address.options == {"username": "me", "password": "p@,ss", "db": 3}
    assert address.sentinel_options == {"password": "hidden"}


def test_tls_goes_to_the_sentinels_as_well() -> None:
    address = Address.parse("rediss+sentinel://one/primary?ssl_ca_certs=/ca.pem")
    assert address.encrypted
    assert address.options == {"ssl_ca_certs": "/ca.pem"}
    assert address.sentinel_options == {"ssl_ca_certs": "/ca.pem"}


def test_a_cluster() -> None:
    address = Address.parse("rediss+cluster://:secret@one:7000,two")
    assert address.kind is Kind.CLUSTER
    assert address.hosts == (("one", 7000), ("two", 6379))
    assert address.options == {"password": "secret"}
    assert address.encrypted


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kafka://hidden", r"has to begin with one of redis://, rediss://, redis\+sentinel://"),
        ("redis:/hidden", r"names no host: write redis://host:port"),
        ("redis://hidden-1,hidden-2", r"several hosts: write redis\+sentinel:// or redis\+cluster"),
        ("redis://:hid/den@host:hidden", r"percent-encode what is special in a password"),
        ("redis+sentinel://hidden:26379", r"no primary: write redis\+sentinel://host:26379/mymas"),
        ("redis+sentinel://hidden:26379/0", r"no primary"),
        ("redis+sentinel://host/hidden/x", r"no number of a database"),
        ("redis+cluster://hidden/1", r"one database: leave its number out"),
        ("redis://host?db=hidden", r"value of a wrong kind"),
    ],
)
def test_a_url_that_says_nothing_is_an_error_which_says_what_to_write(url: str, says: str) -> None:
    with pytest.raises(BrokerError, match=says) as raised:
        Address.parse(url)
    assert "hidden" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_nothing_secret_is_shown() -> None:
    assert without_password(SENTINELS) == "redis+sentinel://me@one:1,[::1]:2,three/primary/3"


def test_a_url_is_put_together_as_it_was() -> None:
    assert str(BrokerUrl.parse(SENTINELS)) == SENTINELS
    for url in ("memory://", "redis://h", "redis://:p@h/0", "redis+cluster://u@h,i:1?a=b"):
        assert str(BrokerUrl.parse(url)) == url


def test_what_faust_takes_for_several_urls_is_one() -> None:
    parts = ["redis+sentinel://u:p@one:1", "redis+sentinel://two:2", "redis+sentinel://three/x?a=b"]
    assert str(BrokerUrl.of_parts(parts)) == "redis+sentinel://u:p@one:1,two:2,three/x?a=b"
