"""`activity`: pause and resume an activity for all its workers, so that an outage burns no attempts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from paigeant_console.commands._call import Call, command
from paigeant_console.commands._confirm import confirmed, on_record
from paigeant_console.exit_codes import ExitCode
from paigeant_console.output import note

if TYPE_CHECKING:
    from paigeant_core.pauses import Pause

__all__ = ["activity"]

ORDERS = ("pause", "resume")


@command
def activity(
    call: Call,
    order: Annotated[
        str | None, typer.Argument(metavar="pause|resume", help="What to do; else list what is paused.")
    ] = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The activity.")] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the audit; required.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="VALUE", help="In production: the activity's, or the context's name."),
    ] = None,
) -> int:
    """Pause an activity for all its workers, or resume it; without a word list what is paused.

    No worker begins a paused step, so a provider's outage costs no attempts: what runs is finished, and what comes
    waits in the queue. Workers hear of it within a second or two. It stands until it is resumed, whatever is restarted.
    """
    from paigeant_console.runner import run
    from paigeant_core.errors import ConfigError
    from paigeant_core.operations.control import ACTIVITY
    from paigeant_core.pauses import PAUSE, RESUME

    if order is not None:
        if order not in ORDERS:
            raise ConfigError(f"activity {ascii(order)[:40]}: write pause or resume, or nothing to list what is paused")
        if name is None:
            raise ConfigError(f"activity {order}: name an activity; queues lists them")
        call.refuse_if_read_only(f"activity {order}")
        if not (reason or "").strip():
            raise ConfigError('give --reason "why"; it is kept in the audit')

    async def main() -> int:
        async with call.broker() as transport:
            if order is None or name is None:
                return _list(call, await transport.pauses(call.settings.topic))
            if dry_run:
                await call.operations(transport).check_activity(name)
                paused = (await transport.pauses(call.settings.topic)).get(name)
                done = (paused is None) == (order == "pause")
                _tell(call, order, name, done, f"dry run: would {order}" if done else _why_not(paused))
                return ExitCode.OK if done else ExitCode.FAILED
            bus = call.operations(transport, acting=True)
            said, why = f"{PAUSE if order == 'pause' else RESUME} {name}", reason or ""
            await bus.permit(ACTIVITY, said, reason=why)
            async with on_record(call, bus, said, confirm=confirm, reason=why):
                await confirmed(call, f"{order} {name} for all workers", name, yes=yes, confirm=confirm)
            switch = bus.pause_activity if order == "pause" else bus.resume_activity
            before = await switch(name, reason=why)
        done = (before is None) == (order == "pause")
        _tell(call, order, name, done, "" if done else _why_not(before))
        return ExitCode.OK if done else ExitCode.FAILED

    return run(main())


def _why_not(before: Pause | None) -> str:
    return "it is not paused" if before is None else f"it is paused already: {before.said}"


def _tell(call: Call, order: str, name: str, done: bool, reason: str) -> None:
    from paigeant_console.human import text

    outcome = "done" if done else "skipped"
    if call.out.as_json:
        call.out.document({"activity": name, "order": order, "outcome": outcome, "reason": reason or None})
    else:
        call.out.table(
            ["ACTIVITY", "ORDER", "OUTCOME", "WHY"], [[text(name), text(order), text(outcome), text(reason)]]
        )


def _list(call: Call, found: Mapping[str, Pause]) -> int:
    from paigeant_console.human import moment, text
    from paigeant_core.clock import rfc3339

    if call.out.as_json:
        for name, pause in sorted(found.items()):
            call.out.document({"activity": name, **pause.to_document()})
    elif found:
        rows = [
            [text(name), moment(rfc3339(pause.at)), text(pause.operator, 40), text(pause.reason, 200)]
            for name, pause in sorted(found.items())
        ]
        call.out.table(["ACTIVITY", "PAUSED", "OPERATOR", "WHY"], rows)
    else:
        note(f"no activity is paused in topic {call.settings.topic}")
    return ExitCode.OK
