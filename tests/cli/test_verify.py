"""Signed workflows by commands alone: keys, a policy, a worker, a dispatch, and what `verify` says of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from paigeant_core.transports.memory import MemoryTransport
from tests.cli.conftest import Cli
from tests.servers import free_port
from tests.ssh_agent import ssh_agent

Start = Callable[..., subprocess.Popen[str]]

POLICY = """
audience = "test"

[[principal]]
name = "shop"
roles = ["dispatcher"]
{shop}

[[principal]]
name = "worker"
roles = ["worker"]
activities = ["*"]
{worker}

[[principal]]
name = "ann"
roles = ["operator"]
operations = ["hold", "release", "skip"]
{ann}
"""


def write_policy(folder: Path, lines: dict[str, str]) -> Path:
    path = folder / "trust.toml"
    path.write_text(POLICY.format_map(lines))
    path.chmod(0o644)
    return path


@pytest.fixture
def lines(here: Cli) -> dict[str, str]:
    """What keygen printed for trust.toml, for a key of each."""
    return {
        name: here("keygen", f"{name}.json", "--name", name, "--audience", "test", "--json").document["trust"]
        for name in ("shop", "worker", "ann")
    }


@pytest.fixture
def trust(lines: dict[str, str], tmp_path: Path) -> Path:
    return write_policy(tmp_path, lines)


def test_a_signed_workflow_is_verified_from_the_journal(
    cli: Cli,
    start: Start,
    target: str,
    trust: Path,
    environment: dict[str, str],
    tmp_path: Path,
    redis_url: str,
    topic: str,
) -> None:
    environment |= {"PAIGEANT_URL": redis_url, "PAIGEANT_TOPIC": topic, "PAIGEANT_TRUST": str(trust)}
    shop, worker = ({"PAIGEANT_KEY": str(tmp_path / f"{name}.json")} for name in ("shop", "worker"))
    serving = start("worker", target, "--json", env=worker)
    assert serving.stdout is not None
    assert json.loads(serving.stdout.readline())["event"] == "ready"
    cli("dispatch", "validate", "charge", "--id", "order-1", "--wait", env=shop).ended(0)
    *records, summary = cli("verify", "order", "--json").ended(0).documents
    assert [(entry["kind"], entry["name"], entry["signer"], entry["hop"], entry["status"]) for entry in records] == [
        ("origin", None, "shop", None, "valid"),
        ("step", "validate", "worker", 1, "valid"),
        ("step", "charge", "worker", 2, "valid"),
    ]
    assert summary == {
        "schema": 1,
        "summary": True,
        "correlation_id": "order-1",
        "records": 3,
        "status": "valid",
        "reason": None,
    }
    people = cli("verify", "order-1").ended(0)
    assert [line.split()[:4] for line in people.out.splitlines()] == [
        ["N", "STATUS", "SIGNED", "BY"],
        ["0", "valid", "shop", "origin"],
        ["1", "valid", "worker", "step"],
        ["2", "valid", "worker", "step"],
    ]
    # What nobody signed is not run, and says so.
    waited = cli("dispatch", "validate", "--id", "order-2", "--wait", env={"PAIGEANT_TRUST": ""}).ended(1)
    (parked,) = cli("list", "state:quarantined", "--json").documents
    aside = parked["correlation_id"]
    why = f"paigeant-console: the message of order-2 was quarantined as {aside}: show {aside} tells why"
    assert waited.err.splitlines() == [why, "paigeant-console: order-2 is quarantined"]
    assert cli("show", "order-2", "--wait").ended(1).err.splitlines() == [why]
    refused = cli("verify", parked["correlation_id"], "--json").ended(1)
    assert refused.document["status"] == "unsigned"
    cli("verify", parked["correlation_id"]).ended(1).said("unsigned")
    serving.terminate()
    assert serving.wait(timeout=30) == 0


def test_a_key_that_is_revoked_later_takes_its_records_with_it(
    here: Cli, trust: Path, lines: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIGEANT_TRUST", str(trust))
    monkeypatch.setenv("PAIGEANT_KEY", "shop.json")
    here("dispatch", "validate", "--id", "order-1").ended(0)
    assert here("verify", "order-1", "--json").ended(0).documents[-1]["status"] == "valid"
    revoked = lines["shop"].replace(" }]", ", revoked_at = 2026-01-01T00:00:00Z }]")
    write_policy(tmp_path, lines | {"shop": revoked})
    entry, summary = here("verify", "order-1", "--json").ended(1).documents
    assert (entry["status"], entry["kind"], summary["status"]) == ("revoked", None, "revoked")
    here("dispatch", "validate").ended(2).said("is revoked")


def test_what_is_missing_is_said_before_anything_is_done(
    here: Cli, trust: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIGEANT_TRUST", str(trust))
    here("verify", "order-1").ended(3)
    here("dispatch", "validate").ended(2).said("PAIGEANT_KEY")
    here("worker", target).ended(2).said("no key to sign with")
    monkeypatch.setenv("PAIGEANT_KEY", "worker.json")
    here("dispatch", "validate").ended(2).said("role dispatcher")
    Path("worker.json").chmod(0o644)
    here("worker", target).ended(2).said("worker.json", "chmod 600")
    monkeypatch.setenv("PAIGEANT_KEY", "shop.json")
    here("worker", target).ended(2).said("role worker")
    monkeypatch.delenv("PAIGEANT_TRUST")
    here("worker", target).ended(2).said("no trust policy")


def test_an_operator_is_whose_key_signs_and_does_what_the_policy_lets_them(
    here: Cli, trust: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIGEANT_TRUST", str(trust))
    monkeypatch.setenv("PAIGEANT_KEY", "shop.json")
    here("dispatch", "validate", "charge", "--id", "order-1").ended(0)
    here("skip", "order-1", "--reason", "why", "--yes").ended(5).said("role operator")
    monkeypatch.delenv("PAIGEANT_KEY")
    here("skip", "order-1", "--reason", "why", "--yes").ended(5).said("no key to sign with")
    monkeypatch.setenv("PAIGEANT_KEY", "ann.json")
    here("replay", "order-1", "--reason", "why", "--yes").ended(5).said("does not let ann")
    here("skip", "order-1", "--reason", "not needed", "--yes").ended(0)
    assert [row["trust"] for row in here("list", "--json").documents] == ["valid"]
    assert here("list", "trust:valid", "--json").documents
    shown = here("show", "order-1", "--json").document
    assert (shown["trust"], shown["trust_reason"], shown["trust_broken_since"]) == ("valid", None, None)
    assert [(entry["kind"], entry["signer"]) for entry in shown["signatures"]] == [
        ("origin", "shop"),
        ("operation", "ann"),
    ]
    assert "valid; skip by ann" in here("show", "order-1").out
    *_, record, summary = here("verify", "order-1", "--json").ended(0).documents
    assert (record["kind"], record["name"], record["signer"], record["result"]) == (
        "operation",
        "skip",
        "ann",
        "not needed",
    )
    assert summary["status"] == "valid"
    last = here("audit", "--json").ended(0).documents[-1]
    assert (last["operator"], last["action"], last["outcome"]) == ("ann", "skip", "1 done, 0 skipped, 0 failed")


def test_without_a_policy_it_is_said_that_nobody_verified(
    here: Cli, trust: Path, lines: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIGEANT_KEY", "shop.json")
    here("dispatch", "validate", "--id", "order-1").ended(0)
    monkeypatch.delenv("PAIGEANT_KEY")
    here("dispatch", "validate", "--id", "order-2").ended(0)
    assert {row["correlation_id"]: row["trust"] for row in here("list", "--json").documents} == {
        "order-1": "unverified",
        "order-2": "unsigned",
    }
    assert "unverified: there is no trust policy" in here("show", "order-1").out
    monkeypatch.setenv("PAIGEANT_TRUST", "trust.toml")
    worker = f'name = "worker"\nroles = ["worker"]\nactivities = ["*"]\n{lines["worker"]}'
    (tmp_path / "trust.toml").write_text(f'audience = "test"\n[[principal]]\n{worker}\n')
    shown = here("show", "order-1", "--json").document
    assert (shown["trust"], shown["trust_broken_since"]) == ("unknown_key", 1)
    assert "unknown_key, broken since hop 1: record 0: the trust policy has no key" in here("show", "order-1").out


def test_an_audit_that_somebody_changed_is_found_out_by_its_exported_heads(
    here: Cli, trust: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIGEANT_TRUST", str(trust))
    monkeypatch.setenv("PAIGEANT_KEY", "shop.json")
    here("dispatch", "validate", "charge", "--id", "order-1").ended(0)
    here("audit", "--export-heads", "heads.jsonl").ended(0).said("nothing was exported")
    monkeypatch.setenv("PAIGEANT_KEY", "ann.json")
    for verb in ("hold", "release"):
        here(verb, "order-1", "--reason", "why", "--yes").ended(0)
    here("audit", "--verify", "--export-heads", "heads.jsonl").ended(0)
    assert Path("heads.jsonl").stat().st_mode & 0o777 == 0o600
    whole = here("audit", "--verify", "--heads", "heads.jsonl", "--json").ended(0).document
    assert (whole["entries"], whole["signed"], whole["heads"], whole["problems"]) == (2, 2, 1, 0)
    with MemoryTransport(os.environ["PAIGEANT_URL"].removeprefix("memory://")).broker.topic("workflows") as state:
        state.audit.pop()
    here("audit", "--verify").ended(0)
    problem, summary = here("audit", "--heads", "heads.jsonl", "--json").ended(1).documents
    assert (problem["n"], problem["code"], summary["problems"]) == (2, "removed", 1)
    assert "the audit ends at 1" in here("audit", "--verify", "--heads", "heads.jsonl").ended(1).out
    here("audit", "--heads", "nowhere").ended(2).said("nowhere")


def test_an_operator_acts_with_the_key_in_the_agent(here: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ssh_agent(tmp_path) as (path, file):
        here("keygen", "shop.json", "--name", "shop").ended(0)
        shop = here("keygen", "other.json", "--name", "other", "--json").document["trust"]
        ann = here("keygen", str(file), "--ssh", "--name", "ann", "--json").ended(0).document["trust"]
        here("keygen", "shop.json", "--ssh").ended(2).said("no public Ed25519 key")
        (tmp_path / "trust.toml").write_text(
            f'[[principal]]\nname = "other"\nroles = ["dispatcher"]\n{shop}\n'
            f'[[principal]]\nname = "ann"\nroles = ["operator"]\noperations = ["*"]\n{ann}\n'
        )
        monkeypatch.setenv("PAIGEANT_TRUST", "trust.toml")
        monkeypatch.setenv("PAIGEANT_KEY", "other.json")
        here("dispatch", "charge", "notify", "--id", "order-1").ended(0)
        monkeypatch.setenv("PAIGEANT_KEY", "agent")
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        here("skip", "order-1", "--reason", "why", "--yes").ended(2).said("SSH_AUTH_SOCK")
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        here("skip", "order-1", "--reason", "why", "--yes").ended(0)
        monkeypatch.delenv("PAIGEANT_KEY")
        here("hold", "order-1", "--reason", "why", "--yes").ended(0)
        *records, summary = here("verify", "order-1", "--json").ended(0).documents
        assert [(record["name"], record["signer"]) for record in records[1:]] == [("skip", "ann"), ("hold", "ann")]
        assert summary["status"] == "valid"
        assert here("audit", "--verify", "--json").ended(0).document["signed"] == 2


def test_an_operation_at_a_flagged_activity_waits_for_a_second_person(
    here: Cli, trust: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = here("keygen", "bob.json", "--name", "bob", "--audience", "test", "--json").document["trust"]
    more = f'[[principal]]\nname = "bob"\nroles = ["operator"]\noperations = ["*"]\n{bob}\n'
    trust.write_text(trust.read_text() + more + '[approval]\nactivities = ["validate"]\n')
    monkeypatch.setenv("PAIGEANT_TRUST", str(trust))
    monkeypatch.setenv("PAIGEANT_KEY", "shop.json")
    here("dispatch", "validate", "charge", "--id", "order-1").ended(0)
    monkeypatch.setenv("PAIGEANT_KEY", "ann.json")
    here("skip", "order-1", "--reason", "not needed", "--rate", "5", "--yes").ended(0).said(
        "takes a second person", "nothing was done", "the pace is not kept"
    )
    (waiting,) = here("operations", "--json").documents
    assert (waiting["state"], waiting["operator"], waiting["targets"]) == ("waiting", "ann", 1)
    here("operations", "approve", waiting["operation_id"], "--yes").ended(5).said("your own")
    monkeypatch.setenv("PAIGEANT_KEY", "bob.json")
    assert "because: not needed" in here("operations", "approve", waiting["operation_id"], "--yes").ended(0).err
    *_, record, summary = here("verify", "order-1", "--json").ended(0).documents
    assert (record["name"], record["signer"], summary["status"]) == ("skip", "bob", "valid")
    assert here("operations", "--json").document["said"] == "proposed by ann, approved by bob"
    here("operations", "reject", waiting["operation_id"], "--reason", "late").ended(5).said("is finished")


def test_without_a_policy_it_is_told_what_needs_none(
    here: Cli, trust: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here("dispatch", "charge", "--id", "plain").ended(0)
    assert here("verify", "plain", "--json").ended(1).document == {
        "schema": 1,
        "summary": True,
        "correlation_id": "plain",
        "records": 0,
        "status": "unsigned",
        "reason": "it carries no signature",
    }
    here("verify", "nosuch").ended(3).said("nosuch")
    here("verify", "plain", "--url", f"redis://127.0.0.1:{free_port()}").ended(4)
    monkeypatch.setenv("PAIGEANT_KEY", str(tmp_path / "shop.json"))
    here("dispatch", "charge", "--id", "signed").ended(0)
    here("verify", "signed").ended(2).said("PAIGEANT_TRUST")


def test_verbs_select_by_what_signatures_are_worth_as_list_does(
    here: Cli, trust: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIGEANT_KEY", "shop.json")
    for number in range(3):
        here("dispatch", "validate", "--id", f"good-{number}").ended(0)
    monkeypatch.delenv("PAIGEANT_KEY")
    here("dispatch", "validate", "--id", "forged").ended(0)
    trust.write_text(trust.read_text().replace('"hold", ', '"hold", "erase", '))
    monkeypatch.setenv("PAIGEANT_KEY", "ann.json")
    monkeypatch.setenv("PAIGEANT_TRUST", str(trust))
    words = ("hold", "--where", "!trust:valid", "--reason", "why", "--json")
    assert [row["correlation_id"] for row in here("list", "!trust:valid", "--json").documents] == ["forged"]
    planned, summary = here(*words, "--dry-run").documents
    assert (planned["correlation_id"], summary["matched"]) == ("forged", 1)
    erasing = ("erase", "--where", "trust:valid", "--reason", "why", "--dry-run", "--json")
    assert {line["correlation_id"] for line in here(*erasing).documents[:-1]} == {"good-0", "good-1", "good-2"}


@pytest.mark.parametrize("query", ["!trust:valid", "trust:revoked", "state:dead OR (age:>1h !trust:val)"])
def test_where_nobody_verifies_a_query_for_what_that_would_find_is_refused(here: Cli, query: str) -> None:
    here("dispatch", "validate", "--id", "order-1").ended(0)
    why = ("signatures are not verified here: trust is unsigned or unverified", "PAIGEANT_TRUST")
    here("list", query).ended(2).said(*why)
    here("hold", "--where", query, "--reason", "why", "--yes").ended(2).said(*why)
    here("erase", "--where", query, "--reason", "why", "--yes").ended(2).said(*why)
    here("history", query).ended(2).said(why[0], "list selects by it")
    assert here("list", "trust:unsigned !trust:unverified", "--json").ended(0).documents
