"""`export` and `import`: a failure in production, on the laptop."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def exported(cli: Cli, environment: dict[str, str], redis_url: str, topic: str, tmp_path: Path) -> Path:
    environment |= {"PAIGEANT_URL": redis_url, "PAIGEANT_TOPIC": topic}
    cli("dispatch", "charge", "--id", "order-1", "--var", "password=hunter2", "--var", "amount=3").ended(0)
    return tmp_path / "order.json"


def test_a_workflow_is_exported_and_opened_elsewhere(cli: Cli, exported: Path, environment: dict[str, str]) -> None:
    done = cli("export", "order", "-o", str(exported), "--json").ended(0)
    assert done.document == {
        "schema": 1,
        "correlation_id": "order-1",
        "file": str(exported),
        "records": 1,
        "redacted": ["password"],
    }
    assert "replaced as secrets: password" in done.err
    assert "hunter2" not in exported.read_text()
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600
    environment["PAIGEANT_URL"] = "memory://"
    opened = cli("import", str(exported), "--json").ended(0).document
    assert (opened["correlation_id"], opened["state"], opened["records"]) == ("order-1", "queued", 1)
    assert opened["broker"]["broker"] == "Redis"


def test_secrets_stay_where_they_are_asked_for(cli: Cli, exported: Path) -> None:
    done = cli("export", "order-1", "-o", "-", "--with-secrets").ended(0)
    assert "hunter2" in done.out
    assert json.loads(done.out)["correlation_id"] == "order-1"


def test_another_file_is_never_written_over(cli: Cli, exported: Path) -> None:
    exported.write_text("mine")
    cli("export", "order-1", "-o", str(exported)).ended(2).said("exists already", "-o")
    assert exported.read_text() == "mine"


def test_an_unknown_workflow_and_a_strange_file_are_refused(cli: Cli, exported: Path) -> None:
    cli("export", "nobody").ended(3)
    exported.write_text("{}")
    cli("import", str(exported)).ended(2).said("no capsule")
    cli("import", str(exported) + ".gone").ended(2).said("cannot be read")
    cli("dev", "tests/story.py", "--capsule", str(exported)).ended(2).said("no capsule")


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_on_standard_output_nothing_of_it_is_lost(
    cli: Cli, exported: Path, environment: dict[str, str], words: list[str]
) -> None:
    value = "\u2764\ufe0f \u00e9\u0301\u0301\u0301 \x7f \u2028 \U0001f468\u200d\U0001f469"
    cli("dispatch", "charge", "--id", "other", "--var", f"text={json.dumps(value, ensure_ascii=False)}").ended(0)
    cli("export", "other", "-o", str(exported)).ended(0)
    done = cli("export", "other", "-o", "-", *words, env={"PYTHONIOENCODING": "ascii"}).ended(0)
    assert done.out.isascii()
    assert len(done.out.splitlines()) == 1 or not words
    again = json.loads(done.out)
    kept = json.loads(exported.read_text(encoding="utf-8"))
    assert [again[key] for key in ("correlation_id", "records")] == [kept[key] for key in ("correlation_id", "records")]
    assert "\u200d" in exported.read_text(encoding="utf-8"), "the file has it as it is"


def test_the_look_and_read_only_of_the_environment_hold_for_it(
    here: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here("dispatch", "charge", "--id", "order-1").ended(0)
    here("export", "order-1", "-o", "order.json").ended(0)
    opened: dict[str, Any] = {}

    def run(*_: object, **options: Any) -> int:
        opened.update(options)
        return 0

    monkeypatch.setattr("paigeant_console.app.run", run)
    monkeypatch.setenv("PAIGEANT_ASCII", "1")
    monkeypatch.setenv("PAIGEANT_READ_ONLY", "1")
    here("import", "order.json").ended(0)
    assert (opened["read_only"], opened["look"].ascii) == (True, True)
    monkeypatch.delenv("PAIGEANT_READ_ONLY")
    here("import", "order.json").ended(0)
    assert not opened["read_only"]
