"""A headless Chromium, driven by the DevTools protocol.

    async with Browser() as browser:
        page = await browser.open(url)
        await page.until(lambda: "workflows" in page.text, "the console")
        await page.press("j", "Enter")

What the page's terminal shows is on a canvas, so the text is taken from the WebSocket frames that the page receives, by
the same screen model that stands behind the pseudo terminals. `screenshot` shows the pixels.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable
from typing import Any, Final, Self

import aiohttp
import pyte

# Without the last ones Chromium looks for its maker's servers at every start.
FLAGS: Final = (
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
    "--window-size=900,600",
)
_LISTENING: Final = re.compile(rb"DevTools listening on (ws://\S+)")
PATIENCE: Final = 20.0
_KEYS: Final = {"Enter": ("Enter", 13, "\r"), "Escape": ("Escape", 27, ""), "Tab": ("Tab", 9, "")}


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)
        self.received = b""
        """What the page's terminal was sent."""
        self.requests: list[str] = []
        """Every address that the page asked for."""
        self.complaints: list[str] = []
        """What the browser said of it in its console: errors, and what the page's own policy stopped."""

    async def call(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol."""
        return await self._browser.call(method, self._session, **parameters)

    async def go(self, url: str) -> None:
        """Open an address in this tab."""
        await self.call("Page.navigate", url=url)

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page, or of the promise that it gives."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        return answer["result"].get("value")

    async def press(self, *keys: str) -> None:
        """Press keys: characters, or the names that browsers have for the others."""
        for key in keys:
            name, code, text = _KEYS.get(key, (key, 0, key))
            common = {"key": name, "windowsVirtualKeyCode": code}
            await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
            await self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    async def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait until something is so."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not true():  # noqa: ASYNC110 - any condition, of what other tasks write down
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{what} did not come; {self.complaints}; the screen:\n{self.text}") from None

    async def screenshot(self) -> bytes:
        """The page as a PNG."""
        answer = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])

    @property
    def text(self) -> str:
        """What its terminal shows."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def tell(self, method: str, said: dict[str, Any]) -> None:
        """Take an event of the protocol."""
        if method == "Network.webSocketFrameReceived" and said["response"]["opcode"] == 2:
            data = base64.b64decode(said["response"]["payloadData"])
            self.received += data
            self._stream.feed(re.sub(rb"\x1b\[[<=>][0-9;]*[a-zA-Z]", b"", data))
        elif method == "Network.webSocketFrameSent" and (size := _RESIZE.search(said["response"]["payloadData"])):
            self.screen.resize(lines=int(size["height"]), columns=int(size["width"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(said["url"])
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(said["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(said["exceptionDetails"]["exception"].get("description")))


_RESIZE: Final = re.compile(r'"resize",{"width":(?P<width>\d+),"height":(?P<height>\d+)}')


class Browser:
    """Chromium with a profile of its own, which is thrown away."""

    def __init__(self) -> None:
        self._serial = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._pages: dict[str, Page] = {}

    async def __aenter__(self) -> Self:
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        assert program, "Chromium is missing: scripts/servers.sh installs it, or says how"
        self._profile = tempfile.mkdtemp(prefix="paigeant-browser-")
        # As root there is no sandbox; the pages are our own.
        more = ("--no-sandbox",) if os.geteuid() == 0 else ()
        self._process = await asyncio.create_subprocess_exec(
            *(program, *FLAGS, *more, f"--user-data-dir={self._profile}", "about:blank"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        stderr = self._process.stderr
        assert stderr is not None
        async with asyncio.timeout(PATIENCE):
            while not (found := _LISTENING.search(line := await stderr.readline())):
                assert line, "Chromium did not start"
        self._draining = asyncio.create_task(stderr.read())
        self._client = aiohttp.ClientSession()
        self._socket = await self._client.ws_connect(found[1].decode(), max_msg_size=0)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await self._client.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._draining.cancel()
        await asyncio.gather(self._reading, self._draining, return_exceptions=True)
        shutil.rmtree(self._profile, ignore_errors=True)

    async def open(self, url: str) -> Page:
        """Open an address in a new tab."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"])
        for domain in ("Page", "Network", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        await page.go(url)
        return page

    async def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """One command of the protocol; raises where the browser says that it is none."""
        number = next(self._serial)
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json({**message, "sessionId": session} if session else message)
        async with asyncio.timeout(PATIENCE):
            return await future

    async def _read(self) -> None:
        async for message in self._socket:
            said = message.json()
            if future := self._answers.pop(said.get("id"), None):
                if "error" in said:
                    future.set_exception(RuntimeError(said["error"]["message"]))
                else:
                    future.set_result(said["result"])
            elif page := self._pages.get(said.get("sessionId", "")):
                page.tell(said["method"], said["params"])
