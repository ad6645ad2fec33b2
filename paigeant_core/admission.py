"""What stands between a claim and a run: decode, verify, fence, poison.

A copy that does not pass is settled here, with its bytes kept, so nothing that a
broker delivers can stop a worker or be lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paigeant_core import transition as moves
from paigeant_core.clock import Clock
from paigeant_core.errors import DecodeError, MessageError, MessageTooLarge, UnsupportedVersion
from paigeant_core.journal import Kind, Record, State
from paigeant_core.limits import MAX_MESSAGE, POISON_DEATHS, VERSION_DELAY
from paigeant_core.message import Headers, PaigeantMessage, check_workflow, decode_headers
from paigeant_core.transition import Span
from paigeant_core.transports.types import Consumer, Copy, Delivery

if TYPE_CHECKING:
    from paigeant_core.security.hop import Guard
    from paigeant_core.tokens import Tokens


class Poison(Exception):
    """Workers keep dying in this step."""


async def admit(
    consumer: Consumer,
    delivery: Delivery,
    topic: str,
    worker: str,
    clock: Clock,
    guard: Guard | None = None,
    tokens: Tokens | None = None,
) -> PaigeantMessage | None:
    """The message to run, or None when the delivery was settled instead.

    Args:
        consumer: who claimed it.
        delivery: the copy.
        topic: where from.
        worker: who claims, for the journal.
        clock: for the journal's times.
        guard: verifies what is signed; None: nothing need be.
        tokens: opens what is sealed; None: it stays so.
    """
    now = clock.now()
    try:
        if len(delivery.body) > MAX_MESSAGE:
            raise MessageTooLarge(f"the message is {len(delivery.body)} bytes, the cap is {MAX_MESSAGE}")
        try:
            message = PaigeantMessage.decode(delivery.body)
        except UnsupportedVersion as newer:
            # Deferred, it comes back to the queue that its headers name: that must be this one, or it is lost.
            headers = decode_headers(delivery.body)
            _check_address(headers, delivery, topic)
            check_workflow(headers)
            detail = {"reason": "version", "error": moves.error_document(newer), "delay_s": VERSION_DELAY}
            record = Record(
                Kind.RETRYING,
                headers,
                state=State.RETRYING,
                worker=worker,
                detail=detail,
                body=delivery.body,
                at=now,
            )
            await consumer.defer(delivery, VERSION_DELAY, record)
            return None
        _check_address(message.headers, delivery, topic)
        if guard is not None:
            await guard.verify_anew(message, now)
            witness = await consumer.witness(delivery, message.headers)
            if witness.copy is Copy.GONE:
                # Somebody moved the workflow since this copy was claimed, and that is on record.
                await consumer.hand_back(delivery)
                return None
            guard.check_witness(message, witness)
            consumer.admitted(message.headers)
        if tokens is not None:
            tokens.unseal(message)
    except MessageError as malformed:
        parked = moves.quarantine(
            delivery.body,
            code=malformed.code,
            reason=str(malformed),
            activity=delivery.activity,
            topic=topic,
            at=now,
            worker=worker,
        )
        await consumer.settle(delivery, parked)
        return None
    delivery.message = message
    if delivery.deaths >= POISON_DEATHS:
        error = Poison(f"{delivery.deaths} workers died while they ran this step")
        span = Span(worker=worker, started_at=now, completed_at=now, deaths=delivery.deaths)
        parked = moves.failed(message, error, "poison", span, delivery.body)
        if guard is not None:
            parked = guard.signed(parked, message, span, delivery.body)
        await consumer.settle(delivery, parked)
        return None
    return message


def _check_address(headers: Headers, delivery: Delivery, topic: str) -> None:
    if headers.activity != delivery.activity or headers.topic != topic:
        raise DecodeError("not for this queue: its headers name another topic or activity")
