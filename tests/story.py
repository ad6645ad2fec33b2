"""The whole way as people go it: workers as processes, workflows by the command, one mended.

    python -m tests.story redis --workflows 200
    python -m tests.story rabbitmq --workflows 200

Starts a private broker and two worker processes, dispatches the guide's three scenarios
with the command, waits until all are completed, checks that `list` and `show` agree with
what ran, and mends one order that failed on purpose. Tests run it with few workflows.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.servers import RabbitServer, RedisServer

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = {
    "onboarding": ["validate-customer-data", "create-customer-account", "setup-payment-method", "send-welcome-email"],
    "order": [
        "validate-order-details",
        "check-inventory",
        "process-payment",
        "update-inventory",
        "generate-shipping-label",
        "send-confirmation-email",
        "notify-warehouse",
    ],
    "support": [
        "classify-ticket-priority",
        "route-to-specialist-team",
        "research-customer-history",
        "generate-initial-response",
        "schedule-human-follow-up",
    ],
}
PATIENCE = 240.0


class Commands:
    """`paigeant-console` as a subprocess, on one broker and topic."""

    def __init__(self, url: str, topic: str) -> None:
        own = {key: value for key, value in os.environ.items() if not key.startswith("PAIGEANT_")}
        self.environment = {
            **own,
            "PAIGEANT_URL": url,
            "PAIGEANT_TOPIC": topic,
            "PAIGEANT_CONFIG": os.devnull,
            "STEP_MS": "20",
        }
        self.program = [sys.executable, "-m", "paigeant_console"]

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command and leave it running."""
        return subprocess.Popen([*self.program, *arguments], cwd=ROOT, env=self.environment)

    def run(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        """Run a command with --json; its lines. Raises where the exit code is another."""
        done = subprocess.run(
            [*self.program, *arguments, "--json"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == code, f"{arguments} exited with {done.returncode}: {done.stderr}"
        return [json.loads(line) for line in done.stdout.splitlines()]


def tell(url: str, topic: str, workflows: int) -> None:
    """The story, on a broker that runs; raises AssertionError where it goes another way."""
    commands = Commands(url, topic)
    with tempfile.TemporaryDirectory() as folder:
        mended = Path(folder, "mended.json")
        mended.write_text('{"customer_email": "ann@example.com", "card": {"expires": "2029-08"}}')
        workers = [commands.start("worker", "examples/scenarios.py") for _ in range(2)]
        try:
            expected = _dispatch(commands, workflows)
            _all(commands, {*expected}, "completed")
            _agree(commands, expected)
            _mend(commands, str(mended))
        finally:
            for worker in workers:
                worker.send_signal(signal.SIGTERM)
            codes = [worker.wait(60) for worker in workers]
    assert codes == [0, 0], f"the workers exited with {codes}"


def _dispatch(commands: Commands, workflows: int) -> dict[str, str]:
    names = list(SCENARIOS)

    def one(number: int) -> tuple[str, str]:
        name = names[number % 3]
        steps, own_id = SCENARIOS[name], f"{name}-{number:04d}"
        (line,) = commands.run(
            "dispatch", *steps, "--id", own_id, "--name", name, "--var", f"customer_email=p{number}@example.com"
        )
        assert line["correlation_id"] == own_id
        return own_id, name

    with ThreadPoolExecutor(2) as pool:
        return dict(pool.map(one, range(workflows)))


def _all(commands: Commands, wanted: set[str], state: str) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        states = {row["correlation_id"]: row["state"] for row in commands.run("list", "--limit", "100000")}
        if wanted <= states.keys() and {states[key] for key in wanted} == {state}:
            return
        assert time.monotonic() < until, f"not all became {state}"
        time.sleep(0.5)


def _agree(commands: Commands, expected: dict[str, str]) -> None:
    rows = {row["correlation_id"]: row for row in commands.run("list", "--limit", "100000")}
    workers = set()
    for own_id, name in list(expected.items())[:: max(1, len(expected) // 9)]:
        (shown,) = commands.run("show", own_id)
        assert [step["name"] for step in shown["executed"]] == SCENARIOS[name]
        assert [record["kind"] for record in shown["history"]] == [
            "dispatched",
            *["advanced"] * (len(SCENARIOS[name]) - 1),
            "finished",
        ]
        row = rows[own_id]
        assert {key: shown[key] for key in row} == row
        assert (row["step"], row["steps_done"], row["name"]) == (None, len(SCENARIOS[name]), name)
        workers |= {step["worker"] for step in shown["executed"]}
    assert len(workers) == 2 or len(expected) < 20, "one worker did everything"


def _mend(commands: Commands, mended: str) -> None:
    steps = SCENARIOS["order"]
    (line,) = commands.run("dispatch", *steps, "--payload", "examples/order.json", "--id", "fails", "--wait", code=1)
    assert line["correlation_id"] == "fails"
    (dead,) = commands.run("list", "state:dead")
    assert (dead["correlation_id"], dead["step"]) == ("fails", "process-payment")
    *results, summary = commands.run("replay", "fails", "--payload", mended, "--reason", "card mended", "--yes")
    assert [(item["correlation_id"], item["outcome"]) for item in results] == [("fails", "done")]
    assert (summary["matched"], summary["done"]) == (1, 1)
    (shown,) = commands.run("show", "fails", "--wait")
    assert shown["state"] == "completed"
    assert [step["name"] for step in shown["executed"]] == steps
    assert shown["payload"]["charge"] == "fails/2/3"


def main() -> None:
    """Tell the story on one broker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("broker", choices=["redis", "rabbitmq"])
    parser.add_argument("--workflows", type=int, default=200)
    options = parser.parse_args()
    begun = time.monotonic()
    with RedisServer() if options.broker == "redis" else RabbitServer() as server:
        tell(server.url, "story", options.workflows)
    print(f"{options.broker}: {options.workflows} workflows completed, one mended; {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
