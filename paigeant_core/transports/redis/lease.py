"""A worker's heartbeat: a thread with a line of its own.

It renews leases and says what the worker runs, so a handler that blocks the event loop
keeps its step. Once a minute it also trims what is past its age, which costs nothing
where another worker did it just before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from paigeant_core.errors import TransportError
from paigeant_core.limits import JOURNAL_AGE, JOURNAL_BYTES, PARKED_AGE, PRESENCE_EVERY, RENEW_EVERY
from paigeant_core.transports.redis.connection import Backoff, ThreadLine
from paigeant_core.transports.redis.encoding import Token
from paigeant_core.transports.redis.endpoint import Endpoint, is_demoted
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.scripts import FORGET, LOST, PRESENT, RENEW, Argument, Command
from paigeant_core.transports.types import Holding, WorkerInfo, worker_record

logger = logging.getLogger("paigeant")

TRIM_EVERY = 60.0
TRIM_STEP = 10_000
"""Entries that the server drops in one go."""
MAX_SHOWN = 1000
"""Running steps that a worker tells of; one that runs more tells of the oldest."""
REMEMBERED = 3600.0
"""Seconds for which it is known who a silent worker was and what it held."""
FORGOTTEN = 2 * REMEMBERED
"""Seconds after which the name of a worker that holds nothing goes from the groups of its queues."""


class Presence(msgspec.Struct):
    """What a worker says of itself, as JSON in its key."""

    info: WorkerInfo
    running: list[Holding]
    lease: float


_encode = msgspec.json.encode
decode_presence = msgspec.json.Decoder(Presence).decode


def presence(keys: Keys, topic: str, info: WorkerInfo, lease: float, running: Sequence[Holding]) -> Command:
    """The command by which a worker says that it lives; its answer is the server's time in ms."""
    shown = running if len(running) <= MAX_SHOWN else sorted(running, key=lambda held: held.since)[:MAX_SHOWN]
    return PRESENT(
        [keys.journal, keys.workers, keys.worker(info.worker)],
        [
            info.worker,
            _encode(Presence(info, list(shown), lease)),
            round((lease + REMEMBERED) * 1000),
            worker_record(info, topic, "started", time.time()).encode_meta(),
        ],
    )


