"""`export` and `import`: one workflow in a file, out of production and onto a laptop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paigeant_console.commands._call import Call, command, silent_command
from paigeant_console.exit_codes import ExitCode

if TYPE_CHECKING:
    from paigeant_core.capsule import Capsule

__all__ = ["export", "import_", "read_capsule"]

BROKER = "capsule"


@command
def export(
    call: Call,
    correlation_id: Annotated[str, typer.Argument(metavar="ID", help="Its correlation ID, or the beginning of it.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; - is stdout (paigeant-ID.json).")
    ] = None,
    with_secrets: Annotated[bool, typer.Option("--with-secrets", help="Keep what looks like a secret.")] = False,
) -> int:
    """Write one workflow to a file: its journal with every hop's bytes, secrets replaced."""
    from paigeant_console.runner import run
    from paigeant_core import capsule

    async def main() -> int:
        topic = call.settings.topic
        async with call.broker() as transport:
            whole = await call.operations(transport).resolve(correlation_id)
            data = await capsule.export(transport, topic, whole, secrets=with_secrets)
        _write(call, data, whole, output)
        return ExitCode.OK

    return run(main())


def _write(call: Call, data: bytes, correlation_id: str, output: str | None) -> None:
    import os

    import msgspec

    from paigeant_console.output import in_ascii, note
    from paigeant_console.safe_text import literal, safe
    from paigeant_core.capsule import Capsule
    from paigeant_core.errors import ConfigError

    capsule = Capsule.decode(data)
    if capsule.redacted:
        names = ", ".join(capsule.redacted[:10]) + (", …" if len(capsule.redacted) > 10 else "")
        kept = "" if set(capsule.redacted) == {"token"} else "; --with-secrets keeps them"
        note(f"replaced as secrets: {names}{kept}")
    if output == "-":
        if call.out.as_json:
            call.out.document(msgspec.json.decode(data))
            return
        # Nothing of it may be lost on the way, so what no terminal is to be given is escaped as JSON does.
        for line in data.decode().split("\n"):
            escaped = in_ascii(line)
            call.out.line(safe(escaped, len(escaped) + 1))
        return
    path = Path(output or f"paigeant-{correlation_id}.json")
    try:
        # For its owner alone, and never in place of another file.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data + b"\n")
    except FileExistsError:
        raise ConfigError(f"{path} exists already; name another file with -o") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or type(error).__name__}") from None
    if call.out.as_json:
        call.out.document(
            {
                "correlation_id": correlation_id,
                "file": str(path),
                "records": len(capsule.records),
                "redacted": list(capsule.redacted),
            }
        )
    else:
        call.out.line(safe(f"{path}: {len(capsule.records)} records of {correlation_id}"))
        call.out.line(literal("open it with: paigeant-console import FILE, or dev TARGET --capsule FILE"))


@silent_command
def import_(
    call: Call,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file that export wrote.")],
) -> int:
    """Open the workflow in FILE on the in-memory broker, in the console; with --json say what it holds instead."""
    from paigeant_core.capsule import adopt
    from paigeant_core.transports.memory import MemoryTransport

    capsule = read_capsule(file)
    if call.out.as_json:
        last = next(record for record in reversed(capsule.records) if record.state)
        call.out.document(
            {
                "correlation_id": capsule.correlation_id,
                "topic": capsule.topic,
                "state": last.state,
                "records": len(capsule.records),
                "redacted": list(capsule.redacted),
                "broker": capsule.broker,
                "exported_at": capsule.exported_at,
            }
        )
        return ExitCode.OK
    from paigeant_console.app import run
    from paigeant_console.config import load_look

    transport = MemoryTransport(BROKER)
    adopt(transport, capsule)
    return run(transport.url, capsule.topic, context="capsule", read_only=call.read_only_here, look=load_look())


def read_capsule(file: str) -> Capsule:
    """The capsule in a file.

    Args:
        file: Its path.

    Raises:
        ConfigError: It cannot be read.
        InvalidMessage: It is no capsule.
    """
    from paigeant_core.capsule import MAX_CAPSULE, Capsule
    from paigeant_core.errors import ConfigError, MessageTooLarge

    path = Path(file)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_CAPSULE + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from None
    if len(data) > MAX_CAPSULE:
        raise MessageTooLarge(f"{path} is larger than any capsule ({MAX_CAPSULE:,} bytes)")
    return Capsule.decode(data)
