"""A worker is killed with two of ten tasks running: what becomes of them, here and with the peers.

    python -m benchmarks kill             watched for two minutes each, all at the same time
    python -m benchmarks kill --seconds 720

Ten tasks of two seconds, a worker that runs two at a time. As soon as two have begun it is killed with SIGKILL and
another one is started. A ledger that the tasks write themselves says what began and what ended, and when.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chain import Brokers, Contender, environment
from benchmarks.environments import root
from benchmarks.report import Options, Section, Table, Target

TASKS = 10
AT_ONCE = 2
STARTS_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Case:
    """A contender on one broker.

    Attributes:
        contender: which.
        broker: ``redis`` or ``rabbitmq``.
        child: only the process that runs the task is killed, where the worker has such.
        settings: environment variables for its programs.
    """

    contender: Contender
    broker: str
    child: bool = False
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As the table calls it."""
        return f"{self.contender.name}, {'RabbitMQ' if self.broker == 'rabbitmq' else 'Redis'}"


OURS = Contender("paigeant", "paigeant", "", 0)
CELERY = Contender("celery acks_late", "celery_chain", "celery", 0)
CHILD = Contender("celery acks_late and reject_on_worker_lost, only the child killed", "celery_chain", "celery", 0)
CASES = [
    Case(OURS, "redis"),
    Case(OURS, "rabbitmq"),
    Case(Contender("faststream, stream and group", "faststream_redis", "faststream", 0), "redis"),
    Case(Contender("faststream, quorum queue", "faststream_rabbitmq", "faststream", 0), "rabbitmq"),
    Case(Contender("taskiq, stream", "taskiq_chain", "taskiq", 0), "redis"),
    Case(Contender("taskiq, quorum queue", "taskiq_chain", "taskiq", 0), "rabbitmq"),
    Case(CELERY, "redis"),
    Case(CELERY, "rabbitmq"),
    Case(CHILD, "redis", child=True, settings={"CELERY_REJECT_ON_WORKER_LOST": "1"}),
    Case(Contender("dramatiq", "dramatiq_chain", "dramatiq", 0), "redis"),
    Case(Contender("dramatiq", "dramatiq_chain", "dramatiq", 0), "rabbitmq"),
    Case(Contender("saq", "saq_chain", "saq", 0), "redis"),
    Case(Contender("arq", "arq_chain", "arq", 0), "redis"),
    Case(Contender("rq SimpleWorker", "rq_chain", "rq", 0), "redis"),
]


@dataclass(slots=True)
class Outcome:
    """What became of the tasks of one case.

    Attributes:
        running: how many ran when the worker was killed.
        back: seconds after which each of them began again; shorter than ``running`` where some did not.
        missing: tasks that did not end while it was watched.
        twice: tasks that ended twice, or began again though nobody killed them.
    """

    running: int
    back: list[float]
    missing: int
    twice: int


def run(options: Options) -> Section:
    """See the module."""
    watch = options.seconds or (25.0 if options.quick else 120.0)
    cases = CASES[:4] if options.quick else CASES
    section = Section("kill", "A worker is killed")
    section.how = (
        "Ten tasks of two seconds, two at a time; the worker is killed with SIGKILL while two run, another one is"
        f" started at once, and all is watched for {watch:g} s. `Missing` tasks had not ended by then. Defaults, but"
        " for late acknowledgement where there is such a setting; ours has its default lease of 10 s."
    )
    rabbit = Brokers("rabbitmq")
    turn = threading.Lock()
    try:
        with ThreadPoolExecutor(len(cases)) as pool:
            found = list(pool.map(lambda case: _try(case, rabbit, turn, watch), cases))
    finally:
        rabbit.close()
    rows = []
    for case, outcome in zip(cases, found, strict=True):
        if isinstance(outcome, str):
            rows.append([case.name, f"failed: {outcome}", "", ""])
            continue
        back = ", ".join(f"{seconds:.0f} s" for seconds in outcome.back)
        gone = outcome.running - len(outcome.back)
        words = "; ".join(filter(None, [back and f"back after {back}", f"{gone} **not back**" if gone else ""]))
        rows.append([case.name, words, str(outcome.missing), str(outcome.twice)])
        if case.contender is OURS:
            limit = 15.0 if case.broker == "redis" else 5.0
            section.targets.append(
                Target(
                    f"{case.name}: nothing lost, nothing run twice, taken over within {limit:.0f} s",
                    f"{outcome.missing} missing, {outcome.twice} twice, {words}",
                    not (outcome.missing or outcome.twice or gone) and max(outcome.back, default=0.0) <= limit,
                )
            )
    section.tables.append(Table("", ["", "the two that ran", "missing", "run twice without need"], rows))
    return section


