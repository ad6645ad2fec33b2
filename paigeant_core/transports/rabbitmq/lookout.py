"""Finding what the broker lost: a hop that the journal has, and no queue.

A confirmed hop can still be lost: a queue that somebody deleted or purged, a policy that
caps or expires it, a quorum that forgot. The journal is a queue of its own, so it knows
the hop all the same. One worker, elected by an exclusive queue, reads the journal beside
its work and keeps in mind what should be in a work queue. Where later messages of that
queue have overtaken one, or the queue is empty, and no worker holds it, and the same was
so at the look before, it says so (``lost``) and publishes the message again one epoch up.

Overtaken once is no proof: what a worker gives back goes to the end of its queue, and no
record tells of it. So it is only the beginning: lost is what does not come while all that
was in the queue then, and that is where it would be, comes out of it.

That is safe also where it is wrong: the fence drops whichever copy comes second.

The same worker calls the roll of the others, see :mod:`.roll`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from contextlib import aclosing

from paigeant_core.clock import parse_rfc3339
from paigeant_core.errors import Conflict, TransportError
from paigeant_core.journal import MAX_TIME, Kind, Record, State
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.comeback import Comeback, published_anew
from paigeant_core.transports.rabbitmq.connection import Message, Missing
from paigeant_core.transports.rabbitmq.desk import Desk
from paigeant_core.transports.rabbitmq.lookup import SKEW
from paigeant_core.transports.rabbitmq.nodes import EXPIRES, NodeMarks
from paigeant_core.transports.rabbitmq.presence import surely_heard
from paigeant_core.transports.rabbitmq.roll import Roll
from paigeant_core.transports.rabbitmq.streams import fetch, ready_in, up_to_now
from paigeant_core.transports.types import WorkerStatus, worker_record

logger = logging.getLogger("paigeant")

EVERY = 20.0
"""Seconds between two looks."""

GRACE = 60.0
"""Seconds that a message may be on its way to a worker before it can be missing."""

RATE = 500
"""Records of the journal that are read a second while steps run, and little is behind: it takes of the worker."""

LAG = 5.0
"""Seconds behind the journal's end for which RATE is added again: reading keeps up with writing, a little late."""

SHARE = 0.2
"""The share of the worker's time that reading takes at most while steps run."""

LATE = 60.0
"""Seconds that one look may read; then it is said that what is lost is found late."""

_AT_ONCE = 100
"""Messages that one look finds missing at most; the rest are found by the next."""

_FRESH = 5.0
"""Seconds within which the worker must have heard itself, before it believes that others are silent."""

_ENOUGH = 15.0
"""Seconds after which a worker has spoken again, if it lives: far enough back to tell by its silence."""

HEARD = _ENOUGH + SKEW
"""Seconds for which a worker is believed to hold what it said last; the clocks of two may differ."""

_WAITING = frozenset({State.QUEUED, State.RETRYING, State.COMPENSATING})


class Waiting:
    """A workflow whose message should be in a work queue, or in a worker's hands.

    Attributes:
        activity: in whose queue.
        since: when its message was due there, by its maker's clock.
        offset: of its record in the journal.
        copy: the ID of its message.
        epoch: of its message.
        noted: when it was first found to be overtaken, by the looker's clock; 0: it was not.
    """

    __slots__ = ("activity", "copy", "epoch", "noted", "offset", "since")

    def __init__(self, activity: str, since: float, offset: int, copy: str, epoch: int) -> None:
        self.activity = activity
        self.since = since
        self.offset = offset
        self.copy = copy
        self.epoch = epoch
        self.noted = 0.0


