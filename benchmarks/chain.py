"""Run one contender: a broker of its own, workflows waiting in the first queue, worker processes that count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.environments import python_of, root
from benchmarks.peers._peer import MARK, STEPS
from tests.servers import RabbitServer, RedisServer

_NEW_VHOST = (
    'rabbit_vhost:add(<<"{0}">>, <<"bench">>),'
    "rabbit_auth_backend_internal:set_permissions("
    '<<"guest">>, <<"{0}">>, <<".*">>, <<".*">>, <<".*">>, <<"bench">>),'
)
STARTS_WITHIN = 60.0
"""Seconds in which a worker must have run its first hop."""
FILLS_WITHIN = 120.0
MOST_BYTES = 200e6
"""Of payload a second that no contender exceeds: no more is put in than a run can take out."""


class Failed(Exception):
    """A contender could not be measured; the message says why in one line."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A program of ``benchmarks.peers``.

    Attributes:
        name: as the tables call it.
        module: in ``benchmarks.peers``.
        environment: of :mod:`benchmarks.environments`; empty: this interpreter's.
        rate: hops a second of one process that it will not exceed: so many workflows are put in.
        durable: it keeps what it took until the work is done and handed on.
    """

    name: str
    module: str
    environment: str
    rate: int
    durable: bool = True

    def command(self, *arguments: str) -> list[str]:
        """The command line of its program."""
        python = python_of(self.environment) if self.environment else sys.executable
        return [python, "-m", f"benchmarks.peers.{self.module}", *arguments]


@dataclass(slots=True)
class Sample:
    """One run.

    Attributes:
        rate: hops a second, of all processes together.
        cpu_us: processor time of the workers for one hop, in microseconds.
        broker_cpu: of the broker, in cores.
        short: the workflows ran out, so the rate is too low.
        p50: seconds from the start of a step to the start of the next, where one workflow goes round alone.
        p99: likewise.
    """

    rate: float
    cpu_us: float
    broker_cpu: float
    short: bool = False
    p50: float = 0.0
    p99: float = 0.0


@dataclass(slots=True)
class Brokers:
    """Where contenders run: Redis anew for each, RabbitMQ as one node with a virtual host for each."""

    kind: str
    stream_port: int = 0
    """Where RabbitMQ speaks its stream protocol; 0: nowhere."""
    _rabbit: RabbitServer | None = None
    _fresh: list[str] = field(default_factory=list)
    _made: int = 0

    @contextmanager
    def one(self) -> Iterator[tuple[str, int]]:
        """A broker with nothing in it: its URL and process ID."""
        if self.kind == "redis":
            # The file is written as in production; that it is rewritten in the middle of a run is left to chance there.
            options = {"auto-aof-rewrite-percentage": "0"}
            with RedisServer(appendonly=True, options=options) as server:
                yield server.url, server.pid or 0
            return
        if self._rabbit is None:
            self._rabbit = self._rabbit_server().start()
        if not self._fresh:
            # One call of the tool, which takes a second or two, makes many.
            self._fresh = [f"bench-{self._made + number}" for number in range(20)]
            self._made += len(self._fresh)
            self._rabbit.ctl("eval", "".join(_NEW_VHOST.format(name) for name in self._fresh) + "ok.")
        name = self._fresh.pop()
        try:
            yield self._rabbit.url_for(name), self._rabbit.pid or 0
        finally:
            self._rabbit.ctl("delete_vhost", name)

    def _rabbit_server(self) -> RabbitServer:
        if not self.stream_port:
            return RabbitServer()
        conf = {
            "stream.listeners.tcp.1": f"127.0.0.1:{self.stream_port}",
            "stream.advertised_host": "127.0.0.1",
            "stream.advertised_port": str(self.stream_port),
        }
        return RabbitServer(plugins=("rabbitmq_stream",), conf=conf)

    def close(self) -> None:
        """Stop what still runs."""
        if self._rabbit is not None:
            self._rabbit.close()


def environment() -> dict[str, str]:
    """The environment variables of a contender's programs."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PAIGEANT_", "PYTHON"))}
    return {**kept, "PYTHONPATH": str(root()), "PYTHONDONTWRITEBYTECODE": "1"}


