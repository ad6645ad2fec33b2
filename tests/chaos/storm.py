"""One chaos run: workflows are dispatched while workers, lines and the broker are broken; then the ledger is read.

The load is spread over the whole run, so each fault strikes workers that are half busy. What is killed and when comes
from a seed; what was running at that moment does not, and need not.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from paigeant_core import transition as moves
from paigeant_core.dispatcher import new_workflow
from paigeant_core.errors import Conflict, DuplicateWorkflow, PublishUnknown, TransportError
from paigeant_core.journal import Kind, Record, State
from paigeant_core.names import new_id
from tests.chaos import ledger
from tests.chaos.crew import Crew, crew_for
from tests.chaos.faults import RABBITMQ_POINTS, REDIS_POINTS
from tests.chaos.grounds import Ground
from tests.chaos.proxy import Proxy, port_of
from tests.chaos.worker_program import STEPS

TOPIC = "chaos"
LOOKOUT = 4.0
"""Seconds between two looks for what RabbitMQ lost; a run is not to last longer because of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is to be.

    Attributes:
        fault: ``kill`` (workers and the broker), ``points``, ``line``, ``power`` or ``clock``.
        workflows: at least so many, of five steps each.
        kills: of workers.
        restarts: of the broker.
        lease: of the workers.
        workers: at the same time.
        every: seconds from one fault to the next.
        seed: of all that is chosen.
        patience: seconds without a step after which what is left counts as lost.
    """

    fault: str = "kill"
    workflows: int = 60
    kills: int = 2
    restarts: int = 1
    lease: float = 1.5
    workers: int = 3
    concurrency: int = 8
    every: float = 2.0
    seed: int = 1
    patience: float = 30.0

    @property
    def seconds(self) -> float:
        """How long the dispatching takes."""
        return (self.kills + 3 * self.restarts + 2) * self.every


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What came of a run.

    Attributes:
        ground: the broker's name.
        promised: see `Ground`.
        fault: what was done.
        workflows: confirmed to the dispatcher.
        steps: handlers that came to their end.
        kills: workers killed, by themselves or from outside.
        restarts: of the broker.
        unsure: dispatches that the dispatcher was told to be unknown.
        lost: confirmed, and not run to the end.
        excused: of those, confirmed in the seconds that a power failure took.
        forgotten: the most seconds that one took.
        misled: dispatches that were told to be not stored, and were.
        half_stored: unknown dispatches that are in the journal, and do not run.
        twice: hops that the journal hands on more than once in one epoch.
        by_crash: so many more were, because a broker crashed that may do that, each with the same key.
        again: handlers started again, by what was lost.
        together: handlers started while the one before was running in a worker that was not killed.
        superseded: results and copies that were journalled as too late.
        takeover: the longest time from a worker's death to the next start of what it ran.
        recovery: the longest time from the broker's return to the next start of a handler; where the broker goes on
            without what was killed, the longest time without a start.
        before: steps per second until the first fault.
        during: steps per second from the first fault to the last.
        states: of all workflows, by the journal.
        exits: codes of the workers that were asked to stop.
        poisoned: dead letters that say poison.
    """

    ground: str
    fault: str
    promised: bool = True
    workflows: int = 0
    steps: int = 0
    kills: int = 0
    restarts: int = 0
    unsure: int = 0
    lost: list[str] = field(default_factory=list)
    excused: int = 0
    forgotten: float = 0.0
    misled: list[str] = field(default_factory=list)
    half_stored: list[str] = field(default_factory=list)
    twice: dict[ledger.Hop, int] = field(default_factory=dict)
    by_crash: int = 0
    again: Counter[str] = field(default_factory=Counter)
    unexplained: list[ledger.Again] = field(default_factory=list)
    together: int = 0
    superseded: int = 0
    takeover: float = 0.0
    recovery: float = 0.0
    before: float = 0.0
    during: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    exits: list[int] = field(default_factory=list)
    poisoned: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return "\n".join(f"  {item.name}: {getattr(self, item.name)}" for item in fields(self))


