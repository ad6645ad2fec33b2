"""`list` and `show`: where workflows stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paigeant_console.commands._call import Call, command
from paigeant_console.exit_codes import ExitCode
from paigeant_console.output import note

if TYPE_CHECKING:
    from paigeant_console.model.fold import Fold
    from paigeant_console.model.row import Row
    from paigeant_console.safe_text import SafeText
    from paigeant_core.journal import Record

__all__ = ["list_", "print_rows", "show"]

ID_CELLS = 8
"""Characters of an ID that are shown at least where a terminal is narrow."""


@command
def list_(
    call: Call,
    query: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY", help="What to select, e.g. 'state:dead age:>10m'.", show_default=False),
    ] = None,
    limit: Annotated[str | None, typer.Option("--limit", metavar="N", help="At most so many.")] = None,
) -> int:
    """List workflows, the one that moved last first.

    QUERY is terms with a space between, OR, NOT or !, and parentheses: state:dead step:charge id:3f2 name:onboarding
    label.tier:premium age:>10m attempt:>=3 stuck:no_worker error:timeout worker:w1 payload.email:ann@example.com. Text
    matches anywhere in a field, in any case; with a * it has to match the whole; a bare word looks everywhere. @NAME is
    what config.toml saves under that name in [queries]. At most 4096 characters and 100 terms.
    """
    from paigeant_console.commands._signing import no_policy, trust_of_environment
    from paigeant_console.commands._values import count
    from paigeant_console.model.snapshot import read_rows
    from paigeant_console.runner import run

    most = count(limit, "--limit")
    policy = trust_of_environment()
    wanted = None
    topic = call.settings.topic
    if query:
        from paigeant_console.model.query import parse

        wanted = parse(" ".join(query), "workflow", unverified=no_policy())

    async def main() -> int:
        async with call.broker() as transport:
            payloads = wanted is not None and wanted.needs_payload
            snapshot = await read_rows(transport, topic, payloads=payloads, policy=policy)
        if snapshot.refusal:
            from paigeant_console.model.status import no_writes

            note(no_writes(snapshot.refusal))
        rows: list[Row] = []
        for row in snapshot.select(wanted):
            if most is not None and len(rows) >= most:
                break
            rows.append(row)
        if call.out.as_json:
            for row in rows:
                call.out.document(snapshot.document(row))
        elif rows:
            print_rows(call, snapshot.fold, rows, snapshot.now)
        else:
            note(f"no workflow {'is selected' if query else 'yet'} in topic {topic}")
        return ExitCode.OK

    return run(main())


def print_rows(call: Call, fold: Fold, rows: Sequence[Row], now: float) -> None:
    """Print rows as a table.

    Args:
        call: where to.
        fold: what they belong to.
        rows: which.
        now: seconds since the Unix epoch.
    """
    from paigeant_console.human import age, since, text
    from paigeant_console.safe_text import joined, literal, safe
    from paigeant_core.clock import rfc3339

    shown = _id_cells([row.correlation_id for row in rows]) if call.out.width is not None else None
    lines = []
    for row in rows:
        headers = row.headers
        stuck = fold.stuck(row, now)
        error = f"{row.error['type']}: {row.error['message']}" if row.error else ""
        if row.erased_at:
            error = f"erased at {rfc3339(row.erased_at)}"
        lines.append(
            [
                safe(row.correlation_id[:shown]),
                safe(row.state),
                text(stuck),
                text(None if row.base == "completed" else row.step, 32),
                joined([literal(str(headers.steps_done)), literal("/"), literal(str(headers.steps_total))]),
                literal(str(headers.attempt)),
                since(headers.created_at, now),
                age(now - row.at),
                text(headers.name, 32),
                text(error),
            ]
        )
    header = ["ID", "STATE", "STUCK", "STEP", "DONE", "TRY", "AGE", "MOVED", "NAME", "ERROR"]
    if shown is not None:
        # A terminal is narrow: what nobody has anything in gives its place to the error. A pipe gets all columns.
        keep = [at for at, column in enumerate(zip(*lines, strict=True)) if any(cell != "-" for cell in column)]
        header = [header[at] for at in keep]
        lines = [[line[at] for at in keep] for line in lines]
    call.out.table(header, lines, right="DONE TRY AGE MOVED")


def _id_cells(ids: Sequence[str]) -> int:
    """How much of an ID tells it from the others of this list."""
    least = ID_CELLS
    ordered = sorted(ids)
    for one, other in pairwise(ordered):
        common = 0
        while common < min(len(one), len(other)) and one[common] == other[common]:
            common += 1
        least = max(least, common + 1)
    return least


@command
def show(
    call: Call,
    correlation_id: Annotated[str, typer.Argument(metavar="ID", help="Its correlation ID, or the beginning of it.")],
    wait: Annotated[bool, typer.Option("--wait", help="Until it ended: exit 0 if it completed, else 1.")] = False,
) -> int:
    """Show one workflow: its slip, why it is stuck, its hops, payload and history."""
    from paigeant_console.commands._signing import trust_of_environment
    from paigeant_console.commands._wait import outcome, wait_until_over
    from paigeant_console.model.deeds import outstanding_line
    from paigeant_console.model.documents import workflow_document
    from paigeant_console.model.fold import WAITING, Fold
    from paigeant_console.model.trust import examine, last_body
    from paigeant_console.runner import run
    from paigeant_core.transition import Place

    policy = trust_of_environment()

    async def main() -> int:
        topic = call.settings.topic
        async with call.broker() as transport:
            whole = await call.operations(transport).resolve(correlation_id)
            code = ExitCode.OK
            if wait:
                code = outcome(await wait_until_over(transport, topic, whole))
            history = await transport.history(topic, whole)
            fold = Fold()
            fold.apply(history)
            workers = await transport.workers(topic)
            now = transport.clock.now()
            fold.paused = await transport.pauses(topic)
            runs = await call.operations(transport).runs()
            silent = await transport.silent(topic)
            # While nobody can write, nobody can say that he lives.
            lives = whole in fold.rows and fold.rows[whole].base in WAITING
            refusal = await transport.refusal(topic) if lives else ""
            if lives:
                # Its own history does not tell of it.
                fold.apply(await transport.parked(topic, Place.QUARANTINE))
            if not refusal:
                fold.observe(workers, now, silent)
            if whole in fold.rows and fold.needs_others(fold.rows[whole], now):
                async for batch in transport.records(topic):
                    fold.learn(batch)
        if whole not in fold.rows:
            from paigeant_core.errors import WorkflowNotFound

            raise WorkflowNotFound(f"workflow {whole}: the journal of topic {topic} holds nothing of it any more")
        body = last_body(history)
        trust = examine(body[0], policy, now, body[1]).to_document() if body is not None else None
        document = workflow_document(fold, history, now, trust)
        if call.out.as_json:
            call.out.document(document)
        else:
            asked = outstanding_line(runs.values(), whole, now, ascii_only=call.out.ascii_only, commands=True)
            _print_workflow(call, fold, document, now, _unread(history), asked)
        if refusal:
            from paigeant_console.model.status import no_writes

            note(no_writes(refusal))
        return code

    return run(main(), while_read=wait)


def _unread(history: Sequence[Record]) -> bytes:
    """The bytes that were parked last, where nobody could read them."""
    from paigeant_core.journal import without_late

    body = next((record.body for record in reversed(without_late(history)) if record.state), None)
    return body or b""


def _print_workflow(
    call: Call, fold: Fold, document: Mapping[str, Any], now: float, unread: bytes, asked: SafeText
) -> None:
    from paigeant_console.model.slip_track import draw_track, track_of
    from paigeant_console.safe_text import joined, literal, safe_payload

    out = call.out
    row = fold.rows[document["correlation_id"]]
    spans = draw_track(track_of(row, now, ascii_only=out.ascii_only), out.width or 100_000, ascii_only=out.ascii_only)
    out.line(joined(text for text, _ in spans))
    read_only = call.settings.read_only
    facts = _facts(fold, row, document, now, asked, ascii_only=out.ascii_only, read_only=read_only)
    out.lines([literal(""), *facts])
    if document["executed"]:
        out.line(literal(""))
        header = ["HOP", "STEP", "TRY", "STARTED", "TOOK", "WORKER"]
        rows = _hops(document)
        if document.get("signatures"):
            header.append("SIGNED BY")
        else:
            rows = [row[:-1] for row in rows]
        out.table(header, rows, right="HOP TRY TOOK")
    what, content = ("payload", bytes(document["payload"])) if document["payload"] is not None else ("message", unread)
    if content:
        kind, lines = safe_payload(content)
        out.lines([literal(""), literal(f"{what}, {len(content):,} bytes of {kind}:")])
        out.lines([joined([literal("  "), line]) for line in lines])
    out.line(literal(""))
    out.table(["AT", "WHAT", "STEP", "HOP", "TRY", "WORKER", "DETAIL"], _history(document), right="HOP TRY")


def _facts(
    fold: Fold,
    row: Row,
    document: Mapping[str, Any],
    now: float,
    asked: SafeText,
    *,
    ascii_only: bool,
    read_only: bool,
) -> list[SafeText]:
    from paigeant_console.human import age, moment, since, text
    from paigeant_console.model.stuck import explain, keys_line
    from paigeant_console.model.times import zone
    from paigeant_console.safe_text import joined, literal, safe
    from paigeant_core.journal import State

    def fact(name: str, *parts: SafeText) -> SafeText:
        return joined([literal(f"{name:<9}"), *parts])

    facts = [
        fact("id", safe(document["correlation_id"])),
        fact("state", safe(document["state"]), literal(" for "), age(now - row.since)),
    ]
    if erased := document.get("erased_at"):
        by = [literal(" by "), safe(row.held_by)] if row.held_by else []
        facts.append(fact("erased", moment(erased), *by, literal(": its messages, and what was said of it, are gone")))
    if row.runner:
        facts.append(fact("worker", safe(row.runner)))
    if asked:
        facts.append(fact("asked", asked))
    found = explain(fold, row, now, ascii_only=ascii_only)
    if found is not None:
        if stuck := document["stuck"]:
            facts.append(fact("stuck", safe(stuck), literal(": "), found.sentence))
        elif row.error is None or row.state not in (State.DEAD, State.QUARANTINED):
            facts.append(fact("why", found.sentence))
        if todo := keys_line(found, read_only=read_only, commands=True):
            facts.append(fact("to do", todo))
    if error := document["error"]:
        facts.append(fact("error", safe(error["type"]), literal(": "), safe(error["message"])))
    if row.reason:
        by = [literal(", by "), safe(row.held_by)] if row.held_by else []
        facts.append(fact("reason", safe(row.reason), *by))
    if row.due_at:
        facts.append(fact("due", moment(row.due_at)))
    numbers = "run {run}, hop {hop}, attempt {attempt}, epoch {epoch}, {steps_done} of {steps_total} steps done"
    unread = literal("its message is unread")
    facts.append(fact("where", literal(numbers.format_map(document)) if document["steps_total"] else unread))
    if document["name"]:
        facts.append(fact("name", text(document["name"])))
    if document["labels"]:
        labels = [joined([safe(key), literal("="), safe(value)]) for key, value in document["labels"].items()]
        facts.append(fact("labels", joined(labels, literal("  "))))
    facts.append(fact("topic", safe(document["topic"])))
    created = document["created_at"]
    facts.append(fact("created", moment(created), literal(", "), since(created, now), literal(" ago")))
    facts.append(fact("trust", *_trust(document)))
    facts.append(fact("times", literal("are "), zone()))
    return facts


def _trust(document: Mapping[str, Any]) -> list[SafeText]:
    """Whether the signatures hold, from which hop on they do not, and who stepped in."""
    from paigeant_console.safe_text import literal, safe

    said = [safe(document["trust"])]
    if (since := document.get("trust_broken_since")) is not None:
        said.append(literal(f", broken since hop {since}"))
    if reason := document.get("trust_reason"):
        said += [literal(": "), safe(reason)]
    for entry in document.get("signatures", ()):
        if entry["kind"] == "operation":
            said += [literal("; "), safe(entry["name"]), literal(" by "), safe(entry["signer"])]
    return said


def _hops(document: Mapping[str, Any]) -> list[list[SafeText]]:
    from paigeant_console.human import moment, text
    from paigeant_console.model.record_line import died_with_it
    from paigeant_console.model.times import duration, seconds_in
    from paigeant_console.safe_text import joined, literal

    signers = {
        entry["hop"]: entry["signer"] if entry["status"] == "valid" else entry["status"]
        for entry in document.get("signatures", ())
        if entry["kind"] == "step"
    }
    # The newest run's: a record of an older one comes before it.
    deaths = {record["hop"]: record["detail"].get("deaths") for record in document["history"] if _did(record)}
    rows = []
    for hop, step in enumerate(document["executed"], start=1):
        took = seconds_in(step["duration_s"])
        signed = signers.get(hop)
        died = f" ({died_with_it(deaths[hop])})" if deaths.get(hop) and step["worker"] else ""
        rows.append(
            [
                literal(str(hop)),
                text(step["name"]),
                literal(str(step["attempt"]) if step["attempt"] else "skipped"),
                moment(step["started_at"]),
                literal("-") if took is None else duration(took),
                joined((text(step["worker"]), literal(died))),
                text(signed),
            ]
        )
    return rows


def _did(record: Mapping[str, Any]) -> bool:
    """Whether a record of the history tells that a step was done."""
    return "duration_s" in record["detail"] and "undo" not in record["detail"]


def _history(document: Mapping[str, Any]) -> list[list[SafeText]]:
    from paigeant_console.human import detail_text, moment, text
    from paigeant_console.safe_text import safe

    return [
        [
            moment(record["at"]),
            safe(record["kind"], 24),
            text(record["activity"]),
            text(record["hop"]),
            text(record["attempt"]),
            text(record["worker"]),
            detail_text(record["detail"]),
        ]
        for record in document["history"]
    ]