class Heartbeat:
    """Renews, reports and tidies up until it is stopped.

    Args:
        endpoint: where to.
        keys: the topic's.
        topic: the topic.
        info: whose.
        lease: its lease in seconds.
        held: what it holds now; called from the thread.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        keys: Keys,
        topic: str,
        info: WorkerInfo,
        lease: float,
        held: Callable[[], Iterable[Token]],
    ) -> None:
        self._endpoint = endpoint
        self._keys = keys
        self._topic = topic
        self._info = info
        self._lease = lease
        self._held = held
        self.running: Sequence[Holding] = ()
        """What was reported last."""
        self._every = min(RENEW_EVERY, lease / 3)
        self._trimming = False
        self._news = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"paigeant-lease-{self._info.worker}", daemon=True)
            self._thread.start()

    def report(self, running: Sequence[Holding]) -> None:
        """Tell this next time; called at every hop, so it only notes it."""
        self.running = running
        if not self._news.is_set():
            self._news.set()

    def stop(self) -> None:
        """End without a word, and wait for the thread."""
        self.abandon()
        if self._thread is not None:
            self._thread.join(self._endpoint.timeout + 1)

    def abandon(self) -> None:
        """End without a word and without waiting."""
        self._stopping = True
        self._news.set()

    # -- in the thread ------------------------------------------------------------------

    def _run(self) -> None:
        line = ThreadLine(self._endpoint)
        backoff = Backoff(0.1, min(1.0, self._lease / 6))
        renew_at = time.monotonic() + self._every
        look_at = time.monotonic() + self._lease
        trim_at = time.monotonic()
        told = 0.0
        try:
            while not self._stopping:
                self._wait(told, renew_at)
                if self._stopping:
                    return
                self._news.clear()
                now = time.monotonic()
                try:
                    commands = [presence(self._keys, self._topic, self._info, self._lease, self.running)]
                    if now >= renew_at:
                        renew_at = now + self._every
                        commands += self._renewals()
                    answers = line.call(*commands)
                    for answer in answers:
                        # Else it would look as if all were well, while whoever leads now gives these steps to others.
                        if isinstance(answer, ResponseError) and is_demoted(answer):
                            self._endpoint.check(answer)
                    told = time.monotonic()
                    if backoff.failures or isinstance(answers[0], Exception):
                        # The others cannot say that they live either, and may be slower to come back.
                        look_at = told + self._lease
                    if now >= look_at:
                        look_at = now + self._lease
                        self._look_for_lost(line)
                    if now >= trim_at:
                        trim_at = now + TRIM_EVERY if self._trim(line) else now
                    if backoff.failures:
                        backoff.reset()
                        logger.info("worker %s renews its leases again", self._info.worker)
                except Exception as error:
                    # Whatever it is: a thread that ended here would let others run these steps a second time.
                    if not backoff.failures:
                        fault = None if isinstance(error, TransportError) else error
                        name = self._info.worker
                        logger.warning(
                            "worker %s cannot renew its leases, trying again: %s", name, error, exc_info=fault
                        )
                    renew_at = time.monotonic()
                    time.sleep(backoff.next())
        finally:
            line.close()

    def _wait(self, told: float, renew_at: float) -> None:
        """Until the next renewal; with news, until it may be told."""
        while not self._stopping:
            now = time.monotonic()
            if now >= renew_at:
                return
            if self._news.is_set():
                if now >= told + PRESENCE_EVERY:
                    return
                # A stop must not wait, so the pause is short; news meanwhile joins this.
                time.sleep(min(0.05, max(0.001, told + PRESENCE_EVERY - now), max(0.001, renew_at - now)))
            else:
                self._news.wait(renew_at - now)

    def _renewals(self) -> list[Command]:
        by_stream: dict[str, list[str]] = {}
        for activity, entry in self._held():
            by_stream.setdefault(self._keys.work(activity), []).append(entry)
        if not by_stream:
            return []
        arguments: list[Argument] = [self._info.worker]
        for entries in by_stream.values():
            arguments += [len(entries), *entries]
        return [RENEW(list(by_stream), arguments)]

    def _look_for_lost(self, line: ThreadLine) -> None:
        keys = self._keys
        scored, server_time = line.call(("ZRANGE", keys.workers, 0, -1, "WITHSCORES"), ("TIME",))
        if isinstance(scored, Exception) or isinstance(server_time, Exception):
            return
        now = int(server_time[0]) * 1000.0
        silent = [
            (name.decode(), float(seen))
            for name, seen in zip(scored[::2], scored[1::2], strict=True)
            if float(seen) < now - self._lease * 1000
        ]
        if not silent:
            return
        words = line.call(*[("GET", keys.worker(name)) for name, _ in silent])
        for (name, seen), word in zip(silent, words, strict=True):
            said = read_presence(word)
            info = said.info if said is not None else WorkerInfo(worker=name)
            if said is not None and seen >= now - said.lease * 1000:
                continue
            record = worker_record(info, self._topic, "lost", time.time())
            # `seen` is compared again by the script: it may have come back just now.
            remembered = round(REMEMBERED * 1000)
            line.call(
                LOST([keys.journal, keys.workers, keys.gone], [name, round(seen), record.encode_meta(), remembered])
            )

    def _trim(self, line: ThreadLine) -> bool:
        """Trim for as long as leases can wait; False: there is more."""
        if not self._trimming:
            (mine,) = line.call(("SET", self._keys.trimmed, self._info.worker, "NX", "PX", round(TRIM_EVERY * 900)))
            if mine is None or isinstance(mine, Exception):
                return True
        self._trimming = not trim(line.call, self._keys, seconds=min(1.0, self._every / 3))
        return not self._trimming


def trim(
    call: Callable[..., list[Any]], keys: Keys, *, journal_bytes: int = JOURNAL_BYTES, seconds: float = 60.0
) -> bool:
    """Trim journal, parked messages and audit by age, the journal by size too; never a work stream.

    Of work streams the consumers go that were killed long ago.

    Args:
        call: sends commands and returns their answers.
        keys: the topic's.
        journal_bytes: how large the journal may be.
        seconds: after which to stop.

    Returns:
        Whether it came to the end.
    """
    until = time.monotonic() + seconds
    # What the server refuses (no memory for it, or not this user) is tried again in a minute.
    server_time, length, size = call(("TIME",), ("XLEN", keys.journal), ("MEMORY", "USAGE", keys.journal))
    if isinstance(server_time, Exception):
        return True
    now = int(server_time[0])
    parked = f"{round((now - PARKED_AGE) * 1000)}-0"
    wanted: list[tuple[str, str, str | int]] = [
        (keys.journal, "MINID", f"{round((now - JOURNAL_AGE) * 1000)}-0"),
        *[(stream, "MINID", parked) for stream in (keys.dead, keys.held, keys.quarantine, keys.audit, keys.operations)],
    ]
    if isinstance(length, int) and isinstance(size, int) and size > journal_bytes:
        # A tenth more than needed, so that a full journal is not trimmed every minute.
        wanted.append((keys.journal, "MAXLEN", int(length * 0.9 * journal_bytes / size)))
    for stream, strategy, threshold in wanted:
        while True:
            # In steps of a few milliseconds, for nobody else is served meanwhile.
            (trimmed,) = call(("XTRIM", stream, strategy, "~", threshold, "LIMIT", TRIM_STEP))
            if not isinstance(trimmed, int) or trimmed == 0:
                break
            if time.monotonic() > until:
                return False
    (activities,) = call(("SMEMBERS", keys.activities))
    if not isinstance(activities, Exception):
        queues = [keys.work(name.decode("utf-8", "replace")) for name in activities]
        if queues:
            call(*[FORGET([queue], [round(FORGOTTEN * 1000)]) for queue in queues])
    return True


def read_presence(word: object) -> Presence | None:
    """What is in a worker's key; None: nothing, or nothing of ours."""
    if not isinstance(word, bytes):
        return None
    try:
        return decode_presence(word)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
