"""The worker: claims steps, runs their handlers, hands the workflows on."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import os
import socket
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from paigeant_core import transition as moves
from paigeant_core.activity import Activity, ActivityContext, Handler
from paigeant_core.admission import admit
from paigeant_core.clock import ticks_of
from paigeant_core.decision import decide, policy_of
from paigeant_core.errors import ConfigError, TransportError
from paigeant_core.limits import DRAIN, LEASE, PRESENCE_EVERY
from paigeant_core.message import Headers
from paigeant_core.names import check_topic, new_id
from paigeant_core.permission import permit, silenced
from paigeant_core.retry import RetryPolicy
from paigeant_core.secret import redact
from paigeant_core.telemetry import Metrics, Spans, spans
from paigeant_core.transition import Span
from paigeant_core.transports import Transport, get_transport
from paigeant_core.transports.types import Consumer, Delivery, Holding, WorkerInfo, holding

if TYPE_CHECKING:
    # Not at run time: a worker that signs nothing starts without the cryptography.
    from paigeant_core.security.hop import Guard
    from paigeant_core.security.keys import Signer
    from paigeant_core.security.trust import Trust
    from paigeant_core.tokens import Tokens

logger = logging.getLogger("paigeant")

DEFAULT_CONCURRENCY = 16

MAX_OUTLIVED = 1000
"""Threads that may go on, beside those of the slots, when nobody waits for them any more."""


class Worker:
    """Serves activities of one topic.

    Args:
        topic: the topic.
        transport: where; None: what ``get_transport()`` finds when it runs.
        name: for people; None: host and process ID. A suffix makes it unique.
        concurrency: steps run at the same time.
        lease: seconds after which a worker that renewed nothing has lost its steps.
        drain: seconds that running steps have to finish when the worker is told to stop.
        signer: the key that it signs its steps with; goes with ``trust``.
        trust: whose signatures count; what is not signed so goes to quarantine unrun.
        tokens: opens the on-behalf-of tokens that ride sealed, and exchanges them; with it,
            a step that needs scopes is run only with a token that permits them.
        metrics: counts and times its steps for Prometheus; None: nobody does.

    Raises:
        ConfigError: a value that cannot be.
    """

    def __init__(
        self,
        topic: str = "workflows",
        *,
        transport: Transport | None = None,
        name: str | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
        lease: float = LEASE,
        drain: float = DRAIN,
        signer: Signer | None = None,
        trust: Trust | None = None,
        tokens: Tokens | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 1 <= concurrency <= 10_000:
            raise ConfigError(f"concurrency is {concurrency!r}, it must be from 1 to 10000")
        if not 0.1 <= lease <= 3600:
            raise ConfigError(f"lease is {lease!r}, it must be from 0.1 to 3600 seconds")
        self.topic = check_topic(topic)
        self.transport = transport
        self.concurrency = concurrency
        self.lease = lease
        self.drain = drain
        self.signer = signer
        self.trust = trust
        self.tokens = tokens
        self.metrics = metrics
        self._spans: Spans | None = None
        self._guard: Guard | None = None
        # A broker knows it by that name: two that had the same one would take each other's steps for their own.
        self.name = f"{name or f'{socket.gethostname()}-{os.getpid()}'}-{new_id()[:8]}"
        self.activities: dict[str, Activity] = {}
        self._running: dict[asyncio.Task[None], tuple[Headers, float] | None] = {}
        """Each step's headers and start; None until its message is decoded."""
        self._report_due: asyncio.TimerHandle | None = None
        self._stopping = False
        self._claimer: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[Any] | None = None
        """Whose end is the steps' end as well: the claimer, and once nothing is claimed any more what drains."""
        self._drained = False
        """Whether the time to drain is over, and the steps that still ran were cancelled."""
        self._settling = 0
        """Steps whose handlers are done, and whose settles are not."""
        self._freed = asyncio.Event()
        self._threads: ThreadPoolExecutor | None = None
        self._in_threads: set[Future[Any]] = set()
        """Handlers that run in threads, also such as outlived their timeouts: a thread cannot be cancelled."""
        self._most_threads = concurrency

    # -- activities ---------------------------------------------------------------------

    def activity(
        self,
        name: str,
        *,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        scopes: Sequence[str] = (),
        payload: Any = None,
    ) -> Callable[[Handler], Activity]:
        """Register a handler (a decorator).

        Args:
            name: the activity.
            retry: how failures are tried again.
            timeout: seconds a step may take; a coroutine is cancelled then.
            scopes: permissions that a workflow needs to run it.
            payload: a pydantic model (anything that its ``TypeAdapter`` takes) that payloads have to fit. One that does
                not dead-letters its workflow as ``payload_invalid``; one that does is ``ctx.data``. Operators cannot
                give a step a payload that breaks it.

        Raises:
            InvalidMessage: the name is outside the rules.
            ConfigError: the activity is registered already, or an option cannot be.
        """
        if not isinstance(name, str):
            raise ConfigError('an activity has a name: write @worker.activity("name")')

        def register(handler: Handler) -> Activity:
            policy = RetryPolicy() if retry is None else retry
            return self.add(Activity(name, handler, retry=policy, timeout=timeout, scopes=scopes, payload=payload))

        return register

    def add(self, activity: Activity) -> Activity:
        """Register an activity.

        Raises:
            ConfigError: one of that name is registered already.
        """
        if activity.name in self.activities:
            raise ConfigError(f"activity {activity.name!r} is registered twice")
        self.activities[activity.name] = activity
        return activity

    def include(self, other: Worker) -> None:
        """Register all that ``other`` has.

        Raises:
            ConfigError: both have one of the same name.
        """
        for activity in other.activities.values():
            self.add(activity)

    # -- running ------------------------------------------------------------------------

    async def run(self, transport: Transport | None = None, *, activities: Iterable[str] | None = None) -> None:
        """Serve until :meth:`stop`; then finish what runs, within the drain time.

        Args:
            transport: where; None: the worker's own, or what ``get_transport()`` finds.
            activities: serve these alone.

        Raises:
            ConfigError: an activity that is not registered, or none at all, or one that may run for longer than the
                broker allows, or whose messages it is set to throw away; a signer without trust or the other way
                round, or one whose signatures would be refused.
            ConnectError: no broker answers at start; later the line is waited for.
        """
        names = tuple(self.activities) if activities is None else tuple(activities)
        for name in names:
            if name not in self.activities:
                known = ", ".join(sorted(self.activities)) or "none"
                raise ConfigError(f"activity {ascii(name)[:80]} is not registered; this worker has: {known}")
        if not names:
            raise ConfigError("this worker has no activities; register one with @worker.activity(name)")
        given = transport or self.transport
        own = given or get_transport()
        self._guard = self._guarded(names, own.clock.now())
        self._spans = spans()
        self._stopping = self._drained = False
        self._freed = asyncio.Event()  # of this loop: a worker may be run again in another
        await own.connect()
        own.check_timeouts({name: self.activities[name].timeout for name in names})
        await own.check_settings(self.topic, names)
        await self._announce(own, names)
        info = WorkerInfo(
            worker=self.name,
            activities=names,
            concurrency=self.concurrency,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=own.clock.now(),
        )
        consumer = own.consumer(self.topic, info, lease=self.lease)
        consumer.believes = self._guard is None
        try:
            await self._serve(own, consumer)
        finally:
            await asyncio.shield(self._finish(consumer))
            if given is None:
                await asyncio.shield(own.disconnect())

    async def _announce(self, transport: Transport, activities: Iterable[str]) -> None:
        """Let operators know what payloads activities take; also that they take any, where it was otherwise before."""
        models = {name: self.activities[name].model for name in activities}
        schemas = {name: b"" if model is None else model.schema() for name, model in models.items()}
        try:
            known = await transport.schemas(self.topic)
            news = {name: schema for name, schema in schemas.items() if schema != known.get(name, b"")}
            if news:
                await transport.announce(self.topic, news)
        except TransportError as error:
            # The worker checks all the same; what is missing is that operators are told beforehand.
            logger.warning("the payload models of this worker are not announced: %s", error)

    def _guarded(self, activities: Iterable[str], now: float) -> Guard | None:
        if self.signer is None and self.trust is None:
            return None
        if self.signer is None or self.trust is None:
            missing = "key to sign with" if self.signer is None else "trust policy"
            raise ConfigError(f"this worker is to work signed, and has no {missing}; it needs both")
        from paigeant_core.security.hop import Guard

        guard = Guard(self.signer, self.trust, activities)
        guard.check_key(now)
        return guard

    def stop(self) -> None:
        """Claim nothing more; let what runs finish within the drain time."""
        self._stopping = True
        if self._claimer is not None:
            self._keeper = None  # the steps run on
            self._claimer.cancel()

    @property
    def running(self) -> list[Holding]:
        """The steps that run now."""
        return [holding(*started) for started in self._running.values() if started is not None]

    async def _serve(self, transport: Transport, consumer: Consumer) -> None:
        self._claimer = self._keeper = asyncio.create_task(self._claim(transport, consumer))
        try:
            await self._claimer
        except asyncio.CancelledError:
            if not self._stopping:
                raise

    async def _claim(self, transport: Transport, consumer: Consumer) -> None:
        while not self._stopping:
            free = self._free()
            if free <= 0:
                self._freed.clear()
                await self._freed.wait()
                continue
            await consumer.deliver(free, partial(self._begin, transport, consumer))

    def _begin(self, transport: Transport, consumer: Consumer, claimed: list[Delivery]) -> None:
        if self._guard is not None:
            # A step is not run whose result the key could not sign any more: close() hands back what was claimed.
            self._guard.check_key(transport.clock.now() + self.drain)
        for delivery in claimed:
            task = asyncio.create_task(self._step(transport, consumer, delivery))
            self._running[task] = None
            task.add_done_callback(partial(self._ended, consumer, delivery))

    def _free(self) -> int:
        """Slots for steps: one is free as soon as its handler is done, and its settle on the way.

        A broker that does not answer must not let settles pile up: twice the slots are the most.
        """
        return min(self.concurrency - len(self._running) + self._settling, 2 * self.concurrency - len(self._running))

    def _ended(self, consumer: Consumer, delivery: Delivery, task: asyncio.Task[None]) -> None:
        started = self._running.pop(task, None)
        if self.metrics is not None and started is not None:
            self.metrics.ended(started[0])
        self._freed.set()
        self._report(consumer)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a step could not be settled: %s: %s", type(error).__name__, error)
            # Not lost: nobody renews it any more, so it comes again, here or elsewhere.
            consumer.let_go(delivery)

    async def _finish(self, consumer: Consumer) -> None:
        self._keeper = asyncio.current_task()
        if self._running:
            logger.info("draining: %d steps run on for at most %g s", len(self._running), self.drain)
            await asyncio.wait(list(self._running), timeout=self.drain)
        left = list(self._running)
        self._drained = True
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=5)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
        if self._report_due is not None:
            self._report_due.cancel()
            self._report_due = None
        await consumer.close()

    def _report(self, consumer: Consumer) -> None:
        if self._report_due is None:
            # Steps may start and end thousands of times a second: what is said is what there is then.
            later = asyncio.get_running_loop().call_later
            self._report_due = later(PRESENCE_EVERY / 5, self._tell, consumer)

    def _tell(self, consumer: Consumer) -> None:
        self._report_due = None
        consumer.report(self.running)

    # -- one step -----------------------------------------------------------------------

    async def _step(self, transport: Transport, consumer: Consumer, delivery: Delivery) -> None:
        clock = transport.clock
        message = await admit(consumer, delivery, self.topic, self.name, clock, self._guard, self.tokens)
        if message is None:
            return
        started_at, ticks = clock.now(), ticks_of(clock)
        began = ticks()
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = (message.headers, started_at)
        if self.metrics is not None:
            self.metrics.begun(message.headers)
        self._report(consumer)
        activity = self.activities[message.headers.activity]
        context = ActivityContext(message, worker=self.name, now=started_at, model=activity.model)
        result: Any = None
        error: BaseException | None = None
        try:
            # What there is no compensator for is not run, and needs no token.
            idle = message.routing_slip.undoing and activity.compensator is None
            if not idle and (message.delegation is not None or self.tokens is not None):
                await permit(message, activity, self.tokens, policy_of(activity, message), started_at)
            if self._spans is None:
                result = await self._call(activity, context)
            else:
                with self._spans.step(message.headers, self.name):
                    result = await self._call(activity, context)
        except asyncio.CancelledError:
            if self._gives_up():
                # Drained: another worker runs it, with the same key; no attempt counts.
                await asyncio.shield(consumer.hand_back(delivery))
                raise
            error = RuntimeError("the handler cancelled itself")
        except GeneratorExit:
            raise  # the loop is gone, and nothing can be awaited any more
        except Exception as raised:  # noqa: BLE001 - whatever a handler raises is its result
            error = raised
        except BaseException as raised:  # noqa: BLE001 - SystemExit and its like end the step, not the worker
            error = RuntimeError(f"the handler raised {type(raised).__name__}")
            error.__cause__ = raised
        while task.cancelling():
            # By the handler, heeded or still to come: it is not to cut off the settle.
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            task.uncancel()
        if error is not None and logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s: step %s failed\n%s", message.correlation_id, activity.name, _where(error))
        span = Span(
            worker=self.name,
            started_at=started_at,
            completed_at=clock.now(),
            deaths=delivery.deaths,
            took=ticks() - began,
        )
        try:
            transition = decide(activity, message, context, result, error, span, delivery.body)
            transition = silenced(transition, message, span, delivery.body)
        except Exception as broken:  # noqa: BLE001 - e.g. a mapping that raises when it is read
            transition = moves.failed(message, broken, "internal_error", span, delivery.body)
            transition = silenced(transition, message, span, delivery.body)
        if self._guard is not None:
            transition = self._guard.signed(transition, message, span, delivery.body)
        if self.metrics is not None:
            self.metrics.became(message.headers, span, transition.record.kind)
        self._settling += 1
        self._freed.set()
        try:
            await consumer.settle(delivery, transition)
        except TransportError as refused:
            # The broker will not have this message, whatever the line does: keep the one that it did have.
            logger.error("%s: its settle was refused: %s", message.correlation_id, refused)
            parked = moves.failed(message, refused, "settle_refused", span, delivery.body)
            if self._guard is not None:
                parked = self._guard.signed(parked, message, span, delivery.body)
            await consumer.settle(delivery, parked)
        finally:
            self._settling -= 1

    def _gives_up(self) -> bool:
        """Whether steps are cancelled by this worker, or with it: a handler may cancel the task that it runs in too."""
        return self._drained or (self._keeper is not None and self._keeper.cancelling() > 0)

    async def _call(self, activity: Activity, context: ActivityContext) -> Any:
        slip = context.message.routing_slip
        handler = activity.compensator if slip.undoing else activity.handler
        if handler is None:
            return None
        if activity.model is not None and not slip.undoing:
            context.check_payload()
        step = slip.next_step()
        timeout = activity.timeout
        if step is not None and not slip.undoing and step.timeout is not None:
            timeout = step.timeout
        in_thread = activity.in_thread if handler is activity.handler else not inspect.iscoroutinefunction(handler)
        work = self._in_thread(handler, context) if in_thread else handler(context)
        if timeout is None:
            return await work
        scope = asyncio.timeout(timeout)
        try:
            async with scope:
                return await work
        except TimeoutError as raised:
            if not scope.expired():
                raise
            raise TimeoutError(f"took longer than {timeout:g} s") from raised

    async def _in_thread(self, handler: Handler, context: ActivityContext) -> Any:
        if self._threads is None:
            # The loop's own pool has a thread or two a core; a step may wait for hours. It is the slots that bound the
            # work: a step that has one is run, whatever became of the threads of steps before it.
            self._threads = ThreadPoolExecutor(self.concurrency + MAX_OUTLIVED, thread_name_prefix="paigeant-step")
        running = self._threads.submit(contextvars.copy_context().run, _in_thread, handler, context)
        self._in_threads.add(running)
        running.add_done_callback(self._in_threads.discard)
        if len(self._in_threads) > self._most_threads:
            self._most_threads = len(self._in_threads)
            logger.warning(
                "%d threads for %d slots: handlers that outlived their timeouts keep theirs until they return; "
                "let what they wait for time out",
                self._most_threads,
                self.concurrency,
            )
        result = await asyncio.wrap_future(running)
        return await result if inspect.isawaitable(result) else result


def _where(error: BaseException) -> str:
    """The traceback of a failure, without tokens: not every program that has workers redacts its log."""
    try:
        return redact("".join(traceback.format_exception(error)))
    except Exception:  # noqa: BLE001 - a handler's exception may be of any make, and its step is settled all the same
        return type(error).__name__


def _in_thread(handler: Handler, context: ActivityContext) -> Any:
    try:
        return handler(context)
    except (StopIteration, GeneratorExit) as stopped:
        # A future refuses to carry the first, and would never be done. Python does the same to coroutines.
        raise RuntimeError(f"the handler raised {type(stopped).__name__}") from stopped
