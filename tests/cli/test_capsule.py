"""`export` and `import`: a failure in production, on the laptop."""

from __future__ import annotations

import json
import stat
from pathlib import Path

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
