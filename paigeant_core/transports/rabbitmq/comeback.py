"""Copies that come again: after a worker died, after the line or the broker went down.

A copy that comes again is looked up in the journal before it runs: a record that names
it says that it was handed on. There may be two of it, where a worker lost its line as it
gave one back, so whoever looks has the copy's lock first and keeps it until it lets go of
the copy: who has the other one waits for that. Looking means reading the journal from the time when the
message was made, so it is done for all copies together that came within a moment.

A copy that was lost with the line while its step ran is not started a second time when
it comes back here; its step's result waits for it. Where it went elsewhere the result
is kept for a while: that worker may die too.

Where the broker itself went down, what it had not confirmed can be in the journal and
not in the work queue, or the other way round. Then the journal's word is not enough:
the workflow goes on one epoch up, and the fence sees to it that it does so once. The same
holds for a publish that one queue refused, say one whose leader was just lost: another
one that it was for may have it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from paigeant_core import transition as moves
from paigeant_core.clock import parse_rfc3339, rfc3339
from paigeant_core.errors import Conflict, DecodeError, TransportError, UnsupportedVersion
from paigeant_core.handoff import heed, request, wish_of
from paigeant_core.journal import ENDED, PARKED, Record, State
from paigeant_core.message import Headers, PaigeantMessage
from paigeant_core.names import new_id
from paigeant_core.transition import Place, Transition
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.connection import Waits, ignoring_loss
from paigeant_core.transports.rabbitmq.desk import Copy, Desk
from paigeant_core.transports.rabbitmq.forks import forked
from paigeant_core.transports.rabbitmq.lookup import SKEW, handed_on, headers_in, made_at, moved_on
from paigeant_core.transports.types import Settled

logger = logging.getLogger("paigeant")

GATHER = 0.1
"""Seconds in which copies that came again are gathered for one look into the journal."""

LONGEST_WAIT = 1.0
"""Seconds between two tries to get the lock of a copy whose twin another worker has."""

REGAIN = 5.0
"""Seconds after a line is back in which a copy that was lost with it is waited for."""

KEEP = 600.0
"""Seconds for which the result of a step is kept whose copy went elsewhere."""


@dataclass(slots=True)
class Result:
    """What settles a copy.

    Attributes:
        transition: of its workflow.
        queue: the activity whose queue gets the message; empty: its own.
        copy: the ID of the new copy; empty: the record's own.
        until: for how long it is kept, by the loop's clock.
    """

    transition: Transition
    queue: str = ""
    copy: str = ""
    until: float = 0.0


class Comeback:
    """Decides what becomes of copies that come again.

    Args:
        desk: whose.
        up: set while the consumer's line stands.
        offer: called with a copy that may run.
        settle: called with a copy whose result was kept.
        ask: called when copies were decided on, which leaves room for others.
    """

    def __init__(
        self,
        desk: Desk,
        up: asyncio.Event,
        *,
        offer: Callable[[Copy], None],
        settle: Callable[[Copy, Result], None],
        ask: Callable[[], None],
    ) -> None:
        self._desk = desk
        self._up = up
        self._offer = offer
        self._settle = settle
        self._ask = ask
        self._suspects: list[Copy] = []
        self._looking = False
        self.kept: dict[str, Result] = {}

    def __len__(self) -> int:
        return len(self._suspects)

    def suspect(self, copy: Copy) -> None:
        """Look this copy up before anything else."""
        self._suspects.append(copy)
        if not self._looking:
            self._looking = True
            self._desk.spawn(self._look_up())

    def drift(self) -> None:
        """The channel is gone, and what is being looked up with it."""
        self._suspects.clear()

    # -- looking up ---------------------------------------------------------------------

    async def _look_up(self) -> None:
        wait = GATHER
        try:
            while self._suspects:
                await asyncio.sleep(wait)
                try:
                    batch = [copy for copy in [*self._suspects] if copy.held and await self._desk.guard(copy)]
                    wait = GATHER if batch else min(2 * wait, LONGEST_WAIT)
                    if batch:
                        await self._look_for_restart()
                    found = await self._find(batch)
                    for copy in batch:
                        if copy.refused:
                            continue  # its settle is under way, and sees to it
                        if (record := found.get(copy.key)) is not None:
                            await self._make_sure(record)
                        else:
                            copy.doubtful = forked(copy.message) or self._older_than_broker(copy)
                except (TransportError, Conflict):
                    # What is still ours is looked up again.
                    self._suspects = [copy for copy in self._suspects if copy.held]
                    continue
                self._suspects = [copy for copy in self._suspects if copy.held and copy not in batch]
                for copy in batch:
                    self._judge(copy, found.get(copy.key))
                self._ask()
        finally:
            self._looking = False

    async def _find(self, copies: list[Copy]) -> dict[str, Record]:
        desk, mark = self._desk, new_id()
        if copies:
            # Its confirm says that the journal has all that was published before it, also by who died meanwhile.
            await desk.publisher.send([wire.mark(desk.names.journal, mark)])
        return await handed_on(desk.line, desk.names, [copy.message for copy in copies], desk.clock.now(), mark)

    def _older_than_broker(self, copy: Copy) -> bool:
        """Whether a copy was made before the broker was last restarted."""
        headers = headers_in(copy.message)
        at = made_at(headers) if headers is not None else None
        return at is not None and at < self._desk.fence.booted_at + SKEW

    def _judge(self, copy: Copy, record: Record | None) -> None:
        if not copy.held:
            return
        if copy.delivery is not None:
            # Its step ran on here: whoever settles it decides.
            copy.verdict = None if copy.refused else record
            copy.astray = False
            copy.back.set()
        elif record is not None:
            self._desk.spawn(self._desk.drop(copy, "handed on", {"by": record.id}))
        elif (kept := self.kept.pop(copy.key, None)) is not None:
            self._settle(copy, kept)
        elif copy.doubtful:
            self._desk.spawn(self._begin_again(copy))
        else:
            self._offer(copy)

    # -- settles that lost their line -----------------------------------------------------

    async def resolve(self, copy: Copy, result: Result) -> Settled | None:
        """Find out about a copy that was lost, or whose publish is in doubt; None: it is still to be settled."""
        desk = self._desk
        if not await self._regained(copy):
            self._keep(copy, result)
            return Settled.SUPERSEDED
        if copy.verdict is None and copy.unsure:
            await self._look_for_restart()
            if (found := (await self._find([copy])).get(copy.key)) is not None:
                ours = copy.refused and found.worker == desk.worker
                await (self._complete(copy, found, result) if ours else self._make_sure(found))
            else:
                copy.doubtful = copy.refused or self._older_than_broker(copy)
            copy.verdict = found
        if copy.verdict is None:
            copy.unsure = False
            return None
        if copy.unsure and copy.verdict.worker == desk.worker:
            await desk.done(copy)
            return Settled.DONE
        late = moves.superseded(result.transition, by="another worker")
        await desk.insist(copy, [wire.plain(desk.names, late, prev=copy.key)])
        await desk.done(copy)
        return Settled.SUPERSEDED

    async def _look_for_restart(self) -> None:
        fence, publisher, now = self._desk.fence, self._desk.publisher, self._desk.clock.now()
        if publisher.forgot:
            await fence.note_restart(now)
            publisher.forgot = False
        else:
            await fence.look_for_restart(now)

    async def _regained(self, copy: Copy) -> bool:
        """Wait until a copy that was lost with the line has come back here; False: it went elsewhere."""
        while copy.astray or not copy.held:
            await self._up.wait()
            try:
                async with asyncio.timeout(REGAIN):
                    await copy.back.wait()
            except TimeoutError:
                if not copy.held and self._up.is_set():
                    return False
        return True

    def _keep(self, copy: Copy, result: Result) -> None:
        headers = result.transition.record.headers
        logger.info(
            "the line was lost while %s ran hop %d of %s, and another worker has it now; the result is kept a while",
            self._desk.worker,
            headers.hop,
            headers.correlation_id,
        )
        self._desk.let_go(copy)
        now = asyncio.get_running_loop().time()
        result.until = now + KEEP
        self.kept[copy.key] = result
        for key in [key for key, kept in self.kept.items() if kept.until < now]:
            self._desk.spawn(self._give_up(self.kept.pop(key)))

    async def give_up_all(self) -> None:
        """This worker ends: put it on record what its results would have been."""
        while self.kept:
            await self._give_up(self.kept.popitem()[1])

    async def _give_up(self, result: Result) -> None:
        late = moves.superseded(result.transition, by="another worker")
        with ignoring_loss():
            await self._desk.publisher.send([wire.plain(self._desk.names, late)])

    # -- after the broker went down, or took a publish in part ----------------------------

    async def _make_sure(self, record: Record) -> None:
        """See to it that what the journal has was not lost on its way to the work queue."""
        desk = self._desk
        if not record.state or record.state in ENDED or record.at > desk.fence.booted_at + SKEW:
            return
        async with desk.locks.hold(desk.names.lock("operate")) as serial:
            await desk.fence.catch_up()
            if desk.fence.passed(record.headers) or await moved_on(desk.line, desk.names, record):
                return
            if (transition := published_anew(record, desk.clock.now())) is not None:
                await self.publish(transition, serial, fence=transition.record is not record, of=record.headers)

    async def _complete(self, copy: Copy, record: Record, result: Result) -> None:
        """Publish anew what the journal has of a result, and another queue refused."""
        desk = self._desk
        if not record.state or record.state in ENDED:
            return
        async with desk.locks.hold(desk.names.lock("operate")) as serial:
            await desk.fence.catch_up()
            # This may be refused as well, and is then tried again one more epoch up.
            last = (copy.anew or [record])[-1].headers
            if desk.fence.passed(last) or await moved_on(desk.line, desk.names, record, copy.anew):
                return
            if (transition := published_anew(record, desk.clock.now(), REFUSED, last.epoch)) is None:
                return
            copy.anew.append(transition.record)
            # A hold's deadline goes with it: without one it would stay.
            transition.deadline = result.transition.deadline if record.state in PARKED else None
            fence = transition.record is not record
            await self.publish(transition, serial, fence=fence, of=last, queue=result.queue)

    async def _begin_again(self, copy: Copy) -> None:
        """Run a copy one epoch up: an unknown successor of it may be in a work queue, or its like in the ladder."""
        desk = self._desk
        try:
            message = PaigeantMessage.decode(copy.body)
        except (DecodeError, UnsupportedVersion):
            self._offer(copy)
            return
        waits = Waits()
        while copy.held:
            try:
                async with desk.locks.hold(desk.names.lock("operate")) as serial:
                    await desk.fence.catch_up()
                    if desk.fence.passed(message.headers):
                        await desk.drop(copy, "fenced")
                        return
                    state = State.COMPENSATING if message.routing_slip.undoing else State.QUEUED
                    now = desk.clock.now()
                    delay = max(0.0, wire.remaining(wire.headers_of(copy.message), now))
                    reason = FORKED if forked(copy.message) else RESTARTED
                    anew = _epoch_up(message, State.RETRYING if delay else state, now, reason, delay=delay)
                    await self.publish(anew, serial, fence=True, of=message.headers, prev=copy.key)
                await desk.done(copy)
                return
            except (TransportError, Conflict) as error:
                await waits.next(error)

    async def settle_doubtful(self, copy: Copy, result: Result) -> bool:
        """Publish a result one epoch up; False: the fence has moved on.

        Raises:
            TransportError: it could not be published, or that is not known.
            Conflict: an operator is acting all the time.
        """
        desk = self._desk
        async with desk.locks.hold(desk.names.lock("operate")) as serial:
            await desk.fence.catch_up()
            before = result.transition.record.headers
            if desk.fence.passed(before):
                return False
            asked = desk.asked(copy)
            if asked is not None:
                result.transition = heed(result.transition, asked)
            transition, message = result.transition, None
            heeded = asked is not None and transition.record.detail.get("asked") == asked.id
            # The step may be handed on already, without what was asked of it: that is stopped as well. A deadline
            # belongs to its epoch; where there is one, the step ended in a hold and nothing runs.
            if (heeded and transition.deadline is None) or transition.place in (Place.WORK, Place.DELAYED):
                # One that cannot be read is of a newer version, and goes back as it is.
                with suppress(DecodeError, UnsupportedVersion):
                    message = transition.record.message
            if message is not None:
                raise_epoch(transition.record, message, before.epoch)
            # The one that may be in a work queue already is another copy: what drops that must not drop this.
            identity = result.copy if message is None else new_id()
            await self.publish(
                transition, serial, fence=message is not None, prev=copy.key, copy=identity, queue=result.queue
            )
        return True

    async def publish(
        self,
        transition: Transition,
        serial: int,
        *,
        fence: bool,
        of: Headers | None = None,
        prev: str = "",
        copy: str = "",
        queue: str = "",
    ) -> None:
        """Publish what goes on one epoch up; the lock of operators must be held.

        Args:
            transition: what to publish.
            serial: of the line that the lock is held over.
            fence: tell the fence of it.
            of: the message that it takes the place of; what was asked of that is asked of this.
            prev: the copy that it settles.
            copy: the ID of the new copy; else the record's own.
            queue: the activity whose queue gets it; else its own.

        Raises:
            TransportError: it could not be published, or that is not known.
        """
        desk = self._desk
        also = ("fence",) if fence else ()
        await desk.topology.stream(desk.names, "fence")
        await desk.topology.lead(desk.names, transition, queue)
        now = desk.clock.now()
        items = wire.moved(desk.names, transition, now=now, prev=prev, copy=copy, queue=queue, also=also)
        asked = desk.fence.asked(of) if fence and of is not None else None
        if asked is not None:
            asked = request(transition.record.headers, now, wish_of(asked), asked.detail)
            items.append(wire.plain(desk.names, asked, also=also))
            desk.fence.asking[asked.headers.message_id] = asked
        try:
            await desk.publisher.send(items, serial=serial)
            if fence:
                desk.fence.note(transition.record)
            if asked is not None:
                desk.fence.note(asked)
        finally:
            if asked is not None:
                del desk.fence.asking[asked.headers.message_id]


RESTARTED = "the broker was restarted before it confirmed this hop"
FORKED = "the line broke while this message was put on to wait longer, so there may be two of it"
REFUSED = "the broker took this hop in part: the journal has it, and a queue refused it"


def published_anew(record: Record, now: float, reason: str = RESTARTED, epoch: int = 0) -> Transition | None:
    """The transition that publishes the message of a journal record anew; None: it has none.

    Args:
        record: the last word on a workflow.
        now: for the new message.
        reason: for the journal.
        epoch: that it must be beyond, where that is more than the record's own.
    """
    if record.state in PARKED:
        # In its store it does no harm to stand twice.
        place = {"held": Place.HELD, "quarantined": Place.QUARANTINE}.get(record.state, Place.DEAD)
        return Transition(place=place, record=record)
    try:
        message = record.message
    except (DecodeError, UnsupportedVersion):
        return None
    if message is None:
        return None
    delay = 0.0
    with suppress(ValueError):
        delay = max(0.0, parse_rfc3339(str(record.detail.get("due_at", ""))) - now)
    return _epoch_up(message, record.state, now, reason, epoch=epoch, delay=delay)


def _epoch_up(
    message: PaigeantMessage, state: str, now: float, reason: str, *, epoch: int = 0, delay: float = 0.0
) -> Transition:
    headers = message.headers
    following = message.replaced(
        message.routing_slip, timestamp=rfc3339(now), attempt=headers.attempt, epoch=max(headers.epoch, epoch) + 1
    )
    detail = {"action": "recover", "reason": reason}
    if delay:
        detail["due_at"] = rfc3339(now + delay)
    record = moves.operated(following, now, detail, state=state, body=True)
    return Transition(place=Place.DELAYED if delay else Place.WORK, record=record, delay=delay)


def raise_epoch(record: Record, message: PaigeantMessage, epoch: int) -> None:
    """Make ``record``, and the message that it publishes, one of the epoch behind ``epoch``."""
    message.headers = msgspec.structs.replace(message.headers, epoch=epoch + 1)
    record.headers = message.headers
    record.body = message.encode()
