"""Operations that take their time, by the command: a ramp, a brake, and another shell that aborts or goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
import redis

from paigeant_core import WorkflowDispatcher, get_transport
from paigeant_core.operations import Cancel, Operations
from paigeant_core.transports.redis.keys import Keys
from tests.cli.conftest import Cli
from tests.cli.test_brokers import Serving, Start, until


@pytest.fixture
def twelve_dead(
    cli: Cli, environment: dict[str, str], redis_url: str, topic: str, target: str, start: Start
) -> list[str]:
    environment |= {"PAIGEANT_URL": redis_url, "PAIGEANT_TOPIC": topic}
    worker = Serving(start("worker", target))
    ids = [f"order-{number}" for number in range(12)]

    async def dispatch() -> None:
        async with get_transport(redis_url) as transport:
            for name in ids:
                await WorkflowDispatcher(transport).dispatch_workflow(
                    ["charge"], {"fail": True}, correlation_id=name, topic=topic
                )

    asyncio.run(dispatch())
    until(lambda: len(cli("list", "state:dead", "--json").documents) == 12)
    assert worker.process.poll() is None
    return ids


def test_a_ramp_stops_at_the_brake_and_the_rest_is_left_alone(cli: Cli, twelve_dead: list[str]) -> None:
    options = ("--where", "state:dead", "--reason", "try", "--yes", "--ramp", "--brake", "50")
    done = cli("retry", *options, "--json").ended(1)
    *results, summary = done.documents
    assert len(results) == summary["done"] == 1, "the first one failed again"
    assert summary["matched"] == 12
    assert "the brake stopped it: 1 of 1 failed (100 %); 11 were left alone" in done.err
    (operation,) = cli("operations", "--json").ended(0).documents
    assert (operation["state"], operation["done"], operation["again"], operation["targets"]) == ("braked", 1, 1, 12)
    assert operation["operation_id"] == summary["operation_id"]
    assert "braked" in cli("operations").ended(0).out
    started, entry = cli("audit", "--json").ended(0).documents
    assert (started["outcome"], started["operation_id"]) == ("started", operation["operation_id"])
    assert entry["targets"] == 12
    assert entry["outcome"].startswith("1 done, 0 skipped, 0 failed, the brake stopped it")
    # With the payload mended the rest comes through.
    cli("operations", "abort", operation["operation_id"][:8]).ended(0)
    cli("operations", "resume", operation["operation_id"]).ended(5).said("is aborted")
    cli("replay", "--where", "state:dead", "--var", "fail=false", "--reason", "mended", "--yes", "--ramp").ended(0)
    until(lambda: len(cli("list", "state:completed", "--json").documents) == 12)


def test_an_operation_survives_the_death_of_its_console(
    cli: Cli, twelve_dead: list[str], environment: dict[str, str], redis_url: str, topic: str
) -> None:
    command = ("replay", *twelve_dead, "--var", "fail=false", "--reason", "mended", "--yes", "--rate", "2")
    shell = subprocess.Popen(
        [sys.executable, "-m", "paigeant_console", *command],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert shell.stdout is not None
    shell.stdout.readline()
    shell.send_signal(signal.SIGKILL)
    shell.communicate()
    (operation,) = cli("operations", "--json").ended(0).documents
    heard_last(redis_url, topic, 2099)
    cli("operations", "resume", operation["operation_id"]).ended(5).said("carries it out now")
    heard_last(redis_url, topic, 2020)
    done = cli("operations", "resume", operation["operation_id"], "--json").ended(0)
    assert done.documents[-1]["done"] == 12
    until(lambda: len(cli("list", "state:completed", "--json").documents) == 12)
    for name in twelve_dead:
        history = cli("show", name, "--json").ended(0).document["history"]
        assert sum(record["kind"] == "operated" for record in history) == 1, "nothing was done twice"


def heard_last(redis_url: str, topic: str, year: int) -> None:
    """Make the entries of the operation older than they are in place of waiting, or newer in place of hurrying."""
    client: Any = redis.Redis.from_url(redis_url)
    key = f"{{paigeant:{topic}}}:operations"
    entries = client.xrange(key)
    client.delete(key)
    for _, fields in entries:
        text = fields[b"e"].decode()
        at = text.index('"at":"') + 6
        client.xadd(key, {**fields, b"e": text[:at] + str(year) + text[at + 4 :]})
    client.close()


def test_orders_that_cannot_be_are_sentences(cli: Cli, environment: dict[str, str]) -> None:
    environment["PAIGEANT_URL"] = "memory://"
    cli("operations", "stop", "x").ended(2).said("pause, resume, abort")
    cli("operations", "abort").ended(2).said("name an operation")
    cli("operations", "abort", "x").ended(3).said("no operation")
    cli("operations", "abort", "x", "--read-only").ended(5).said("read-only")
    cli("retry", "x", "--reason", "y", "--rate", "fast").ended(2).said("--rate")
    cli("retry", "x", "--reason", "y", "--brake", "200").ended(2).said("brake")


def test_undo_says_of_how_many_nothing_tells_any_more_which_they_were(
    cli: Cli, environment: dict[str, str], redis_url: str, topic: str
) -> None:
    environment |= {"PAIGEANT_URL": redis_url, "PAIGEANT_TOPIC": topic}

    async def cancelled() -> str:
        async with get_transport(redis_url) as transport:
            dispatcher, operations = WorkflowDispatcher(transport), Operations(transport, topic)
            ids = [await dispatcher.dispatch_workflow(["a"], {}, topic=topic) for _ in range(103)]
            plan = await operations.plan(Cancel(), ids, reason="x")
            assert (await operations.execute(plan)).count("done") == 103
            return plan.operation_id

    operation_id = asyncio.run(cancelled())
    with redis.Redis.from_url(redis_url) as client:
        client.xtrim(Keys(topic).journal, maxlen=0)
    for more in (("--dry-run",), ("--yes",)):
        done = cli("undo", operation_id, "--reason", "not these", *more, "--json").ended(1)
        assert "it was done to 3 more, and nothing tells any more to which" in done.err
        assert done.documents[-1]["matched"] == 100, "the audit names so many"
