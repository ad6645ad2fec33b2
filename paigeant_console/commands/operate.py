"""The verbs that act on workflows, through `paigeant_core.operations`: plan, preflight, confirm, execute, report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from paigeant_console.commands._call import Call, command
from paigeant_console.exit_codes import ExitCode
from paigeant_console.output import note

if TYPE_CHECKING:
    from paigeant_core.operations import Action, Line, Plan, Report, Result
    from paigeant_core.transports import Transport

__all__ = ["dead_letter", "replay", "retry"]

PREFLIGHT_LINES: Final = 20
"""Workflows that the preflight names one by one."""

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Correlation IDs, or the beginnings of them.")]
Where = Annotated[
    str | None, typer.Option("--where", metavar="QUERY", help="All workflows that QUERY selects instead.")
]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the audit; required.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Limit = Annotated[str | None, typer.Option("--limit", metavar="N", help="Refuse more than so many (1000).")]
Confirm = Annotated[
    str | None,
    typer.Option("--confirm", metavar="VALUE", help="In production: the number of workflows, or the context's name."),
]


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for, beside the action itself."""

    ids: Sequence[str]
    where: str | None
    reason: str | None
    yes: bool
    dry_run: bool
    limit: str | None
    confirm: str | None


@command
def retry(
    call: Call,
    ids: Ids = None,
    where: Where = None,
    reason: Reason = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    limit: Limit = None,
    confirm: Confirm = None,
) -> int:
    """Run the step where workflows stand again, now, with attempts starting anew and the same idempotency key."""
    call.refuse_if_read_only("retry")
    from paigeant_core.operations import Retry

    return _operate(call, Retry(), Order(ids or (), where, reason, yes, dry_run, limit, confirm))


@command
def replay(
    call: Call,
    ids: Ids = None,
    where: Where = None,
    from_step: Annotated[
        str | None,
        typer.Option("--from-step", metavar="N|NAME", help="A hop (1...), or a step: its last occurrence so far."),
    ] = None,
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="FILE|-", help="A JSON object in place of the payload.")
    ] = None,
    var: Annotated[
        list[str] | None,
        typer.Option("--var", metavar="K=V", help="Change a field of the payload; V is JSON if it reads as JSON."),
    ] = None,
    as_new: Annotated[
        bool, typer.Option("--as-new", help="Start another workflow there; leave this one alone.")
    ] = False,
    reason: Reason = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    limit: Limit = None,
    confirm: Confirm = None,
) -> int:
    """Do the work again from a step, in a new run: as it was there, or with a payload that was mended."""
    call.refuse_if_read_only("replay")
    import msgspec

    from paigeant_console.commands import _values
    from paigeant_core.operations import Replay

    order = Order(ids or (), where, reason, yes, dry_run, limit, confirm)
    _check(order)
    action = Replay(
        from_step=int(from_step) if from_step is not None and _is_hop(from_step) else from_step,
        payload=_values.read_payload(payload),
        changes={key: msgspec.json.decode(value) for key, value in _values.variables(var).items()},
        as_new=as_new,
    )
    return _operate(call, action, order)


