"""Waiting for a workflow to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from paigeant_console.exit_codes import ExitCode
from paigeant_console.output import note
from paigeant_core.journal import ENDED, Record, State
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
    """
    quiet = LOOK_AGAIN_AFTER
    state = ""
    epoch = 0
    told = ""

    def take(records: Sequence[Record]) -> None:
        nonlocal state, epoch, told
        for record in records:
            if record.headers.correlation_id != correlation_id or not record.state:
                continue
            if record.headers.epoch >= epoch:
                state, epoch = record.state, record.headers.epoch
                if state == State.HELD and told != state:
                    note(f"{correlation_id} is held: release it, or it waits for its deadline")
                told = state

    # The journal's end is fixed before the history is read, so nothing can fall between the two.
    async for batch in transport.records(topic, start=END, follow=True):
        take(batch)
        if quiet >= LOOK_AGAIN_AFTER:
            quiet = 0
            take(await transport.history(topic, correlation_id))
        quiet += not batch
        if state in OVER:
            break
    return state
