"""What the journal tells of each hop: its tries, when each waited and worked, and the message that it came with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from paigeant_console.model.documents import readable
from paigeant_console.model.times import parsed
from paigeant_core.journal import Kind, Record, State, without_late

__all__ = ["Hop", "Spent", "Try", "hops_of", "last_operation", "number_of", "spent_of"]


_FAILURES: Final = frozenset({Kind.RETRYING, Kind.FAILED, Kind.DEAD_LETTERED, Kind.COMPENSATION_FAILED})


@dataclass(slots=True)
class Try:
    """A try of a hop that failed, as the journal tells it."""

    record: Record
    number: int
    sent: float | None
    """When the message that it was tried with was published."""


@dataclass(slots=True)
class Hop:
    """One hop: what is to be done, and what was."""

    name: str
    tries: list[Try] = field(default_factory=list)
    done: Record | None = None
    came: Record | None = None
    """The record that published the message it came with."""
    sent: float | None = None
    """When the message that it was done with was published."""
    undoes: list[Try] = field(default_factory=list)
    """The tries to undo it that failed."""
    undone: Record | None = None
    undo_sent: float | None = None
    """When the message that it is to be undone with was published."""


@dataclass(frozen=True, slots=True)
class Spent:
    """When one try waited and worked; None: it did not yet, or nobody knows."""

    sent: float | None
    began: float | None
    ended: float | None
    first: float | None = None
    """When the first worker began, where one was lost with it; None: it is not known of any."""

    @property
    def waited(self) -> float | None:
        """Seconds until it began."""
        began = self.began if self.first is None else self.first
        return max(0.0, began - self.sent) if began is not None and self.sent is not None else None

    @property
    def worked(self) -> float | None:
        """Seconds that it took."""
        return max(0.0, self.ended - self.began) if self.began is not None and self.ended is not None else None


def spent_of(record: Record, sent: float | None) -> Spent:
    """When the try that a record tells of waited and worked.

    Args:
        record: that it was done, or failed.
        sent: when its message was published.
    """
    detail = record.detail
    return Spent(sent, parsed(detail.get("started_at")), parsed(detail.get("completed_at")))


def hops_of(history: Sequence[Record]) -> list[Hop]:
    """What the journal tells of each hop, of the newest run that came to it."""
    history = without_late(history)
    newest = next((record for record in reversed(history) if record.state and record.body is not None), None)
    message = readable(newest) if newest is not None else None
    hops = [Hop(name) for name in (message.routing_slip.names() if message is not None else ())]
    run = 0
    for record in history:
        if not record.state and record.kind != Kind.FAILED:
            continue
        if record.headers.run != run:
            run = record.headers.run
            # A replay does the work again from here.
            start = max(0, record.headers.hop - 1)
            hops[start:] = [Hop(hop.name) for hop in hops[start:]]
        _tell(hops, record)
    return hops


def _tell(hops: list[Hop], record: Record) -> None:
    detail, headers = record.detail, record.headers
    if "step" in detail and isinstance(number := detail.get("hop"), int) and 0 < number <= len(hops):
        hop = hops[number - 1]
        if "undo" in detail:
            hop.undone = record
        else:
            hop.done, hop.sent = record, hop.came.at if hop.came is not None else None
    if not 0 < headers.hop <= len(hops):
        return
    hop = hops[headers.hop - 1]
    undoing = headers.activity != "" and headers.hop <= headers.steps_done
    if record.kind in _FAILURES and "error" in detail:
        number = number_of(detail.get("failed_attempt"), headers.attempt)
        if undoing:
            hop.undoes.append(Try(record, number, hop.undo_sent))
        else:
            hop.tries.append(Try(record, number, hop.came.at if hop.came is not None else None))
    if not headers.activity or record.body is None or record.state == State.COMPENSATED:
        return
    if undoing:
        hop.undo_sent = record.at
    else:
        hop.came = record


def number_of(value: object, default: int) -> int:
    """A whole number off the wire, or another where it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def last_operation(history: Sequence[Record]) -> str:
    """The ID of the operation that was done to a workflow, or asked for, last; empty: none was."""
    for record in reversed(without_late(history)):
        found = record.detail.get("operation_id")
        if isinstance(found, str) and found:
            return found
    return ""
