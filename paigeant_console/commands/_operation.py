"""What all verbs that act on workflows have in common: select, plan, preflight, confirm, execute, report."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from paigeant_console.commands._call import Call, Job, command
from paigeant_console.commands._confirm import confirmed, on_record
from paigeant_console.exit_codes import ExitCode
from paigeant_console.output import note

if TYPE_CHECKING:
    from paigeant_core.operations import Action, Line, Operations, Pace, Plan, Report, Result, Running
    from paigeant_core.transports import Transport

__all__ = ["PREFLIGHT_LINES", "carry_out", "decide", "selected", "undo", "verb"]

AT_ONCE: Final = 100
"""Workflows up to which an operation is done in one go; larger ones can be paused and aborted."""

PREFLIGHT_LINES: Final = 20
"""Workflows that the preflight names one by one."""

_IDS: Final = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Correlation IDs, or beginnings of them.")]
_SOME: Final = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="Only these of the workflows that it was done to.")
]
_ID_OPTION: Final = Annotated[
    list[str] | None, typer.Option("--id", metavar="ID", help="A correlation ID, or the beginning of one.")
]
_WHERE: Final = Annotated[
    str | None, typer.Option("--where", metavar="QUERY", help="All workflows that QUERY selects instead.")
]
_SHARED: Final[Mapping[str, tuple[Any, Any]]] = {
    "reason": (
        Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the audit; required.")],
        None,
    ),
    "yes": (Annotated[bool, typer.Option("--yes", help="Do not ask.")], False),
    "dry_run": (Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")], False),
    "limit": (
        Annotated[str | None, typer.Option("--limit", metavar="N", help="Refuse more than so many (1000).")],
        None,
    ),
    "rate": (Annotated[str | None, typer.Option("--rate", metavar="N", help="Workflows a second, at most.")], None),
    "ramp": (
        Annotated[bool, typer.Option("--ramp", help="Begin with 1, 5, 20, ...; go on when these came through.")],
        False,
    ),
    "brake": (
        Annotated[str | None, typer.Option("--brake", metavar="PERCENT", help="Stop when so many of them fail again.")],
        None,
    ),
    "delay": (
        Annotated[
            str | None,
            typer.Option("--delay", metavar="TIME", help="Begin after it (90s, 10m); until then abort calls it off."),
        ],
        None,
    ),
    "confirm": (
        Annotated[
            str | None,
            typer.Option(
                "--confirm", metavar="VALUE", help="In production: the number of workflows, or the context's name."
            ),
        ],
        None,
    ),
}
"""Options of every verb: annotation and default by parameter."""


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for, beside the action itself; ``ids`` is None where it is for all that the action knows."""

    ids: Sequence[str] | None
    where: str | None
    reason: str | None
    yes: bool
    dry_run: bool
    limit: str | None
    rate: str | None
    ramp: bool
    brake: str | None
    delay: str | None
    confirm: str | None


def verb(name: str, *, by: str = "argument") -> Callable[[Callable[..., Action]], Callable[..., Job]]:
    """Make a command of a function that makes an action.

    Args:
        name: the command.
        by: how workflows are named: ``argument``, ``option`` (the arguments are something else), or ``action``: it
            knows them, and some of them can be named.
    """

    def make(function: Callable[..., Action]) -> Callable[..., Job]:
        # Actions are not imported before a command is called, so that name means nothing yet.
        function.__annotations__.pop("return", None)
        own = list(inspect.signature(function, eval_str=True).parameters.values())
        named = {"argument": _IDS, "option": _ID_OPTION, "action": _SOME}[by]
        select: dict[str, tuple[Any, Any]] = {"ids": (named, None)}
        if by != "action":
            select["where"] = (_WHERE, None)

        def run(call: Call, /, **given: Any) -> int:
            call.refuse_if_read_only(name)
            ids = given.pop("ids") or (None if by == "action" else ())
            shared = {key: given.pop(key) for key in _SHARED}
            order = Order(ids, given.pop("where", None), **shared)
            _check(order)
            return _operate(call, function(**given), order)

        keyword = inspect.Parameter.KEYWORD_ONLY
        added = [
            inspect.Parameter(key, keyword, default=default, annotation=annotation)
            for key, (annotation, default) in {**select, **_SHARED}.items()
        ]
        first = inspect.Parameter("call", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Call)
        parameters = [first, *(item.replace(kind=keyword) for item in own), *added]
        run.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        return command(run)

    return make