def _try(case: Case, rabbit: Brokers, turn: threading.Lock, watch: float) -> Outcome | str:
    try:
        outcome = _measure(case, rabbit, turn, watch)
    except Exception as error:  # noqa: BLE001 - a peer that fails in any way is said to, and the rest goes on
        print(f"  {case.name}: failed: {error}", file=sys.stderr)
        return f"{type(error).__name__}: {error}"[:200]
    print(f"  {case.name}: {outcome}", file=sys.stderr)
    return outcome


@contextmanager
def _broker(case: Case, rabbit: Brokers, turn: threading.Lock) -> Iterator[str]:
    if case.broker == "redis":
        with Brokers("redis").one() as (url, _):
            yield url
        return
    with turn:
        context = rabbit.one()
        url, _ = context.__enter__()
    try:
        yield url
    finally:
        with turn:
            context.__exit__(None, None, None)


def _measure(case: Case, rabbit: Brokers, turn: threading.Lock, watch: float) -> Outcome:
    with _broker(case, rabbit, turn) as url, tempfile.TemporaryDirectory(prefix="paigeant-kill-") as directory:
        ledger = Path(directory) / "ledger"
        ledger.touch()
        settings = {**environment(), **case.settings, "PAIGEANT_LEDGER": str(ledger)}
        workers: list[subprocess.Popen[bytes]] = []

        def start() -> None:
            command = case.contender.command("work", url, str(AT_ONCE))
            output = (Path(directory) / f"worker-{len(workers)}").open("wb")
            workers.append(
                subprocess.Popen(
                    command, env=settings, cwd=root(), stdout=output, stderr=output, start_new_session=True
                )
            )

        try:
            subprocess.run(
                case.contender.command("ten", url),
                env=settings,
                cwd=root(),
                check=True,
                capture_output=True,
                timeout=60,
            )
            start()
            running = _wait_for_two(ledger)
            at = time.time()
            if case.child:
                for pid in {pid for _, pid in running.values()}:
                    os.kill(pid, signal.SIGKILL)
            else:
                os.killpg(workers[0].pid, signal.SIGKILL)
                start()
            deadline = at + watch
            while time.time() < deadline and len({task for word, task, *_ in _read(ledger) if word == "end"}) < TASKS:
                time.sleep(0.1)
            # One that runs twice takes as long again to be seen.
            time.sleep(3.0)
            return _judge(_read(ledger), set(running), at)
        finally:
            for worker in workers:
                if worker.poll() is None:
                    os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()


def _wait_for_two(ledger: Path) -> dict[int, tuple[float, int]]:
    """The tasks that run, with when they began and in which process, as soon as there are two."""
    deadline = time.time() + STARTS_WITHIN
    while time.time() < deadline:
        lines = _read(ledger)
        ended = {task for word, task, *_ in lines if word == "end"}
        running = {task: (at, pid) for word, task, pid, at in lines if word == "begin" and task not in ended}
        # SimpleWorker runs one at a time: then one it is.
        late = lines and time.time() - lines[0][3] > 1.0
        if len(running) >= AT_ONCE or (running and late):
            return running
        time.sleep(0.02)
    raise TimeoutError("no task began")


def _judge(lines: list[tuple[str, int, int, float]], running: set[int], at: float) -> Outcome:
    begun: Counter[int] = Counter(task for word, task, *_ in lines if word == "begin")
    ended: Counter[int] = Counter(task for word, task, *_ in lines if word == "end")
    back = [
        min(when for word, task, _, when in lines if word == "begin" and task == one and when > at) - at
        for one in sorted(running)
        if any(word == "begin" and task == one and when > at for word, task, _, when in lines)
    ]
    twice = sum(ended[task] > 1 or begun[task] > (2 if task in running else 1) for task in set(begun))
    return Outcome(len(running), back, TASKS - len(ended), twice)


def _read(ledger: Path) -> list[tuple[str, int, int, float]]:
    lines = []
    for line in ledger.read_text(encoding="ascii").splitlines():
        word, task, pid, at = line.split()
        lines.append((word, int(task), int(pid), float(at)))
    return lines
