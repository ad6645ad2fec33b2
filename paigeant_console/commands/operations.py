"""`operations`: in progress and past; those that take their time are paused, resumed and aborted from anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from paigeant_console.commands._call import Call, command
from paigeant_console.exit_codes import ExitCode
from paigeant_console.output import note

if TYPE_CHECKING:
    from paigeant_core.operations import OperationStatus

__all__ = ["operations"]

ORDERS = ("pause", "resume", "abort", "undo", "approve", "reject")


@command
def operations(
    call: Call,
    order: Annotated[str | None, typer.Argument(metavar="|".join(ORDERS), help="What to do; else list.")] = None,
    operation_id: Annotated[
        str | None, typer.Argument(metavar="OPERATION", help="Its ID, or the beginning of it.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why it is undone, or rejected.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Undo or approve without being asked.")] = False,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="VALUE", help="In production, to undo or approve: as for the verbs."),
    ] = None,
) -> int:
    """List the operations in progress and past; pause, resume or abort one that takes its time, whoever started it.

    What an aborted operation did stays done; undo, here or as a verb, takes back a hold, a cancel or a dead-letter. An
    operation whose console died, or that its brake stopped, goes on in the console that resumes it. One that takes a
    second person waits until another operator approves it, and so carries it out, or rejects it.
    """
    from paigeant_console.commands._operation import carry_out, decide, undo
    from paigeant_console.runner import run
    from paigeant_core.errors import ConfigError

    if order is not None:
        if order not in ORDERS:
            raise ConfigError(f"operations {ascii(order)[:40]}: write {', '.join(ORDERS)}, or nothing to list them")
        if operation_id is None:
            raise ConfigError(f"operations {order}: name an operation; operations alone lists them")
        call.refuse_if_read_only(f"operations {order}")
        if order == "undo":
            return undo(call, operation_id, reason=reason, yes=yes, confirm=confirm)

    async def main() -> int:
        async with call.broker() as transport:
            bus = call.operations(transport, acting=order is not None)
            if order is None or operation_id is None:
                _list(call, await bus.listed(), transport.clock.now())
            elif order in ("approve", "reject"):
                return await decide(call, bus, order, operation_id, reason=reason, yes=yes, confirm=confirm)
            elif order == "resume":
                running = await bus.resume(operation_id)
                if running is not None:
                    return await carry_out(call, running)
                note("whoever paused it goes on with it")
                if call.out.as_json:
                    known = (await bus.runs()).items()
                    _list(call, [it for key, it in known if key.startswith(operation_id)], transport.clock.now())
            else:
                status = await (bus.pause if order == "pause" else bus.abort)(operation_id)
                if call.out.as_json:
                    _list(call, [status], transport.clock.now())
                note(
                    f"operation {status.operation_id} is {status.state.value} as soon as its console looks, within 2 s"
                )
        return ExitCode.OK

    return run(main())


def _list(call: Call, found: list[OperationStatus], now: float) -> None:
    from paigeant_console.human import age, moment, text
    from paigeant_console.model.deeds import failed_again
    from paigeant_console.safe_text import literal
    from paigeant_core.clock import rfc3339

    if call.out.as_json:
        for status in found:
            call.out.document(status.to_document(now))
    elif found:
        rows = [
            [
                text(status.operation_id),
                moment(rfc3339(status.at)),
                text(status.operator, 40),
                text(status.action.get("name"), 20),
                literal("alone" if status.silent(now) else status.state.value),
                literal(f"{status.done + status.skipped + status.failed}/{status.total}"),
                literal(str(status.failed)),
                literal(failed_again(status)),
                age(now - status.updated_at),
                text(status.said or status.reason, 60),
            ]
            for status in found
        ]
        header = ["OPERATION", "AT", "OPERATOR", "ACTION", "STATE", "DONE", "FAILED", "AGAIN", "SEEN", "WHY"]
        call.out.table(header, rows, right="DONE FAILED AGAIN SEEN")
