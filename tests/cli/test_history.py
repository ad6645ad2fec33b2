"""`history`: what consoles of this machine saw, without the broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from paigeant_console.history import History, history_of
from paigeant_core import transition as moves
from paigeant_core.clock import SystemClock
from paigeant_core.dispatcher import new_workflow
from paigeant_core.journal import Record
from tests.cli.conftest import Cli

URL = "redis://:s3cret@127.0.0.1:1/0"
"""Nothing answers there, and nothing has to."""


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    """The history of that broker's topic, with two workflows in it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PAIGEANT_URL", URL)
    history = history_of(URL, "workflows")
    assert history is not None
    assert history.open()
    now = SystemClock().now()
    for number, email in enumerate(("ann@example.com", "bob@example.com\x1b[31m")):
        message = new_workflow(["a"], {"email": email}, topic="workflows", at=now, correlation_id=f"wf-{number}")
        record = moves.dispatch(message, now).record
        history.put([Record.decode(record.encode_meta(), record.body, position=f"{number}-0", at=now)])
    assert history.flush()
    history.close()
    return history


def test_what_was_seen_is_listed_without_a_broker(here: Cli, kept: History) -> None:
    documents = here("history", "--json").ended(0).documents
    assert [item["correlation_id"] for item in documents] == ["wf-1", "wf-0"]
    assert {item["state"] for item in documents} == {"queued"}
    assert [item["correlation_id"] for item in here("history", "payload.email:ann", "--json").documents] == ["wf-0"]
    assert [item["correlation_id"] for item in here("history", "--limit", "1", "--json").documents] == ["wf-1"]
    done = here("history").ended(0)
    assert "wf-0" in done.out
    assert "\x1b" not in done.out
    assert "no workflow is selected" in here("history", "state:dead").ended(0).err
    assert here("history", "state:daed").ended(2).err


def test_an_erased_workflow_is_listed_no_more(here: Cli, kept: History) -> None:
    assert kept.erase("wf-0") == 1
    assert [item["correlation_id"] for item in here("history", "--json").documents] == ["wf-1"]


def test_where_there_is_none_it_says_so(here: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert "turned off" in here("history").ended(0).err  # in memory
    monkeypatch.setenv("PAIGEANT_URL", URL)
    assert "has looked at it" in here("history").ended(0).err
    monkeypatch.setenv("PAIGEANT_HISTORY", "maybe")
    assert "PAIGEANT_HISTORY" in here("history").ended(2).err
    assert "s3cret" not in here("history").err


def test_a_file_that_cannot_be_read_is_not_said_to_have_nothing(here: Cli, kept: History) -> None:
    kept.path.write_bytes(b"no database any more" * 1000)
    here("history").ended(2).said(f"the history {kept.path} cannot be read")
