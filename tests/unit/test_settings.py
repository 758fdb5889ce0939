"""Settings: what is read, what is refused, and that nothing secret is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from app.cli import main
from app.embedded import DataDirectory, Services
from app.settings import Given, Settings, SettingsError, variable

BROKER = "redis://default:hidden-1@127.0.0.1:6379/0"
DATABASE = "postgresql://postgres:hidden-2@127.0.0.1:5432/redfaust"
SERVERS = {"REDFAUST_BROKER": BROKER, "REDFAUST_DATABASE": DATABASE}


def test_defaults() -> None:
    settings = Settings.load(SERVERS)

    assert settings.broker.get_secret_value() == BROKER
    assert settings.database.get_secret_value() == DATABASE
    assert (settings.host, settings.port) == ("127.0.0.1", 7070)
    assert settings.data_dir == Path(".redfaust")
    assert settings.token is None


def test_are_frozen() -> None:
    settings = Settings.load(SERVERS)

    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("REDFAUST_BROKER_URL", "REDFAUST_BROKER"),
        ("REDFAUST_PROT", "REDFAUST_PORT"),
        ("REDFAUST_DATADIR", "REDFAUST_DATA_DIR"),
        ("REDFAUST_port", "REDFAUST_PORT"),
    ],
)
def test_an_unknown_variable_names_the_nearest_known_one(given: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{given} is no setting: did you mean {meant}\?"):
        Settings.load({**SERVERS, given: "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDFAUST_PORT", "http"),
        ("REDFAUST_PORT", "65536"),
        ("REDFAUST_PARTITIONS", "0"),
        ("REDFAUST_RETENTION", "-1"),
        ("REDFAUST_LOG_LEVEL", "loud"),
        ("REDFAUST_APP_ID", "My Shop"),
        ("REDFAUST_MAIL_FROM", "shop"),
        ("REDFAUST_BROKER", "redis:/hidden@127.0.0.1"),
        ("REDFAUST_BROKER", "redis://:hid/den@127.0.0.1:hidden"),
        ("REDFAUST_DATABASE", "mysql://root:hidden@127.0.0.1/shop"),
        ("REDFAUST_DATABASE", "postgresql:///hidden"),
        ("REDFAUST_SMTP", "http://hidden"),
    ],
)
def test_a_wrong_value_is_one_line_without_secrets(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load({**SERVERS, name: value})

    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    assert "hidden" not in message


def test_a_broker_may_be_a_kafka_which_the_error_says() -> None:
    with pytest.raises(SettingsError, match="kafka://"):
        Settings.load({**SERVERS, "REDFAUST_BROKER": "http://127.0.0.1"})


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@one:5432,two:5432/shop?target_session_attrs=read-write",
        "postgresql://me:secret@/shop?host=one,two&port=5432",
    ],
)
def test_a_database_may_have_several_hosts(url: str) -> None:
    settings = Settings.load({**SERVERS, "REDFAUST_DATABASE": url})
    assert settings.database.get_secret_value() == url


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.load({**SERVERS, "REDFAUST_TOKEN": "", "REDFAUST_PORT": ""}) == Settings.load(
        SERVERS
    )


def test_other_variables_are_left_alone() -> None:
    assert Settings.load({**SERVERS, "PATH": "/bin"}) == Settings.load(SERVERS)


def test_without_servers_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"redfaust up.* REDFAUST_BROKER and REDFAUST_DATABASE"):
        Settings.load({"REDFAUST_DATA_DIR": str(tmp_path)})


async def test_servers_come_from_what_runs_in_the_data_directory(tmp_path: Path) -> None:
    environ = {"REDFAUST_DATA_DIR": str(tmp_path)}
    directory = DataDirectory(tmp_path)
    async with directory.lock():
        directory.publish(Services(BROKER, DATABASE))

        settings = Settings.load(environ)
        overridden = Settings.load({**environ, "REDFAUST_BROKER": "redis://other:1/0"})

    assert settings.broker.get_secret_value() == BROKER
    assert overridden.broker.get_secret_value() == "redis://other:1/0"
    assert overridden.database.get_secret_value() == DATABASE


async def test_what_a_killed_installation_left_is_not_believed(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    async with directory.lock():
        pass
    directory.publish(Services(BROKER, DATABASE))

    with pytest.raises(SettingsError, match="no redfaust runs in"):
        Settings.load({"REDFAUST_DATA_DIR": str(tmp_path)})


def test_a_child_process_loads_the_same_settings() -> None:
    token = "0123456789abcdef"
    given = Given.load({"REDFAUST_PORT": "0", "REDFAUST_TOKEN": token, "REDFAUST_DATA_DIR": "/x"})
    settings = given.complete(broker=BROKER, database=DATABASE)

    assert Settings.load(settings.environ()) == settings
    assert settings.token == given.token


def test_nothing_secret_is_shown() -> None:
    environ = {
        **SERVERS,
        "REDFAUST_TOKEN": "hidden-3-hidden-3",
        "REDFAUST_SMTP": "smtp://user:hidden-4@localhost:25",
    }
    settings = Settings.load(environ)
    runner = CliRunner()

    shown = [repr(settings), str(settings), settings.model_dump_json()]
    for arguments in (["config"], ["config", "--json"]):
        result = runner.invoke(main, arguments, env=environ)
        assert result.exit_code == 0, result.output
        shown.append(result.output)

    assert not [text for text in shown if "hidden" in text]


def test_config_explains_every_setting(tmp_path: Path) -> None:
    environ = {"REDFAUST_DATA_DIR": str(tmp_path), "REDFAUST_PORT": "7071"}
    runner = CliRunner()

    text = runner.invoke(main, ["config"], env=environ).output
    rows = {
        row["name"]: row
        for row in json.loads(runner.invoke(main, ["config", "--json"], env=environ).output)
    }

    assert rows.keys() == Given.model_fields.keys()
    assert all(row["description"] for row in rows.values())
    assert (rows["port"]["default"], rows["port"]["value"]) == (7070, 7071)
    assert [name for name in rows if variable(name) not in text] == []


def test_an_error_is_one_line_and_exit_code_1() -> None:
    result = CliRunner().invoke(main, ["config"], env={"REDFAUST_PORTS": "1"})

    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "did you mean REDFAUST_PORT?" in result.output


@pytest.mark.parametrize("arguments", [["nonsense"], ["up", "--port", "x"], ["up", "--bogus"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2


@pytest.mark.parametrize(
    ("token", "complaint"),
    [
        ("0123456789abcdef\n", "line break"),
        (" 0123456789abcdef", "line break"),
        ("0123456789abcde", "shorter than 16"),
        ("q!", "shorter than 16"),
        ("0123456789abcdé0", "ASCII"),
        ("01234567\n89abcdef", "ASCII"),
    ],
)
def test_a_token_that_cannot_be_used_is_refused(token: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint) as refused:
        Settings.load(SERVERS | {"REDFAUST_TOKEN": token})
    assert "\n" not in str(refused.value)
    assert token.strip() not in str(refused.value)
