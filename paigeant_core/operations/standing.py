"""Where one workflow stands, as the broker tells it now: what every operation is decided from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paigeant_core.clock import rfc3339
from paigeant_core.errors import InvalidMessage, NotEligible, PaigeantError
from paigeant_core.handoff import GO_ON, stood, wish_of
from paigeant_core.journal import Record, State
from paigeant_core.message import Headers, PaigeantMessage
from paigeant_core.transports.types import Holding, WorkerStatus

LIVE = frozenset({State.QUEUED, State.RUNNING, State.RETRYING, State.COMPENSATING})
"""States in which a worker runs the step, or some worker will."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one workflow stands, as the broker tells it now.

    Attributes:
        record: the last journal record that named a state.
        history: all its records, oldest first.
        beside: the worker that runs its step now, by its own report; else None.
        asked: what was asked last of the step that it stands at; None: nothing.
    """

    record: Record
    history: Sequence[Record]
    beside: tuple[str, Holding] | None = None
    asked: Record | None = None

    @property
    def state(self) -> str:
        """The state, ``running`` included."""
        return State.RUNNING if self.beside and self.record.state == State.QUEUED else self.record.state

    @property
    def headers(self) -> Headers:
        """Of the last message."""
        return self.record.headers

    @property
    def fence(self) -> str:
        """What an operation expects the workflow's fence to stand at."""
        return self.record.id if self.asked is None else self.asked.id

    @property
    def wish(self) -> str:
        """What the step is to heed when it is handed on; empty: nothing."""
        wish = "" if self.asked is None else wish_of(self.asked)
        return "" if wish == GO_ON else wish

    @property
    def asker(self) -> str:
        """Who asked for :attr:`wish`, and when, for people."""
        if self.asked is None:
            return ""
        return f"{self.asked.detail.get('operator', 'somebody')} asked for {self.wish} at {rfc3339(self.asked.at)}"

    def before(self) -> dict[str, Any]:
        """Where it stands, in the words of the journal; see :func:`stood`."""
        return {**stood(self.record), "state": str(self.state)}

    def message(self) -> PaigeantMessage:
        """The message that it stands at.

        Raises:
            NotEligible: the broker has it no more.
            InvalidMessage: it cannot be read.
        """
        return message_in(self.record)


def message_in(record: Record) -> PaigeantMessage:
    """The message of a record; raises as :meth:`Standing.message`."""
    if record.body is None:
        raise NotEligible("its message is not in the journal any more")
    try:
        return PaigeantMessage.decode(record.body)
    except PaigeantError as error:
        raise InvalidMessage(f"its message cannot be read: {error}") from None


def standing_of(history: Sequence[Record], workers: Sequence[WorkerStatus]) -> Standing | None:
    """Where the workflow of ``history`` stands; None where no record names a state."""
    current: Record | None = None
    asked: Record | None = None
    for record in history:
        # A copy of an older epoch that was late changes nothing.
        if record.state and (current is None or record.headers.epoch >= current.headers.epoch):
            current, asked = record, None
        elif current is not None and record.headers.message_id == current.id and wish_of(record):
            asked = record
    if current is None:
        return None
    return Standing(current, history, running_by(current.headers, current.state, workers), asked)


def running_by(headers: Headers, state: str, workers: Sequence[WorkerStatus]) -> tuple[str, Holding] | None:
    """The worker that says it runs just this hop, attempt and epoch."""
    if state not in LIVE:
        return None
    for status in workers:
        for held in status.running:
            if (
                held.correlation_id == headers.correlation_id
                and (held.hop, held.run, held.epoch) == (headers.hop, headers.run, headers.epoch)
                and held.attempt == headers.attempt
            ):
                return status.info.worker, held
    return None
