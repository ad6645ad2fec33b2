"""`topic delete`: it asks twice, and takes all away."""

from __future__ import annotations

import asyncio
import os

import pytest

from paigeant_core import Worker, get_transport
from tests.cli.conftest import Cli, Rights
from tests.transports.hands import until


@pytest.fixture
def two(here: Cli) -> Cli:
    """Two topics with something in them."""
    for topic in ("old", "new"):
        here("dispatch", "a", "--id", "w1", "--topic", topic).ended(0)
        here("dead-letter", "w1", "--reason", "x", "--yes", "--topic", topic).ended(0)
    return here


def test_it_takes_one_topic_away_and_leaves_the_other(two: Cli) -> None:
    words = ("topic", "delete", "--topic", "old", "--reason", "tidy up")
    dry = two(*words, "--dry-run", "--json").ended(0).document
    assert dry == {
        "schema": 1,
        "topic": "old",
        "deleted": False,
        "workflows": 1,
        "records": 3,
        "parked": 1,
        "audit_entries": 1,
    }
    two(*words, "--yes").ended(5).said("--confirm old", "asks twice")
    two(*words, "--confirm", "old").ended(5).said("--yes", "asks twice")
    two(*words, "--yes", "--confirm", "new").ended(5).said("--confirm must be old")
    assert two("audit", "--topic", "old", "--json").documents[-1]["outcome"].startswith("denied: not confirmed")
    assert two("list", "--topic", "old", "--json").document["state"] == "dead"
    done = two(*words, "--yes", "--confirm", "old", "--json").ended(0).document
    assert done["deleted"] is True
    for command in ("list", "audit", "queues", "operations"):
        assert two(command, "--topic", "old", "--json").ended(0).documents == []
    assert two("list", "--topic", "new", "--json").document["state"] == "dead"
    two(*words, "--yes", "--confirm", "old").ended(3).said("topic old has nothing")


def test_what_cannot_be_is_said(two: Cli) -> None:
    two("topic").ended(2).said("topic delete")
    two("topic", "drop").ended(2).said("topic delete")
    two("topic", "delete", "--yes", "--confirm", "old").ended(2).said("--reason")
    two("topic", "delete", "--read-only").ended(5).said("read-only")


async def test_it_is_refused_while_a_worker_lives(two: Cli) -> None:
    transport = get_transport(os.environ["PAIGEANT_URL"])
    worker = Worker("old", name="busy")

    @worker.activity("a")
    async def a(ctx: object) -> None:
        return None

    serving = asyncio.create_task(worker.run(transport))

    async def alive() -> bool:
        return bool(await transport.workers("old"))

    await until(alive, "the worker lives")
    words = ("topic", "delete", "--topic", "old", "--reason", "x", "--yes", "--confirm", "old")
    (await asyncio.to_thread(two, *words)).ended(5).said("1 workers serve topic old", "stop them first: busy")
    worker.stop()
    await serving
    *_, denied = (await asyncio.to_thread(two, "audit", "--topic", "old", "--json")).documents
    assert (denied["action"], denied["reason"]) == ("topic delete", "x")
    assert denied["outcome"].startswith("denied: 1 workers serve topic old, stop them first: busy")


def test_a_policy_says_who_may_delete_it(two: Cli, rights: Rights, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("topic", "delete", "--topic", "old", "--reason", "tidy up")
    sure = ("--yes", "--confirm", "old")
    rights("activity", "hold")
    two(*words, *sure).ended(5).said("topic: the trust policy does not let ann do that")
    two("topic", "delete", "--topic", "none", "--reason", "x").ended(5).said("does not let ann")
    _, denied = two("audit", "--topic", "old", "--json").documents
    assert (denied["action"], denied["operator"], denied["reason"]) == ("topic delete", "ann", "tidy up")
    assert denied["outcome"] == "denied: topic: the trust policy does not let ann do that"
    assert two("audit", "--topic", "none", "--json").documents == []
    rights("topic")
    key = os.environ["PAIGEANT_KEY"]
    monkeypatch.delenv("PAIGEANT_KEY")
    two(*words, *sure).ended(5).said("no key to sign with")
    assert two(*words, "--dry-run", "--json").ended(0).document["workflows"] == 1
    assert two("list", "--topic", "old", "--json").document["state"] == "dead"
    monkeypatch.setenv("PAIGEANT_KEY", key)
    two(*words, *sure).ended(0)
    assert two("list", "--topic", "old", "--json").ended(0).documents == []
