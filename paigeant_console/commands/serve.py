"""`serve`: the console in a browser."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from paigeant_console.commands._call import Call, command
from paigeant_console.exit_codes import ExitCode

if TYPE_CHECKING:
    from paigeant_console.config import Settings
    from paigeant_console.web import ConsoleServer

__all__ = ["serve"]

DEFAULT_PORT: Final = 8765


@command
def serve(
    call: Call,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        str | None, typer.Option("--port", metavar="N", help=f"The port; 0: any that is free ({DEFAULT_PORT}).")
    ] = None,
    public_url: Annotated[
        str | None, typer.Option("--public-url", metavar="URL", help="What browsers are told by a proxy in between.")
    ] = None,
    ascii: Annotated[bool, typer.Option("--ascii", help="Draw with ASCII alone.")] = False,
    mouse: Annotated[bool, typer.Option("--mouse", help="Let the console listen to the mouse.")] = False,
    theme: Annotated[
        str | None, typer.Option("--theme", metavar="NAME", help="ansi, dark, light or high-contrast.")
    ] = None,
) -> int:
    """Open the console to browsers on this machine, behind a token (extra web).

    Prints the address to open, and serves until SIGINT or SIGTERM. Every page that is open is a console of its own.
    """
    from paigeant_console.commands._values import count
    from paigeant_console.config import load_look
    from paigeant_console.logs import to_stderr
    from paigeant_console.runner import run
    from paigeant_core.errors import ConfigError

    settings = call.settings
    number = 0 if port == "0" else count(port, "--port", most=65_535) or DEFAULT_PORT
    _check_address(host, public_url)
    load_look(theme=theme)  # so that a name that there is not is said here, and not in a browser
    if settings.url.startswith("memory:"):
        raise ConfigError(
            "serve needs a broker that other processes reach, and memory:// lives in one; "
            "set PAIGEANT_URL or give --url"
        )
    try:
        from paigeant_console.web import ConsoleServer
    except ModuleNotFoundError as error:
        missing = f"the module {error.name} is missing"
        raise ConfigError(f'serve needs the extra web ({missing}): pip install "paigeant-console[web]"') from None
    to_stderr(settings.url)
    flags = [*(["--ascii"] if ascii else []), *(["--mouse"] if mouse else []), *(["--theme", theme] if theme else [])]
    server = ConsoleServer(
        flags,
        _environment(settings),
        host=host,
        port=number,
        public_url=public_url,
        title=f"{settings.context or settings.topic} - paigeant-console",
    )
    return run(_serve(call, server, number))


def _check_address(host: str, public_url: str | None) -> None:
    import ipaddress
    from urllib.parse import urlsplit

    from paigeant_core.errors import ConfigError

    try:
        local = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host).is_loopback
    except ValueError:
        raise ConfigError(f"--host {ascii(host)[:60]}: write an address, such as 127.0.0.1 or ::1") from None
    try:
        parts = urlsplit(public_url or "")
    except ValueError:
        parts = urlsplit("")
    plain = parts.scheme in ("http", "https") and parts.netloc and not parts.path.strip("/") and not parts.query
    if public_url is not None and not plain:
        raise ConfigError(
            f"--public-url {ascii(public_url)[:80]}: write scheme and name alone, such as https://console.example.com"
        )
    if not local and parts.scheme != "https":
        raise ConfigError(
            f"--host {host} is reached from other machines, where the token would travel unencrypted: "
            "put a proxy with TLS before the console and name it by --public-url https://NAME, "
            "or keep 127.0.0.1 and use ssh -L"
        )


def _environment(settings: Settings) -> dict[str, str]:
    """What holds here, for the consoles: there the environment is all that is said, so it wins over the file."""
    own = {
        "PAIGEANT_URL": settings.url,
        "PAIGEANT_TOPIC": settings.topic,
        "PAIGEANT_CONTEXT": settings.context,
    }
    # Never 0: that would lift the brake of another context that somebody goes to from there.
    return own | {"PAIGEANT_READ_ONLY": "1"} if settings.read_only else own


async def _serve(call: Call, server: ConsoleServer, port: int) -> int:
    import asyncio
    import errno

    from paigeant_console.safe_text import safe
    from paigeant_core.errors import ConfigError

    try:
        await server.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} is taken; --port 0 takes any that is free") from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError("--host is no address of this machine") from None
        if error.errno == errno.EACCES:
            raise ConfigError(f"port {port} is not allowed to this user; take one above 1023") from None
        raise
    try:
        if call.out.as_json:
            call.out.document({"event": "ready", "url": server.url})
        else:
            call.out.line(safe(server.url))
        call.out.flush()
        # textual-serve prints what a console said on its stderr; here stdout is for the address alone.
        with contextlib.redirect_stdout(_Notes()):
            await asyncio.Event().wait()
    finally:
        await server.stop()
    return ExitCode.OK


class _Notes(io.TextIOBase):
    """Takes what is printed, and says it on stderr."""

    def write(self, text: str) -> int:
        from paigeant_console.safe_text import safe_block

        for line in safe_block(text):
            sys.stderr.write(f"{line}\n")
        return len(text)