class Storm:
    """One run.

    Args:
        ground: the broker, started.
        plan: what to do.
        folder: for the ledger and the workers' logs; empty.
        say: told what happens.
    """

    def __init__(self, ground: Ground, plan: Plan, folder: Path, say: Callable[[str], None] | None = None) -> None:
        self.ground = ground
        self.plan = plan
        self.folder = folder
        self.book = ledger.Ledger(folder / "ledger.jsonl")
        self.topic = f"{TOPIC}-{new_id()[:6]}"
        self.transport = ground.transport()
        self._say = say or (lambda _: None)
        self._chance = random.Random(plan.seed)
        self._proxy: Proxy | None = None
        self._misled: list[str] = []
        self._forgotten: list[float] = []
        slots = plan.workers * plan.concurrency
        # The step takes as long as keeps half of the slots busy.
        mean = min(1500.0, 0.5 * slots * plan.seconds / (plan.workflows * len(STEPS)) * 1000)
        settings = {
            "CHAOS_TOPIC": self.topic,
            "CHAOS_STEP_MS": f"{mean * 0.2:.0f}-{mean * 1.8:.0f}",
            "CHAOS_LEASE": str(plan.lease),
            "CHAOS_CONCURRENCY": str(plan.concurrency),
            **({"CHAOS_CLOCK": "20"} if plan.fault == "clock" else {"CHAOS_LOOKOUT": str(LOOKOUT)}),
        }
        self.crew: Crew = crew_for(self.transport, self.book, settings, folder)

    async def run(self) -> Verdict:
        """Do it all; the verdict."""
        begun = time.monotonic()
        try:
            async with self.transport:
                await self._warm_up()
                first = time.monotonic()
                disturbing = asyncio.create_task(self._disturb())
                await self._dispatch_all(disturbing)
                await disturbing
                last = time.monotonic()
                await self._until_done()
                codes = await asyncio.to_thread(self.crew.dismiss)
                verdict = await self._judge(first, last, codes)
                verdict.seconds = time.monotonic() - begun
                return verdict
        finally:
            await asyncio.to_thread(self.crew.close)
            if self._proxy is not None:
                await asyncio.to_thread(self._proxy.close)
            self.book.close()

    # -- load

    async def _warm_up(self) -> None:
        """Workers are there, and so is everything that the broker has to know, before anything is broken."""
        if self.plan.fault == "line":
            self._proxy = await asyncio.to_thread(Proxy(port_of(self.ground.url)).start)
        for number in range(self.plan.workers):
            line = self._proxy if number else None
            self.crew.start(self._url() if line is None else line.through(self._url()))
        for chosen in (True, False):
            await self._dispatch("warm" if chosen else new_id(), chosen=chosen)
        offset, found, born = 0, 0, 0
        async with asyncio.timeout(60):
            while found < 2 or born < self.plan.workers:
                events, offset = self.book.since(offset)
                found += sum(e.what == ledger.FINISHED and e.hop == len(STEPS) for e in events)
                born += sum(e.what == ledger.BORN for e in events)
                await asyncio.sleep(0.02)
                self.crew.living()
        await asyncio.to_thread(self.ground.settle_down)

    def _url(self) -> str:
        url = self.ground.url
        # A stalled line is noticed by its heartbeat; the default of a minute would make long runs of it.
        return f"{url}?heartbeat=4" if url.startswith("amqp") and self.plan.fault == "line" else url

    async def _dispatch_all(self, disturbing: asyncio.Task[None]) -> None:
        """Dispatch evenly, and on for as long as anything is being broken."""
        plan = self.plan
        pause = plan.seconds / plan.workflows
        begun = asyncio.get_running_loop().time()
        tasks: set[asyncio.Task[None]] = set()
        number = 0
        while number < plan.workflows or not disturbing.done():
            chosen = number % 2 == 0
            task = asyncio.create_task(self._dispatch(f"w-{number:05d}" if chosen else new_id(), chosen=chosen))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
            await asyncio.sleep(max(0.0, begun + number * pause - asyncio.get_running_loop().time()))
        if tasks:
            await asyncio.gather(*tasks)

    async def _dispatch(self, workflow: str, *, chosen: bool) -> None:
        """Dispatch one, as a careful caller does: in doubt again under the same ID, where one was chosen."""
        clock = self.transport.clock
        message = new_workflow(STEPS, {"text": "x" * 200}, topic=self.topic, at=clock.now(), correlation_id=workflow)
        transition = moves.dispatch(message, clock.now())
        doubt = False
        while True:
            try:
                await self.transport.dispatch(self.topic, transition, chosen_id=chosen)
            except DuplicateWorkflow:
                if not doubt:
                    self._misled.append(workflow)
                self.book.note(ledger.DISPATCHED, workflow=workflow, note="was there")
                return
            except PublishUnknown:
                doubt = True
                if not chosen:
                    self.book.note(ledger.UNKNOWN, workflow=workflow)
                    return
            except (TransportError, Conflict):
                await asyncio.sleep(0.2)
            else:
                self.book.note(ledger.DISPATCHED, workflow=workflow)
                return

    async def _until_done(self) -> None:
        """Wait until everything is through, or nothing moves any more."""
        plan = self.plan
        events: list[ledger.Event] = []
        offset, moved_at = 0, time.monotonic()
        while (still := time.monotonic() - moved_at) < plan.patience:
            new, offset = self.book.since(offset)
            if new:
                events += new
                moved_at = time.monotonic()
            # What need not be there is waited for in case that it is.
            doubtful = ledger.unsure(events) - ledger.through(events, len(STEPS)) | self._excused(events)
            if not ledger.lost(events, len(STEPS)) - doubtful and (not doubtful or still > max(4.0, 2 * plan.lease)):
                return
            self.crew.living()
            await asyncio.sleep(0.1)

    def _excused(self, events: list[ledger.Event]) -> set[str]:
        """What was confirmed in the seconds that a power failure took: it may be in no journal and no queue."""
        if self.plan.fault != "power":
            return set()
        failures = [down for down, _ in ledger.outages(events, ledger.BROKER)]
        taken = list(zip(failures, self._forgotten, strict=False))
        since = ledger.confirmed(events)
        return {key for key, at in since.items() if any(down - seconds <= at <= down for down, seconds in taken)}

    # -- faults

    async def _disturb(self) -> None:
        faults: dict[str, Callable[[], Awaitable[None]]] = {
            "kill": self._kill_at_random,
            "clock": self._kill_at_random,
            "power": self._kill_at_random,
            "points": self._die_at_points,
            "line": self._break_lines,
        }
        await asyncio.sleep(self.plan.every)
        await faults[self.plan.fault]()

    async def _kill_at_random(self) -> None:
        plan = self.plan
        span = plan.seconds - 2 * plan.every
        moments = [(self._chance.uniform(0, span), "worker") for _ in range(plan.kills)]
        moments += [((number + 1) * span / (plan.restarts + 1), "broker") for number in range(plan.restarts)]
        begun = time.monotonic()
        replacing: list[asyncio.Task[None]] = []
        restart: asyncio.Task[None] | None = None
        for at, what in sorted(moments):
            await asyncio.sleep(max(0.0, begun + at - time.monotonic()))
            if what == "worker":
                await asyncio.to_thread(self.crew.kill, self._chance)
                replacing.append(asyncio.create_task(self._replace(self._chance.uniform(0.2, 1.5))))
                self._say(f"worker killed ({self.crew.kills})")
            else:
                if restart is not None:
                    await restart
                # Workers are killed also while the broker is down.
                restart = asyncio.create_task(self._restart())
        if restart is not None:
            await restart
        await asyncio.gather(*replacing)

    async def _replace(self, after: float) -> None:
        await asyncio.sleep(after)
        await asyncio.to_thread(self.crew.start, self._url())

    async def _restart(self) -> None:
        await asyncio.to_thread(self.ground.settle_down)
        await asyncio.sleep(self._chance.uniform(0.5, 1.0))
        self.book.note(ledger.DOWN, note=ledger.BROKER)
        self._forgotten.append(await asyncio.to_thread(self.ground.kill, power=self.plan.fault == "power"))
        await asyncio.sleep(self._chance.uniform(0.1, 1.0))
        await asyncio.to_thread(self.ground.revive)
        self.book.note(ledger.UP, note=ledger.BROKER)
        self._say("broker killed and back")

    async def _die_at_points(self) -> None:
        """One worker after the other kills itself, at each of the points in turn."""
        points = list(RABBITMQ_POINTS if self.ground.url.startswith("amqp") else REDIS_POINTS)
        for number in range(self.plan.kills):
            point = points[number % len(points)]
            before = self.crew.living()
            deaths = self.crew.kills
            self.crew.start(self._url(), fault=f"{point}@{self._chance.randrange(1, 12)}")
            async with asyncio.timeout(60):
                while self.crew.living() > before or self.crew.kills == deaths:  # noqa: ASYNC110 - a process
                    await asyncio.sleep(0.05)
            self._say(f"worker died at {point}")

    async def _break_lines(self) -> None:
        """Break the line of all workers but one, in every way that there is."""
        proxy = self._proxy
        assert proxy is not None
        lease = self.plan.lease
        ways = {"drop": 0.0, "cut": 0.5, "stall": lease / 3, "back": 0.3, "long": lease * 2}
        for _ in range(max(1, self.plan.kills)):
            for name, seconds in ways.items():
                self._say(f"line: {name}")
                self.book.note(ledger.DOWN, note=f"{ledger.LINE} {name}")
                if name == "drop":
                    await asyncio.to_thread(proxy.drop)
                elif name == "cut":
                    await asyncio.to_thread(proxy.cut)
                elif name == "back":
                    # Requests get through and answers do not; then the line breaks.
                    await asyncio.to_thread(proxy.stall, "back")
                    await asyncio.sleep(seconds)
                    await asyncio.to_thread(proxy.drop)
                else:
                    await asyncio.to_thread(proxy.stall)
                await asyncio.sleep(seconds)
                await asyncio.to_thread(proxy.mend)
                self.book.note(ledger.UP, note=f"{ledger.LINE} {name}")
                await asyncio.sleep(self.plan.every)
        await asyncio.to_thread(proxy.delay, 0.05)
        await asyncio.sleep(self.plan.every)
        await asyncio.to_thread(proxy.mend)

    # -- judgement

    async def _judge(self, first: float, last: float, codes: list[int]) -> Verdict:
        events = self.book.read()
        records = [record async for batch in self.transport.records(self.topic) for record in batch]
        lost = ledger.lost(events, len(STEPS))
        since = ledger.confirmed(events)
        excused = self._excused(events)
        known = {record.headers.correlation_id for record in records}
        forks = ledger.forks(events) if self.ground.eventual else {}
        again = [
            replace(item, cause=ledger.BROKER) if not item.cause and _behind(item.second, forks) else item
            for item in ledger.started_again(events)
        ]
        faults = [e.at for e in events if e.what in (ledger.KILLED, ledger.DOWN)]
        struck, ended = min(faults, default=last), max(faults, default=last)
        crossed = {
            (item.second.workflow, item.second.run, item.second.hop) for item in again if item.cause == ledger.BROKER
        } | ledger.crossed(events)
        twice = ledger.handed_on_twice(records)
        by_crash = {
            hop
            for hop in twice
            if self.ground.eventual and (hop[:3] in crossed or forks.get(hop[:2], hop[2] + 1) <= hop[2])
        }
        recoveries = ledger.pauses(events) if self.ground.goes_on else ledger.recoveries(events)
        states = _states(records)
        for workflow in since.keys() - states.keys() - excused:
            states[workflow] = "in no record"
        return Verdict(
            ground=self.ground.name,
            fault=self.plan.fault,
            promised=self.ground.promised,
            workflows=len(since),
            steps=sum(event.what == ledger.FINISHED for event in events),
            kills=self.crew.kills,
            restarts=len(ledger.outages(events, ledger.BROKER)),
            unsure=len(ledger.unsure(events)),
            lost=sorted(lost - excused),
            excused=len(lost & excused),
            forgotten=max(self._forgotten, default=0.0),
            misled=sorted(self._misled),
            half_stored=sorted((ledger.unsure(events) & known) - ledger.through(events, len(STEPS))),
            twice={hop: count for hop, count in twice.items() if hop not in by_crash},
            by_crash=len(by_crash),
            again=Counter(item.cause or "nothing" for item in again),
            unexplained=[item for item in again if not item.cause],
            together=len(ledger.together(events)),
            superseded=sum(record.kind == Kind.SUPERSEDED for record in records),
            takeover=max(ledger.takeovers(events), default=0.0),
            recovery=max(recoveries, default=0.0),
            before=ledger.rate(events, first + self.plan.every / 2, struck),
            during=ledger.rate(events, struck, max(ended, struck + 1.0)),
            states=Counter(states.values()),
            exits=codes,
            poisoned=sum(
                record.kind == Kind.DEAD_LETTERED and record.detail.get("reason") == "poison" for record in records
            ),
        )


