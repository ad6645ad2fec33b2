"""`verify`: whether what the journal holds of a workflow is what was signed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from paigeant_console.commands._call import Call, command
from paigeant_console.commands._signing import trust_of_environment
from paigeant_console.exit_codes import ExitCode
from paigeant_console.output import note

if TYPE_CHECKING:
    from paigeant_core.security.account import Account

__all__ = ["verify"]


@command
def verify(
    call: Call,
    correlation_id: Annotated[str, typer.Argument(metavar="ID", help="Its correlation ID, or the beginning of it.")],
) -> int:
    """Verify the signed records of a workflow, as its last message carries them, by the policy in PAIGEANT_TRUST.

    Exit 0: every record and the message hold. Exit 1: they do not, or nothing is signed; the code says why.
    """
    from paigeant_console.runner import run
    from paigeant_core.errors import WorkflowNotFound

    trust = trust_of_environment()

    async def main() -> int:
        from paigeant_console.model.trust import last_body
        from paigeant_core.security.account import VALID, account

        topic = call.settings.topic
        async with call.broker() as transport:
            whole = await call.operations(transport).resolve(correlation_id)
            history = await transport.history(topic, whole)
            now = transport.clock.now()
        last = last_body(history)
        if last is None:
            raise WorkflowNotFound(f"workflow {whole}: the journal of topic {topic} holds no message of it any more")
        found = account(last[0], trust, now, last[1])
        _print(call, whole, found)
        if found.status != VALID and not call.out.as_json:
            note(f"{whole}: {found.status}: {found.reason}")
        return ExitCode.OK if found.status == VALID else ExitCode.FAILED

    return run(main())


def _print(call: Call, whole: str, found: Account) -> None:
    from paigeant_console.human import moment, text
    from paigeant_console.safe_text import literal
    from paigeant_core.clock import rfc3339

    if call.out.as_json:
        for entry in found.entries:
            call.out.document(
                {
                    "correlation_id": whole,
                    "index": entry.index,
                    "kind": entry.kind or None,
                    "name": entry.name or None,
                    "result": entry.result or None,
                    "hop": entry.hop or None,
                    "signer": entry.signer or None,
                    "key": entry.kid or None,
                    "at": rfc3339(entry.at) if entry.at else None,
                    "status": entry.status,
                }
            )
        call.out.document(
            {
                "summary": True,
                "correlation_id": whole,
                "records": len(found.entries),
                "status": found.status,
                "reason": found.reason or None,
            }
        )
        return
    rows = [
        [
            literal(str(entry.index)),
            text(entry.status),
            text(entry.signer),
            text(entry.kind),
            text(entry.name),
            text(entry.hop or None),
            moment(rfc3339(entry.at)) if entry.at else literal("-"),
            text(entry.result),
            text(entry.kid),
        ]
        for entry in found.entries
    ]
    if rows:
        call.out.table(
            ["N", "STATUS", "SIGNED BY", "RECORD", "NAME", "HOP", "AT", "RESULT", "KEY"], rows, right="N HOP"
        )
