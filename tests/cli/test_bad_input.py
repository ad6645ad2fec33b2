"""Bad input: one sentence that says what to do, the exit code, nothing by half, and no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paigeant_console.exit_codes import ExitCode, exit_code
from paigeant_core import errors
from paigeant_core.dispatcher import EmptyItinerary
from tests.cli.conftest import Cli
from tests.servers import RedisServer, free_port


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dispatch", "two words"], "activity name 'two words': use 1 to 64 letters"),
        (["dispatch", "a", "x" * 65], "use 1 to 64 letters"),
        (["dispatch", "a\x1b[2J"], "\\x1b[2J"),
        (["dispatch", ""], "activity name ''"),
        (["dispatch"], "an empty itinerary: a workflow needs at least one step"),
        (["dispatch", *["a"] * 101], "101 steps: a slip holds at most 100"),
        (["dispatch", '{"name": "a"'], "is no JSON; write a name, or"),
        (["dispatch", '{"arguments": {}}'], "activity name None"),
        (["dispatch", '{"name": "a", "argumnets": {}}'], "unknown field 'argumnets'"),
        (["dispatch", "a", "--payload", "list.json"], "the payload must be a JSON object"),
        (["dispatch", "a", "--payload", "text.json"], "the payload must be a JSON object"),
        (["dispatch", "a", "--payload", "none.json"], "--payload none.json: No such file"),
        (["dispatch", "a", "--payload", '{"n": 1}'], '--payload {"n": 1}: it takes the name of a file'),
        (["dispatch", "a", "--payload", "."], "--payload .: Is a directory"),
        (["dispatch", "a", "--payload", "large.json"], "the cap is 1048576; keep what is large elsewhere"),
        (["dispatch", "a", "--payload", "huge.json"], "which is the cap; keep what is large elsewhere"),
        (["dispatch", "a", "--payload", "almost.json", "--var", "more=123456"], "the cap is 1048576"),
        (["dispatch", "a", "--var", "novalue"], "write --var key=value"),
        (["dispatch", "a", "--var", "=x"], "write --var key=value"),
        (["dispatch", "a", "--label", "x"], "write --label key=value"),
        (["dispatch", "a", "--label", f"x={'y' * 201}"], "label 'x'"),
        (["dispatch", "a", "--name", "n" * 201], "at most 200 characters"),
        (["dispatch", "a", "--id", "no spaces"], "correlation ID 'no spaces'"),
        (["dispatch", "a", "--id", "q-1"], "kept for quarantine"),
        (["dispatch", "a", "--on-failure", "explode"], "'dead_letter' or 'compensate'"),
        (["dispatch", "a", "--topic", "two words"], "topic 'two words'"),
        (["dispatch", "a", "--topic", ""], "--topic is empty"),
        (["demo", "--topic", ""], "topic ''"),
        (["dispatch", "a", "--context", "prod"], "no context 'prod'"),
        (["replay", "w1", "--reason", "x", "--payload", "list.json"], "the payload must be a JSON object"),
        (["replay", "w1", "--reason", "x", "--var", "x"], "write --var key=value"),
        (["list", "--limit", "0"], "write a number from 1"),
        (["list", "--limit", "-3"], "write a number from 1"),
        (["list", "state:ded"], "is dead meant?"),
        (["list", "!kind:advanced"], "a workflow has no kind"),
        (["history", "kind:advanced"], "a workflow has no kind"),
        (["cancel", "--where", "!kind:advanced", "--reason", "x", "--yes"], "a workflow has no kind"),
        (["erase", "--where", "!kind:advanced", "--reason", "x", "--yes"], "a workflow has no kind"),
        (["tail", "!trust:valid"], "a record has no trust"),
        (["tail", "--since", "soon"], "write 10m, 2h, 1d, start or a time"),
        (["audit", "--limit", "x"], "write a number from 1"),
        (["worker", "none.py"], "there is no such file"),
        (["worker", "raises.py"], "ValueError: not today (raises.py:2)"),
        (["worker", "empty.py"], "no activities; register one"),
        (["worker", "empty.py", "--concurrency", "0"], "write a number from 1 to 10000"),
        (["worker", "empty.py", "--activity", "a"], "activity 'a' is not registered"),
        (["dev", "none.py"], "there is no such file"),
        (["demo", "--url", "redis://x"], "leave out --url"),
        (["serve"], "needs a broker that other processes reach"),
        (["serve", "--theme", "pink"], "no theme 'pink'"),
        (["serve", "--port", "65536"], "write a number from 1 to 65535"),
        (["serve", "--host", "console.example.com"], "write an address, such as 127.0.0.1"),
        (["serve", "--host", "0.0.0.0"], "put a proxy with TLS before the console"),
        (["serve", "--public-url", "console.example.com"], "such as https://console.example.com"),
        (["serve", "--public-url", "https://example.com/console"], "scheme and name alone"),
        (["list", "--url", "http://host"], "unknown broker URL scheme 'http'; use one of memory://, redis://"),
        (["list", "--url", "redis//host"], "unknown broker URL scheme"),
        (["list", "--url", "redis://host:port"], "cannot be read; write e.g. redis://host:6379/0"),
        (["list", "--url", "redis://a b"], "spaces or control characters"),
        (["lst"], "no command 'lst'; is list meant?"),
        (["list", "--colour"], "no such option: --colour"),
        (["list", "--limit"], "requires an argument"),
        (["show"], "missing argument 'ID'"),
        (["show", "a", "b"], "unexpected extra argument"),
        (["show", "a\x1b[2J", "b"], "unexpected extra argument"),
    ],
)
def test_what_cannot_be_is_said_with_exit_2(here: Cli, tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "list.json").write_text("[1]", encoding="utf-8")
    (tmp_path / "text.json").write_text("{", encoding="utf-8")
    (tmp_path / "large.json").write_text(json.dumps({"x": "y" * 1024 * 1024}), encoding="utf-8")
    (tmp_path / "huge.json").write_text(json.dumps({"x": "y" * 3 * 1024 * 1024}), encoding="utf-8")
    (tmp_path / "almost.json").write_text(json.dumps({"x": "y" * (1024 * 1024 - 10)}), encoding="utf-8")
    (tmp_path / "raises.py").write_text("def f():\n    raise ValueError('not today')\nf()\n", encoding="utf-8")
    (tmp_path / "empty.py").write_text("from paigeant_core import Worker\nworker = Worker()\n", encoding="utf-8")
    done = here(*arguments).ended(2).said(words)
    assert len(done.err.splitlines()) == 1, done.err
    assert done.err.isprintable() or done.err.rstrip("\n").isprintable()
    assert here("tail", "--no-follow", "--json").out == ""


def test_the_same_id_twice_is_refused_with_exit_1(here: Cli) -> None:
    here("dispatch", "a", "--id", "same").ended(0)
    here("dispatch", "a", "--id", "same").ended(1).said("same exists already", "choose another ID")
    assert len(here("tail", "--no-follow", "--json").documents) == 1


@pytest.mark.parametrize("command", ["show", "retry", "replay", "dead-letter"])
def test_ids_that_are_unknown_or_of_more_than_one(here: Cli, command: str) -> None:
    more = [] if command == "show" else ["--reason", "x", "--yes"]
    here("dispatch", "a", "--id", "ab1").ended(0)
    here("dispatch", "a", "--id", "ab2").ended(0)
    here(command, "zz", *more).ended(3).said("no workflow 'zz' in topic workflows", "list shows what there is")
    here(command, "\x1b[2J", *more).ended(3).said("no workflow '\\x1b[2J'")
    here(command, "ab", *more).ended(2).said("more than one ID: ab1, ab2", "write more of it")
    here(command, "", *more).ended(3)


@pytest.mark.parametrize(
    "command", [["list"], ["dispatch", "a"], ["show", "x"], ["tail"], ["queues"], ["worker", "{}"]]
)
@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_no_broker_is_exit_4(here: Cli, target: str, command: list[str], scheme: str) -> None:
    port = free_port()
    arguments = [argument.format(target) for argument in command]
    done = here(*arguments, "--url", f"{scheme}://127.0.0.1:{port}").ended(4).said(f"127.0.0.1:{port}", "is it up")
    assert len(done.err.splitlines()) == 1, done.err


def test_a_wrong_password_is_exit_4_and_told_nowhere(here: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisServer(password="right") as server:
        monkeypatch.setenv("PAIGEANT_URL", f"redis://:wr0ng-s3cret@127.0.0.1:{server.port}/0")
        for command in (["list"], ["dispatch", "a"], ["retry", "x", "--reason", "x", "--yes"]):
            done = here(*command).ended(4).said("refused the user name or the password", "look at user and password")
            assert "wr0ng" not in done.err
        monkeypatch.setenv("PAIGEANT_URL", f"redis://127.0.0.1:{server.port}/0")
        here("list").ended(4).said("refused the user name or the password")
        monkeypatch.setenv("PAIGEANT_URL", server.url)
        here("list", "--json").ended(0)


def test_every_error_has_its_code() -> None:
    for kind, code in {
        errors.ConfigError: 2,
        errors.DecodeError: 1,
        errors.InvalidMessage: 2,
        EmptyItinerary: 2,
        errors.MessageTooLarge: 2,
        errors.ConnectError: 4,
        errors.AuthenticationError: 4,
        errors.PublishError: 4,
        errors.PublishUnknown: 4,
        errors.Unsupported: 5,
        errors.DuplicateWorkflow: 1,
        errors.WorkflowNotFound: 3,
        errors.AmbiguousID: 2,
        errors.NotEligible: 1,
        errors.Conflict: 1,
        errors.Refused: 5,
        errors.PaigeantError: 1,
        ValueError: 1,
    }.items():
        assert exit_code(kind("x")) == code, kind
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3, 4, 5, 130, 141, 143]
