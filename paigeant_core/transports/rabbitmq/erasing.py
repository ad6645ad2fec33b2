"""Erasing on a broker whose streams cannot delete: what is shown no more, and where its bytes are meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paigeant_core.erasure import is_marker
from paigeant_core.journal import Record
from paigeant_core.limits import JOURNAL_AGE, JOURNAL_BYTES, PARKED_AGE
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.connection import Message
from paigeant_core.transports.rabbitmq.mirror import Fence
from paigeant_core.transports.rabbitmq.topology import PLACES
from paigeant_core.transports.types import Erased, Settled


def shown(fence: Fence, batch: Sequence[Message]) -> list[Record]:
    """The records in a batch of the journal, as they may be shown: of an erased workflow, without their contents.

    Args:
        fence: of the topic, which knows what was erased before the batch.
        batch: of the journal, in order.
    """
    records = [record for record in map(wire.record_of, batch) if record is not None]
    for record in records:
        if is_marker(record):
            # A follower hears of it here first.
            fence.erased[record.headers.correlation_id] = record.id
    return [fence.shown(record) for record in records] if fence.erased else records


def told(settled: Settled, held: Mapping[str, int], now: float) -> Erased:
    """What came of an erasure, and where on the broker's disks the bytes still are.

    A stream lets go of whole segments, by their age and by its size (RabbitMQ, "Streams", retention).

    Args:
        settled: whether the marker was published.
        held: how many records of the workflow there were in each stream.
        now: by this machine's clock.
    """
    if settled is not Settled.DONE:
        return Erased(settled=settled)
    longer = [name for name, number in held.items() if number and name != "journal"]
    said = [f"journal: {JOURNAL_AGE / 86400:g} days, or until it has {JOURNAL_BYTES // 1024**3} GiB"]
    if longer:
        said.append(f"{', '.join(longer)}: {PARKED_AGE / 86400:g} days")
    if held["held"]:
        said.append("a hold that has a deadline: the timer's copy, until then")
    said.append(
        "a stream cannot delete a record: it is hidden from every reader of Paigeant, and goes with its whole segment "
        "(16 or 64 MB), later where little is written; topic delete removes it at once"
    )
    return Erased(
        settled=settled,
        records=held["journal"],
        parked=sum(held[name] for name in PLACES.values()),
        remains=tuple(said),
        until=now + (PARKED_AGE if longer else JOURNAL_AGE),
    )