def _check(order: Order) -> None:
    """What can be seen without a broker.

    Raises:
        ConfigError: No reason, or no selection, or two.
    """
    from paigeant_core.errors import ConfigError

    if not (order.reason or "").strip():
        raise ConfigError('give --reason "why"; it is kept in the audit')
    if order.ids is None:
        return
    if order.ids and order.where is not None:
        raise ConfigError("give IDs or --where, not both")
    if not order.ids and not (order.where or "").strip():
        raise ConfigError("name workflows by ID, or select them with --where QUERY ('*' for all)")


def undo(call: Call, operation_id: str, *, reason: str | None, yes: bool, confirm: str | None) -> int:
    """Undo an operation, as the verb does.

    Args:
        call: the command's.
        operation_id: the operation's, or the beginning of it.
        reason: why.
        yes: do not ask.
        confirm: in production.
    """
    from paigeant_core.operations import Undo

    order = _order(reason, yes=yes, confirm=confirm)
    _check(order)
    return _operate(call, Undo(operation_id), order)


def _order(reason: str | None, *, yes: bool, confirm: str | None) -> Order:
    """An order that knows its workflows, without any pace."""
    return Order(
        ids=None,
        where=None,
        reason=reason,
        yes=yes,
        dry_run=False,
        limit=None,
        rate=None,
        ramp=False,
        brake=None,
        delay=None,
        confirm=confirm,
    )


def _operate(call: Call, action: Action, order: Order) -> int:
    from paigeant_console.commands._signing import no_policy
    from paigeant_console.commands._values import count
    from paigeant_console.model.query import parse
    from paigeant_console.runner import run

    limit = count(order.limit, "--limit")
    pace = _pace(order)
    if order.where is not None:
        _ = call.settings  # the saved queries are in there
        parse(order.where, "workflow", unverified=no_policy())  # before anything is connected

    async def main() -> int:
        async with call.broker() as transport:
            operations = call.operations(transport, limit=limit, acting=True)
            wanted, ids, unnamed = await _targets(call, transport, operations, action, order)
            plan = await operations.plan(
                wanted, ids, reason=order.reason or "", selection=order.where or "", trial=order.dry_run
            )
            _preflight(plan)
            if unnamed:
                note(
                    f"undo: it was done to {unnamed} more, and nothing tells any more to which; these stay as they are"
                )
            if order.dry_run:
                return max(_dry_run(call, plan), _all(not unnamed))
            if plan.eligible:
                await _confirmed(call, operations, plan, order)
            if why := operations.second(plan):
                status = await operations.propose(plan)
                from paigeant_console.model.confirmation import PACE_LOST

                note(
                    f"operation {status.operation_id} takes a second person, {why}: nothing was done; another operator "
                    f"looks at it with: operations approve {status.operation_id}"
                    + (f"; the pace {PACE_LOST}" if pace else "")
                )
                if call.out.as_json:
                    from paigeant_core.operations import Report

                    call.out.document(Report(status.operation_id, (), matched=len(plan.lines)).to_document())
                return ExitCode.OK
            if pace or len(plan.lines) > AT_ONCE:
                return max(await carry_out(call, await operations.start(plan, pace)), _all(not unnamed))
            report = await operations.execute(plan, progress=lambda result: _tell(call, result))
            _summarise(call, report)
            return _all(report.count("done") == len(report.results) and not unnamed)

    return run(main())


def _all(done: bool) -> int:
    return ExitCode.OK if done else ExitCode.FAILED


async def decide(
    call: Call,
    operations: Operations,
    order: str,
    operation_id: str,
    *,
    reason: str | None,
    yes: bool,
    confirm: str | None,
) -> int:
    """Approve and carry out, or reject, what another operator proposed.

    Args:
        call: the command's.
        operations: the command bus.
        order: ``approve`` or ``reject``.
        operation_id: the operation's, or the beginning of it.
        reason: of a rejection.
        yes: do not ask.
        confirm: in production.
    """
    if order == "reject":
        status = await operations.reject(operation_id, reason=reason or "")
        note(f"operation {status.operation_id} is rejected; nothing of it was done")
        if call.out.as_json:
            call.out.document(status.to_document(operations.transport.clock.now()))
        return ExitCode.OK
    plan = await operations.proposed(operation_id)
    note(f"{plan.action.name} of operation {plan.operation_id}, because: {plan.reason}")
    _preflight(plan)
    if plan.eligible:
        await _confirmed(call, operations, plan, _order(plan.reason, yes=yes, confirm=confirm))
    report = await operations.approve(plan)
    for result in report.results:
        _tell(call, result)
    _summarise(call, report)
    return ExitCode.OK if report.count("done") == len(report.results) else ExitCode.FAILED