def run(
    brokers: Brokers,
    contender: Contender,
    *,
    seconds: float,
    processes: int = 1,
    size: int = 1024,
    at_once: int = 64,
    alone: bool = False,
) -> Sample:
    """Measure one contender.

    Args:
        brokers: where.
        contender: which.
        seconds: how long.
        processes: worker processes.
        size: bytes of each payload.
        at_once: steps that a process may run at a time.
        alone: one workflow goes round, and nothing else is there.

    Raises:
        Failed: it did not start, ended early or did not answer.
        CannotInstall: its environment could not be made.
    """
    expected = min(contender.rate * processes, MOST_BYTES / size) * (seconds + 2.0)
    count = 1 if alone else int(expected / len(STEPS)) + at_once * processes
    variables = environment() | ({"BENCH_ALONE": "1"} if alone else {})
    with brokers.one() as (url, broker):
        filled = subprocess.run(
            contender.command("fill", url, str(count), str(size)),
            env=variables,
            cwd=root(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FILLS_WITHIN,
        )
        if filled.returncode:
            raise Failed(f"{contender.name} put nothing in: {_last(filled.stderr)}")
        os.sync()  # the disk is not to be busy with what was put in while the run is measured
        workers = [_Program(contender.command("work", url, str(at_once)), variables) for _ in range(processes)]
        try:
            for worker in workers:
                if worker.answer(STARTS_WITHIN) != "ready":
                    raise Failed(f"{contender.name} did not begin: {_last(worker.errors())}")
            start = time.time() + 0.5
            for worker in workers:
                worker.tell(f"{start} {seconds}")
            time.sleep(max(0.0, start - time.time()))
            before = _cpu(broker)
            time.sleep(seconds)
            spent = _cpu(broker) - before
            said = [worker.answer(10.0 + seconds) for worker in workers]
            if not all(said):
                raise Failed(f"{contender.name} did not say what it did: {_last(workers[said.index('')].errors())}")
            told = [json.loads(word) for word in said]
        finally:
            for worker in workers:
                worker.kill()
    hops = sum(item["hops"] for item in told)
    if not hops:
        raise Failed(f"{contender.name}: not one hop in {seconds:g} s")
    return Sample(
        rate=sum(item["hops"] / item["seconds"] for item in told),
        cpu_us=sum(item["cpu"] for item in told) / hops * 1e6,
        broker_cpu=spent / seconds,
        short=not alone and sum(item["total"] for item in told) >= count * len(STEPS),
        p50=told[0].get("p50", 0.0),
        p99=told[0].get("p99", 0.0),
    )


class _Program:
    """A worker process whose marked lines are read by a thread, so that none of its pipes runs full."""

    def __init__(self, command: list[str], variables: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            env=variables,
            cwd=root(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._answers: list[str] = []
        self._came = threading.Condition()
        self._errors: list[str] = []
        for stream, take in ((self._process.stdout, self._take), (self._process.stderr, self._errors.append)):
            threading.Thread(target=self._read, args=(stream, take), daemon=True).start()

    def _read(self, stream: Iterator[str], take: object) -> None:
        for line in stream:
            take(line)  # type: ignore[operator]  # one of the two above
        with self._came:
            self._came.notify_all()

    def _take(self, line: str) -> None:
        if line.startswith(MARK):
            with self._came:
                self._answers.append(line.removeprefix(MARK).strip())
                self._came.notify_all()

    def answer(self, within: float) -> str:
        """The next marked line; empty: none came, or the program ended."""
        with self._came:
            self._came.wait_for(lambda: self._answers or self._process.poll() is not None, within)
            if not self._answers:
                self._came.wait(0.2)
            return self._answers.pop(0) if self._answers else ""

    def errors(self) -> str:
        return "".join(self._errors[-50:])

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def _cpu(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "without a word"
