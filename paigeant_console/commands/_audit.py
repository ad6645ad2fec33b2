"""`audit --verify` and `audit --export-heads`: whether the audit is whole, and what it has come to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from paigeant_console.commands._call import Call
from paigeant_console.commands._signing import trust_of_environment
from paigeant_console.exit_codes import ExitCode
from paigeant_console.output import note

if TYPE_CHECKING:
    from paigeant_core.security.audit_chain import Head, Verdict

__all__ = ["examine"]

MOST: Final = 1_000_000
"""Entries that are looked at."""
MAX_HEADS: Final = 16 * 1024 * 1024
"""Bytes of a file with exported heads."""


def examine(call: Call, heads: str | None, export: str | None, *, verify: bool) -> int:
    """Verify the audit, or export its head, or both: what is exported was verified then.

    Args:
        call: The command's.
        heads: A file with heads that were exported before.
        export: A file that the head is added to.
        verify: Look whether it is whole.

    Returns:
        The exit code.

    Raises:
        ConfigError: A file cannot be read or written, or the policy cannot be used.
    """
    from paigeant_console.runner import run
    from paigeant_core.clock import rfc3339
    from paigeant_core.security.audit_chain import check, newest_head, read_heads

    trust = trust_of_environment()
    topic = call.settings.topic
    known = read_heads(_read(heads), topic) if heads is not None else []

    async def main() -> int:
        async with call.broker() as transport:
            entries = await transport.audit(topic, MOST)
            at = rfc3339(transport.clock.now())
        verdict = check(entries, trust, known)
        if verify:
            _tell(call, verdict)
            if verdict.problems:
                return ExitCode.FAILED
        if export is not None:
            head = newest_head(topic, entries, at)
            if head is None:
                note(f"the audit of topic {topic} has no entry yet; nothing was exported")
            else:
                _export(export, head)
        return ExitCode.OK

    return run(main())


def _tell(call: Call, verdict: Verdict) -> None:
    from paigeant_console.human import text
    from paigeant_console.safe_text import literal

    if call.out.as_json:
        for problem in verdict.problems:
            call.out.document({"n": problem.n or None, "code": problem.code, "said": problem.said})
        call.out.document(
            {
                "summary": True,
                "entries": verdict.entries,
                "first": verdict.first or None,
                "last": verdict.last or None,
                "signed": verdict.signed,
                "heads": verdict.heads,
                "problems": len(verdict.problems),
            }
        )
        return
    if verdict.problems:
        rows = [[text(item.n or None), text(item.code), text(item.said, 300)] for item in verdict.problems]
        call.out.table(["N", "CODE", "WHAT"], rows, right="N")
    state = f"{len(verdict.problems)} problems" if verdict.problems else "whole"
    call.out.line(
        literal(
            f"the audit is {state}: {verdict.entries} entries, {verdict.signed} with a signature that counts, "
            f"{verdict.heads} exported heads found as they were"
            if not verdict.problems
            else f"{state} among {verdict.entries} entries"
        )
    )


def _export(path: str, head: Head) -> None:
    import msgspec

    from paigeant_core.errors import ConfigError

    try:
        handle = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "ab") as file:
            file.write(msgspec.json.encode(head) + b"\n")
            file.flush()
            os.fsync(handle)
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be written: {error.strerror or type(error).__name__}") from None
    note(f"entry {head.n} of topic {head.topic} is in {path}; keep it where the broker's users cannot write")


def _read(path: str) -> bytes:
    from paigeant_core.errors import ConfigError

    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_HEADS + 1)
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be read: {error.strerror or type(error).__name__}") from None
    if len(data) > MAX_HEADS:
        raise ConfigError(f"{path}: it is larger than {MAX_HEADS} bytes")
    return data
