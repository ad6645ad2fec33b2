"""Settings: flags before the environment before the file before the defaults, and no password anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from paigeant_console.config import Flags, Settings, config_path, load
from paigeant_console.history import history_path
from paigeant_console.masking import mask_text
from paigeant_console.user_directories import user_directory
from paigeant_core.errors import ConfigError, InvalidMessage
from tests.cli.conftest import Cli

FILE = """
context = "staging"
topic = "filed"
operator = "from-file"

[contexts.staging]
url = "redis://staging/0"
topic = "staged"

[contexts.prod]
url = "redis://ops:secret@prod/0"
read_only = true
production = true

[contexts.bare]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "config.toml"
    found.write_text(FILE, encoding="utf-8")
    return found


def settings(path: Path, flags: Flags | None = None, **environ: str) -> Settings:
    return load(flags or Flags(), {"PAIGEANT_CONFIG": str(path), **environ})


def test_the_defaults(tmp_path: Path) -> None:
    found = load(Flags(), {"HOME": str(tmp_path)})
    assert (found.url, found.topic, found.context, found.read_only, found.production) == (
        "memory://",
        "workflows",
        "",
        False,
        False,
    )
    assert set(found.sources.values()) == {"default"}


def test_the_file_is_where_platformdirs_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config_path({}) == tmp_path / "paigeant-console" / "config.toml"


def test_without_a_home_there_is_no_file_and_every_command_goes_on(here: Cli, homeless: None, tmp_path: Path) -> None:
    found = load(Flags(), {})
    assert (found.path, found.url, found.contexts) == (None, "memory://", ())
    with pytest.raises(ConfigError, match=r"no context 'prod' in any config\.toml, as there is no home directory"):
        load(Flags(context="prod"), {})
    assert history_path("redis://h/0", "t", {}) is None
    here("dispatch", "a", "--id", "w1").ended(0)
    assert here("list", "--json").ended(0).document["correlation_id"] == "w1"
    here("cancel", "w1", "--reason", "x", "--yes").ended(0)
    assert here("info", "--json").ended(0).document["paths"] == {"config": None, "config_found": False, "logs": None}
    assert "config" in here("info").ended(0).out
    here("history", "--url", "redis://127.0.0.1:1").ended(0).said("there is no home directory to keep it in")
    here("dispatch", "a", "--token-file", "~/token").ended(2).said("~ is no home directory; write the whole path")


@pytest.mark.parametrize("kind", ["config", "state", "log"])
def test_what_would_be_written_without_a_home_is_told_why_it_is_not(
    kind: Literal["config", "state", "log"], clean: None, homeless: None
) -> None:
    with pytest.raises(OSError, match="there is no home directory; set HOME"):
        user_directory(kind)


def test_each_level_comes_before_the_next(path: Path) -> None:
    found = settings(path)
    assert (found.url, found.topic, found.context) == ("redis://staging/0", "staged", "staging")
    assert found.operator == "from-file"
    found = settings(path, PAIGEANT_URL="redis://env", PAIGEANT_TOPIC="envt", PAIGEANT_OPERATOR="ann")
    assert (found.url, found.topic, found.operator) == ("redis://env", "envt", "ann")
    assert found.sources["url"] == "environment"
    found = settings(path, Flags(url="redis://flag", topic="flagt"), PAIGEANT_URL="redis://env", PAIGEANT_TOPIC="x")
    assert (found.url, found.topic) == ("redis://flag", "flagt")
    found = settings(path, PAIGEANT_CONTEXT="prod")
    assert (found.url, found.topic, found.read_only, found.production) == (
        "redis://ops:secret@prod/0",
        "filed",
        True,
        True,
    )


def test_a_context_that_is_named_by_a_flag_is_a_flag(path: Path) -> None:
    found = settings(path, Flags(context="prod"), PAIGEANT_URL="redis://env", PAIGEANT_TOPIC="envt")
    assert found.url == "redis://ops:secret@prod/0"
    assert found.topic == "envt"  # of which the context says nothing
    assert found.sources["url"] == "context"
    assert settings(path, Flags(context="prod", url="redis://flag")).url == "redis://flag"
    assert settings(path, Flags(context="bare"), PAIGEANT_URL="redis://env").url == "redis://env"


def test_a_variable_that_is_empty_is_unset_and_a_flag_that_is_empty_a_mistake(path: Path) -> None:
    found = settings(path, PAIGEANT_URL="", PAIGEANT_TOPIC="", PAIGEANT_CONTEXT="")
    assert (found.url, found.topic, found.context) == ("redis://staging/0", "staged", "staging")
    for flags, name in ((Flags(url=""), "--url"), (Flags(topic=""), "--topic"), (Flags(context=""), "--context")):
        with pytest.raises(ConfigError, match=f"{name} is empty"):
            settings(path, flags)


def test_read_only_is_a_brake_that_no_name_lifts(path: Path) -> None:
    assert settings(path, Flags(read_only=True)).read_only
    assert settings(path, Flags(context="staging"), PAIGEANT_READ_ONLY="1").read_only
    assert settings(path, Flags(context="prod")).read_only
    assert settings(path, Flags(context="prod", url="redis://other")).read_only
    assert not settings(path, PAIGEANT_READ_ONLY="0", PAIGEANT_CONTEXT="prod").read_only
    assert not settings(path, PAIGEANT_READ_ONLY="").read_only


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ulr = 'redis://x'", "is url meant?"),
        ("[contexts.a]\nreadonly = true", "is contexts.a.read_only meant?"),
        ("colour = 1", "known are context, url"),
        ("read_only = 'yes'", "true or false"),
        ("url = 5", "text in quotes"),
        ("contexts = 5", "a table"),
        ("[contexts]\nprod = 5", "[contexts.prod]"),
        ("url = ", "no TOML"),
        ("context = 'prd'\n[contexts.prod]", "is prod meant?"),
        ("context = 'prod'", "there are none"),
        ("url = 'http://x'", "scheme"),
    ],
)
def test_a_mistake_is_told_with_the_file_and_the_nearest(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        settings(path)
    assert words in str(caught.value)
    if "scheme" not in words:
        assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_or_not_to_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        settings(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        settings(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"url = '\xff'")
    with pytest.raises(ConfigError, match="no TOML"):
        settings(tmp_path / "latin.toml")


def test_values_of_the_environment_are_looked_at() -> None:
    with pytest.raises(ConfigError, match="PAIGEANT_READ_ONLY"):
        load(Flags(), {"HOME": "/nowhere", "PAIGEANT_READ_ONLY": "maybe"})
    with pytest.raises(InvalidMessage, match="topic"):
        load(Flags(topic="two words"), {"HOME": "/nowhere"})


def test_passwords_are_masked() -> None:
    url = "redis://ops:s3cr%40t@host:1/0"
    assert load(Flags(url=url), {"HOME": "/nowhere"}).masked_url == "redis://ops:***@host:1/0"
    assert mask_text(f"cannot reach {url}, really", "") == "cannot reach redis://ops:***@host:1/0, really"
    assert mask_text("amqp://a:p@ss@host/x and amqp://b@host") == "amqp://a:***@host/x and amqp://b@host"
    assert mask_text("AUTH failed for s3cr@t or s3cr%40t", url) == "AUTH failed for *** or ***"
    assert mask_text("plain", "redis://[::1") == "plain"
    assert mask_text("a cat", "redis://u:a@host") == "a cat"
