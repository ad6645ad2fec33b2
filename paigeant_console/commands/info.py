"""`info`: what this program is, what it reads and which broker it talks to. It works without one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from paigeant_console.commands._call import Call, command
from paigeant_console.exit_codes import ExitCode

__all__ = ["info"]

PACKAGES: Final = ("textual", "rich", "typer", "redis", "aio-pika", "httpx", "msgspec", "pydantic", "joserfc")
WITHIN: Final = 5.0
"""Seconds that the broker has to answer."""


@command
def info(call: Call) -> int:
    """Print versions, paths, the settings that hold (secrets masked) and the broker, if it answers."""
    from paigeant_console.runner import run

    async def main() -> int:
        document = _document(call)
        document["broker"] = await _broker(call)
        if call.out.as_json:
            call.out.document(document)
        else:
            from paigeant_console.human import text

            rows = [[text(name), text(value, 400)] for name, value in _flat(document)]
            call.out.table(["WHAT", "VALUE"], rows)
        return ExitCode.OK

    return run(main())


def _document(call: Call) -> dict[str, Any]:
    import os
    import platform
    import sys
    from importlib.metadata import PackageNotFoundError, version

    from paigeant_console.config import THEMES, load_look
    from paigeant_console.user_directories import NoHome, user_directory
    from paigeant_core.__about__ import __version__
    from paigeant_core.limits import SPEC_VERSION
    from paigeant_core.operations import default_operator

    packages: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    settings, look = call.settings, load_look()
    try:
        logs = str(user_directory("log"))
    except NoHome:
        logs = None
    return {
        "version": __version__,
        "spec_version": SPEC_VERSION,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "paths": {
            "config": None if settings.path is None else str(settings.path),
            "config_found": settings.path is not None and settings.path.is_file(),
            "logs": logs,
        },
        "config": {
            "url": settings.masked_url,
            "topic": settings.topic,
            "context": settings.context or None,
            "read_only": settings.read_only,
            "production": settings.production,
            "operator": settings.operator or default_operator(),
            "sources": dict(settings.sources),
            "contexts": list(settings.contexts),
        },
        "console": {
            "theme": look.theme or THEMES[0],
            "ascii": look.ascii,
            "mouse": look.mouse,
            "clipboard": look.clipboard,
            "keys": {name: list(keys) for name, keys in look.keys.items()},
        },
        "terminal": {
            "term": os.environ.get("TERM"),
            "encoding": getattr(sys.stdout, "encoding", None),
            "stdout_is_terminal": bool(sys.stdout is not None and sys.stdout.isatty()),
        },
    }


async def _broker(call: Call) -> dict[str, Any]:
    import asyncio

    from paigeant_core.errors import PaigeantError

    unreachable: dict[str, Any] = {"reachable": False, "broker": None, "version": None, "facts": {}}
    try:
        async with asyncio.timeout(WITHIN), call.broker() as transport:
            found = await transport.broker_info()
            paused = await transport.pauses(call.settings.topic)
    except TimeoutError:
        return {**unreachable, "error": f"no answer within {WITHIN:g} s"}
    except PaigeantError as error:
        from paigeant_console.masking import mask_text

        return {**unreachable, "error": mask_text(str(error), call.known_url)}
    return {
        "reachable": True,
        "broker": found.broker,
        "version": found.version,
        "facts": dict(found.facts),
        "paused": [f"{name}: {pause.said}" for name, pause in sorted(paused.items())],
        "error": None,
    }


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            yield f"{prefix}{name}", "yes" if value else "no"
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{name}", value
