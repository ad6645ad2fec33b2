"""`queues`, `workers` and `audit`: what the broker holds beside the journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from paigeant_console.commands._call import Call, command
from paigeant_console.exit_codes import ExitCode
from paigeant_console.output import note

__all__ = ["audit", "queues", "workers"]

AUDIT_FIELDS = ("at", "operator", "action", "reason", "operation_id", "targets", "outcome")
FULL_FIELDS = (*AUDIT_FIELDS, "allowed", "from", "selection", "before", "after", "workflows")


@command
def queues(call: Call) -> int:
    """Show the queue of each activity; a question mark for what this broker cannot tell."""
    from paigeant_console.human import age, figure, text
    from paigeant_console.runner import run

    async def main() -> int:
        async with call.broker() as transport:
            found = await transport.queues(call.settings.topic)
        if call.out.as_json:
            for queue in found:
                paused = {} if queue.paused is None else {"paused": queue.paused.to_document()}
                call.out.document(
                    {
                        "activity": queue.activity,
                        "ready": queue.ready,
                        "in_flight": queue.in_flight,
                        "delayed": queue.delayed,
                        "consumers": queue.consumers,
                        "oldest_s": None if queue.oldest_s is None else round(queue.oldest_s, 3),
                        **paused,
                    }
                )
        elif found:
            from paigeant_console.model.tables import problem_of

            rows = [
                [
                    text(f"{queue.activity} ({problem})" if (problem := problem_of(queue)[0]) else queue.activity),
                    figure(queue.ready),
                    figure(queue.in_flight),
                    figure(queue.delayed),
                    figure(queue.consumers),
                    # Of an empty queue nothing is oldest; of another one it may not be known.
                    text(None) if queue.ready == 0 else age(queue.oldest_s),
                ]
                for queue in found
            ]
            header = ["ACTIVITY", "READY", "RUNNING", "DELAYED", "WORKERS", "OLDEST"]
            call.out.table(header, rows, right="READY RUNNING DELAYED WORKERS OLDEST")
            for queue in found:
                if queue.paused is not None:
                    note(f"{queue.activity}: {queue.paused.said}")
            if any(queue.in_flight is not None and not queue.exact for queue in found):
                note("what runs is this broker's figure of some seconds ago")
        return ExitCode.OK

    return run(main())


@command
def workers(call: Call) -> int:
    """Show the workers that live, and what they run."""
    from paigeant_console.human import age, text
    from paigeant_console.runner import run
    from paigeant_core.clock import rfc3339

    async def main() -> int:
        async with call.broker() as transport:
            found = await transport.workers(call.settings.topic)
            now = transport.clock.now()
        if call.out.as_json:
            for status in found:
                running = [
                    {
                        "correlation_id": held.correlation_id,
                        "activity": held.activity,
                        "hop": held.hop,
                        "run": held.run,
                        "attempt": held.attempt,
                        "epoch": held.epoch,
                        "since": rfc3339(held.since),
                    }
                    for held in status.running
                ]
                call.out.document(
                    {
                        "worker": status.info.worker,
                        "activities": list(status.info.activities),
                        "running": running,
                        "last_seen_s": round(status.last_seen_s, 3),
                    }
                )
        elif found:
            rows = [
                [
                    text(status.info.worker),
                    text(f"{len(status.running)}/{status.info.concurrency}"),
                    age(status.last_seen_s),
                    age(max((now - held.since for held in status.running), default=None))
                    if status.running
                    else text(""),
                    text(", ".join(status.info.activities) or "all"),
                ]
                for status in found
            ]
            header = ["WORKER", "RUNNING", "SEEN", "LONGEST", "ACTIVITIES"]
            call.out.table(header, rows, right="RUNNING SEEN LONGEST")
        return ExitCode.OK

    return run(main())


@command
def audit(
    call: Call,
    limit: Annotated[str, typer.Option("--limit", metavar="N", help="The newest so many.")] = "1000",
    full: Annotated[
        bool,
        typer.Option("--full", help="Also from where, by which selection, and each workflow before and after."),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Look whether entries were changed or removed, and who signed them."),
    ] = False,
    heads: Annotated[
        str | None, typer.Option("--heads", metavar="FILE", help="With --verify: heads that were exported before.")
    ] = None,
    export_heads: Annotated[
        str | None, typer.Option("--export-heads", metavar="FILE", help="Add what the audit has come to, as a line.")
    ] = None,
) -> int:
    """Show what operators did, and what was refused to them, the newest last.

    With --verify: exit 0 if the audit is whole, 1 if an entry was changed or removed, or a signature does not count.
    """
    if verify or heads is not None or export_heads is not None:
        from paigeant_console.commands._audit import examine

        return examine(call, heads, export_heads, verify=verify or heads is not None)
    from paigeant_console.commands._values import count
    from paigeant_console.human import moment, text
    from paigeant_console.runner import run

    most = count(limit, "--limit") or 0

    async def main() -> int:
        async with call.broker() as transport:
            fields = FULL_FIELDS if full else AUDIT_FIELDS
            entries = list(_entries(await transport.audit(call.settings.topic, most), fields))
        if call.out.as_json:
            for entry in entries:
                call.out.document(entry)
        elif entries:
            rows = [
                [
                    moment(entry["at"]),
                    *(text(entry[name], 60) for name in ("operator", "action", "targets", "outcome", "reason")),
                ]
                for entry in entries
            ]
            header = ["AT", "OPERATOR", "ACTION", "TARGETS", "OUTCOME", "REASON"]
            if full:
                header += ["FROM", "SELECTION", "BEFORE", "AFTER"]
                for row, entry in zip(rows, entries, strict=True):
                    row += [text(_words(entry[name]), 120) for name in ("from", "selection", "before", "after")]
            call.out.table(header, rows, right="TARGETS")
        return ExitCode.OK

    return run(main())


def _words(value: object) -> str:
    """What a field holds, in words: `dead 12, held 1`."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return "" if value is None else str(value)


def _entries(found: Sequence[bytes], fields: Sequence[str]) -> Iterator[dict[str, Any]]:
    import msgspec

    unread = 0
    for entry in found:
        try:
            document = msgspec.json.decode(entry, type=dict[str, Any])
        except (msgspec.MsgspecError, ValueError, RecursionError):
            unread += 1
            continue
        yield {name: document.get(name) for name in fields}
    if unread:
        note(f"{unread} audit entries cannot be read and are left out")
