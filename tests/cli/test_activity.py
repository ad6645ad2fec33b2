"""`activity`: pause and resume an activity for all its workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Rights


@pytest.fixture
def one(here: Cli) -> Cli:
    """A workflow that waits for `a`."""
    here("dispatch", "a", "b", "--id", "w1").ended(0)
    return here


def test_a_paused_activity_is_seen_everywhere(one: Cli) -> None:
    done = one("activity", "pause", "a", "--reason", "provider is down", "--yes", "--json").ended(0)
    assert done.document == {"schema": 1, "activity": "a", "order": "pause", "outcome": "done", "reason": None}
    listed = one("activity", "--json").ended(0).document
    assert (listed["activity"], listed["reason"]) == ("a", "provider is down")
    assert one("queues", "--json").documents[0]["paused"]["reason"] == "provider is down"
    assert "provider is down" in one("queues").err
    assert one("info", "--json").document["broker"]["paused"][0].startswith("a: ")
    assert one("list", "--json").document["stuck"] == "paused"
    assert "paused it at" in one("show", "w1").out
    assert one("list", "stuck:paused", "--json").document["correlation_id"] == "w1"
    assert one("audit", "--json").document["action"] == "pause activity a"

    again = one("activity", "pause", "a", "--reason", "x", "--yes", "--json").ended(1).document
    assert again["outcome"] == "skipped"
    assert "paused already" in again["reason"]
    one("activity", "resume", "a", "--reason", "it is back", "--yes").ended(0)
    one("activity", "resume", "a", "--reason", "x", "--yes").ended(1)
    assert "paused" not in one("queues", "--json").documents[0]
    assert one("list", "--json").document["stuck"] is None


def test_what_cannot_be_is_said(one: Cli) -> None:
    one("activity", "stop", "a").ended(2).said("write pause or resume")
    one("activity", "pause").ended(2).said("name an activity")
    one("activity", "pause", "a", "--yes").ended(2).said("--reason")
    one("activity", "pause", "z", "--reason", "x", "--yes").ended(3).said("no activity 'z'", "known: a")
    one("activity", "pause", "a", "--reason", "x").ended(5).said("--yes")
    one("activity", "pause", "a", "--reason", "x", "--yes", "--read-only").ended(5).said("read-only")
    dry = one("activity", "pause", "a", "--reason", "x", "--dry-run", "--json").ended(0).document
    assert dry["reason"] == "dry run: would pause"
    one("activity", "pause", "z", "--reason", "x", "--dry-run").ended(3).said("no activity 'z'", "known: a")
    assert one("activity", "--json").ended(0).documents == []
    assert one("audit", "--json").documents == []


def test_a_policy_says_who_may_pause_and_the_audit_is_signed(one: Cli, rights: Rights) -> None:
    words = ("activity", "pause", "a", "--reason", "x", "--yes")
    rights("hold")
    one(*words).ended(5).said("does not let ann")
    one("activity", "resume", "a", "--reason", "x").ended(5).said("does not let ann")
    assert one("activity", "--json").ended(0).documents == []
    paused, resumed = one("audit", "--json").documents
    assert [entry["action"] for entry in (paused, resumed)] == ["pause activity a", "resume activity a"]
    assert paused["outcome"] == "denied: activity: the trust policy does not let ann do that"
    assert (paused["operator"], paused["reason"], paused["targets"]) == ("ann", "x", 1)
    rights("activity")
    one(*words).ended(0)
    rights("hold")
    one("activity", "resume", "a", "--reason", "x", "--yes").ended(5).said("does not let ann")
    assert one("activity", "--json").ended(0).document["operator"] == "ann"
    *_, done, denied = one("audit", "--json").ended(0).documents
    assert (done["operator"], done["action"], done["outcome"]) == ("ann", "pause activity a", "1 done")
    assert denied["outcome"].startswith("denied: ")
    assert one("audit", "--verify", "--json").ended(0).document["signed"] == 4


def test_that_production_did_not_confirm_is_on_record(
    one: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[contexts.prod]\nproduction = true\n", encoding="utf-8")
    monkeypatch.setenv("PAIGEANT_CONFIG", str(config))
    words = ("activity", "pause", "a", "--reason", "503", "--yes")
    one(*words, "--context", "prod").ended(5).said("prod is production")
    one(*words, "--confirm", "b").ended(5).said("--confirm must be a")
    first, second = one("audit", "--json").documents
    assert first["outcome"].startswith("denied: not confirmed: prod is production")
    assert (second["action"], second["outcome"]) == ("pause activity a", "denied: not confirmed: --confirm must be a")
    assert one("activity", "--json").documents == []


def test_without_a_key_a_policy_lets_nobody_pause_but_anybody_look(
    one: Cli, rights: Rights, monkeypatch: pytest.MonkeyPatch
) -> None:
    rights("*")
    monkeypatch.delenv("PAIGEANT_KEY")
    words = ("activity", "pause", "a", "--reason", "x")
    one(*words, "--yes").ended(5).said("no key to sign with")
    dry = one(*words, "--dry-run", "--json").ended(0).document
    assert dry["reason"] == "dry run: would pause"
    assert one("activity", "--json").ended(0).documents == []
