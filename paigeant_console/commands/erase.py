"""`erase`: take away what there is of workflows, on the broker, in the history here, in capsules. It asks twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paigeant_console.commands._call import Call, command
from paigeant_console.commands._confirm import confirmed_twice, on_record
from paigeant_console.exit_codes import ExitCode
from paigeant_console.output import note

if TYPE_CHECKING:
    from paigeant_console.history import History
    from paigeant_core.operations import Line, Operations, Plan, Result
    from paigeant_core.transports import Transport
    from paigeant_core.transports.types import Erased

__all__ = ["erase"]


@dataclass(frozen=True, slots=True)
class _Here:
    """What this machine has: the history, and the capsules that were named, by workflow."""

    history: History | None
    capsules: dict[str, list[Path]]

    def has(self, correlation_id: str) -> bool:
        """Whether there is anything here of a workflow."""
        return correlation_id in self.capsules or bool(self.history and self.history.of(correlation_id))


@command
def erase(
    call: Call,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Correlation IDs, or beginnings of them.")
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", metavar="QUERY", help="All workflows that QUERY selects instead.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the audit, which is kept; required.")
    ] = None,
    capsule: Annotated[
        list[str] | None, typer.Option("--capsule", metavar="FILE", help="Delete this file that export wrote, too.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="The first yes; --confirm is the second.")] = False,
    confirm: Annotated[
        str | None, typer.Option("--confirm", metavar="COUNT", help="How many, where nobody can be asked.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    limit: Annotated[str | None, typer.Option("--limit", metavar="N", help="Refuse more than so many (1000).")] = None,
) -> int:
    """Erase what there is of workflows: messages and details in the journal, parked messages, history, capsules.

    Of workflows that are over, or parked; one that waits or runs has to be cancelled or dead-lettered before. It asks
    twice, and nothing brings it back. What the broker cannot take away, and until when it has it, is said.
    """
    from paigeant_console.commands._signing import no_policy
    from paigeant_console.commands._values import count
    from paigeant_console.history import history_of
    from paigeant_console.model.query import parse
    from paigeant_console.runner import run
    from paigeant_core.errors import ConfigError

    call.refuse_if_read_only("erase")
    if not (reason or "").strip():
        raise ConfigError('give --reason "why"; it is kept in the audit, so it should not name the person')
    if bool(ids) == bool((where or "").strip()):
        raise ConfigError("name workflows by ID, or select them with --where QUERY, and not both")
    most = count(limit, "--limit")
    if where is not None:
        _ = call.settings  # the saved queries are in there
        parse(where, "workflow", unverified=no_policy())
    here = _Here(history_of(call.settings.url, call.settings.topic), _capsules(call, capsule or ()))

    async def main() -> int:
        async with call.broker() as transport:
            operations = call.operations(transport, limit=most, acting=True)
            targets = await _targets(call, transport, operations, here, ids or (), where)
            if strange := sorted(here.capsules.keys() - set(targets)):
                raise ConfigError(f"--capsule: {here.capsules[strange[0]][0]} is of another workflow, {strange[0]}")
            plan = await operations.plan_erasure(targets, reason=reason or "", trial=dry_run)
            todo = [line for line in plan.lines if line.eligible or _only_here(here, line)]
            _preflight(plan, here)
            if not dry_run and todo:
                what = f"erase {len(todo)} workflow{'' if len(todo) == 1 else 's'} for good"
                named = len(plan.lines)
                async with on_record(call, operations, "erase", confirm=confirm, reason=plan.reason, targets=named):
                    await confirmed_twice(call, what, str(named), "how many were named", yes=yes, confirm=confirm)
            if dry_run:
                for line in plan.lines:
                    could = line in todo
                    _tell(call, line.correlation_id, "done" if could else "skipped", line.why or "dry run: would erase")
                _summarise(call, {"summary": True, "operation_id": None}, len(plan.lines), len(todo), dry_run=True)
                return ExitCode.OK if len(todo) == len(plan.lines) else ExitCode.FAILED
            done = 0

            def progress(result: Result, erased: Erased | None) -> None:
                nonlocal done
                done += _finish(call, here, result, erased)

            report = await operations.erase(plan, progress=progress)
        _summarise(call, report.to_document(), len(plan.lines), done)
        return ExitCode.OK if done == len(plan.lines) else ExitCode.FAILED

    return run(main())


def _capsules(call: Call, files: Sequence[str]) -> dict[str, list[Path]]:
    """The capsules that were named, by workflow; raises as :func:`read_capsule`."""
    from paigeant_console.commands.capsule import read_capsule
    from paigeant_core.errors import ConfigError

    found: dict[str, list[Path]] = {}
    for file in files:
        held = read_capsule(file)
        if held.topic != call.settings.topic:
            raise ConfigError(f"--capsule: {file} is of topic {held.topic}; name it with --topic")
        found.setdefault(held.correlation_id, []).append(Path(file))
    return found


async def _targets(
    call: Call, transport: Transport, operations: Operations, here: _Here, ids: Sequence[str], where: str | None
) -> list[str]:
    from paigeant_console.commands._operation import selected
    from paigeant_core.errors import WorkflowNotFound

    if where is not None:
        return await selected(call, transport, where)
    found = []
    for prefix in ids:
        try:
            found.append(await operations.resolve(prefix))
        except WorkflowNotFound:
            # The broker has forgotten it; this machine may not have.
            if not here.has(prefix):
                raise
            found.append(prefix)
    return found


def _only_here(here: _Here, line: Line) -> bool:
    """Whether the broker has nothing to erase, but this machine has."""
    from paigeant_core.erasure import is_marker

    over = line.standing is None or is_marker(line.standing.record)
    return over and here.has(line.correlation_id)


def _preflight(plan: Plan, here: _Here) -> None:
    from paigeant_console.commands._operation import PREFLIGHT_LINES

    for line in plan.lines[:PREFLIGHT_LINES]:
        if line.standing is not None and line.eligible:
            note(f"{line.correlation_id}: will be erased ({line.standing.state}, {len(line.standing.history)} records)")
        elif _only_here(here, line):
            note(f"{line.correlation_id}: will be erased on this machine; on the broker {line.why}")
        else:
            note(f"{line.correlation_id}: will be skipped: {line.why}")
    if (more := len(plan.lines) - PREFLIGHT_LINES) > 0:
        note(f"... and {more} more")
    note(f"erase: {len(plan.lines)} matched, {plan.eligible} can be erased on the broker")


def _finish(call: Call, here: _Here, result: Result, erased: Erased | None) -> bool:
    """Erase on this machine what was erased on the broker, or is not there, and tell; True: all of it is done."""
    import sqlite3

    from paigeant_core.clock import rfc3339

    correlation_id, problems = result.correlation_id, []
    local = erased is not None or (result.before in ("", "completed", "compensated", "cancelled"))
    if result.outcome == "failed" or (result.outcome == "skipped" and not (local and here.has(correlation_id))):
        _tell(call, correlation_id, result.outcome, result.reason)
        return False
    removed = {
        "records": erased.records if erased is not None else 0,
        "parked": erased.parked if erased is not None else 0,
        "history": 0,
        "capsules": 0,
    }
    if here.history is not None:
        try:
            removed["history"] = here.history.erase(correlation_id)
        except (OSError, sqlite3.Error) as error:
            problems.append(f"the history on this machine was not erased: {error}")
    for path in here.capsules.get(correlation_id, ()):
        try:
            _shred(path)
            removed["capsules"] += 1
        except OSError as error:
            problems.append(f"{path} was not deleted: {error.strerror or type(error).__name__}")
    until = rfc3339(erased.until) if erased is not None and erased.until is not None else None
    remains = list(erased.remains) if erased is not None else []
    outcome = "failed" if problems else "done"
    reason = "; ".join(problems) or ("" if erased is not None else result.reason)
    _tell(call, correlation_id, outcome, reason, removed, remains, until)
    return not problems


def _shred(path: Path) -> None:
    """Overwrite a file and delete it; what a disk or a snapshot keeps beneath is not in our hands."""
    import os

    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


def _tell(
    call: Call,
    correlation_id: str,
    outcome: str,
    reason: str,
    removed: dict[str, int] | None = None,
    remains: Sequence[str] = (),
    until: str | None = None,
) -> None:
    from paigeant_console.safe_text import joined, literal, safe

    if call.out.as_json:
        document: dict[str, Any] = {"correlation_id": correlation_id, "outcome": outcome, "reason": reason or None}
        if removed is not None:
            document |= {"removed": removed, "remains": list(remains), "until": until}
        call.out.document(document)
    else:
        said = [safe(correlation_id), literal(outcome)]
        if reason:
            said.append(safe(reason, 400))
        if removed is not None:
            said.append(safe(", ".join(f"{value} {name}" for name, value in removed.items())))
        call.out.line(joined(said, literal("  ")))
        for what in remains:
            call.out.line(joined([literal("  remains: "), safe(what, 400)]))
        if until:
            call.out.line(joined([literal("  until:   "), safe(until)]))
    call.out.flush()


def _summarise(call: Call, document: dict[str, Any], matched: int, done: int, *, dry_run: bool = False) -> None:
    failed = document.get("failed", 0)
    document |= {"matched": matched, "done": done, "failed": failed, "skipped": max(0, matched - done - failed)}
    if dry_run:
        document["dry_run"] = True
    if call.out.as_json:
        call.out.document(document)
    else:
        said = "could be erased" if dry_run else "erased"
        note(f"erase: {matched} matched, {done} {said}, {matched - done} not")
