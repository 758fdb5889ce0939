"""Each error of the driver is mapped on purpose."""

from __future__ import annotations

import inspect
from typing import Any

import asyncpg
import pytest
from asyncpg import exceptions

from redfaust.postgres.driver_errors import CLASSES, Kind, kind_of

WITHOUT_A_CODE = {
    "ClientConfigurationError": Kind.STATEMENT,
    "FatalPostgresError": Kind.STATEMENT,
    "InterfaceError": Kind.STATEMENT,
    "InternalClientError": Kind.STATEMENT,
    "InvalidCachedStatementError": Kind.BUSY,
    "OutdatedSchemaCacheError": Kind.BUSY,
    "PostgresError": Kind.STATEMENT,
    "ProtocolError": Kind.STATEMENT,
    "TargetServerAttributeNotMatched": Kind.AWAY,
    "UnknownPostgresError": Kind.STATEMENT,
    "UnsupportedClientFeatureError": Kind.STATEMENT,
    "UnsupportedServerFeatureError": Kind.STATEMENT,
}

ERRORS = {
    name: error
    for name, error in vars(exceptions).items()
    if inspect.isclass(error)
    and issubclass(error, Exception)
    and not issubclass(error, Warning | exceptions.PostgresWarning)
}


@pytest.mark.parametrize("name", ERRORS)
def test_each_error_of_the_driver_is_mapped(name: str) -> None:
    error: Any = ERRORS[name]("it says so")
    if name in WITHOUT_A_CODE:
        assert kind_of(error) is WITHOUT_A_CODE[name]
    else:
        assert error.sqlstate[:2] in CLASSES


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, Kind.AWAY) for code in ("08006", "25006", "25P03", "53100", "57P01", "57P05")),
        *((code, Kind.BUSY) for code in ("40001", "40P01", "55P03", "57014")),
        *((code, Kind.DATA) for code in ("22021", "23505", "44000", "54000", "P0001", "SHOP1")),
        *((code, Kind.STATEMENT) for code in ("42501", "42P01", "28P01", "XX000")),
    ],
)
def test_what_an_error_means(code: str, kind: Kind) -> None:
    assert kind_of(asyncpg.PostgresError.new({"C": code, "M": "it says so"})) is kind


def test_what_is_too_large_for_the_server_is_about_its_data() -> None:
    said = "invalid memory alloc request size 1073741824"
    assert kind_of(asyncpg.PostgresError.new({"C": "XX000", "M": said})) is Kind.DATA
    assert kind_of(UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate")) is Kind.DATA
