"""`topic delete`: take away all that a topic has on its broker. It asks twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from paigeant_console.commands._call import Call, command
from paigeant_console.commands._confirm import confirmed_twice, on_record
from paigeant_console.exit_codes import ExitCode
from paigeant_console.output import note

if TYPE_CHECKING:
    from paigeant_core.transports import Transport

__all__ = ["topic"]


@command
def topic(
    call: Call,
    order: Annotated[str | None, typer.Argument(metavar="delete", help="What to do.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; required.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="The first yes; --confirm is the second.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be lost, and do nothing.")] = False,
    confirm: Annotated[
        str | None, typer.Option("--confirm", metavar="TOPIC", help="The topic's name, where nobody can be asked.")
    ] = None,
) -> int:
    """Delete the topic: queues, journal, dead letters, held and quarantined messages, audit. Nothing brings it back.

    It asks twice: whether to, and for the topic's name; where nobody can be asked it takes --yes and --confirm TOPIC.
    Workers have to be stopped before: they would begin the topic anew.
    """
    from paigeant_console.runner import run
    from paigeant_core.errors import ConfigError, WorkflowNotFound
    from paigeant_core.operations.control import DELETE, TOPIC

    if order != "delete":
        raise ConfigError("write topic delete; --topic says which")
    call.refuse_if_read_only("topic delete")
    if not (reason or "").strip():
        raise ConfigError('give --reason "why"')
    name = call.settings.topic

    async def main() -> int:
        async with call.broker() as transport:
            bus = call.operations(transport, acting=not dry_run)
            lost = await _lost(transport, name)
            there = any(lost.values())
            if not dry_run and there:
                await bus.permit(TOPIC, DELETE, reason=reason or "")
            elif not dry_run:
                bus.allow(TOPIC)  # a topic that is not there does not begin with a refusal in its audit
            if not there:
                raise WorkflowNotFound(f"topic {name} has nothing on {call.settings.masked_url}")
            words = ", ".join(f"{value:,} {what.replace('_', ' ')}" for what, value in lost.items())
            note(f"topic {name} on {call.settings.masked_url}: {words}")
            if dry_run:
                _tell(call, name, lost, deleted=False)
                return ExitCode.OK
            what = f"delete topic {name} with all that it has"
            async with on_record(call, bus, DELETE, confirm=confirm, reason=reason or ""):
                await confirmed_twice(call, what, name, "the topic's name", yes=yes, confirm=confirm)
            await bus.delete_topic(reason=reason or "")
        _tell(call, name, lost, deleted=True)
        return ExitCode.OK

    return run(main())


async def _lost(transport: Transport, name: str) -> dict[str, int]:
    """What there is, in numbers."""
    from paigeant_console.model.snapshot import parked

    workflows: set[str] = set()
    records = 0
    async for batch in transport.records(name):
        records += len(batch)
        workflows.update(record.headers.correlation_id for record in batch)
    found = await parked(transport, name)
    workflows.update(record.headers.correlation_id for record in found)
    audit = len(await transport.audit(name, 100_000))
    return {"workflows": len(workflows - {""}), "records": records, "parked": len(found), "audit_entries": audit}


def _tell(call: Call, name: str, lost: dict[str, int], *, deleted: bool) -> None:
    from paigeant_console.safe_text import safe

    document: dict[str, Any] = {"topic": name, "deleted": deleted, **lost}
    if call.out.as_json:
        call.out.document(document)
    else:
        call.out.line(safe(f"topic {name} {'is deleted' if deleted else 'would be deleted'}"))
