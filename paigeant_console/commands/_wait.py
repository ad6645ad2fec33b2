"""Waiting for a workflow to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from paigeant_console.commands._following import Following
from paigeant_console.exit_codes import ExitCode
from paigeant_console.output import note
from paigeant_core.errors import DecodeError
from paigeant_core.journal import ENDED, Kind, Record, State
from paigeant_core.message import Headers, decode_headers
from paigeant_core.transition import Place
from paigeant_core.transports import Transport
from paigeant_core.transports.types import END

__all__ = ["OVER", "outcome", "wait_until_over"]

OVER: Final = frozenset(ENDED | {State.DEAD, State.QUARANTINED, State.COMPENSATION_FAILED})
"""States that nothing leads out of but an operator. A held workflow is not over: it is to be released."""

LOOK_AGAIN_AFTER: Final = 10
"""Words of the journal after which the history is read anew, in case that something was missed."""


def outcome(state: str) -> ExitCode:
    """How a command that waited ends.

    Args:
        state: The workflow's state.
    """
    return ExitCode.OK if state == State.COMPLETED else ExitCode.FAILED


async def wait_until_over(transport: Transport, topic: str, correlation_id: str) -> str:
    """Follow a workflow until it is over.

    Args:
        transport: Where.
        topic: Its topic.
        correlation_id: Which.

    Returns:
        Its last state.

    Raises:
        ConnectError: The broker was away for too long.
    """
    following = Following(transport, topic)
    waited = _Waited(correlation_id)
    quiet = LOOK_AGAIN_AFTER
    looked = False
    # The journal's end is fixed before the history is read, so nothing can fall between the two.
    async for batch in following.records(END):
        waited.take(batch)
        if quiet >= LOOK_AGAIN_AFTER:
            quiet = 0
            waited.take(await following.ask(lambda: transport.history(topic, correlation_id)))
            if not looked:
                # What was set aside before this began is on record under another ID.
                waited.take(await following.ask(lambda: transport.parked(topic, Place.QUARANTINE)))
                looked = True
        quiet += not batch
        if waited.is_over():
            break
    return waited.state


class _Waited:
    """What is known of a workflow that is waited for.

    Args:
        correlation_id: Which.
    """

    def __init__(self, correlation_id: str) -> None:
        self.state = ""
        self._correlation_id = correlation_id
        self._epoch = 0
        self._stands = "", ""
        """The ID of its current message, and the activity that it waits for."""
        self._told = ""
        self._aside: dict[tuple[str, str], str] = {}
        """Under which ID its messages were quarantined, by their own and the activity whose queue they came out of."""

    def take(self, records: Sequence[Record]) -> None:
        """Learn from records of the journal, whosever they are."""
        for record in records:
            if record.kind == Kind.QUARANTINED:
                headers = _headers_in(record)
                if headers is not None and headers.correlation_id == self._correlation_id:
                    self._aside[headers.message_id, record.headers.activity] = record.headers.correlation_id
            if record.headers.correlation_id != self._correlation_id or not record.state:
                continue
            if record.headers.epoch >= self._epoch:
                self.state, self._epoch = record.state, record.headers.epoch
                self._stands = record.id, record.headers.activity

        # Only now: what was held on the way here may have been released long ago.
        if self.state == State.HELD and self._told != self.state:
            note(f"{self._correlation_id} is held: release it, or it waits for its deadline")
        self._told = self.state

    def is_over(self) -> bool:
        """Whether nothing but an operator will move it; that its message was quarantined is said."""
        if self.state not in OVER and (aside := self._aside.get(self._stands)) is not None:
            # The state of a workflow whose message failed verification stays what it was: it waits, and in vain.
            note(f"the message of {self._correlation_id} was quarantined as {aside}: show {aside} tells why")
            self.state = State.QUARANTINED
        return self.state in OVER


def _headers_in(record: Record) -> Headers | None:
    """The headers of a message that was quarantined; None: they cannot be read."""
    try:
        return decode_headers(record.body or b"")
    except DecodeError:
        return None