def _behind(event: ledger.Event, forks: Mapping[tuple[str, int], int]) -> bool:
    """Whether a hop comes after one at which a crash of the broker made two copies."""
    return forks.get((event.workflow, event.run), event.hop) < event.hop


def _states(records: list[Record]) -> dict[str, str]:
    """Where the journal says that each workflow stands."""
    last: dict[str, Record] = {}
    for record in records:
        identity = record.headers.correlation_id
        if record.state and identity:
            before = last.get(identity)
            if before is None or record.headers.epoch >= before.headers.epoch:
                last[identity] = record
    return {identity: str(record.state) for identity, record in last.items()}


def too_late(verdict: Verdict, ground: type[Ground], plan: Plan) -> list[str]:
    """What took longer than promised; asked of long runs alone, since a busy machine decides it too."""
    limit = ground.takes_over + (plan.lease if ground.leased else 0.0)
    if verdict.takeover <= limit or not verdict.promised:
        return []
    return [f"a dead worker's step began again after {verdict.takeover:.1f} s; the promise is {limit:g} s"]


def complaints(verdict: Verdict) -> list[str]:
    """What a run must not come to; empty: as promised."""
    found = []
    if set(verdict.exits) - {0}:
        found.append(f"workers that were asked to stop exited with {verdict.exits}")
    if not verdict.promised:
        return found
    if verdict.lost:
        found.append(f"{len(verdict.lost)} workflows are lost: {verdict.lost[:5]}")
    if verdict.misled:
        found.append(f"{len(verdict.misled)} dispatches were told to be not stored, and were: {verdict.misled[:5]}")
    if verdict.half_stored:
        found.append(f"{len(verdict.half_stored)} unknown dispatches stand in the journal and do not run")
    if verdict.twice:
        found.append(f"{len(verdict.twice)} hops were handed on twice: {list(verdict.twice)[:5]}")
    if verdict.unexplained:
        found.append(f"{len(verdict.unexplained)} handlers were started again, and nothing had been lost")
    if verdict.poisoned:
        found.append(f"{verdict.poisoned} workflows were called poison")
    wrong = {state: count for state, count in verdict.states.items() if state != State.COMPLETED}
    if wrong:
        found.append(f"workflows that the journal does not call completed: {wrong}")
    return found


async def ride(ground: Ground, plan: Plan, folder: Path, say: Callable[[str], None] | None = None) -> Verdict:
    """One run on a broker that is up."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    return await Storm(ground, plan, folder, say).run()


__all__ = ["Plan", "Storm", "Verdict", "complaints", "ride", "too_late"]
