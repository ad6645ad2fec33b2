"""Carrying an operation out: batch by batch, watched, and stopped when it does harm.

Whoever carries it out writes down every two seconds how far it came (half as often while it
is armed or paused), and reads whether somebody paused or aborted it. When nobody does any
more, another console goes on: what was done to a workflow is in that workflow's own journal,
so nothing is done twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, TypeVar

from paigeant_core.errors import AuthenticationError, ConnectError, PaigeantError, PublishUnknown, TransportError
from paigeant_core.handoff import wish_of
from paigeant_core.journal import ENDED, PARKED, Kind, Record
from paigeant_core.operations.action import Action
from paigeant_core.operations.aside import Cancel, DeadLetter, Hold
from paigeant_core.operations.log import HEARTBEAT, RESTING, OperationState, OperationStatus, Pace, control, entry
from paigeant_core.operations.plan import BEFORE, Line, Plan, Report, Result
from paigeant_core.operations.reading import RECENT, newer
from paigeant_core.operations.slip import Compensate

if TYPE_CHECKING:
    from paigeant_core.operations.control import Control

logger = logging.getLogger("paigeant")

_T = TypeVar("_T")

RAMP = (1, 5, 20, 100)
"""Sizes of the first batches; the last one again and again."""

BATCH = 20
"""Workflows between two looks at the log, without a ramp."""

PATIENCE = 60.0
"""Seconds that a batch of the ramp is waited for."""

SAMPLE = 5
"""Workflows whose end must be known before a share of them brakes, once the ramp is through its first batch."""

AGAIN = 0.5
"""Seconds until the broker is asked again where the line broke."""

OUTAGE = 600.0
"""Seconds for which a broker that does not answer is waited for: an operation that takes hours outlives a restart."""

SKEW = 60.0
"""Seconds before its beginning from which on the journal is read, where no place in it is known: clocks differ."""

BLUR = 1.0
"""Seconds by which the times of the log and of the journal may be off, where it is asked which was first."""

LAST_WORD = 1.0
"""Seconds for which whoever is stopped tries to write down how far it came."""

FORGOTTEN = "it moved, and the journal does not reach back to when this operation was left: look at it by itself"
"""The reason of a result where it cannot be told any more whether the operation had come to the workflow."""

Progress = Callable[[Result], None]


class Running:
    """One operation while it is carried out here.

    Args:
        operations: the command bus.
        status: the operation; its log is begun already.
        action: what is done.
        planned: what was shown of the workflows to whoever confirmed it, by ID: one that moved since is left alone.
            None: each is looked at when its turn comes.
        left: workflows that were selected and are left alone.
    """

    def __init__(
        self,
        operations: Control,
        status: OperationStatus,
        action: Action,
        *,
        planned: Mapping[str, Line] | None = None,
        left: Sequence[Line] = (),
    ) -> None:
        self.status = status
        self._planned = planned or {}
        self._left = left
        self._operations = operations
        self._action = action
        self._results: list[Result] = []
        self._skipped: list[Result] = []
        self._watch = _Watch(operations, status.operation_id, judging=not isinstance(action, ASIDE))
        self._said_at = self._heeded_at = float("-inf")
        self._seen = b""
        self._taken = False
        self._schemas: Mapping[str, bytes] = {}
        self._again_before, self._open_before = status.again, status.open
        self._passed = frozenset(range(status.handled)) - status.missed
        self._missed: list[int] = []  # since it was last said which
        self._known_until = status.told_at - BLUR if status.told_at else float("inf")
        # Counted anew: what was done before is found done.
        status.done = status.skipped = status.failed = 0

    async def go(self, progress: Progress | None = None) -> Report:
        """Act on every workflow that this operation has not acted on yet; return what came of it.

        Args:
            progress: called with each result.
        """
        try:
            return await self._through(progress)
        except asyncio.CancelledError:
            await self._leave()
            raise

    async def _through(self, progress: Progress | None) -> Report:
        status = self.status
        loop = asyncio.get_running_loop()
        interval, due = 1 / status.pace.rate if status.pace.rate is not None else 0.0, float("-inf")
        self._schemas = await self._ask(lambda: self._operations.declared(self._action))
        for line in self._left:
            self._skipped.append(await self._operations.act(Plan(status.operation_id, self._action, "", ()), line))
            if progress is not None:
                progress(self._skipped[-1])
        async with self._watch:
            for batch in _batches(status.targets, status.pace):
                for correlation_id in batch:
                    if not await self._wait_until(due):
                        return await self._end()
                    now = loop.time()
                    result = await self._one(correlation_id)
                    if result.reason != BEFORE:
                        # Time in which nothing was done is no credit, but for what a timer is late by.
                        due = (due if now - due < interval else now) + interval
                    self._count(result)
                    if progress is not None:
                        progress(result)
                if status.pace.ramp:
                    await self._decided()
            await self._may_go_on()
        if status.state is OperationState.RUNNING:
            status.state = OperationState.FINISHED
        return await self._end()

    async def _one(self, correlation_id: str) -> Result:
        operations, operation_id = self._operations, self.status.operation_id
        if len(self._results) in self._passed:
            return Result(correlation_id, "done", BEFORE)
        standing = await self._ask(lambda: operations.standing(correlation_id))
        if standing is not None and any(
            record.kind == Kind.OPERATED and record.detail.get("operation_id") == operation_id
            for record in standing.history
        ):
            return Result(correlation_id, "done", BEFORE)
        if standing is not None and self._watch.judging and self._forgotten(standing.history[0]):
            return Result(correlation_id, "failed", FORGOTTEN)
        line = self._planned.get(correlation_id) or operations.line(
            self._action, correlation_id, standing, schemas=self._schemas
        )
        watched = ""
        if standing is not None and line.eligible:
            # Ahead of the act: a broker may confirm it after a worker came to the end.
            watched, epoch = self._action.goes_on(standing, operation_id)
            self._watch.expect(watched, epoch)
        plan = Plan(operation_id, self._action, self.status.reason, (line,), approvals=self.status.approvals or None)
        result = await operations.act(plan, line)
        if result.outcome != "done" or result.reason == BEFORE:
            self._watch.forget(watched)
        elif watched == correlation_id and result.after in PARKED | ENDED:
            self._watch.stays(watched)
        return result

    def _forgotten(self, first: Record) -> bool:
        """Whether the journal of a workflow, as it begins, does not reach back to when this was last written down."""
        return first.kind != Kind.DISPATCHED and first.at > self._known_until

    def _count(self, result: Result) -> None:
        status = self.status
        if result.outcome != "done":
            self._missed.append(len(self._results))
        self._results.append(result)
        if result.outcome == "done":
            status.done += 1
        elif result.outcome == "skipped":
            status.skipped += 1
        else:
            status.failed += 1

    # -- going on, or not ---------------------------------------------------------------

    async def _may_go_on(self) -> bool:
        """Heed the log and the brake; wait while it is paused. False: it is over, or not ours any more."""
        loop = asyncio.get_running_loop()
        while True:
            self._brake()
            if self._taken or self.status.state in (OperationState.BRAKED, OperationState.ABORTED):
                return False
            rests = self.status.state in (OperationState.ARMED, OperationState.PAUSED)
            if loop.time() - self._said_at >= (RESTING if rests else HEARTBEAT):
                await self._say("progress")
                self._said_at = loop.time()
            if rests or loop.time() - self._heeded_at >= HEARTBEAT:
                self._heeded_at = loop.time()
                if not await self._heed():
                    return False
            if self.status.state is not OperationState.PAUSED and await self._begun() and self._sees():
                return True
            await asyncio.sleep(HEARTBEAT / 2)

    async def _begun(self) -> bool:
        """Whether its delay is over, in which it can be called off."""
        status = self.status
        if self._operations.transport.clock.now() < status.begins_at:
            status.state = OperationState.ARMED
        elif status.state is OperationState.ARMED:
            status.state = OperationState.RUNNING
            await self._say("running")
        return status.state is not OperationState.ARMED

    async def _heed(self) -> bool:
        status, operations = self.status, self._operations
        transport, topic = operations.transport, operations.topic
        # All since the last look, however long ago that was: an order in between may not be missed.
        entries = await self._ask(lambda: newer(transport, topic, self._seen)) if self._seen else None
        if entries is None:
            entries = await self._ask(lambda: transport.operation_entries(topic, RECENT))
        self._seen = entries[-1] if entries else self._seen
        state, said, by = control(entries, status.operation_id)
        if by and by != status.by:
            status.said, self._taken = "somebody else goes on with it", True
            return False
        if state is not None:
            status.state, status.said = state, said
        return status.state is not OperationState.ABORTED

    def _brake(self) -> None:
        status = self.status
        self._look()
        if not self._sees() and self._watch.blind > PATIENCE and status.state is OperationState.RUNNING:
            status.state = OperationState.BRAKED
            status.said = "the brake stopped it: it cannot be seen what becomes of them"
            return
        bad = self._watch.again + status.failed
        decided = bad + (self._watch.good if self._watch.judging else status.done)
        least = 1 if status.pace.ramp and len(self._results) <= RAMP[0] else SAMPLE
        if status.pace.brake is None or status.state is not OperationState.RUNNING or decided < least:
            return
        share = 100 * bad / decided
        if bad and share >= status.pace.brake:
            status.state = OperationState.BRAKED
            status.said = f"the brake stopped it: {bad} of {decided} failed ({share:.0f} %)"

    def _look(self) -> None:
        """Take up what is known of those that were done."""
        self.status.again = self._again_before + self._watch.again
        self.status.open = self._open_before + self._watch.open

    def _sees(self) -> bool:
        """Whether the brake, where there is one, would notice harm."""
        return self.status.pace.brake is None or not self._watch.blind

    async def _decided(self) -> None:
        """Wait until it is known what became of the batch, for some time at most."""
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE
        while await self._may_go_on():
            left = until - loop.time()
            if left <= 0 or await self._watch.quiet(min(left, HEARTBEAT)):
                return

    async def _wait_until(self, due: float) -> bool:
        """Wait until the loop's clock says so; False: it is over, or not ours any more."""
        loop = asyncio.get_running_loop()
        while await self._may_go_on():
            left = due - loop.time()
            if left <= 0:
                return True
            await asyncio.sleep(min(left, HEARTBEAT))
        return False

    async def _say(self, event: str) -> None:
        data, said = self._entry(event), len(self._missed)
        await self._ask(lambda: self._operations.transport.append_operation(self._operations.topic, data))
        if event == "progress":
            del self._missed[:said]

    async def _leave(self) -> None:
        """Write down how far it came, for whoever goes on; a broker that is away is not waited for."""
        if not self._taken:
            with suppress(PaigeantError, TimeoutError):
                async with asyncio.timeout(LAST_WORD):
                    data = self._entry("progress")
                    await self._operations.transport.append_operation(self._operations.topic, data)

    def _entry(self, event: str) -> bytes:
        status, operations = self.status, self._operations
        counts = {name: getattr(status, name) for name in ("done", "skipped", "failed", "again", "open")}
        more: dict[str, Any] = {"said": status.said} if status.said else {}
        if event == "progress":
            more["missed"] = self._missed
        at = operations.transport.clock.now()
        return entry(status.operation_id, event, at, by=status.by, operator=operations.operator, **counts, **more)

    async def _ask(self, question: Callable[[], Awaitable[_T]]) -> _T:
        """What the broker answers; one that is away is waited for, and asked again.

        Args:
            question: what may be asked twice: an entry that is twice in the log says what it says once.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        away_since: float | None = None
        while True:
            try:
                answer = await question()
            except AuthenticationError:
                raise
            except (ConnectError, PublishUnknown) as error:
                if away_since is None:
                    away_since = loop.time()
                    logger.warning("operation %s waits for the broker: %s", self.status.operation_id, error)
                elif loop.time() - away_since > OUTAGE:
                    raise
                await asyncio.sleep(AGAIN)
            else:
                if away_since is not None:
                    logger.warning("operation %s goes on", self.status.operation_id)
                self._watch.excuse(loop.time() - began)
                return answer

    async def _end(self) -> Report:
        status = self.status
        results, matched = (*self._skipped, *self._results), len(status.targets) + len(self._left)
        report = Report(status.operation_id, results, matched)
        if not self._taken:
            self._look()
            await self._say("progress")
            if status.state in (OperationState.FINISHED, OperationState.BRAKED):
                await self._say(status.state.value)
            plan = Plan(status.operation_id, self._action, status.reason, (), status.selection)
            await self._ask(lambda: self._operations.audit(plan, report, targets=matched, said=status.said))
        return report


ASIDE = (Hold, Cancel, DeadLetter, Compensate)
"""Verbs that take a workflow out of the way, wherever it has come to; nothing more is to be waited for then."""

_GOOD = frozenset({Kind.ADVANCED, Kind.FINISHED, Kind.HELD, Kind.COMPENSATED})
# A step that failed for good is journalled so ahead of its compensation, whose end is no success then.
_BAD = frozenset({Kind.FAILED, Kind.DEAD_LETTERED, Kind.COMPENSATION_FAILED})


class _Watch:
    """What becomes of the workflows that were acted on, read from the journal beside.

    Args:
        operations: the command bus.
        operation_id: of the operation.
        judging: whether anything is to be seen: not of what was taken out of the way.
    """

    def __init__(self, operations: Control, operation_id: str, *, judging: bool) -> None:
        self.judging = judging
        self.good = 0
        self.again = 0
        self._operations = operations
        self._operation_id = operation_id
        self._epochs: dict[str, int] = {}
        self._blind_since: float | None = None
        self._quiet = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> _Watch:
        if self.judging:
            transport = self._operations.transport
            newest = await transport.newest(self._operations.topic, 1)
            # Not from the end, which is elsewhere by the time that a line which broke is there again.
            since = newest[-1].position if newest else transport.clock.now() - SKEW
            self._task = asyncio.create_task(self._read(since))
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def quiet(self, seconds: float) -> bool:
        """Wait until nothing is under way any more, for so long at most; whether it is so."""
        if self._epochs:
            self._quiet.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._quiet.wait()
        return not self._epochs

    @property
    def open(self) -> int:
        """Of how many it is not known what became of them."""
        return len(self._epochs)

    def expect(self, correlation_id: str, epoch: int) -> None:
        """Something is about to be done to this workflow, which stands at that epoch."""
        if self.judging:
            self._epochs[correlation_id] = epoch

    def forget(self, correlation_id: str) -> None:
        """It was not done."""
        self._epochs.pop(correlation_id, None)

    def stays(self, correlation_id: str) -> None:
        """It was done, and left the workflow where it goes no further by itself."""
        self.good += self._epochs.pop(correlation_id, None) is not None

    @property
    def blind(self) -> float:
        """Seconds for which nothing could be seen; 0: it is seen what happens, or there is nothing to be seen."""
        if self._task is not None and self._task.done():
            return float("inf")
        return 0.0 if self._blind_since is None else asyncio.get_running_loop().time() - self._blind_since

    def excuse(self, seconds: float) -> None:
        """For so long, until now, the broker answered nobody: that nothing could be seen then is no blindness."""
        if self._blind_since is not None:
            self._blind_since = min(self._blind_since + seconds, asyncio.get_running_loop().time())

    async def _read(self, position: str | float) -> None:
        operations = self._operations
        while True:
            with suppress(TransportError):
                async for batch in operations.transport.records(operations.topic, start=position, follow=True):
                    self._blind_since = None
                    position = batch[-1].position if batch else position
                    self._take(batch)
            if self._blind_since is None:
                self._blind_since = asyncio.get_running_loop().time()
            await asyncio.sleep(AGAIN)

    def _take(self, batch: list[Record]) -> None:
        for record in batch:
            epoch = self._epochs.get(record.headers.correlation_id)
            if epoch is None:
                continue
            if wish_of(record) and record.detail.get("operation_id") == self._operation_id:
                # The step that it was asked of ends in the same epoch.
                epoch = self._epochs[record.headers.correlation_id] = record.headers.epoch - 1
            if record.headers.epoch <= epoch:
                continue
            if record.kind in _GOOD or record.kind in _BAD:
                del self._epochs[record.headers.correlation_id]
                self.good += record.kind in _GOOD
                self.again += record.kind in _BAD
        if not self._epochs:
            self._quiet.set()


def _batches(targets: list[str], pace: Pace) -> list[list[str]]:
    sizes = chain(RAMP, repeat(RAMP[-1])) if pace.ramp else repeat(BATCH)
    found, at = [], 0
    while at < len(targets):
        size = next(sizes)
        found.append(targets[at : at + size])
        at += size
    return found
