"""`doctor`: what on the broker, and among the workers, could lose work or keep it waiting; it changes nothing."""

from __future__ import annotations

import os

from paigeant_console.commands._call import Call, command
from paigeant_console.exit_codes import ExitCode

__all__ = ["doctor"]


@command
def doctor(call: Call) -> int:
    """Check the broker's settings and state, the clock and the workers, and say what to do about each."""
    from paigeant_console.human import text
    from paigeant_console.runner import run
    from paigeant_console.safe_text import joined, literal
    from paigeant_core.doctor import Finding, Level, examine

    async def main() -> int:
        async with call.broker() as transport:
            findings = await examine(transport, call.settings.topic)
            if os.environ.get("PAIGEANT_TRUST") and not transport.capabilities.exact_fence:
                said = "an older state of a signed workflow that is published again is known to those that handed it on"
                remedy = "where others write to the broker, use Redis for signed workflows"
                findings.append(Finding("rollback", Level.WARNING, said, remedy))
        if call.out.as_json:
            for item in findings:
                call.out.document(
                    {"check": item.check, "level": item.level.value, "said": item.said, "remedy": item.remedy or None}
                )
        else:
            for item in findings:
                mark = literal(f"{item.level.value.upper():<8} {item.check}: ")
                call.out.line(joined((mark, text(item.said, 400))))
                if item.remedy:
                    call.out.line(joined((literal("         -> "), text(item.remedy, 400))))
        return ExitCode.FAILED if any(item.level is Level.PROBLEM for item in findings) else ExitCode.OK

    return run(main())
