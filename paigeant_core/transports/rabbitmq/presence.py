"""Who lives and what they hold: a short-lived stream that each worker speaks into.

A worker speaks from a thread with a connection of its own, so one whose loop is blocked
by a handler is still seen. It is told outside the journal, at most four times a second,
so the cost does not grow with the rate of hops.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec

from paigeant_core.clock import Clock
from paigeant_core.errors import TransportError
from paigeant_core.limits import LEASE, PRESENCE_EVERY, RENEW_EVERY
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.connection import Line, Missing
from paigeant_core.transports.rabbitmq.lookup import SKEW
from paigeant_core.transports.rabbitmq.publisher import Publisher
from paigeant_core.transports.rabbitmq.streams import Origin, up_to_now
from paigeant_core.transports.rabbitmq.topology import Names
from paigeant_core.transports.types import Holding, WorkerInfo, WorkerStatus

_TAIL = 20.0
"""Seconds of the stream that are read to know who lives."""

_REMEMBERED = 3600.0
"""Seconds of it that are read to know who died; it may hold fewer."""


class _Said(msgspec.Struct, kw_only=True):
    """One report, as it stands in JSON."""

    info: WorkerInfo
    at: float
    running: list[Holding] = []
    stopped: bool = False


_decode = msgspec.json.Decoder(_Said).decode
_encode = msgspec.json.encode


@dataclass(slots=True, eq=False)
class Speaker:
    """One worker that reports.

    Attributes:
        queue: the stream to speak into.
        info: who it is.
        running: what it holds.
        changed: there is something new to say.
        stopped: say so, and no more after it.
        said_at: when it spoke last, by the monotonic clock.
        done: set when its last word is said, or cannot be.
    """

    queue: str
    info: WorkerInfo
    running: Sequence[Holding] = ()
    changed: bool = True
    stopped: bool = False
    said_at: float = -1e9
    done: threading.Event = field(default_factory=threading.Event)


class Presence:
    """The thread that speaks for the workers of one transport.

    Args:
        url: of the broker.
        clock: for the time of a report.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._lock = threading.Lock()
        self._speakers: list[Speaker] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._ending = False

    def start(self, queue: str, info: WorkerInfo) -> Speaker:
        """Speak for one more worker."""
        speaker = Speaker(queue, info)
        with self._lock:
            self._speakers.append(speaker)
            if self._thread is None:
                self._ending = False
                self._thread = threading.Thread(target=self._run, name="paigeant-presence", daemon=True)
                self._thread.start()
        self._nudge()
        return speaker

    def report(self, speaker: Speaker, running: Sequence[Holding]) -> None:
        """What a worker holds now."""
        speaker.running = running
        if not speaker.changed:
            speaker.changed = True
            self._nudge()

    async def stop(self, speaker: Speaker) -> None:
        """Say that a worker stopped."""
        speaker.stopped = True
        speaker.changed = True
        self._nudge()
        await asyncio.to_thread(speaker.done.wait, 5.0)
        self.forget(speaker)

    def forget(self, speaker: Speaker) -> None:
        """Say nothing more for a worker."""
        with self._lock:
            if speaker in self._speakers:
                self._speakers.remove(speaker)

    async def close(self) -> None:
        """End the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._ending = True
            self._speakers.clear()
        self._nudge()
        if thread is not None:
            await asyncio.to_thread(thread.join, 10.0)

    def _nudge(self) -> None:
        loop, wake = self._loop, self._wake
        if loop is not None and wake is not None:
            try:
                loop.call_soon_threadsafe(wake.set)
            except RuntimeError:
                # The thread has just ended.
                return

    # -- in the thread ------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.run(self._speak())

    async def _speak(self) -> None:
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        line = Line(self._url, "presence")
        publisher = Publisher(line)
        try:
            while not self._ending:
                wait = await self._round(publisher)
                self._wake.clear()
                try:
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            self._loop = None
            publisher.close()
            await line.close()

    async def _round(self, publisher: Publisher) -> float:
        """Say what is due; return the seconds until something may be."""
        now = time.monotonic()
        wait = RENEW_EVERY
        with self._lock:
            speakers = list(self._speakers)
        due = []
        for speaker in speakers:
            pause = 0.0 if speaker.stopped else PRESENCE_EVERY if speaker.changed else RENEW_EVERY
            left = speaker.said_at + pause - now
            if left <= 0 and not speaker.done.is_set():
                due.append(speaker)
            else:
                wait = min(wait, max(0.01, left))
        if not due:
            return wait
        items = []
        over: list[Speaker] = []
        for speaker in due:
            speaker.changed = False
            said = _Said(
                info=speaker.info, at=self._clock.now(), running=list(speaker.running), stopped=speaker.stopped
            )
            items.append(wire.direct(speaker.queue, _encode(said)))
            speaker.said_at = now
            if said.stopped:
                over.append(speaker)
        # The worker's own line tells of a broker that is gone; the next report is soon.
        with suppress(TransportError):
            await publisher.send(items)
        # Not of those that stopped meanwhile: their last word is still to come.
        for speaker in over:
            speaker.done.set()
        return min(wait, PRESENCE_EVERY)


class Ears:
    """Which of a topic's workers live, as one hears who listens again and again.

    The time in a report is by the worker's clock, and this machine's may differ. So it counts how long one listened
    and heard nothing new; at the first look there are only the clocks, and who may live counts as living.
    """

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, float]] = {}
        """The time in each worker's last report, and since when that is known here, by the monotonic clock."""

    async def living(self, line: Line, names: Names, now: float) -> list[WorkerStatus]:
        """The workers that have spoken of late and not said that they stopped, by name.

        Args:
            line: over which to read.
            names: of the topic.
            now: by the reader's clock.
        """
        return [status for status, alive in await self._listen(line, names, now, _TAIL + SKEW) if alive]

    async def silent(self, line: Line, names: Names, now: float) -> list[WorkerStatus]:
        """The workers that have spoken before, do not speak any more and never said that they stopped, by name.

        Args:
            line: over which to read.
            names: of the topic.
            now: by the reader's clock.
        """
        return [status for status, alive in await self._listen(line, names, now, _REMEMBERED) if not alive]

    async def _listen(self, line: Line, names: Names, now: float, within: float) -> list[tuple[WorkerStatus, bool]]:
        """Each worker that was heard, with whether it lives."""
        found = await _hear(line, names, now, within)
        here = time.monotonic()
        known = {worker: (at, since) for worker, (at, since) in self._heard.items() if here - since < _REMEMBERED}
        told = []
        for status in found.workers:
            worker, age = status.info.worker, status.last_seen_s
            at, since = known.get(worker, (0.0, here))
            if found.last[worker] != at:
                since = here
            known[worker] = (found.last[worker], since)
            alive = here - since <= LEASE and age <= LEASE + SKEW
            seen = min(age, LEASE) if alive else max(age, here - since)
            told.append((replace(status, last_seen_s=seen), alive))
        self._heard = known
        return told


