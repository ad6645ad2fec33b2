"""Copies of a delayed message of which there may be two.

Who has a copy ahead of its time puts it into the next rung of the ladder, and acknowledges
it then. Where its line breaks in between there are two of it, and the journal knows of
neither. To look up each copy that comes out of a rung would mean to read the journal for
every retry. So the one that comes again, and knows that it does, goes on one epoch up: the
fence stops the other one, which does not.
"""

from __future__ import annotations

from pamqp.common import FieldTable

from paigeant_core.limits import SPEC_VERSION
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.connection import Message
from paigeant_core.transports.rabbitmq.lookup import headers_in

EARLY = 0.05
"""Seconds before its time that a copy may be kept by a worker; one that is earlier waits in the ladder."""


def forked(message: Message) -> bool:
    """Whether there may be another copy of this one that would run without being looked up."""
    table = wire.headers_of(message)
    put_on = message.redelivered and wire.rest_of(table) > EARLY
    if not put_on and table.get(wire.AGAIN) != wire.TWICE:
        return False
    # A deadline finds out for itself whether it is too late, and what cannot be read can be given no epoch.
    return wire.TIMER not in table and is_readable(message)


def is_readable(message: Message) -> bool:
    """Whether this version knows what is in a message, as far as its headers tell."""
    headers = headers_in(message)
    return headers is not None and headers.spec_version <= SPEC_VERSION


def again(message: Message) -> FieldTable:
    """The headers of a copy that is put elsewhere, and is looked up when it comes from there."""
    return {wire.AGAIN: wire.TWICE if forked(message) else True}
