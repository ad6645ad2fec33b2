"""A provider's outage, and how operators bring back what it left: by commands alone, judged by a ledger outside.

    python -m tests.outage redis --workflows 5000
    python -m tests.outage rabbitmq --workflows 5000

Workflows die of three causes. Those of one are selected by it and retried with a ramp against a provider that fails
again half-way: the brake stops the operation, and the rest is untouched. It is resumed; the console that does so is
killed; another one goes on to the end. A second operation's console is killed and the operation aborted from elsewhere.
Then the audit and the journal are read, and the ledger: nothing ran twice by any of it. Tests run it with few
workflows.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paigeant_core import WorkflowDispatcher, get_transport
from paigeant_core.journal import Kind, Record
from tests.chaos.ledger import FINISHED, STARTED, Ledger
from tests.servers import RabbitServer, RedisServer
from tests.story import Commands

STEPS = ["validate", "charge", "notify"]
QUERIES = {
    "down": "state:dead error:503",
    "slow": 'state:dead error:"no answer"',
    "card": "state:dead error:CardExpired",
}
"""By cause: the query that selects it."""
BRAKE = 20
PATIENCE = 120.0
"""Seconds beside those that the number of workflows takes."""


class Outage:
    """One telling.

    Args:
        url: of a broker that runs.
        topic: on it.
        folder: the provider's, and the ledger's.
        workflows: how many; a third of them dies of each cause.
    """

    def __init__(self, url: str, topic: str, folder: Path, workflows: int) -> None:
        self.url, self.topic, self.folder = url, topic, folder
        self.commands = Commands(url, topic)
        self.commands.environment["OUTAGE"] = str(folder)
        self.limit = str(workflows)
        names = list(QUERIES)
        self.cause = {f"{names[number % 3]}-{number:05d}": names[number % 3] for number in range(workflows)}
        self.said: list[str] = []

    def of(self, cause: str) -> list[str]:
        return [workflow for workflow, own in self.cause.items() if own == cause]

    def tell(self) -> list[str]:
        """The whole of it; what is worth printing. Raises AssertionError where it goes another way."""
        self._provider(0)
        workers = [self.commands.start("worker", "tests/outage_handlers.py") for _ in range(2)]
        try:
            asyncio.run(self._dispatch())
            self._until(lambda: self._states() == {"dead": len(self.cause)}, "all are dead")
            braked, acted = self._braked()
            self._resumed(braked, acted)
            aborted = self._aborted()
        finally:
            for worker in workers:
                worker.send_signal(signal.SIGTERM)
            codes = [worker.wait(60) for worker in workers]
        assert codes == [0, 0], f"the workers exited with {codes}"
        self._audited(braked, aborted)
        self._judged(asyncio.run(self._journal()), {braked, aborted})
        return self.said

    # -- acts ---------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        async with get_transport(self.url) as transport:
            dispatcher = WorkflowDispatcher(transport)
            for workflow, cause in self.cause.items():
                await dispatcher.dispatch_workflow(STEPS, {"cause": cause}, correlation_id=workflow, topic=self.topic)

    def _braked(self) -> tuple[str, set[str]]:
        """Retry one cause against a provider that fails again half-way; the operation, and what it was done to."""
        chosen = self.of("down")
        self._provider(len(chosen) // 2)
        begun = time.monotonic()
        *results, summary = self.commands.run("retry", "--where", QUERIES["down"], *self._pace(), code=1)
        (operation,) = [item for item in self.commands.run("operations") if item["state"] == "braked"]
        assert operation["operation_id"] == summary["operation_id"]
        assert operation["targets"] == len(chosen)
        acted = {item["correlation_id"] for item in results if item["outcome"] == "done"}
        left = set(chosen) - acted
        assert acted <= set(chosen)
        assert left, "the brake came too late"
        assert len(acted) > len(chosen) // 2, "the brake came before anything failed"
        assert operation["again"] > 0
        states = {row["correlation_id"]: row for row in self.commands.run("list", "--limit", self.limit)}
        assert all((states[item]["state"], states[item]["epoch"]) == ("dead", 1) for item in left), "one was touched"
        others = [item for item in self.cause if item not in chosen]
        assert all(states[item]["epoch"] == 1 for item in others), "another cause was touched"
        self.said.append(
            f"{len(chosen)} selected; braked after {len(acted)} ({operation['again']} failed again), "
            f"{len(left)} untouched, {time.monotonic() - begun:.1f} s"
        )
        return summary["operation_id"], acted

    def _resumed(self, operation: str, acted: set[str]) -> None:
        """Resume it, kill the console that does so, and go on in another."""
        self._provider(len(self.cause))
        self._killed("operations", "resume", operation)
        self._until(lambda: self._status(operation)["alone"], "nobody carries it out any more")
        *results, summary = self.commands.run("operations", "resume", operation)
        assert {item["outcome"] for item in results} == {"done"}
        assert summary["done"] == len(self.of("down"))
        assert self._status(operation)["state"] == "finished"
        failed = set(self.commands_of("state:dead error:503"))
        assert failed <= acted, "one that was left alone by the brake did not come through"
        self._until(
            lambda: self._states().get("completed") == len(self.of("down")) - len(failed), "the others are completed"
        )
        self.said.append(f"resumed, its console killed, resumed by another: {len(self.of('down')) - len(failed)} done")

    def _aborted(self) -> str:
        """Begin another one, kill its console, abort it from elsewhere; the rest stays as it is."""
        self._provider(len(self.cause))
        self._killed("retry", "--where", QUERIES["slow"], *self._pace())
        operation = str(
            next(item for item in self.commands.run("operations") if item["state"] == "running")["operation_id"]
        )
        (told,) = self.commands.run("operations", "abort", operation)
        assert (told["operation_id"], told["state"]) == (operation, "aborted")
        assert self._status(operation)["state"] == "aborted"
        self.commands.run("operations", "resume", operation, code=5)
        left = self.commands_of(QUERIES["slow"])
        assert left, "nothing was left to abort"
        moving = {"queued", "running", "retrying"}
        self._until(lambda: not moving & self._states().keys(), "all have come to rest")
        self.said.append(f"aborted after its console died: {len(self.of('slow')) - len(left)} done, {len(left)} left")
        return operation

    # -- what came of it ------------------------------------------------------------------

    def _audited(self, braked: str, aborted: str) -> None:
        entries = self.commands.run("audit", "--full")
        told = {
            operation: [(entry["action"], entry["outcome"]) for entry in entries if entry["operation_id"] == operation]
            for operation in (braked, aborted)
        }
        actions = [action for action, _ in told[braked]]
        assert actions == ["retry", "retry", "resume retry", "resume retry", "retry"], told
        assert told[braked][0][1] == "started"
        assert "the brake stopped it" in told[braked][1][1]
        assert [action for action, _ in told[aborted]] == ["retry", "abort retry"], told
        for entry in entries:
            assert entry["reason"]
            assert entry["allowed"]
            assert entry["from"]["pid"] > 0
        assert {entry["selection"] for entry in entries if entry["outcome"] == "started"} == {
            QUERIES["down"],
            QUERIES["slow"],
        }
        assert told[braked][-1][1].startswith(f"{len(self.of('down'))} done"), told

    async def _journal(self) -> list[Record]:
        async with get_transport(self.url) as transport:
            return [record async for batch in transport.records(self.topic) for record in batch]

    def _judged(self, journal: list[Record], operations: set[str]) -> None:
        """A step ran once, and once more for each operation that was done to it, and by nothing else."""
        asked: Counter[str] = Counter()
        by: Counter[tuple[str, str]] = Counter()
        for record in journal:
            if record.kind == Kind.OPERATED:
                asked[record.headers.correlation_id] += 1
                by[record.headers.correlation_id, record.detail["operation_id"]] += 1
        assert {operation for _, operation in by} == operations
        assert set(by.values()) == {1}, "an operation was done twice to a workflow"
        events = Ledger(self.folder / "ledger").read()
        ran = Counter((event.workflow, event.hop) for event in events if event.what == STARTED)
        done = Counter((event.workflow, event.hop) for event in events if event.what == FINISHED)
        twice = {hop: times for hop, times in done.items() if times > 1}
        assert not twice, f"done twice: {list(twice)[:5]}"
        for workflow in self.cause:
            assert ran[workflow, 1] == 1, workflow
            assert ran[workflow, 2] == 1 + asked[workflow], workflow
            assert ran[workflow, 3] == done[workflow, 2], workflow
        assert len({event.key for event in events}) == len(ran), "a step ran under two keys"
        self.said.append(
            f"{sum(ran.values())} steps ran, {sum(asked.values())} of them because an operator asked; none twice"
        )

    # -- looking --------------------------------------------------------------------------

    def _pace(self) -> list[str]:
        pace = ["--ramp", "--brake", str(BRAKE), "--limit", self.limit]
        return [*pace, "--reason", "the provider is back", "--yes"]

    def _provider(self, limit: int) -> None:
        (self.folder / "limit").write_text(str(limit))
        (self.folder / "calls").write_bytes(b"")

    def _calls(self) -> int:
        return (self.folder / "calls").stat().st_size

    def _killed(self, *arguments: str) -> None:
        """Run a command that paces itself, and kill it while it waits for what becomes of the first workflow."""
        closed = self.folder / "closed"
        closed.touch()
        console = self._console(*arguments)
        try:
            self._until(lambda: self._calls() > 0, "it acts")
            assert console.poll() is None, "it ended by itself"
        finally:
            console.kill()
            console.wait()
            closed.unlink()

    def _console(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.commands.program, *arguments],
            env=self.commands.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def commands_of(self, query: str) -> list[str]:
        return [row["correlation_id"] for row in self.commands.run("list", query, "--limit", self.limit)]

    def _states(self) -> dict[str, int]:
        return dict(Counter(row["state"] for row in self.commands.run("list", "--limit", self.limit)))

    def _status(self, operation: str) -> dict[str, Any]:
        return next(item for item in self.commands.run("operations") if item["operation_id"] == operation)

    def _until(self, there: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE + len(self.cause) / 10
        while not there():
            assert time.monotonic() < deadline, f"it never came so far that {what}"
            time.sleep(0.2)


def tell(url: str, topic: str, workflows: int) -> list[str]:
    """Tell it on a broker that runs; raises AssertionError where it goes another way."""
    with tempfile.TemporaryDirectory() as folder:
        return Outage(url, topic, Path(folder), workflows).tell()


def main() -> None:
    """Tell it on a private broker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("broker", choices=["redis", "rabbitmq"])
    parser.add_argument("--workflows", type=int, default=5000)
    options = parser.parse_args()
    begun = time.monotonic()
    with RedisServer() if options.broker == "redis" else RabbitServer() as server:
        for line in tell(server.url, "outage", options.workflows):
            print(f"{options.broker}: {line}")
    print(f"{options.broker}: {options.workflows} workflows, {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
