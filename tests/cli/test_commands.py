"""The commands that look and dispatch, on the in-memory broker of this process."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from paigeant_console.background import Background
from paigeant_console.commands._wait import _Waited, wait_until_over
from paigeant_core import PaigeantMessage, RetryPolicy, Worker, get_transport
from paigeant_core.journal import Kind, Record
from paigeant_core.message import Headers
from paigeant_core.operations import Cancel, Operations
from paigeant_core.transition import Place
from tests.cli.conftest import Cli
from tests.transports.hands import until

HOSTILE = "\x1b]0;owned\x07\u202e<b>"


@pytest.fixture
def worker(here: Cli) -> Iterator[Worker]:
    """A worker that serves while the test runs."""
    found = Worker(name="w1")

    @found.activity("validate")
    async def validate(ctx):
        return {"valid": True}

    @found.activity("charge", retry=RetryPolicy(max_attempts=1))
    async def charge(ctx):
        raise ValueError(f"no funds {HOSTILE}")

    transport = get_transport(os.environ["PAIGEANT_URL"])
    with Background(lambda: found.run(transport), name="worker"):
        yield found


def messages(topic: str = "workflows") -> list[PaigeantMessage]:
    async def read() -> list[PaigeantMessage]:
        found = []
        async for batch in get_transport(os.environ["PAIGEANT_URL"]).records(topic):
            found += [record.message for record in batch if record.message is not None]
        return found

    return asyncio.run(read())


def test_dispatch_prints_the_id_and_publishes_what_was_said(here: Cli, tmp_path: Path) -> None:
    (tmp_path / "payload.json").write_bytes(b' {"n": 1.50, "s": "old", "keep": [1E2]}\n')
    done = here(
        *("dispatch", "validate", '{"name": "charge", "arguments": {"amount": 5}}', "--payload", "payload.json"),
        *(
            "--var",
            "s=two words",
            "--var",
            "t=1.50",
            "--var",
            "u={}",
            "--var",
            "v=",
            "--var",
            "w=a=b",
            "--var",
            "x=NaN",
        ),
        *("--id", "order-1", "--name", "onboarding", "--label", "tier=premium", "--label", "eu=", "--topic", "shop"),
        *("--on-failure", "compensate"),
    )
    assert done.ended(0).out == "order-1\n"
    (message,) = messages("shop")
    assert message.payload_bytes == (
        b'{"n":1.50,"s":"two words","keep":[1E2],"t":1.50,"u":{},"v":"","w":"a=b","x":"NaN"}'
    )
    assert message.headers.name == "onboarding"
    assert message.headers.label_map == {"tier": "premium", "eu": ""}
    assert message.routing_slip.names() == ("validate", "charge")
    assert message.routing_slip.itinerary[1].arguments == {"amount": 5}
    assert message.routing_slip.on_failure == "compensate"


def test_dispatch_json_and_a_payload_that_nobody_touched(here: Cli, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b'{"a":1.0,"a":2}')
    done = here("dispatch", "a", "--payload", "p", "--json").ended(0)
    assert list(done.document) == ["schema", "correlation_id"]
    (message,) = messages()
    assert message.correlation_id == done.document["correlation_id"]
    assert message.payload_bytes == b'{"a":1.0,"a":2}'


def test_the_default_broker_is_said_to_vanish(here: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAIGEANT_URL")
    assert "set PAIGEANT_URL or give --url" in here("dispatch", "a").ended(0).err
    assert here("list", "--url", "memory://x", "--json").ended(0).err == ""


def test_wait_follows_to_the_end(here: Cli, worker: Worker) -> None:
    done = here("dispatch", "validate", "--id", "good", "--wait").ended(0)
    assert (done.out, done.err) == ("good\n", "paigeant-console: good is completed\n")
    done = here("dispatch", "validate", "charge", "validate", "--id", "bad", "--wait", "--json").ended(1)
    assert done.document == {"schema": 1, "correlation_id": "bad"}
    assert here("show", "good", "--wait", "--json").ended(0).document["state"] == "completed"
    assert here("show", "bad", "--wait").ended(1).out.startswith("✓ validate → ✗ charge → · validate\n")


def test_wait_says_of_a_workflow_that_it_is_held_while_it_is(here: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    here("dispatch", "nobody", "--id", "w").ended(0)
    for verb in ("hold", "release", "cancel"):
        here(verb, "w", "--reason", "x", "--yes").ended(0)
    assert here("show", "w", "--wait").ended(1).err == ""

    async def waits() -> str:
        async with get_transport(os.environ["PAIGEANT_URL"]) as transport:
            waiting = asyncio.create_task(wait_until_over(transport, "workflows", "held"))
            said = ""
            while "held is held: release it" not in said:
                await asyncio.sleep(0.01)
                said += capsys.readouterr().err
            operations = Operations(transport, "workflows")
            await operations.execute(await operations.plan(Cancel(), ["held"], reason="x"))
            return await waiting

    here("dispatch", "nobody", "--id", "held").ended(0)
    here("hold", "held", "--reason", "x", "--yes").ended(0)
    assert asyncio.run(asyncio.wait_for(waits(), 20)) == "cancelled"


def test_wait_goes_on_where_a_copy_in_another_queue_was_quarantined(here: Cli, worker: Worker) -> None:
    here("dispatch", "nobody", "--id", "w").ended(0)
    transport = get_transport(os.environ["PAIGEANT_URL"])
    (message,) = messages()
    with transport.broker.topic("workflows", wake=True) as state:  # type: ignore[attr-defined]
        state.put("validate", message.encode()[:-1] + b"?}")

    async def over() -> bool:
        aside = await until(lambda: transport.parked("workflows", Place.QUARANTINE), "no worker looked at it")
        waited = _Waited("w")
        waited.take(await transport.history("workflows", "w"))
        waited.take(aside)
        return waited.is_over()

    assert not asyncio.run(over())
    assert here("list", "--json", "stuck:quarantined").ended(0).documents == []
    assert here("show", "w", "--json").ended(0).document["stuck"] != "quarantined"


def test_list_has_the_fields_of_the_contract_newest_first(here: Cli, worker: Worker) -> None:
    assert here("list").ended(0).err.endswith("no workflow yet in topic workflows\n")
    assert here("list", "--json").ended(0).documents == []
    here("dispatch", "validate", "charge", "--id", "one", "--wait", "--name", "onboarding", "--label", "tier=x")
    here("dispatch", "validate", "--id", "two", "--wait")
    here("dispatch", "nobody", "--id", "three")
    three, two, one = here("list", "--json").ended(0).documents
    assert list(one) == [
        *("schema", "correlation_id", "name", "labels", "topic", "state", "stuck", "step", "hop", "run", "steps_done"),
        *("steps_total", "attempt", "epoch", "created_at", "updated_at", "error", "trust"),
    ]
    assert (one["state"], one["step"], one["hop"], one["labels"]) == ("dead", "charge", 2, {"tier": "x"})
    assert one["error"] == {"type": "ValueError", "message": f"no funds {HOSTILE}"}
    assert (two["state"], two["step"], two["error"]) == ("completed", None, None)
    assert (three["state"], three["step"]) == ("queued", "nobody")
    assert [found["correlation_id"] for found in here("list", "--json", "--limit", "2").documents] == ["three", "two"]
    assert [found["correlation_id"] for found in here("list", "--json", "state:dead").documents] == ["one"]
    assert [
        found["correlation_id"] for found in here("list", "--json", "payload.valid:true", "!state:dead").documents
    ] == ["two"]
    assert here("list", "--json", "state:held").ended(0).out == ""
    table = here("list").ended(0).out
    assert "\x1b" not in table
    assert "\u202e" not in table
    assert "ValueError: no funds ␛]0;owned␇<U+202E><b>" in table
    assert [line.split()[0] for line in table.splitlines()] == ["ID", "three", "two", "one"]


def test_list_looks_into_payloads_as_they_are_now(here: Cli, worker: Worker) -> None:
    here("dispatch", "validate", "nobody", "--id", "one", "--var", "who=ann")
    here("show", "one")
    done = here("dispatch", "validate", "--id", "two", "--wait", "--var", "who=bob").ended(0)
    assert done.out == "two\n"
    assert [found["correlation_id"] for found in here("list", "--json", "payload.who:ann").documents] == ["one"]
    assert [found["correlation_id"] for found in here("list", "--json", "bob").documents] == ["two"]


def test_list_knows_parked_workflows_that_the_journal_has_forgotten(here: Cli, worker: Worker) -> None:
    here("dispatch", "charge", "--id", "old", "--wait").ended(1)
    transport = get_transport(os.environ["PAIGEANT_URL"])
    with transport.broker.topic("workflows") as state:  # type: ignore[attr-defined]
        while state.journal:
            state._trim_one()
    assert [found["correlation_id"] for found in here("list", "--json").documents] == ["old"]
    assert here("list", "--json", "payload.x:1 OR state:dead").document["correlation_id"] == "old"


def test_show_tells_everything_of_one(here: Cli, worker: Worker) -> None:
    here(
        "dispatch",
        "validate",
        "charge",
        "notify",
        "--id",
        "3f2-one",
        "--wait",
        "--var",
        "n=1.50",
        "--var",
        f"h={HOSTILE}",
    )
    document = here("show", "3f2", "--json").ended(0).document
    assert list(document)[-4:] == ["itinerary", "executed", "payload", "history"]
    assert document["itinerary"] == [{"name": "charge", "arguments": {}}, {"name": "notify", "arguments": {}}]
    (step,) = document["executed"]
    assert list(step) == ["name", "attempt", "worker", "started_at", "completed_at", "duration_s"]
    assert step["worker"] == worker.name
    assert document["payload"] == {"n": 1.5, "h": HOSTILE, "valid": True}
    assert '"n":1.50' in here("show", "3f2", "--json").out
    assert [record["kind"] for record in document["history"]] == ["dispatched", "advanced", "dead_lettered"]
    assert here("show", "3f2").ended(0).out.splitlines()[0] == "✓ validate → ✗ charge → · notify"
    human = here("show", "3f2").out
    for word in ("ValueError: no funds ␛]0;owned␇", "not_retryable", '"n": 1.50', "validate", worker.name, "unsigned"):
        assert word.replace("not_retryable", "reason") in human
    assert "\x1b" not in human


def test_show_a_quarantined_message_with_its_bytes(here: Cli, worker: Worker) -> None:
    transport = get_transport(os.environ["PAIGEANT_URL"])
    with transport.broker.topic("workflows", wake=True) as state:  # type: ignore[attr-defined]
        state.put("validate", f"no message {HOSTILE}".encode())
    deadline = time.monotonic() + 10
    while not (found := here("list", "--json").ended(0).documents) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (found[0]["state"], found[0]["error"]["type"]) == ("quarantined", "malformed")
    shown = here("show", "q-").ended(0).out
    assert "message, 27 bytes of text:\n  no message ␛]0;owned␇<U+202E><b>\n" in shown
    assert here("show", "q-", "--json").ended(0).document["payload"] is None
    assert here("retry", "q-", "--reason", "x", "--yes", "--json").ended(1).documents[0]["outcome"] == "skipped"


def test_tail_tells_records(here: Cli, worker: Worker) -> None:
    here("dispatch", "validate", "charge", "--id", "one", "--wait")
    records = here("tail", "--no-follow", "--json").ended(0).documents
    assert list(records[-1]) == [
        *("schema", "position", "at", "kind", "correlation_id", "activity", "hop", "run", "attempt", "epoch", "worker"),
        "detail",
    ]
    assert [record["kind"] for record in records] == ["worker", "dispatched", "advanced", "dead_lettered"]
    assert [record["kind"] for record in here("tail", "--no-follow", "--json", "kind:advanced").documents] == [
        "advanced"
    ]
    assert len(here("tail", "--no-follow", "--json", "--since", "1h").documents) == 4
    assert len(here("tail", "--no-follow", "--json", "--since", "start").documents) == 4
    assert len(here("tail", "--no-follow", "--json", "--since", "2020-01-31T00:00:00Z").documents) == 4
    assert here("tail", "--no-follow", "--json", "--since", "2120-01-31").ended(0).documents == []
    human = here("tail", "--no-follow").ended(0).out
    assert "dead_lettered  one  charge  hop 2" in human
    assert "\x1b" not in human


def test_queues_workers_and_audit(here: Cli, worker: Worker) -> None:
    here("dispatch", "nobody", "--id", "one")
    queues = here("queues", "--json").ended(0).documents
    assert [list(queue) for queue in queues] == [
        ["schema", "activity", "ready", "in_flight", "delayed", "consumers", "oldest_s"]
    ] * 3
    (nobody,) = [queue for queue in queues if queue["activity"] == "nobody"]
    assert (nobody["ready"], nobody["consumers"]) == (1, 0)
    document = here("workers", "--json").ended(0).document
    assert list(document) == ["schema", "worker", "activities", "running", "last_seen_s"]
    assert (document["worker"], document["activities"], document["running"]) == (
        worker.name,
        ["validate", "charge"],
        [],
    )
    assert "nobody (no worker)" in here("queues").ended(0).out
    assert worker.name in here("workers").ended(0).out
    assert here("audit").ended(0).out == ""
    here("dead-letter", "one", "--reason", f"because {HOSTILE}", "--yes").ended(0)
    entry = here("audit", "--json").ended(0).document
    assert list(entry) == ["schema", "at", "operator", "action", "reason", "operation_id", "targets", "outcome"]
    assert (entry["action"], entry["targets"]) == ("dead-letter", 1)
    assert "because ␛]0;owned␇" in here("audit").ended(0).out


def test_hostile_entries_of_a_broker_do_no_harm(here: Cli) -> None:
    transport = get_transport(os.environ["PAIGEANT_URL"])

    async def plant() -> None:
        await transport.append_audit("workflows", b"\x1b[2J")
        await transport.append_audit("workflows", json.dumps({"at": 5, "operator": [HOSTILE], "reason": None}).encode())
        headers = Headers(
            correlation_id=f"id{HOSTILE}",
            name=HOSTILE,
            labels="[",
            topic="workflows",
            activity=HOSTILE,
            created_at=HOSTILE,
        )
        record = Record(Kind.QUARANTINED, headers, state="quarantined", body=b"\x1b[31m", worker=HOSTILE, at=1e9)
        record._detail = {"error": {"type": 5, "message": [HOSTILE]}, "reason": 7, HOSTILE: HOSTILE}
        with transport.broker.topic("workflows") as state:  # type: ignore[attr-defined]
            state.append(record)

    asyncio.run(plant())
    for command in (["list"], ["tail", "--no-follow"], ["audit"], ["list", "owned"], ["list", "payload.x:1"]):
        for arguments in (command, [*command, "--json"]):
            done = here(*arguments).ended(0)
            for character in "\x1b\x07\u202e":
                assert character not in done.out
                assert character not in done.err
            if "--json" in arguments:
                assert done.documents is not None
    assert "1 audit entries cannot be read" in here("audit").err


def test_info_works_without_a_broker_and_masks(here: Cli) -> None:
    document = here("info", "--json").ended(0).document
    assert document["broker"]["reachable"]
    assert document["config"]["sources"]["url"] == "environment"
    done = here("info", "--json", "--url", "redis://ops:s3cret@127.0.0.1:1/0").ended(0)
    assert done.document["broker"]["reachable"] is False
    assert done.document["config"]["url"] == "redis://ops:***@127.0.0.1:1/0"
    assert "s3cret" not in done.out + done.err
    assert "PAIGEANT_URL or a context keeps it out" in done.err
    assert "redis://ops:***@127.0.0.1:1/0" in here("info", "--url", "redis://ops:s3cret@127.0.0.1:1/0").out


def test_options_may_stand_before_and_behind_the_command(here: Cli, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[contexts.c]\nurl='memory://elsewhere'\ntopic='t'\n", encoding="utf-8")
    os.environ["PAIGEANT_CONFIG"] = str(tmp_path / "c.toml")
    here("--topic", "before", "dispatch", "a", "--id", "x").ended(0)
    assert here("--json", "list", "--topic", "before").document["topic"] == "before"
    assert here("--topic", "other", "--json", "list", "--topic", "before").document["topic"] == "before"
    here("--context", "c", "dispatch", "a", "--id", "y").ended(0)
    assert here("list", "--json", "--context", "c").document["correlation_id"] == "y"
    del os.environ["PAIGEANT_CONFIG"]
