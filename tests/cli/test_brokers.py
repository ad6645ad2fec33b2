"""The whole way on real brokers: a worker in a process of its own, and every command beside it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paigeant_core.transports import get_transport
from tests.cli.conftest import Cli

Start = Callable[..., subprocess.Popen[str]]


class Serving:
    """A worker that runs; its words on stderr are read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._ready.wait(40), self.said
        assert process.poll() is None, self.said

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))
            if "serving" in line:
                self._ready.set()
        self._ready.set()

    def wait(self) -> int:
        code = self.process.wait(40)
        self._reader.join(5)
        return code


def until(look: Callable[[], Any], seconds: float = 30) -> Any:
    """Look until there is something to see."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return found


@pytest.fixture
def on_redis(environment: dict[str, str], redis_url: str, topic: str) -> None:
    environment |= {"PAIGEANT_URL": redis_url, "PAIGEANT_TOPIC": topic}


@pytest.fixture
def on_rabbitmq(environment: dict[str, str], rabbit_url: str, topic: str) -> None:
    environment |= {"PAIGEANT_URL": rabbit_url, "PAIGEANT_TOPIC": topic}


def the_whole_way(cli: Cli, start: Start, target: str, topic: str) -> None:
    assert cli("list", "--json").ended(0).out == ""
    serving = Serving(start("worker", target, "--concurrency", "2", "--json"))
    assert f"serving validate, charge, notify on topic {topic}" in serving.said[-1]
    document = cli("workers", "--json").ended(0).document
    assert sorted(document["activities"]) == ["charge", "notify", "validate"]

    good = cli("dispatch", "validate", "charge", "notify", "--id", "good", "--var", "n=1.50", "--wait", "--json").ended(
        0
    )
    assert good.document == {"schema": 1, "correlation_id": "good"}
    bad = cli("dispatch", "validate", "charge", "notify", "--id", "bad", "--var", "fail=true", "--wait").ended(1)
    assert bad.out == "bad\n"

    listed = {document["correlation_id"]: document for document in cli("list", "--json").ended(0).documents}
    assert {name: found["state"] for name, found in listed.items()} == {"good": "completed", "bad": "dead"}
    assert listed["bad"]["error"] == {"type": "ValueError", "message": "no funds"}
    shown = cli("show", "go", "--json").ended(0)
    assert [step["name"] for step in shown.document["executed"]] == ["validate", "charge", "notify"]
    assert '"n":1.50' in shown.out
    assert shown.document["payload"]["charged"] == "good/1/2"
    assert cli("show", "bad").ended(0).out.startswith("✓ validate → ✗ charge → · notify")
    kinds = [record["kind"] for record in cli("tail", "--no-follow", "--json", "id:good").ended(0).documents]
    assert kinds == ["dispatched", "advanced", "advanced", "finished"]
    assert {queue["activity"] for queue in cli("queues", "--json").ended(0).documents} >= {
        "validate",
        "charge",
        "notify",
    }

    cli("replay", "bad", "--reason", "x", "--read-only").ended(5)
    done = cli("replay", "--where", "state:dead", "--var", "fail=false", "--reason", "mended", "--yes", "--json").ended(
        0
    )
    assert done.documents[-1]["done"] == 1
    assert cli("show", "bad", "--wait", "--json").ended(0).document["payload"]["charged"] == "bad/2/2"
    cli("dispatch", "validate", "--id", "good").ended(1).said("good exists already")
    assert cli("audit", "--json").ended(0).document["action"] == "replay"

    serving.process.send_signal(signal.SIGTERM)
    assert serving.wait() == 0
    assert serving.process.stdout is not None
    (ready,) = map(json.loads, serving.process.stdout.read().splitlines())
    assert ready["event"] == "ready"
    assert "a handler prints this" in serving.said
    assert not any("Traceback" in line for line in serving.said)


def test_the_whole_way_on_redis(cli: Cli, start: Start, target: str, topic: str, on_redis: None) -> None:
    the_whole_way(cli, start, target, topic)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_whole_way_on_rabbitmq(cli: Cli, start: Start, target: str, topic: str, on_rabbitmq: None) -> None:
    the_whole_way(cli, start, target, topic)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_drains(
    cli: Cli, start: Start, target: str, on_redis: None, number: signal.Signals, tmp_path: Path
) -> None:
    serving = Serving(start("worker", target, "--activity", "charge"))
    gate = tmp_path / "gate"
    cli("dispatch", "charge", "--id", "slow", "--var", f"gate={gate}").ended(0)
    until(lambda: cli("list", "--json", "state:running").documents)
    serving.process.send_signal(number)
    until(lambda: any("1 step may finish" in line for line in serving.said))
    gate.touch()
    assert serving.wait() == 0
    assert any("1 step may finish" in line for line in serving.said)
    assert cli("show", "slow", "--json").document["state"] == "completed"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_leaves_at_once(
    cli: Cli, start: Start, target: str, on_redis: None, number: signal.Signals, code: int
) -> None:
    serving = Serving(start("worker", target))
    cli("dispatch", "charge", "--id", "slow", "--var", "seconds=60").ended(0)
    until(lambda: cli("list", "--json", "state:running").documents)
    serving.process.send_signal(number)
    until(lambda: any("a second signal leaves at once" in line for line in serving.said))
    before = time.monotonic()
    serving.process.send_signal(number)
    assert serving.wait() == code
    assert time.monotonic() - before < 3


def test_a_worker_tells_prometheus_of_its_steps(
    cli: Cli, start: Start, target: str, topic: str, on_redis: None
) -> None:
    serving = Serving(start("worker", target, env={"PAIGEANT_METRICS": "0"}))
    (where,) = [line.partition("metrics at ")[2] for line in serving.said if "metrics at " in line]
    cli("dispatch", "validate", "--id", "one", "--wait").ended(0)
    with urllib.request.urlopen(where, timeout=10) as answer:
        told = answer.read().decode()
    assert f'paigeant_steps_total{{activity="validate",outcome="finished",topic="{topic}"}} 1.0' in told
    refused = cli("worker", target, env={"PAIGEANT_METRICS": where.removeprefix("http://").removesuffix("/metrics")})
    assert "metrics: cannot listen at 127.0.0.1:" in refused.ended(2).err


def test_topic_wins_over_the_workers_own(cli: Cli, start: Start, target: str, topic: str, on_redis: None) -> None:
    path = Path(target)
    own = str(path.with_name("own.py"))
    Path(own).write_text(
        path.read_text(encoding="utf-8").replace("Worker()", f"Worker('{topic}-own')"), encoding="utf-8"
    )
    serving = Serving(start("worker", own))
    assert f"on topic {topic}-own " in serving.said[-1]  # PAIGEANT_TOPIC names another one
    said = Serving(start("worker", own, "--topic", f"{topic}-flag")).said[-1]
    assert f"on topic {topic}-flag " in said


def test_tail_follows(cli: Cli, start: Start, on_redis: None) -> None:
    cli("dispatch", "a", "--id", "before").ended(0)
    process = start("tail", "id:seen", "--json", "--since", "start")
    cli("dispatch", "a", "--id", "unseen").ended(0)
    cli("dispatch", "a", "--id", "seen-1").ended(0)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["correlation_id"] == "unseen"
    assert json.loads(process.stdout.readline())["correlation_id"] == "seen-1"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_tail_says_that_the_topic_was_deleted(
    cli: Cli, start: Start, topic: str, redis_url: str, on_redis: None
) -> None:
    async def delete() -> None:
        async with get_transport(redis_url) as transport:
            await transport.delete_topic(topic)

    cli("dispatch", "a", "--id", "before").ended(0)
    process = start("tail", "--json", "--since", "start")
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["correlation_id"] == "before"
    asyncio.run(delete())
    assert "the topic was deleted" in process.stderr.readline()
    cli("dispatch", "a", "--id", "behind").ended(0)
    assert json.loads(process.stdout.readline())["correlation_id"] == "behind"


def test_tail_ends_quietly_when_nobody_reads(cli: Cli, start: Start, on_redis: None) -> None:
    process = start("tail", "--json", "--since", "start")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    until(lambda: cli("dispatch", "a").code == 0 and process.poll() is not None)
    assert process.returncode == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_a_step_that_runs_is_shown_running(cli: Cli, start: Start, target: str, on_redis: None) -> None:
    serving = Serving(start("worker", target, "--activity", "charge"))
    cli("dispatch", "validate", "--id", "stuck").ended(0)
    cli("dispatch", "charge", "notify", "--id", "busy", "--var", "seconds=30").ended(0)
    (busy,) = until(lambda: cli("list", "--json", "state:running").documents)
    assert busy["correlation_id"] == "busy"
    assert cli("show", "busy").ended(0).out.startswith("▶ charge 00:")
    (worker,) = cli("workers", "--json").ended(0).documents
    (running,) = worker["running"]
    assert list(running) == ["correlation_id", "activity", "hop", "run", "attempt", "epoch", "since"]
    done = cli("dead-letter", "busy", "--reason", "x", "--yes").ended(0)
    assert f"{worker['worker']} runs charge now; its result will be superseded" in done.err
    serving.process.kill()
