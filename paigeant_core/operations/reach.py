"""To which workflows an operation was done, from all that the broker keeps of it.

The journal tells of each, as far back as it reaches. Beyond that a message that the operation
parked names it, the operation's log has its workflows, and the audit the first hundred.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from paigeant_core.errors import AmbiguousID, WorkflowNotFound
from paigeant_core.journal import Kind, Record
from paigeant_core.operations.log import OperationStatus, at_once
from paigeant_core.operations.reading import OperationLog
from paigeant_core.transition import Place
from paigeant_core.transports import Transport

ENTRIES = 10_000
"""Entries of the audit, and of the operations' log at least, that are looked at."""

PARKED = 100_000
"""Parked messages that are looked at, of each place."""


class Reach(NamedTuple):
    """What an operation was done to.

    Attributes:
        operation_id: its whole ID.
        workflows: to which it was done.
        unnamed: to how many more, of which nothing tells any more which they are.
    """

    operation_id: str
    workflows: list[str]
    unnamed: int


async def reach(transport: Transport, topic: str, log: OperationLog, prefix: str) -> Reach:
    """To which workflows an operation was done; reads all of the journal.

    Args:
        transport: where.
        topic: the topic.
        log: of its operations.
        prefix: the operation's ID, or the beginning of that.

    Raises:
        WorkflowNotFound: none is known that was done to any.
        AmbiguousID: there is more than one.
    """
    found: dict[str, dict[str, None]] = {}
    done: dict[str, int] = {}

    def note(operation_id: object, workflows: Iterable[str]) -> None:
        if isinstance(operation_id, str) and prefix and operation_id.startswith(prefix):
            found.setdefault(operation_id, {}).update(dict.fromkeys(workflows))

    def note_all(records: Iterable[Record]) -> None:
        for record in records:
            note(record.detail.get("operation_id"), (record.headers.correlation_id,))

    async for batch in transport.records(topic):
        note_all(record for record in batch if record.kind == Kind.OPERATED)
    for place in (Place.DEAD, Place.HELD):
        note_all(await transport.parked(topic, place, PARKED))
    entries = await transport.audit(topic, ENTRIES)
    for data in entries:
        note(*_named(data))
    known = await log.read(ENTRIES, lambda known: any(known[key].whole for key in known if key.startswith(prefix)))
    for operation_id, status in (at_once(entries) | known).items():
        note(operation_id, _done(status))
        done[operation_id] = status.done
    names = [prefix] if found.get(prefix) else [name for name, workflows in found.items() if workflows]
    if not names:
        raise WorkflowNotFound(f"no operation {ascii(prefix)[:60]} was done to a workflow of topic {topic}")
    if len(names) > 1:
        raise AmbiguousID(f"{ascii(prefix)[:60]} is the beginning of more than one operation")
    workflows = list(found[names[0]])
    return Reach(names[0], workflows, max(0, done.get(names[0], 0) - len(workflows)))


def _done(status: OperationStatus) -> list[str]:
    """The workflows that it was done to, by its own log."""
    handled = max(status.handled, status.done + status.skipped + status.failed)
    return [one for place, one in enumerate(status.targets[:handled]) if place not in status.missed]


def _named(data: bytes) -> tuple[str, list[str]]:
    """The operation of an entry of the audit, and the workflows that it names as done."""
    # Anybody may write into the broker.
    with suppress(msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        document = msgspec.json.decode(data, type=dict[str, Any])
        told = document.get("workflows") or ()
        return str(document["operation_id"]), [
            str(one["correlation_id"]) for one in told if one.get("outcome") == "done"
        ]
    return "", []
