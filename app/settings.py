"""The settings: one frozen object, read once at the edge.

Each field is the environment variable ``REDFAUST_<FIELD>``; an empty one counts as unset.
``redfaust config`` prints them all with what they mean.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from app.embedded.directory import read_services
from app.errors import AppError, SettingsError
from redfaust.errors import BrokerError
from redfaust.options import nearest
from redfaust.postgres.hosts import check_options, list_as_parameter

__all__ = ["Given", "Settings", "SettingsError", "variable"]

PREFIX = "REDFAUST_"
MAX_PARTITIONS = 1024
MIN_TOKEN = 16
"""Characters of the token."""


def _no_query(url: str) -> None:
    parts = urlsplit(url)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("ends with the port: nothing else may stand behind it")


def _no_schema(url: str) -> None:
    check_options(url, "schema")
    if "schema" in parse_qs(urlsplit(list_as_parameter(url)).query):
        raise ValueError("names a schema: leave it out, the shop's is public")


def _url(*schemes: str, check_query: Callable[[str], None]) -> Callable[[SecretStr], SecretStr]:
    """A validator. Its messages hold no part of the URL, which may be one of the password."""
    example = f"{schemes[0]}://host:port"

    def check(secret: SecretStr) -> SecretStr:
        try:
            url = urlsplit(list_as_parameter(secret.get_secret_value()))
            url.port  # noqa: B018 - raises if it is no number
        except ValueError:
            raise ValueError(
                f"is no URL: write {example}, and percent-encode what is special in a password"
            ) from None
        if url.scheme not in schemes:
            raise ValueError(f"has to begin with {' or '.join(f'{name}://' for name in schemes)}")
        if not (url.hostname or "host" in parse_qs(url.query)):
            raise ValueError(f"names no host: write {example}")
        check_query(secret.get_secret_value())
        return secret

    return check


def _broker(secret: SecretStr) -> SecretStr:
    from redfaust.transports.by_url import check_url  # noqa: PLC0415 - help does without it

    try:
        check_url(secret.get_secret_value())
    except BrokerError as error:
        raise ValueError(str(error)) from None
    return secret


def _address(text: str) -> str:
    name, _, domain = text.rpartition("@")
    if not name or not domain or any(character.isspace() for character in text):
        raise ValueError("is no mail address: write name@domain")
    return text


def _token(secret: SecretStr) -> SecretStr:
    """No message holds a part of it."""
    token = secret.get_secret_value()
    if token != token.strip():
        raise ValueError(
            "begins or ends with a space or line break, which no client can send: write it without "
            "(printf, and not echo, writes a file that ends with none)"
        )
    if not (token.isascii() and token.isprintable()):
        raise ValueError("write printable ASCII characters alone: a header takes no others")
    if len(token) < MIN_TOKEN:
        raise ValueError(
            f"is shorter than {MIN_TOKEN} characters, and could be guessed: `openssl rand -hex 32` "
            "makes one"
        )
    return secret


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,47}", text):
        raise ValueError("write up to 48 of a-z, 0-9, _ and -, beginning with a letter")
    return text


Broker = Annotated[SecretStr, AfterValidator(_broker)]
Database = Annotated[
    SecretStr, AfterValidator(_url("postgresql", "postgres", check_query=_no_schema))
]
Smtp = Annotated[SecretStr, AfterValidator(_url("smtp", "smtps", check_query=_no_query))]


class Given(BaseModel):
    """What the environment says. What it leaves open, ``redfaust up`` provides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    broker: Broker | None = Field(
        None,
        description="URL of the broker, redis://, redis+sentinel://host,host/name or "
        "redis+cluster://host,host, over TLS with rediss; or kafka://host,host. "
        "Unset: an embedded Valkey.",
    )
    database: Database | None = Field(
        None,
        description="URL of the database, postgresql://, of several hosts perhaps. "
        "Unset: an embedded Postgres.",
    )
    data_dir: Path = Field(
        Path(".redfaust"), description="Directory of the embedded servers and their data."
    )
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Interface that the web API listens on. Anything but loopback needs a token.",
    )
    port: int = Field(7070, ge=0, le=65535, description="Port of the web API; 0 takes a free one.")
    token: Annotated[SecretStr, AfterValidator(_token)] | None = Field(
        None,
        description="Bearer token that the web API asks for where it is not on loopback, of at "
        "least 16 characters.",
    )
    smtp: Smtp | None = Field(
        None,
        description="URL of the mail server, smtp://user:password@host:port. "
        "Unset: mail is kept in an embedded mailbox.",
    )
    mail_from: Annotated[str, AfterValidator(_address)] = Field(
        "shop@localhost", description="Sender of the mails."
    )
    app_id: Annotated[str, AfterValidator(_name)] = Field(
        "shop",
        description="Name of the application: its consumer group is called so. The shop of one "
        "database keeps the name with which its first worker started.",
    )
    partitions: int = Field(
        4,
        ge=1,
        le=MAX_PARTITIONS,
        description="Partitions of a topic that is new. Those that exist get more by "
        "`redfaust topics alter`.",
    )
    retention: int = Field(
        604_800,
        ge=0,
        description="Seconds for which events stay on their topics, and longer while a consumer "
        "group has not finished them; 0 keeps them for ever.",
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        "info", description="What is logged: debug, info, warning, error or critical."
    )

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the environment, by default the process's own.

        Raises :class:`SettingsError`, in one line, for a variable that is unknown or wrong.
        """
        return cls._validated(_read(os.environ if environ is None else environ))

    @classmethod
    def _validated(cls, values: Mapping[str, str]) -> Self:
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(_explain(error)) from None

    def complete(self, *, broker: str, database: str) -> Settings:
        """The settings with these servers where the environment names none."""
        return Settings.model_validate(
            {"broker": SecretStr(broker), "database": SecretStr(database)}
            | {name: value for name, value in self if value is not None}
        )

    def environ(self) -> dict[str, str]:
        """The variables that a child process needs to load the same settings."""
        return {variable(name): _text(value) for name, value in self if value is not None}


class Settings(Given):
    """All settings of a running process: where its servers are is known."""

    broker: Broker = Field(description=Given.model_fields["broker"].description)
    database: Database = Field(description=Given.model_fields["database"].description)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the environment; servers that it does not name are those of the ``redfaust up``
        that runs in the data directory.

        Raises :class:`SettingsError`, in one line, for a variable that is unknown, wrong or
        missing.
        """
        values = _read(os.environ if environ is None else environ)
        missing = [name for name in ("broker", "database") if name not in values]
        if missing:
            values = _running(Given._validated(values).data_dir, missing) | values
        return cls._validated(values)


def variable(field: str) -> str:
    """The environment variable of a field."""
    return f"{PREFIX}{field.upper()}"


def _read(environ: Mapping[str, str]) -> dict[str, str]:
    known = {variable(name): name for name in Given.model_fields}
    ours = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    for name in sorted(ours.keys() - known.keys()):
        raise SettingsError(
            f"{name} is no setting: did you mean {nearest(name.upper(), known)}? "
            "`redfaust config` lists them all"
        )
    return {known[name]: value for name, value in ours.items() if value}


def _running(data_dir: Path, missing: list[str]) -> dict[str, str]:
    try:
        services = read_services(data_dir)
    except AppError as error:
        raise SettingsError(str(error)) from error
    if services is None:
        raise SettingsError(
            f"no redfaust runs in {data_dir}: start one with `redfaust up`, "
            f"or set {' and '.join(map(variable, missing))}"
        )
    return {"broker": services.broker, "database": services.database}


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{variable(str(detail['loc'][0]))}: {detail['msg'].removeprefix('Value error, ')}"
        for detail in error.errors(include_input=False, include_url=False)
    )


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