async def carry_out(call: Call, running: Running) -> int:
    """Carry out an operation that others can see, pause and go on with; tell each result.

    Args:
        call: the command's.
        running: the operation.
    """
    status = running.status
    note(f"operation {status.operation_id}: {len(status.targets)} workflows; others see it with: operations")
    if status.pace.delay:
        from paigeant_core.clock import rfc3339

        begins = rfc3339(status.begins_at)
        note(f"it begins at {begins}; until then this calls it off: operations abort {status.operation_id}")
    report = await running.go(lambda result: _tell(call, result))
    if status.said:
        left = (report.matched or 0) - len(report.results)
        note(f"operation {status.operation_id}: {status.said}; {left} were left alone")
    _summarise(call, report)
    return ExitCode.OK if report.count("done") == report.matched else ExitCode.FAILED


def _pace(order: Order) -> Pace:
    from paigeant_core.operations import Pace

    return Pace(
        rate=_number(order.rate, "--rate"),
        ramp=order.ramp,
        brake=_number(order.brake, "--brake"),
        delay=_seconds(order.delay),
    )


def _seconds(given: str | None) -> float:
    from paigeant_console.model.time_span import duration
    from paigeant_core.errors import ConfigError

    seconds = 0.0 if given is None else duration(given)
    if seconds is None:
        raise ConfigError(f"--delay {ascii(given)[:40]}: write a time such as 90s, 10m or 1h30m")
    return seconds


def _number(given: str | None, option: str) -> float | None:
    from paigeant_core.errors import ConfigError

    try:
        return None if given is None else float(given)
    except ValueError:
        raise ConfigError(f"{option} {ascii(given)[:40]}: write a number") from None


async def _targets(
    call: Call, transport: Transport, operations: Operations, action: Action, order: Order
) -> tuple[Action, list[str], int]:
    """What to do, with whole IDs in it, to which workflows, and to how many more of which none tells which."""
    from paigeant_core.operations import Undo

    if isinstance(action, Undo):
        operation_id, ids, unnamed = await operations.acted(action.operation_id)
        if order.ids is None:
            return Undo(operation_id), ids, unnamed
        return Undo(operation_id), _some(order.ids, ids, operation_id), 0
    if order.where is not None:
        return action, await selected(call, transport, order.where), 0
    return action, [await operations.resolve(prefix) for prefix in order.ids or ()], 0


def _some(prefixes: Sequence[str], ids: Sequence[str], operation_id: str) -> list[str]:
    """Those of an operation's workflows that were named.

    Raises:
        WorkflowNotFound: it was not done to one of them.
        AmbiguousID: a beginning is that of more than one.
    """
    from paigeant_core.errors import AmbiguousID, WorkflowNotFound

    found: list[str] = []
    for prefix in prefixes:
        fits = [prefix] if prefix in ids else [one for one in ids if prefix and one.startswith(prefix)]
        if not fits:
            raise WorkflowNotFound(f"operation {operation_id} was done to no workflow {ascii(prefix)[:140]}")
        if len(fits) > 1:
            raise AmbiguousID(f"{ascii(prefix)[:140]} is the beginning of more than one ID")
        found += fits
    return found


async def selected(call: Call, transport: Transport, where: str) -> list[str]:
    """The workflows that a query selects.

    Args:
        call: the command's.
        transport: where.
        where: the query.

    Raises:
        WorkflowNotFound: there is none.
    """
    from paigeant_console.commands._signing import no_policy, trust_of_environment
    from paigeant_console.model.query import parse
    from paigeant_console.model.snapshot import read_rows
    from paigeant_core.errors import WorkflowNotFound

    query = parse(where, "workflow", unverified=no_policy())
    policy = trust_of_environment() if query.needs_trust else None
    snapshot = await read_rows(transport, call.settings.topic, payloads=query.needs_payload, policy=policy)
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


async def _confirmed(call: Call, operations: Operations, plan: Plan, order: Order) -> None:
    """Go on only if somebody said so, and put it on record if not; raises as :func:`confirmed`."""
    name, matched = plan.action.name, len(plan.lines)
    what = f"{name} {plan.eligible} workflow{'' if plan.eligible == 1 else 's'}"
    said = {"reason": plan.reason, "selection": plan.selection}
    async with on_record(call, operations, name, confirm=order.confirm, targets=matched, **said):
        await confirmed(call, what, str(matched), yes=order.yes, confirm=order.confirm)


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