def _is_hop(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


@command
def dead_letter(
    call: Call,
    ids: Ids = None,
    where: Where = None,
    reason: Reason = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    limit: Limit = None,
    confirm: Confirm = None,
) -> int:
    """Take workflows out of the way: park their messages among the dead letters, from where they can be retried."""
    call.refuse_if_read_only("dead-letter")
    from paigeant_core.operations import DeadLetter

    return _operate(call, DeadLetter(), Order(ids or (), where, reason, yes, dry_run, limit, confirm))


# -- the way of all of them --------------------------------------------------------------------------------------------


def _check(order: Order) -> None:
    """What can be seen without a broker.

    Raises:
        ConfigError: No reason, or no selection, or two.
    """
    from paigeant_core.errors import ConfigError

    if not (order.reason or "").strip():
        raise ConfigError('give --reason "why"; it is kept in the audit')
    if order.ids and order.where is not None:
        raise ConfigError("give IDs or --where, not both")
    if not order.ids and not (order.where or "").strip():
        raise ConfigError("name workflows by ID, or select them with --where QUERY ('*' for all)")


def _operate(call: Call, action: Action, order: Order) -> int:
    _check(order)
    from paigeant_console.commands._values import count
    from paigeant_console.model.query import parse
    from paigeant_console.runner import run

    limit = count(order.limit, "--limit")
    wanted = None if order.where is None else parse(order.where)

    async def main() -> int:
        async with call.broker() as transport:
            operations = call.operations(transport, limit=limit)
            if wanted is None:
                ids = [await operations.resolve(prefix) for prefix in order.ids]
            else:
                ids = await _selected(call, transport, order.where or "")
            plan = await operations.plan(action, ids, reason=order.reason or "")
            _preflight(plan)
            if order.dry_run:
                return _dry_run(call, plan)
            if plan.eligible:
                await _confirmed(call, plan, order)
            report = await operations.execute(plan, progress=lambda result: _tell(call, result))
            _summarise(call, report)
            return ExitCode.OK if report.count("done") == len(report.results) else ExitCode.FAILED

    return run(main())


async def _selected(call: Call, transport: Transport, where: str) -> list[str]:
    from paigeant_console.model.query import parse
    from paigeant_console.model.snapshot import read_rows
    from paigeant_core.errors import WorkflowNotFound

    query = parse(where)
    snapshot = await read_rows(transport, call.settings.topic, payloads=query.needs_payload)
    ids = [row.correlation_id for row in snapshot.select(query)]
    if not ids:
        raise WorkflowNotFound(f"nothing matched --where {ascii(where)[:200]} in topic {call.settings.topic}")
    return ids


def _would(plan: Plan, line: Line) -> str:
    """What happens to one workflow, in a few words."""
    standing = line.standing
    where = ""
    if standing is not None:
        headers = standing.headers
        where = f" ({standing.state} at {headers.activity or 'the end'}, hop {headers.hop})"
    beside = f"; {line.why}" if line.why else ""
    return f"{plan.action.name}{where}{beside}"


def _preflight(plan: Plan) -> None:
    """Say on stderr what will happen to whom; the first ones by name, the others in numbers."""
    for line in plan.lines[:PREFLIGHT_LINES]:
        if line.eligible:
            note(f"{line.correlation_id}: will {_would(plan, line)}")
        else:
            note(f"{line.correlation_id}: will be skipped: {line.why}")
    if (more := len(plan.lines) - PREFLIGHT_LINES) > 0:
        note(f"... and {more} more")
    note(f"{plan.action.name}: {len(plan.lines)} matched, {plan.eligible} can be done")


def _dry_run(call: Call, plan: Plan) -> int:
    """Report what would have come of it, in the form of a report; nothing is done, and nothing goes to the audit."""
    from paigeant_core.operations import Result

    for line in plan.lines:
        if line.eligible:
            _tell(call, Result(line.correlation_id, "done", f"dry run: would {_would(plan, line)}"))
        else:
            _tell(call, Result(line.correlation_id, "skipped", f"dry run: {line.why}"))
    skipped = len(plan.lines) - plan.eligible
    if call.out.as_json:
        call.out.document(
            {
                "summary": True,
                "operation_id": None,
                "matched": len(plan.lines),
                "done": plan.eligible,
                "skipped": skipped,
                "failed": 0,
                "dry_run": True,
            }
        )
    else:
        note(f"dry run: {plan.eligible} would be done, {skipped} skipped; nothing was done")
    return ExitCode.FAILED if skipped else ExitCode.OK


async def _confirmed(call: Call, plan: Plan, order: Order) -> None:
    """Go on only if somebody said so.

    Raises:
        Refused: Nobody did, or not in the way that this broker asks for.
    """
    from paigeant_core.errors import Refused

    settings = call.settings
    count = str(len(plan.lines))
    values = {count, settings.context} - {""}
    if order.confirm is not None:
        if order.confirm not in values:
            raise Refused(f"not confirmed: --confirm must be {' or '.join(sorted(values))}")
        return
    on_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty()
    if settings.production and (order.yes or not on_terminal):
        raise Refused(f"not confirmed: {settings.context} is production; give --confirm {count} (or its name)")
    if order.yes:
        return
    if not on_terminal:
        raise Refused("not confirmed: give --yes where nobody can be asked")
    what = f"{plan.action.name} {plan.eligible} workflow{'' if plan.eligible == 1 else 's'}"
    if settings.production:
        answer = await _ask(f"{what} in {settings.context}, which is production? Type {count} or {settings.context}: ")
        if answer in values:
            return
    elif (await _ask(f"{what}? [y/N] ")).lower() in ("y", "yes"):
        return
    raise Refused("not confirmed: nothing was done")


async def _ask(question: str) -> str:
    """Ask on the terminal without holding up the loop, so that the broker's line lives and Ctrl-C works."""
    import asyncio

    from paigeant_console.safe_text import safe

    sys.stderr.write(safe(question))
    sys.stderr.flush()
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), answered.set)
    try:
        await answered.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline().strip()


def _tell(call: Call, result: Result) -> None:
    from paigeant_console.human import text
    from paigeant_console.safe_text import joined, literal, safe

    if call.out.as_json:
        call.out.document(result.to_document())
    else:
        outcome = [literal(f"{result.outcome:<7}"), text(result.reason, 300)] if result.reason else [literal("done")]
        call.out.line(joined([safe(result.correlation_id), *outcome], literal("  ")))
    # One by one, as they are done.
    call.out.flush()


def _summarise(call: Call, report: Report) -> None:
    document = report.to_document()
    if call.out.as_json:
        call.out.document(document)
    else:
        note(
            "operation {operation_id}: {matched} matched, {done} done, {skipped} skipped, {failed} failed".format_map(
                document
            )
        )
