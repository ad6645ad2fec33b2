"""The feed: a thread with an event loop of its own that reads the broker, so that the screen never waits for it.

It owns the transport. It tails the journal into a :class:`Fold`, asks which workers
live, keeps the newest records for the traffic view, and connects again when the line
breaks. The screen *pulls*: it looks at :attr:`Feed.version`, takes what changed since it
last looked and paints that; however much traffic there is, and however slow the terminal,
neither waits for the other. Operators' acts run on the same loop, as futures.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar

from paigeant_console.deeds import Deeds
from paigeant_console.feed.changes import Subscription
from paigeant_console.feed.ended import MOST_ENDED
from paigeant_console.feed.intake import Intake
from paigeant_console.feed.mending import Mending
from paigeant_console.feed.parked import Parked
from paigeant_console.feed.past import Past
from paigeant_console.feed.ring import RING
from paigeant_console.feed.rounds import OF_NOW, POLL_EVERY, Rounds
from paigeant_console.feed.status import FeedStatus, Phase, reason_of
from paigeant_console.history import History
from paigeant_console.model.head_start import NEWEST
from paigeant_core.errors import PaigeantError, TransportError
from paigeant_core.journal import Record
from paigeant_core.operations import Action, Operations, Plan
from paigeant_core.pauses import Pause
from paigeant_core.transports import Transport, get_transport
from paigeant_core.transports.types import START, BrokerInfo, QueueStatus, WorkerStatus

if TYPE_CHECKING:
    # Not at run time: a console that signs nothing starts without the cryptography.
    from paigeant_core.security.keys import Signer
    from paigeant_core.security.trust import Trust

logger = logging.getLogger("paigeant.console")

_T = TypeVar("_T")

SLICE: Final = 250
"""Records folded before the lock is let go, so that painting never waits long."""
FIRST_DELAY: Final = 0.5
MOST_DELAY: Final = 15.0
"""Seconds until the next try to connect: from this to that, doubling."""
STALE_AFTER: Final = 5.0
"""The transport speaks once a second at least; silence for so long is said."""
GIVE_UP_AFTER: Final = 30.0
"""Silence for so long is taken for a broken line."""
STOP_PATIENCE: Final = 3.0
DEED_PATIENCE: Final = 30.0
"""Seconds that leaving waits for an operation that is being done."""


class Feed:
    """Reads one topic of one broker.

    Args:
        url: the broker.
        topic: the topic.
        read_only: operations refuse.
        operator: who acts; None: user and host.
        signer: the key that operations are signed with.
        trust: the policy of the workers there.
        no_worker_after: seconds after which a waiting step that nobody serves is stuck; None: the usual.
        connect: makes the transport, in place of ``get_transport(url)``; called in the thread.
        ring: traffic records to keep.
        most_ended: ended workflows to keep in memory; those that ended the longest ago leave it.
        history: what is kept of the topic on disk; None: nothing.
    """

    def __init__(
        self,
        url: str,
        topic: str,
        *,
        read_only: bool = False,
        operator: str | None = None,
        signer: Signer | None = None,
        trust: Trust | None = None,
        no_worker_after: float | None = None,
        connect: Callable[[], Transport] | None = None,
        ring: int = RING,
        most_ended: int = MOST_ENDED,
        history: History | None = None,
    ) -> None:
        self.topic = topic
        self.read_only = read_only
        self.operator = operator
        self.signer = signer
        self.trust = trust
        self.lock = threading.RLock()
        """Held while the fold or the ring is read or changed; never while anything waits."""
        intake = self._intake = Intake(ring, no_worker_after=no_worker_after, most_ended=most_ended)
        self._ring, self._changes = intake.ring, intake.changes
        self.fold = intake.fold
        self.rates = intake.rates
        """Steps done lately; read under the lock."""
        self.bodies = intake.bodies
        """Messages, for queries that ask for their payload; read under the lock."""
        self.version = 0
        """Rises whenever something changed that a screen may show."""
        self.info: BrokerInfo | None = None
        self.queues: Sequence[QueueStatus] | None = None
        """Figures of the queues, while somebody wants them; None: not known yet."""
        self.queues_at = 0.0
        """When the broker gave them, seconds since the Unix epoch."""
        self.rounds = Rounds(topic, self._observe, self._show_queues, self._refuse)
        """What is asked beside the journal."""
        self._connect = connect or (lambda: get_transport(url))
        self._changed = threading.Condition(self.lock)
        self._phase = Phase.CONNECTING
        self._reason = self._refusal = ""
        self._retry_at: float | None = None
        self._heard = time.monotonic()
        self._caught_up = False
        self._parked = Parked(topic, self._take_unknown, self._on_line)
        self.kept = history
        """What is kept on disk; None: nothing."""
        self._past = Past(topic, history)
        self._mending = Mending(intake, self._past)
        self._transport: Transport | None = None
        self._operations: Operations | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self.deeds = Deeds(self)
        """What the operator began."""
        self._thread: threading.Thread | None = None

    # -- life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="paigeant-feed", daemon=True)
        self._thread.start()
        started.wait()

    def stop(self, patience: float = STOP_PATIENCE) -> None:
        """End the thread and close the transport; what does not end in time is left behind.

        Args:
            patience: seconds to wait.
        """
        loop, stopping, thread = self._loop, self._stopping, self._thread
        if loop is None or stopping is None or thread is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended by itself
            loop.call_soon_threadsafe(stopping.set)
        thread.join(patience + (DEED_PATIENCE if self.deeds.waits else 0.0))

    @property
    def running(self) -> bool:
        """Whether its thread lives."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self, started: threading.Event) -> None:
        try:
            asyncio.run(self._main(started))
        except Exception as error:
            logger.exception("the feed stopped")
            self._set_phase(Phase.FAILED, f"the feed stopped: {type(error).__name__}")
        finally:
            if self.kept is not None:
                self.kept.close()
            started.set()

    async def _main(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        started.set()
        try:
            transport = self._transport = self._connect()
        except PaigeantError as error:
            self._set_phase(Phase.FAILED, str(error))
            await self._stopping.wait()
            return
        self._operations = Operations(
            transport,
            self.topic,
            operator=self.operator,
            read_only=self.read_only,
            signer=self.signer,
            trust=self.trust,
        )
        # Whatever becomes of them, the console goes on.
        beside = [asyncio.ensure_future(self._past.keep(transport, POLL_EVERY))]
        if self.trust is not None:
            beside.append(asyncio.ensure_future(self.trust.keep_renewed(self.bump)))
        rounds = self.rounds.run(
            transport, lambda: self._phase in (Phase.LIVE, Phase.CATCHING_UP), lambda: self._caught_up
        )
        tasks = [asyncio.ensure_future(self._tail(transport)), asyncio.ensure_future(rounds)]
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done & set(tasks):
                task.result()
        finally:
            if unfinished := self.deeds.unfinished:
                await asyncio.wait(unfinished, timeout=DEED_PATIENCE)
            rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            with contextlib.suppress(PaigeantError, OSError, TimeoutError):
                async with asyncio.timeout(STOP_PATIENCE / 2):
                    await transport.disconnect()

    # -- reading, in the thread ---------------------------------------------------------

    async def _tail(self, transport: Transport) -> None:
        delay = FIRST_DELAY
        while True:
            reading = asyncio.ensure_future(self._read(transport, self._ring.position))
            watching = asyncio.ensure_future(self._watch(time.monotonic()))
            before = self._ring.serial
            try:
                await asyncio.wait({reading, watching}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (reading, watching):
                    task.cancel()
                results = await asyncio.gather(reading, watching, return_exceptions=True)
            reason = "the broker was silent" if watching.done() and not watching.cancelled() else reason_of(results[0])
            if self._ring.serial != before or self._phase in (Phase.LIVE, Phase.STALE):
                delay = FIRST_DELAY
            self._retry_at = time.monotonic() + delay
            self._set_phase(Phase.RECONNECTING, reason)
            await asyncio.sleep(delay)
            delay = min(delay * 2, MOST_DELAY)

    async def _read(self, transport: Transport, position: str | float) -> None:
        """Read the journal from ``position`` for ever, or until the line breaks."""
        await transport.connect()
        if self.info is None:
            self.info = await transport.broker_info()
        self._heard = time.monotonic()
        self._on_line()
        if position == START:
            newest = await transport.newest(self.topic, NEWEST)
            self._heard = time.monotonic()
            self._take_newest(newest)
            position, standing = await self._past.resume(transport, newest, self.now())
            self._ring.position = position
            all_new = bool(newest) and position == newest[-1].position
            self._intake.begin(await transport.ahead(self.topic, position), newest, all_new=all_new)
            await self._take_unknown(standing)
        follower = self._mending.follower
        async for batch in transport.records(self.topic, start=position, follow=True, follower=follower):
            self._heard = time.monotonic()
            if self._mending.mend(self.lock, batch, self.now()):
                self._parked.forget()
                self.bump()
            for start in range(0, len(batch), SLICE):
                self._take(batch[start : start + SLICE])
                await asyncio.sleep(0)
            if not batch:
                if not self._caught_up:
                    self._caught_up = True
                    self._intake.end()
                    await self._take_unknown(self._past.all_read())
                self._parked.begin(transport)
                self._on_line()
        raise TransportError("the journal ended")

    async def _watch(self, began: float) -> None:
        """Say when the transport is silent; end when it is so for too long.

        Args:
            began: when this try did, monotonic: whatever was before, it has its own time to connect.
        """
        while True:
            await asyncio.sleep(STALE_AFTER / 5)
            now = time.monotonic()
            if now - max(self._heard, began) > GIVE_UP_AFTER:
                return
            if now - self._heard > STALE_AFTER and self._phase is Phase.LIVE:
                self._set_phase(Phase.STALE)

    async def _take_unknown(self, records: Sequence[Record]) -> None:
        """Fold what other places than the journal tell of workflows that it has not told of."""
        for start in range(0, len(records), SLICE):
            with self.lock:
                if self._intake.take_unknown(records[start : start + SLICE]):
                    self._bump()
            await asyncio.sleep(0)

    def _take_newest(self, records: Sequence[Record]) -> None:
        """Show the end of the journal before the rest of it is read."""
        with self.lock:
            self._intake.take_newest(records)
            self._bump()

    def _take(self, records: Sequence[Record]) -> None:
        with self.lock:
            self._intake.take(records, self.now())
            self._past.told(self._intake.let_go())
            self._bump()

    def _observe(
        self, workers: Sequence[WorkerStatus], paused: Mapping[str, Pause], silent: Sequence[WorkerStatus]
    ) -> None:
        with self.lock:
            first = not self.fold.observed
            same = [_busy(status) for status in self.fold.workers] == [_busy(status) for status in workers]
            same = same and paused == self.fold.paused
            self.fold.paused = paused
            changed = self.fold.observe(workers, self.now(), silent)
            self._changes.note(changed)
            if first or not same or changed:
                self._bump()

    def _show_queues(self, queues: Sequence[QueueStatus]) -> None:
        with self.lock:
            at = self.now()
            changed = queues != self.queues or at - self.queues_at > OF_NOW
            self.queues, self.queues_at = list(queues), at
            if changed:
                self._bump()

    def _refuse(self, refusal: str) -> None:
        with self.lock:
            if refusal != self._refusal:
                self._refusal = refusal
                self._bump()

    def _on_line(self) -> None:
        """The broker answers, or all there was has been read."""
        phase = Phase.LIVE if self._caught_up and self._parked.settled else Phase.CATCHING_UP
        if self._phase is not phase:
            self._set_phase(phase)

    def _set_phase(self, phase: Phase, reason: str = "") -> None:
        with self.lock:
            self._phase = phase
            self._reason = reason
            self._bump()

    def _bump(self) -> None:
        self.version += 1
        self._changed.notify_all()

    def bump(self) -> None:
        """Something else changed that a screen may show."""
        with self.lock:
            self._bump()

    # -- looking, from the screen -------------------------------------------------------

    def now(self) -> float:
        """The time by the transport's clock."""
        return time.time() if self._transport is None else self._transport.clock.now()

    def status(self) -> FeedStatus:
        """What the feed is doing."""
        with self.lock:
            now = self.now()
            retry_in = None
            if self._phase is Phase.RECONNECTING and self._retry_at is not None:
                retry_in = max(0.0, self._retry_at - time.monotonic())
            return FeedStatus(
                phase=self._phase,
                reason=self._reason,
                records=self._ring.serial,
                last_at=self._ring.last_at,
                retry_in=retry_in,
                quiet_s=time.monotonic() - self._heard,
                gap=self._past.gap,
                met=self.info is not None,
                refusal=self._refusal,
                policy="" if self.trust is None else self.trust.problem,
                rate=self._ring.rate(now),
                workflows=len(self.fold.rows),
                counts=self._changes.counts,
                left=self._changes.left,
            )

    def subscribe(self) -> Subscription:
        """Be told of every workflow that changes from now on; at first, of all there are."""
        with self.lock:
            return self._changes.subscribe()

    def unsubscribe(self, subscription: Subscription) -> None:
        """Be told no more."""
        with self.lock:
            self._changes.unsubscribe(subscription)

    def take(self, subscription: Subscription) -> set[str] | None:
        """IDs of the workflows that changed, or left memory, since this was called last; None: any may have."""
        with self.lock:
            return self._changes.take(subscription)

    @property
    def serial(self) -> int:
        """How many records have been read; the number of the next one."""
        return self._ring.serial

    def traffic(self, after: int) -> tuple[int, list[Record]]:
        """The records from number ``after`` on, as far as they are kept.

        Returns:
            The number of the first one, and the records, without their messages.
        """
        with self.lock:
            return self._ring.since(after)

    def erased(self, known: int) -> set[str] | None:
        """The workflows that were erased while this console read; None: there are no more than ``known``."""
        with self.lock:
            erased = self._ring.erased
            return set(erased) if len(erased) > known else None

    def wait(self, ready: Callable[[], bool], timeout: float = 30.0) -> bool:
        """Block until ``ready()``; for scripts and tests, never for the screen.

        Args:
            ready: asked after every change.
            timeout: seconds.

        Returns:
            Whether it became so.
        """
        with self._changed:
            return self._changed.wait_for(ready, timeout)

    # -- acting, on the feed's loop -----------------------------------------------------

    def plan(
        self, action: Action, correlation_ids: Sequence[str], reason: str, limit: int | None = None
    ) -> Future[Plan]:
        """See :meth:`Operations.plan`."""
        return self.ask(lambda operations: operations.plan(action, correlation_ids, reason=reason, limit=limit))

    def shows(self, correlation_id: str, payload: bool) -> bool:
        """Whether it knows a workflow, and with ``payload`` what is in its message."""
        return correlation_id in self.fold.rows and not (payload and self.bodies.get(correlation_id) is None)

    def history(self, correlation_id: str) -> Future[list[Record]]:
        """All records of one workflow, oldest first."""

        async def found(operations: Operations) -> list[Record]:
            records = await operations.transport.history(self.topic, correlation_id)
            if not records and self.kept is not None:
                # The journal does not reach back so far.
                records = await asyncio.to_thread(self.kept.of, correlation_id)
            return records

        return self.ask(found)

    def audit(self, limit: int = 1000) -> Future[list[bytes]]:
        """The newest audit entries, oldest of them first."""
        return self.ask(lambda operations: operations.transport.audit(self.topic, limit))

    def resolve(self, prefix: str) -> Future[str]:
        """The one correlation ID that begins so."""
        return self.ask(lambda operations: operations.resolve(prefix))

    def dispatch(self, steps: Sequence[str], variables: Mapping[str, Any]) -> Future[str]:
        """Start a workflow; its correlation ID. See :meth:`Operations.dispatch`."""
        return self.deeds.whole(lambda operations: operations.dispatch(steps, variables))

    def ask(self, question: Callable[[Operations], Coroutine[Any, Any, _T]]) -> Future[_T]:
        """Run what needs the broker on the feed's loop."""
        loop, operations = self._loop, self._operations
        if loop is None or operations is None or loop.is_closed():
            failed: Future[_T] = Future()
            failed.set_exception(TransportError("there is no connection to the broker yet"))
            return failed
        return asyncio.run_coroutine_threadsafe(question(operations), loop)


def _busy(status: WorkerStatus) -> tuple[object, ...]:
    return status.info, status.running