async def heard(line: Line, names: Names, now: float, within: float) -> list[WorkerStatus]:
    """The workers that have spoken within so many seconds by the broker's clock, whatever their own said, by name.

    Args:
        line: over which to read.
        names: of the topic.
        now: by the reader's clock.
        within: seconds.
    """
    return (await _hear(line, names, now, within)).workers


async def surely_heard(
    line: Line, names: Names, now: float, within: float, *, voice: str, enough: float
) -> list[WorkerStatus] | None:
    """As :func:`heard`; None: what there is may begin too late, and then somebody's silence says nothing.

    The stream holds so many bytes, so where many speak, or say much, it reaches less far back.

    Args:
        line: over which to read.
        names: of the topic.
        now: by the reader's clock.
        within: seconds.
        voice: a worker by the same clock as the reader's.
        enough: seconds. Also if it does not hold all that was asked for, what there is suffices where ``voice`` said
            something so long ago.

    Raises:
        TransportError: the broker cannot be asked.
    """
    found = await _hear(line, names, now, within)
    if found.first == 0 or found.since.get(voice, now) <= now - enough:
        return found.workers  # nothing was ever dropped, or long enough ago
    # Looked for behind it: what is dropped meanwhile makes it later.
    if found.first < 0 or (await Origin.find(line, names.stream("workers"))).offset >= found.first:
        return None
    return found.workers


class _Heard(NamedTuple):
    """What was read of the stream.

    Attributes:
        workers: see :func:`heard`.
        first: the offset that it began at; -1: there was nothing.
        since: the time of each worker's first report in it, by the worker's own clock.
        last: that of its last one.
    """

    workers: list[WorkerStatus]
    first: int
    since: dict[str, float]
    last: dict[str, float]


async def _hear(line: Line, names: Names, now: float, within: float) -> _Heard:
    last: dict[str, _Said] = {}
    since: dict[str, float] = {}
    first = -1
    try:
        async for batch in up_to_now(line, names.stream("workers"), now - within):
            first = first if first >= 0 else wire.offset_of(batch[0])
            for message in batch:
                try:
                    said = _decode(message.body)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    continue
                last[said.info.worker] = said
                since.setdefault(said.info.worker, said.at)
    except Missing:
        return _Heard([], -1, {}, {})
    workers = [
        WorkerStatus(info=said.info, running=tuple(said.running), last_seen_s=max(0.0, now - said.at))
        for _, said in sorted(last.items())
        if not said.stopped
    ]
    return _Heard(workers, first, since, {worker: said.at for worker, said in last.items()})


def serving(workers: Sequence[WorkerStatus]) -> dict[str, int]:
    """How many of ``workers`` serve each activity."""
    counts: dict[str, int] = {}
    for status in workers:
        for activity in status.info.activities:
            counts[activity] = counts.get(activity, 0) + 1
    return counts
