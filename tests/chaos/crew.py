"""The workers of a chaos run: processes that are killed and replaced, or, in memory, threads whose loop just stops."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from paigeant_core.transports import Transport
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from paigeant_core.transports.memory.transport import MemoryConsumer
from paigeant_core.transports.types import WorkerInfo
from paigeant_core.worker import Worker
from tests.chaos import ledger
from tests.chaos.worker_program import NO_BROKER, build

ROOT = Path(__file__).resolve().parents[2]
LEAVING = 60.0
"""Seconds that a worker may take to drain before the run says that it hangs."""


class Crew(ABC):
    """Workers that can be killed.

    Args:
        book: where the deaths are written down.
        settings: what `worker_program` reads from its environment.
    """

    def __init__(self, book: ledger.Ledger, settings: Mapping[str, str]) -> None:
        self.book = book
        self.settings = dict(settings)
        self.kills = 0

    @abstractmethod
    def start(self, url: str, *, fault: str = "") -> None:
        """One more worker.

        Args:
            url: of the broker, or of a line to it.
            fault: a point at which it kills itself.
        """

    @abstractmethod
    def kill(self, chance: random.Random) -> None:
        """SIGKILL one of them, any."""

    @abstractmethod
    def living(self) -> int:
        """How many there are; those that died by themselves are counted as killed."""

    @abstractmethod
    def dismiss(self) -> list[int]:
        """Ask all to stop; their exit codes."""

    @abstractmethod
    def close(self) -> None:
        """Leave nothing behind."""


class Processes(Crew):
    """Workers as processes.

    Args:
        book: where the deaths are written down.
        settings: what `worker_program` reads from its environment.
        folder: where they log.
    """

    def __init__(self, book: ledger.Ledger, settings: Mapping[str, str], folder: Path) -> None:
        super().__init__(book, settings)
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._urls: dict[int, str] = {}
        self._started = 0

    def start(self, url: str, *, fault: str = "", command: bool = False) -> None:
        """One more worker.

        Args:
            url: of the broker, or of a line to it.
            fault: a point at which it kills itself.
            command: start it by the command that people use.
        """
        own = {key: value for key, value in os.environ.items() if not key.startswith(("PAIGEANT_", "CHAOS_"))}
        environment = {
            **own,
            **self.settings,
            "PAIGEANT_URL": url,
            "PAIGEANT_CONFIG": os.devnull,
            "CHAOS_LEDGER": str(self.book.path),
            **({"CHAOS_FAULT": fault} if fault else {}),
        }
        if command:
            arguments = ["-m", "paigeant_console", "--topic", self.settings["CHAOS_TOPIC"]]
            arguments += ["worker", "tests.chaos.worker_program"]
        else:
            arguments = ["-m", "tests.chaos.worker_program"]
        self._started += 1
        with (self.folder / f"worker-{self._started}.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log)
        self._processes.append(process)
        self._urls[process.pid] = url

    def kill(self, chance: random.Random) -> None:
        self.living()
        if self._processes:
            process = self._processes.pop(chance.randrange(len(self._processes)))
            # The time from before: the broker may be quicker than this process.
            at = time.monotonic()
            process.send_signal(signal.SIGKILL)
            self.book.note(ledger.KILLED, pid=process.pid, at=at)
            process.wait()
            self.kills += 1

    def living(self) -> int:
        for process in list(self._processes):
            if process.poll() is not None:
                self._processes.remove(process)
                if process.returncode == NO_BROKER:
                    # It was started in the middle of an outage; a service manager would do the same.
                    self.start(self._urls[process.pid])
                    continue
                self.kills += 1
                if process.returncode != -signal.SIGKILL:
                    raise AssertionError(f"a worker ended by itself with {process.returncode}; see {self.folder}")
        return len(self._processes)

    def dismiss(self) -> list[int]:
        self.living()
        for process in self._processes:
            self.book.note(ledger.ASKED, pid=process.pid)
            process.send_signal(signal.SIGTERM)
        codes = []
        for process in self._processes:
            try:
                codes.append(process.wait(LEAVING))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                codes.append(-1)
        self._processes.clear()
        return codes

    def logs(self) -> str:
        """The last lines of each worker's log."""
        found = []
        for path in sorted(self.folder.glob("worker-*.log")):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
            found.append("\n".join([f"-- {path.name}", *lines]))
        return "\n".join(found)

    def close(self) -> None:
        """Kill what is left."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()


class _Watched(MemoryTransport):
    """A transport that keeps its consumer, for whoever wants to kill it."""

    made: MemoryConsumer | None = None

    def consumer(self, topic: str, info: WorkerInfo, *, lease: float) -> MemoryConsumer:
        self.made = super().consumer(topic, info, lease=lease)
        return self.made


class _Member:
    """One worker in a thread. Its death is a loop that stops in the middle of whatever it does."""

    def __init__(self, worker: Worker, transport: _Watched) -> None:
        self.worker = worker
        self.transport = transport
        self.loop = asyncio.new_event_loop()
        self.task: asyncio.Task[None] | None = None
        self.thread = threading.Thread(target=self._run, name=worker.name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.task = self.loop.create_task(self.worker.run(self.transport))
        self.task.add_done_callback(lambda _: self.loop.stop())
        self.loop.run_forever()

    def kill(self) -> None:
        """No line of its code runs any more."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        if self.transport.made is not None:
            asyncio.run(self.transport.made._crash())

    def stop(self) -> int:
        """Drain; 0 where it ended as it should."""
        self.loop.call_soon_threadsafe(self.worker.stop)
        self.thread.join(LEAVING)
        if self.task is None or not self.task.done():
            return -1
        return 0 if self.task.exception() is None else 1

    def bury(self) -> None:
        """Close the loop of one that is dead; what it held is somebody else's by now."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


class Threads(Crew):
    """Workers on the in-memory broker.

    Args:
        book: where the deaths are written down.
        settings: what `worker_program` reads from its environment.
        broker: the broker.
    """

    def __init__(self, book: ledger.Ledger, settings: Mapping[str, str], broker: MemoryBroker) -> None:
        super().__init__(book, settings)
        self._broker = broker
        self._members: list[_Member] = []
        self._gone: list[_Member] = []

    def start(self, url: str, *, fault: str = "") -> None:
        worker = build(self.settings, self.book)
        self._members.append(_Member(worker, _Watched("chaos", broker=self._broker)))

    def kill(self, chance: random.Random) -> None:
        if self._members:
            member = self._members.pop(chance.randrange(len(self._members)))
            at = time.monotonic()
            member.kill()
            self.book.note(ledger.KILLED, worker=member.worker.name, at=at)
            self._gone.append(member)
            self.kills += 1

    def living(self) -> int:
        return len(self._members)

    def dismiss(self) -> list[int]:
        codes = [member.stop() for member in self._members]
        self._gone += self._members
        self._members = []
        return codes

    def close(self) -> None:
        """Close every loop."""
        for member in self._gone:
            member.bury()
        self._gone.clear()


def crew_for(transport: Transport, book: ledger.Ledger, settings: Mapping[str, str], folder: Path) -> Crew:
    """The crew that fits a broker."""
    if isinstance(transport, MemoryTransport):
        return Threads(book, settings, transport.broker)
    return Processes(book, settings, folder)
