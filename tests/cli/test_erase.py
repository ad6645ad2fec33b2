"""`erase`: on the broker, in the history of this machine, in capsules; it asks twice."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from paigeant_console.history import History, history_of
from paigeant_core import get_transport
from paigeant_core.journal import Record
from tests.cli.conftest import Cli

SENTINEL = "ann-4711@example.com"
REASON = ("--reason", "request 17")


def whole(path: Path) -> bytes:
    """All bytes of a file, and of those that SQLite keeps beside it."""
    return b"".join(item.read_bytes() for item in path.parent.glob(f"{path.name}*"))


@pytest.fixture
def dead(here: Cli) -> Cli:
    """Three workflows with the sentinel in them: two are dead, one waits."""
    for name in ("w1", "w2", "waits"):
        here("dispatch", "a", "--id", name, "--var", f"email={SENTINEL}").ended(0)
    here("dead-letter", "w1", "w2", *REASON, "--yes").ended(0)
    return here


def test_it_asks_twice_and_says_what_is_gone(dead: Cli) -> None:
    words = ("erase", "w1", *REASON)
    dry = dead(*words, "--dry-run", "--json").ended(0).documents
    assert dry[0]["outcome"] == "done"
    assert (dry[1]["dry_run"], dry[1]["done"]) == (True, 1)
    dead(*words, "--yes").ended(5).said("--confirm 1", "asks twice")
    dead(*words, "--confirm", "1").ended(5).said("--yes", "asks twice")
    dead(*words, "--yes", "--confirm", "2").ended(5).said("--confirm must be 1")
    assert SENTINEL in dead("show", "w1", "--json").out
    line, summary = dead(*words, "--yes", "--confirm", "1", "--json").ended(0).documents
    assert (line["outcome"], line["remains"], line["until"]) == ("done", [], None)
    assert line["removed"] == {"records": 3, "parked": 1, "history": 0, "capsules": 0}
    assert (summary["matched"], summary["done"], summary["skipped"], summary["failed"]) == (1, 1, 0, 0)
    shown = dead("show", "w1", "--json").ended(0)
    assert SENTINEL not in shown.out
    assert shown.document["state"] == "cancelled"
    assert shown.document["payload"] is None
    assert shown.document["erased_at"] == shown.document["updated_at"]
    assert f"erased at {shown.document['erased_at']}" in dead("list").ended(0).out
    assert "its messages, and what was said of it, are gone" in dead("show", "w1").ended(0).out
    assert "it was erased at" in dead(*words, "--yes", "--confirm", "1").ended(1).err
    assert "erased_at" not in dead("show", "w2", "--json").document
    entries = dead("audit", "--json", "--full").ended(0).documents
    assert "erase" in [entry["action"] for entry in entries]
    assert SENTINEL not in str(entries)


def test_a_person_is_found_by_payload_and_what_waits_is_left(dead: Cli) -> None:
    words = ("erase", "--where", f"payload.email:{SENTINEL}", *REASON, "--yes", "--confirm", "3", "--json")
    *lines, summary = dead(*words).ended(1).documents
    assert {line["correlation_id"]: line["outcome"] for line in lines} == {
        "w1": "done",
        "w2": "done",
        "waits": "skipped",
    }
    assert "cancel or dead-letter it first" in next(line["reason"] for line in lines if line["outcome"] == "skipped")
    assert (summary["done"], summary["skipped"]) == (2, 1)
    # The query names the person, and the audit is kept.
    assert SENTINEL not in dead("audit", "--json", "--full").out
    assert len(dead("list", f"payload.email:{SENTINEL}", "--json").documents) == 1


def test_what_cannot_be_is_said(dead: Cli, tmp_path: Path) -> None:
    dead("erase", "w1", "--yes", "--confirm", "1").ended(2).said("--reason")
    dead("erase", *REASON).ended(2).said("by ID", "--where")
    dead("erase", "w1", "--where", "*", *REASON).ended(2).said("not both")
    dead("erase", "w9", *REASON).ended(3).said("no workflow")
    dead("erase", "--where", "state:held", *REASON).ended(3).said("nothing matched")
    dead("erase", "--where", "*", *REASON, "--limit", "2", "--yes", "--confirm", "3").ended(5).said("--limit")
    dead("erase", "w1", *REASON, "--read-only").ended(5).said("read-only")
    dead("erase", "w1", *REASON, "--capsule", str(tmp_path / "none.json")).ended(2).said("cannot be read")
    file = tmp_path / "two.json"
    dead("export", "w2", "-o", str(file)).ended(0)
    dead("erase", "w1", *REASON, "--capsule", str(file)).ended(2).said("is of another workflow, w2")
    assert file.exists()


async def test_history_and_capsules_of_this_machine_go_too(
    dead: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paigeant_console import history as history_module

    path = tmp_path / "state" / "history.sqlite3"
    monkeypatch.setattr(history_module, "history_path", lambda *_: path)
    kept = history_of("memory://", "workflows")
    assert kept is not None
    assert kept.open()
    transport = get_transport(os.environ["PAIGEANT_URL"])
    kept.put([record async for batch in transport.records("workflows") for record in batch])
    assert kept.flush()
    kept.close()
    file = tmp_path / "one.json"
    (await asyncio.to_thread(dead, "export", "w1", "-o", str(file))).ended(0)
    before = whole(path) + whole(file)
    assert before.count(SENTINEL.encode()) >= 3
    words = ("erase", "w1", "w2", "--capsule", str(file), *REASON, "--yes", "--confirm", "2", "--json")
    first, second, _ = (await asyncio.to_thread(dead, *words)).ended(0).documents
    assert (first["removed"]["capsules"], second["removed"]["capsules"]) == (1, 0)
    assert first["removed"]["history"] == second["removed"]["history"] == 3
    assert not file.exists()
    rest = whole(path)
    # That of the workflow which waits is all that there is.
    assert rest.count(SENTINEL.encode()) == 1
    # What the broker has forgotten can be erased here all the same.
    with transport.broker.topic("workflows") as topic:  # type: ignore[attr-defined]  # the in-memory one
        topic.workflows.pop("waits")
    (done, _) = (
        (await asyncio.to_thread(dead, "erase", "waits", *REASON, "--yes", "--confirm", "1", "--json"))
        .ended(0)
        .documents
    )
    assert (done["outcome"], done["removed"]["history"]) == ("done", 1)
    rest = whole(path)
    assert SENTINEL.encode() not in rest


async def test_a_console_that_reads_of_it_elsewhere_forgets_too(dead: Cli, tmp_path: Path) -> None:
    history = History(tmp_path / "elsewhere.sqlite3")
    assert history.open()
    transport = get_transport(os.environ["PAIGEANT_URL"])
    seen: list[Record] = [record async for batch in transport.records("workflows") for record in batch]
    history.put(seen)
    assert history.flush()
    assert len(history.of("w1")) == 3
    await asyncio.to_thread(dead, "erase", "w1", "w2", *REASON, "--yes", "--confirm", "2")
    last = seen[-1].position
    history.put([record async for batch in transport.records("workflows", start=last) for record in batch])
    assert history.flush()
    assert [record.kind for record in history.of("w1")] == ["operated"]
    rest = whole(tmp_path / "elsewhere.sqlite3")
    assert rest.count(SENTINEL.encode()) == 1
    history.close()
