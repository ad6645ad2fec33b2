"""What is not due yet, and deadlines that have come."""

from __future__ import annotations

import logging

from paigeant_core.errors import Conflict, PublishUnknown, TransportError
from paigeant_core.journal import Kind, Record, State
from paigeant_core.transition import Place, Transition
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.connection import Waits
from paigeant_core.transports.rabbitmq.desk import Copy, Desk
from paigeant_core.transports.rabbitmq.forks import is_readable
from paigeant_core.transports.rabbitmq.lookup import is_held
from paigeant_core.transports.rabbitmq.topology import rung_for

logger = logging.getLogger("paigeant")


async def delay_on(desk: Desk, copy: Copy, left: float) -> None:
    """Put a copy that came out of one rung into the next, without journalling it.

    Args:
        desk: whose.
        copy: not due yet.
        left: seconds that it has yet to wait.
    """
    rung = rung_for(left)
    assert rung is not None
    headers = wire.delay_headers(left, rung, desk.clock.now())
    if not is_readable(copy.message):
        # Where it is there twice, the fence cannot stop one of them.
        headers[wire.AGAIN] = True
    waits = Waits()
    while copy.held:
        item = wire.again(copy.message, desk.names.delay, f"delay.{rung}.{copy.activity}", headers)
        try:
            await desk.topology.rung(desk.names, rung, copy.activity)
            await desk.publisher.send([item])
        except PublishUnknown as error:
            headers[wire.AGAIN] = wire.TWICE
            await waits.next(error)
        except TransportError as error:
            await waits.next(error)
        else:
            await desk.ack(copy)
            return


async def ring(desk: Desk, copy: Copy, timer: wire.Timer) -> None:
    """A hold's deadline has come: act on it as an operator would, unless somebody was quicker.

    Where nobody can tell whether somebody was, its message is kept among the dead letters: an operator decides.

    Args:
        desk: whose.
        copy: the timer.
        timer: what it says.
    """
    waits = Waits()
    while copy.held:
        try:
            await desk.topology.stream(desk.names, "fence")
            async with desk.locks.hold(desk.names.lock("operate")) as serial:
                await desk.fence.catch_up()
                held = await is_held(desk.line, desk.names, desk.fence, timer)
                if held is not False:
                    transition = timer.transition if held else _kept(timer.transition.record)
                    now = transition.record.at = desk.clock.now()
                    await desk.topology.lead(desk.names, transition)
                    items = wire.moved(
                        desk.names,
                        transition,
                        now=now,
                        prev=copy.key,
                        also=("fence",),
                        headers={wire.TIMER: timer.held},
                    )
                    await desk.publisher.send(items, serial=serial)
                    desk.fence.note(transition.record, timer.held)
            await desk.ack(copy)
            return
        except (TransportError, Conflict) as error:
            await waits.next(error)


def _kept(record: Record) -> Transition:
    logger.warning(
        "the deadline of a hold of %s has come, and no stream reaches back to that hold: its message is among the "
        "dead letters (hold_unknown)",
        record.headers.correlation_id,
    )
    detail = {"reason": "hold_unknown", "origin": record.headers.activity}
    kept = Record(Kind.DEAD_LETTERED, record.headers, state=State.DEAD, detail=detail, body=record.body)
    return Transition(place=Place.DEAD, record=kept)