class Lookout:
    """Looks for lost messages of one topic, for as long as no other worker does.

    Args:
        desk: the worker's.
        comeback: publishes anew.
        up: set while the worker's line stands.
        marks: the worker's; who looks takes away those of workers that are gone.
    """

    def __init__(self, desk: Desk, comeback: Comeback, up: asyncio.Event, marks: NodeMarks) -> None:
        self._desk = desk
        self._comeback = comeback
        self._up = up
        self._marks = marks
        self._next = 0
        self._at = 0.0
        self._late = False
        self._deaf = False
        self._marks_seen = time.monotonic()
        self._roll = Roll()
        self._missed: dict[str, int] = {}
        """What was missing at the last look: the offsets of their records."""
        self.waiting: dict[str, Waiting] = {}
        self._owners: dict[str, str] = {}
        """By copy: the workflow that waits in :attr:`waiting` with it."""
        self.overtaken: dict[str, float] = {}
        """By activity: when the latest message that came out of its queue had come to it."""

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await asyncio.sleep(EVERY * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, protects nothing
            await self._up.wait()
            try:
                if await self._desk.locks.take(self._desk.names.lock("lookout")):
                    await self.look()
                    await self._sweep()
            except (TransportError, Conflict) as error:
                # The broker is busy with something else; what is missing stays missing.
                logger.debug("no look for lost messages: %s", error)
            except Exception as error:  # noqa: BLE001 - who has the lock must go on: nobody else looks
                logger.error("looking for lost messages: %s: %s", type(error).__name__, error)

    async def _sweep(self) -> None:
        desk = self._desk
        await desk.fence.catch_up()
        if time.monotonic() > self._marks_seen + EXPIRES / 100:
            self._marks_seen = time.monotonic()
            await desk.fence.look_for_restart(desk.clock.now())
        workers = await self._heard()
        if workers is None:
            return
        await self._marks.sweep(desk.fence, [status.info.worker for status in workers])
        if self._hears_itself(workers):
            await self.call_the_roll(workers)

    async def call_the_roll(self, heard: Sequence[WorkerStatus]) -> None:
        """Journal who was lost, and who was only cut off and is back.

        Args:
            heard: those that spoke of late.

        Raises:
            TransportError: the broker cannot be asked.
        """
        called = self._roll.call(heard)
        if not any(called):
            return
        # One that stopped meanwhile has said so.
        await self._read_on()
        desk, now = self._desk, self._desk.clock.now()
        records = [
            worker_record(info, desk.names.topic, event, now)
            for event, workers in self._roll.stands(called)._asdict().items()
            for info in workers
        ]
        if records:
            await desk.publisher.send([wire.plain(desk.names, record) for record in records])

    async def _heard(self) -> list[WorkerStatus] | None:
        """The workers that spoke of late; None: what they said does not reach back far enough to tell by silence."""
        desk = self._desk
        now = desk.clock.now()
        workers = await surely_heard(desk.line, desk.names, now, HEARD, voice=desk.worker, enough=_ENOUGH)
        if workers is None and not self._deaf:
            logger.warning(
                "what the workers of topic %s report reaches back for less than %g s: "
                "until it does again, what the broker loses is not found",
                desk.names.topic,
                _ENOUGH,
            )
        self._deaf = workers is None
        return workers

    def _hears_itself(self, workers: Sequence[WorkerStatus]) -> bool:
        """Whether its own voice comes through; where it does not, the others' silence says nothing."""
        return any(status.info.worker == self._desk.worker and status.last_seen_s < _FRESH for status in workers)

    async def look(self) -> None:
        """Read what is new, and publish anew what was missing at the last look and is so now.

        Raises:
            TransportError: the broker cannot be asked.
            Conflict: an operator is acting all the time.
        """
        await self._read_on(sparing=True)
        missing = await self._missing()
        again = [workflow for workflow, offset in missing.items() if self._missed.get(workflow) == offset]
        self._missed = missing
        if again:
            # Else all that was written meanwhile would be read while operators wait.
            await self._read_on()
        for workflow in again:
            await self._recover(workflow)

    # -- reading ------------------------------------------------------------------------

    async def _read_on(self, *, sparing: bool = False) -> None:
        desk, started = self._desk, time.monotonic()
        try:
            async with aclosing(up_to_now(desk.line, desk.names.journal, self._next or "first")) as batches:
                async for batch in batches:
                    began = time.perf_counter()
                    for message in batch:
                        self.take(message)
                    if sparing and desk.out:
                        behind = desk.clock.now() - self._at
                        if time.monotonic() - started > LATE:
                            self._say_late(behind)
                        await asyncio.sleep(pause(len(batch), behind, time.perf_counter() - began))
        except Missing:
            self.forget()
        else:
            if self._late:
                self._late = False
                logger.warning("the journal of topic %s is read up to now again", desk.names.topic)

    def _say_late(self, behind: float) -> None:
        if not self._late:
            self._late = True
            logger.warning(
                "the journal of topic %s is read beside the steps that run, and that is %g s behind: "
                "messages that the broker loses are found late",
                self._desk.names.topic,
                round(behind),
            )

    def forget(self) -> None:
        """Read the journal from its start again: it may have been deleted, and be another one."""
        self._next = 0
        self._missed.clear()
        self.waiting.clear()
        self._owners.clear()
        self.overtaken.clear()
        self._roll.forget()

    def take(self, message: Message) -> None:
        """Note what the next message of the journal says."""
        offset = wire.offset_of(message)
        self._next = max(self._next, offset + 1)
        record = wire.record_of(message)
        if record is None:
            return
        self._at = record.at
        if record.kind == Kind.WORKER:
            self._roll.take(record)
            return
        self._note_settled(record, str(wire.headers_of(message).get(wire.PREVIOUS, "")))
        workflow = record.headers.correlation_id
        known = self.waiting.get(workflow)
        if not record.state or (known is not None and record.headers.epoch < known.epoch):
            return
        self._drop(workflow)
        if record.state in _WAITING:
            copy = wire.copy_of(message)
            self.waiting[workflow] = Waiting(record.headers.activity, _due(record), offset, copy, record.headers.epoch)
            self._owners[copy] = workflow

    def _note_settled(self, record: Record, copy: str) -> None:
        workflow = self._owners.get(copy, "")
        settled = self.waiting.get(workflow)
        if settled is None:
            return
        # What moves ahead of its time comes out of no queue.
        since = min(settled.since, record.at)
        self.overtaken[settled.activity] = max(self.overtaken.get(settled.activity, 0.0), since)
        if record.kind == Kind.QUARANTINED:
            # The record is of an ID of its own, and the workflow's message is in no queue any more.
            self._drop(workflow)

    def _drop(self, workflow: str) -> None:
        if (entry := self.waiting.pop(workflow, None)) is not None and self._owners.get(entry.copy) == workflow:
            del self._owners[entry.copy]

    # -- deciding -----------------------------------------------------------------------

    async def _missing(self) -> dict[str, int]:
        """The workflows whose messages are in no queue and in nobody's hands, as far as that can be known."""
        desk = self._desk
        now = desk.clock.now()
        old = [(workflow, entry) for workflow, entry in self.waiting.items() if entry.since < now - GRACE]
        if not old:
            return {}
        workers = await self._heard()
        if workers is None or not self._hears_itself(workers):
            return {}
        held = _held(workers)
        empty: dict[str, bool] = {}
        missing: dict[str, int] = {}
        for workflow, entry in sorted(old, key=lambda item: item[1].since):
            if workflow in held:
                entry.noted = 0.0  # it may be given back
                continue
            if not self._passed_over(entry, now):
                if entry.activity not in empty:
                    empty[entry.activity] = await self._is_empty(entry.activity)
                if not empty[entry.activity]:
                    continue
            missing[workflow] = entry.offset
            if len(missing) >= _AT_ONCE:
                break
        return missing

    def _passed_over(self, entry: Waiting, now: float) -> bool:
        """Whether a message did not come while all came that its queue had when it was first found to be overtaken."""
        latest = self.overtaken.get(entry.activity, 0.0)
        if entry.since + SKEW >= latest:
            return False
        entry.noted = entry.noted or now
        return latest > entry.noted + SKEW

    async def _is_empty(self, activity: str) -> bool:
        return not await ready_in(self._desk.line, self._desk.names.work(activity))

    # -- acting -------------------------------------------------------------------------

    async def _recover(self, workflow: str) -> None:
        desk = self._desk
        async with desk.locks.hold(desk.names.lock("operate")) as serial:
            await desk.fence.catch_up()
            await self._read_on()
            entry = self.waiting.get(workflow)
            if entry is None or entry.offset != self._missed.get(workflow):
                return  # it moved on
            workers = await self._heard()
            if workers is None or workflow in _held(workers):
                return
            found = await fetch(desk.line, desk.names.journal, [entry.offset])
            record = wire.record_of(found[0]) if found else None
            if record is None or desk.fence.passed(record.headers):
                self._drop(workflow)
                return
            transition = published_anew(record, desk.clock.now(), "lost")
            if transition is None:
                return
            await self._comeback.publish(transition, serial, fence=True, of=record.headers)
        headers = record.headers
        logger.warning(
            "the broker lost hop %d of %s (%s); it is published again from the journal",
            headers.hop,
            headers.correlation_id,
            headers.activity,
        )


def pause(records: int, behind: float, spent: float) -> float:
    """Seconds to wait before more of the journal is read.

    Args:
        records: how many were just read.
        behind: seconds, of the last one.
        spent: seconds that it took to read them.
    """
    rate = RATE * max(1.0, behind / LAG)
    return max(records / rate, spent * (1 / SHARE - 1))


def _held(workers: Sequence[WorkerStatus]) -> set[str]:
    return {held.correlation_id for status in workers for held in status.running}


def _due(record: Record) -> float:
    """When the message that a record published came to its work queue."""
    detail = record.detail
    try:
        return max(record.at, parse_rfc3339(str(detail.get("due_at", ""))))
    except ValueError:
        delay = detail.get("delay_s")
        # Whoever wrote it may have put any number there, of any length.
        if isinstance(delay, int | float) and 0 <= delay < MAX_TIME - record.at:
            return record.at + delay
        return record.at
