"""`serve`: the console in a browser. One process of the console for each page that is open, behind a token.

textual-serve brings the terminal in the page and the protocol between it and the app. The server around them is here,
because its own gives a console to whoever reaches its port. Who gets in:

- the `Host` must be this server's: a page elsewhere whose name was bound anew to this address (DNS rebinding) says its
  own name;
- the token of the printed address, compared in constant time, then a cookie that scripts cannot read and that other
  sites' pages cannot make the browser send (RFC 6265bis, SameSite=Strict);
- for the WebSocket also the `Origin`, which no page can forge (RFC 6455, section 10.2): browsers let any page open one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import html
import logging
import secrets
import shlex
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import textual_serve
from aiohttp import WSMsgType, web
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

__all__ = ["ConsoleServer"]

DRIVER: Final = "paigeant_console.served:ServedDriver"
"""The console's side, by name: Textual is not imported here."""

MOST_SESSIONS: Final = 8
"""Consoles at a time: each is a process with a line of its own to the broker."""
GRACE_S: Final = 3.0
"""Seconds that a console has to end after its page was closed."""
LARGEST_MESSAGE: Final = 1 << 20
"""Bytes of one message from the page; a paste is the largest."""

_STATIC: Final = Path(textual_serve.__file__).parent / "static"
_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "clipboard-read=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/static/css/xterm.css">
<link rel="preload" href="/static/fonts/RobotoMono-VariableFont_wght.ttf" as="font" type="font/ttf" crossorigin>
<style>
@font-face {{ font-family: "Roboto Mono"; src: url("/static/fonts/RobotoMono-VariableFont_wght.ttf"); }}
html, body {{ margin: 0; height: 100%; background: #000; color: #ccc; font-family: "Roboto Mono", monospace; }}
#terminal {{ height: 100vh; }}
#said {{ position: absolute; inset: 0; display: flex; align-items: center; justify-content: center; z-index: 9; }}
#said a {{ color: inherit; }}
body.-first-byte #opening, #closed {{ display: none; }}
body.-first-byte #said {{ display: none; }}
body.-closed #said {{ display: flex; background: #000c; }}
body.-closed #opening {{ display: none; }}
body.-closed #closed {{ display: inline; }}
</style>
<script src="/static/js/textual.js"></script>
<script src="/focus.js" defer></script>
</head>
<body>
<div id="said"><span id="opening">opening the console</span>
<span id="closed">this console has ended; <a href="/">open a new one</a></span></div>
<div id="terminal" class="textual-terminal" data-session-websocket-url="{websocket}" data-font-size="{size}"></div>
</body>
</html>
"""
_FOCUS: Final = """// Keys go to the terminal once it is connected (before, textual.js fails), and after every click.
const body = document.body, on = name => body.classList.contains(name);
const focus = () => on("-loaded") && !on("-closed") && document.querySelector(".xterm-helper-textarea")?.focus();
new MutationObserver(focus).observe(body, {attributes: true, attributeFilter: ["class"]});
addEventListener("focus", focus);
addEventListener("click", focus);
"""
"""textual.js leaves it to a click; a file of its own, so that no script may stand in the page."""
_ENTERED: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/"><title>{title}</title>
<link rel="icon" href="data:,"></head><body><a href="/">open the console</a></body></html>
"""
"""Not a redirect: with one the browser would count the way here, and keep a strict cookie back for the first page."""

_log = logging.getLogger("paigeant.web")


class _Session(AppService):
    """One console: a process, and the WebSocket of its page."""

    def __init__(self, command: str, websocket: web.WebSocketResponse, environment: Mapping[str, str]) -> None:
        super().__init__(
            command,
            write_bytes=websocket.send_bytes,
            write_str=websocket.send_str,
            close=self._close,
            download_manager=DownloadManager(),
        )
        self._websocket = websocket
        self._environment = environment

    async def _close(self) -> None:
        await self._websocket.close()

    def _build_environment(self, width: int = 80, height: int = 24) -> dict[str, str]:
        own = {"COLUMNS": str(width), "ROWS": str(height), "LINES": str(height)}
        inherited = super()._build_environment(width, height)
        # What a multiplexer around the server would make of a copy is no concern of a browser.
        inherited = {name: value for name, value in inherited.items() if name not in ("TMUX", "STY")}
        return {**inherited, "TEXTUAL_DRIVER": DRIVER, **self._environment, **own}

    async def ended(self) -> None:
        """Wait until the process has written its last."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def end(self) -> None:
        """Have the process leave, and end it where it does not."""
        process, task = self._process, self._task
        if process is None:
            return
        if process.returncode is None:
            await self.send_meta({"type": "quit"})
        try:
            async with asyncio.timeout(GRACE_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._task = None


class ConsoleServer:
    """Serves the console to browsers.

    Args:
        arguments: The console's command line, without the program.
        environment: What to add to the environment of each console: broker, topic, and whatever must not be seen in the
            process list.
        host: The address to listen on.
        port: The port; 0: any that is free.
        public_url: What browsers have in their address bar, where a proxy stands between; None: this server's own.
        title: Of the page.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        host: str,
        port: int,
        public_url: str | None = None,
        title: str = "paigeant-console",
    ) -> None:
        self._command = f"exec {shlex.join([sys.executable, '-m', 'paigeant_console', *arguments])}"
        self._environment = environment
        self._host, self._port = host, port
        self._public = public_url.rstrip("/") if public_url else None
        self._title = html.escape(title)
        self._token = secrets.token_urlsafe(32)
        # Of its own, so that the address alone, in a shell's history or a log, is not what the browser keeps.
        self._cookie = secrets.token_urlsafe(32)
        self._runner: web.AppRunner | None = None
        self._sessions: set[_Session] = set()

    @property
    def base_url(self) -> str:
        """Where the console is, without the token."""
        return self._public or f"http://{_bracketed(self._host)}:{self._port}"

    @property
    def url(self) -> str:
        """The address to open."""
        return f"{self.base_url}/?token={self._token}"

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The port cannot be had.
        """
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/", self._index),
                web.get("/ws", self._websocket),
                web.get("/focus.js", _focus),
                web.static("/static", _STATIC),
            ]
        )
        # No access log: it would hold the token.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """End all consoles, and listen no more."""
        await asyncio.gather(*(session.end() for session in set(self._sessions)))
        if self._runner is not None:
            await self._runner.cleanup()

    # -- who gets in --------------------------------------------------------------------

    @property
    def _cookie_name(self) -> str:
        # Cookies know no ports: two servers on one machine would log each other out.
        return f"paigeant-console-{self._port}"

    def _names(self) -> set[str]:
        """What a `Host` header may say."""
        if self._public is not None:
            return {urlsplit(self._public).netloc.lower()}
        names = {f"{_bracketed(self._host)}:{self._port}", f"localhost:{self._port}"}
        return names | {name.removesuffix(":80") for name in names}

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        response: web.StreamResponse | None = self._refused(request)
        if response is None:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = web.Response(status=error.status, text=f"{error.reason}\n")
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    def _refused(self, request: web.Request) -> web.Response | None:
        host = request.headers.get("Host", "").lower()
        if host not in self._names():
            return _sentence(421, f"This is not the server that was asked for; it is {self.base_url}.")
        origin = request.headers.get("Origin")
        scheme = urlsplit(self.base_url).scheme
        if origin is None and request.path == "/ws":
            return _sentence(403, "A WebSocket must say where it comes from.")
        if origin is not None and origin.lower() != f"{scheme}://{host}":
            return _sentence(403, "Pages of other sites have no business here.")
        if request.path == "/" and (token := request.query.get("token")) is not None:
            return self._entered() if _same(token, self._token) else _sentence(403, _HOW_TO_ENTER)
        # Among it are the cookies of whatever else this address serves: any text, which may be no cookie by the book.
        if not _same(request.cookies.get(self._cookie_name, ""), self._cookie):
            return _sentence(403, _HOW_TO_ENTER)
        return None

    def _entered(self) -> web.Response:
        response = web.Response(text=_ENTERED.format(title=self._title), content_type="text/html")
        response.set_cookie(
            self._cookie_name,
            self._cookie,
            httponly=True,
            samesite="Strict",
            secure=self.base_url.startswith("https:"),
            path="/",
        )
        return response

    # -- what they get ------------------------------------------------------------------

    async def _index(self, request: web.Request) -> web.Response:
        if len(self._sessions) >= MOST_SESSIONS:
            return _sentence(503, f"{MOST_SESSIONS} consoles are open, which is the most; close one and reload.")
        base = urlsplit(self.base_url)
        websocket = f"{'wss' if base.scheme == 'https' else 'ws'}://{request.headers['Host']}/ws"
        size = _number(request.query.get("fontsize"), 16, least=6, most=64)
        page = _PAGE.format(title=self._title, websocket=html.escape(websocket), size=size)
        return web.Response(text=page, content_type="text/html")

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if len(self._sessions) >= MOST_SESSIONS:
            return _sentence(503, f"{MOST_SESSIONS} consoles are open, which is the most.")
        websocket = web.WebSocketResponse(heartbeat=15, max_msg_size=LARGEST_MESSAGE)
        session = _Session(self._command, websocket, self._environment)
        self._sessions.add(session)
        try:
            await websocket.prepare(request)
            width = _number(request.query.get("width"), 80, least=1, most=1000)
            height = _number(request.query.get("height"), 24, least=1, most=1000)
            await session.start(width, height)
            listening = asyncio.create_task(_listen(websocket, session))
            over = asyncio.create_task(session.ended())
            try:
                await asyncio.wait([listening, over], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (listening, over):
                    task.cancel()
                await asyncio.gather(listening, over, return_exceptions=True)
        finally:
            await session.end()
            self._sessions.discard(session)
            await websocket.close()
        return websocket


_HOW_TO_ENTER: Final = (
    "Open the whole address that paigeant-console serve printed: its token is missing here, or wrong."
)


async def _listen(websocket: web.WebSocketResponse, session: _Session) -> None:
    """Do what the page says, until it has gone or says what no page of ours would."""
    async for message in websocket:
        if message.type is not WSMsgType.TEXT:
            continue
        try:
            kind, value = (*message.json(), None)[:2]
            if kind == "stdin":
                await session.send_bytes(str(value).encode("utf-8", "replace"))
            elif kind == "resize":
                width, height = (_number(value[side], 80, least=1, most=1000) for side in ("width", "height"))
                await session.set_terminal_size(width, height)
            elif kind == "ping":
                await websocket.send_json(["pong", str(value)[:32]])
            elif kind in ("blur", "focus"):
                await (session.blur() if kind == "blur" else session.focus())
        except (ValueError, TypeError, KeyError):
            _log.warning("a page sent what no page of ours would; its console is closed")
            return


async def _focus(_request: web.Request) -> web.Response:
    return web.Response(text=_FOCUS, content_type="text/javascript")


def _sentence(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")


def _same(given: str, ours: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), ours.encode())


def _number(value: Any, default: int, *, least: int, most: int) -> int:
    try:
        return max(least, min(most, int(value)))
    except (TypeError, ValueError):
        return default


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
