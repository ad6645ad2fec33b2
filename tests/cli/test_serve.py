"""`serve`: who gets in, what a real browser shows, and what is left when it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from paigeant_console.commands.serve import _environment as console_environment
from paigeant_console.config import Flags, load
from paigeant_console.web import ConsoleServer
from paigeant_core import WorkflowDispatcher, get_transport
from tests.cli.conftest import Cli
from tests.console.browser import Browser, Page
from tests.console.corpus import hostile_cases, leaks

pytestmark = [pytest.mark.redis, pytest.mark.timeout(240)]

PNG = b"\x89PNG\r\n\x1a\n"
Start = Callable[..., subprocess.Popen[str]]


class Served:
    """A server that has said where it is."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.ready = json.loads(process.stdout.readline())
        self.url: str = self.ready["url"]
        self.base, _, query = self.url.partition("/?")
        self.token = parse_qs(query)["token"][0]

    def consoles(self) -> list[int]:
        """The processes that it has started."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]


@pytest.fixture
def served(start: Start, redis_url: str, topic: str) -> Served:
    return Served(start("serve", "--port", "0", "--json", env={"PAIGEANT_URL": redis_url, "PAIGEANT_TOPIC": topic}))


async def eventually(true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until, what
        await asyncio.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode()


# -- who gets in ---------------------------------------------------------------------------------------


async def test_only_the_printed_address_lets_in(served: Served) -> None:
    host = urlsplit(served.base).netloc
    origin = {"Origin": served.base}
    elsewhere = {"Origin": "https://evil.example"}
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:

        async def status(path: str, **headers: str) -> int:
            async with client.get(served.base + path, headers=headers, allow_redirects=False) as answer:
                text = await answer.text()
                assert "Traceback" not in text
                assert served.token not in text
                return answer.status

        websocket = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        websocket["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
        before = {
            **{path: await status(path) for path in ("/", "/ws", "/static/js/textual.js", "/focus.js", "/nothing")},
            "/?token=": await status("/?token="),
            "/?token=é": await status("/?token=%C3%A9"),
            "close": await status(f"/?token={served.token[:-1]}"),
            "websocket": await status("/ws", **websocket, **origin),
            "rebound": await status(f"/?token={served.token}", Host="evil.example"),
            "rebound, our port": await status(f"/?token={served.token}", Host=f"evil.example:{host.split(':')[1]}"),
            "from elsewhere": await status(f"/?token={served.token}", **elsewhere),
        }
        assert before == {name: 421 if name.startswith("rebound") else 403 for name in before}
        assert served.consoles() == []

        async with client.get(served.url) as answer:
            assert answer.status == 200
            (cookie,) = answer.headers.getall("Set-Cookie")
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert served.token not in cookie
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert await status("/") == 200
        assert await status("/static/js/textual.js") == 200
        assert await status("/static/../web.py") == 404
        assert await status("/", Host="localhost:" + host.split(":")[1]) == 200
        # The cookie alone is not enough: a browser would send it along for any page of this machine.
        assert await status("/ws", **websocket) == 403
        assert await status("/ws", **websocket, **elsewhere) == 403
        assert await status("/ws", **websocket, Origin=served.base.rpartition(":")[0] + ":1") == 403
        assert await status("/ws", **websocket, **origin, Host="evil.example") == 421
        assert served.consoles() == []
        async with client.ws_connect(f"{served.base}/ws?width=x&height=99999999", headers=origin) as socket_:
            await eventually(lambda: len(served.consoles()) == 1, "a console")
            await socket_.send_str("this is no message of the page")
            await asyncio.wait_for(socket_.receive(), 20)
            await eventually(lambda: served.consoles() == [], "the end of the console that was sent nonsense")


@pytest.mark.parametrize(
    "others",
    ["a[b]=1", "name=two words", "{bad}=1", "a@b=1", 'prefs={"theme":"dark"}', 'open="never closed', "é=ü", "=", "a;;"],
)
async def test_the_cookies_of_other_servers_of_this_address_keep_nobody_out(others: str) -> None:
    server = ConsoleServer([], {}, host="127.0.0.1", port=0)
    await server.start()
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
            async with client.get(server.url) as answer:
                own = answer.headers["Set-Cookie"].partition(";")[0]
            for cookies, status in ((f"{others}; {own}", 200), (f"{own}; {others}", 200), (others, 403)):
                async with client.get(server.base_url, headers={"Cookie": cookies}) as answer:
                    assert answer.status == status, cookies
    finally:
        await server.stop()


@pytest.mark.parametrize("public", [[], ["--public-url", "http://console.example"]])
def test_an_address_that_others_reach_is_refused_without_tls_before_it(cli: Cli, public: list[str]) -> None:
    options = ["--host", "192.0.2.1", *public, "--url", "redis://127.0.0.1:1"]
    cli("serve", *options).ended(2).said("the token would travel unencrypted")


def test_a_public_url_that_cannot_be_read_is_a_sentence(cli: Cli) -> None:
    cli("serve", "--public-url", "http://[", "--url", "memory://").ended(2).said(
        "--public-url 'http://['", "write scheme and name"
    )


@pytest.mark.parametrize(
    ("host", "public"), [("192.0.2.1", "https://console.example"), ("127.0.0.1", "http://console.example")]
)
def test_a_proxy_with_tls_or_on_this_machine_is_let_be(cli: Cli, host: str, public: str) -> None:
    # What it ends by is said after the address was looked at.
    refused = cli("serve", "--host", host, "--public-url", public, "--url", "memory://").ended(2)
    refused.said("serve needs a broker that other processes reach")


def test_a_taken_port_is_a_sentence(cli: Cli, redis_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        cli("serve", "--port", port, "--url", redis_url).ended(2).said(f"port {port} is taken; --port 0 takes any")


def test_without_the_extra_it_says_what_to_install(environment: dict[str, str]) -> None:
    code = (
        "import sys\n"
        "sys.modules['textual_serve'] = None\n"
        "from paigeant_console.cli import main\n"
        "sys.exit(main(['serve', '--url', 'redis://127.0.0.1:1']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=40)
    assert (done.returncode, done.stdout) == (2, "")
    assert 'pip install "paigeant-console[web]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_console_has_the_servers_settings_and_no_brake_is_lifted(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        'context = "mine"\n[contexts.mine]\nurl = "redis://mine"\nread_only = false\n'
        '[contexts.prod]\nurl = "redis://prod"\nread_only = true\n'
    )
    for flags in (Flags(), Flags(read_only=True), Flags(context="prod"), Flags(url="redis://else", topic="t")):
        outside = {"PAIGEANT_CONFIG": str(file)}
        settings = load(flags, outside)
        inside = outside | console_environment(settings)
        again = load(Flags(), inside)
        for name in ("url", "topic", "context", "read_only", "production"):
            assert getattr(again, name) == getattr(settings, name), name
        assert load(Flags(context="prod"), inside).read_only, "as where `:context prod` is typed in it"


# -- in a browser --------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_the_console_in_a_browser(served: Served, redis_url: str, topic: str) -> None:
    cases = hostile_cases()
    async with get_transport(redis_url) as transport:
        dispatcher = WorkflowDispatcher(transport)
        for number, case in enumerate(cases):
            said = case.text.encode("utf-8", "ignore").decode()[:200]
            await dispatcher.dispatch_workflow(
                ["validate", "charge"],
                {"text": said},
                topic=topic,
                correlation_id=f"hostile-{number:02}",
                name=said,
                labels={"said": said},
            )
    async with Browser() as browser:
        page = await browser.open(served.url)
        await page.until(lambda: "validate" in page.text and "queued" in page.text, "the workflows")
        # The token is out of the address bar and of the history, and the page asked nobody else for anything.
        assert await page.evaluate("location.href") == f"{served.base}/"
        assert {urlsplit(url).netloc for url in page.requests if not url.startswith("data:")} == {
            urlsplit(served.base).netloc
        }
        # Chromium says how it draws without a graphics card; that is all.
        assert [line for line in page.complaints if "WebGL" not in line] == []

        await page.press("?")
        await page.until(lambda: "Keys of workflows" in page.text, "help")
        await page.press("q", "/", *"hostile-07", "Enter")
        await page.until(lambda: "FILTER" in page.text, "the filter")
        await page.press("Enter")
        await page.until(lambda: "hops" in page.text and "payload" in page.text, "the workflow")
        await page.press("h")
        await page.until(lambda: "because:" in page.text, "the question why")
        await page.press(*"from a browser", "Enter")
        await page.until(lambda: "same as" in page.text, "the question whether")
        await page.press("y")
        await page.until(lambda: "held" in page.text, "the hold")
        assert leaks(page.received, cases) == []
        assert (await page.screenshot()).startswith(PNG)
        await told(page, served)


async def told(page: Page, served: Served) -> None:
    """The console ends with its page, and the page says when its console has ended."""
    assert len(served.consoles()) == 1
    await page.press("q", "q", "q")
    await page.press(":", *"quit", "Enter")
    await eventually(lambda: served.consoles() == [], "the end of a console that was left")
    assert "this console has ended; open a new one" in await page.evaluate("document.body.innerText")
    await page.go(f"{served.base}/")
    await eventually(lambda: len(served.consoles()) == 1, "a new console, by the cookie alone")
    await page.go("about:blank")
    await eventually(lambda: served.consoles() == [], "the end of a console whose page was closed")


# -- how it ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
async def test_no_console_outlives_its_server(
    start: Start, redis_url: str, topic: str, number: signal.Signals, code: int
) -> None:
    secret = redis_url.replace("redis://", "redis://:hunter2@")
    served = Served(start("serve", "--port", "0", "--json", env={"PAIGEANT_URL": secret, "PAIGEANT_TOPIC": topic}))
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        async with client.get(served.url):
            pass
        async with client.ws_connect(f"{served.base}/ws?width=80&height=24", headers={"Origin": served.base}) as page:
            assert (await asyncio.wait_for(page.receive(), 30)).type is aiohttp.WSMsgType.BINARY
            (console,) = served.consoles()
            assert "hunter2" not in command_line(console)
            os.kill(served.process.pid, number)
            assert await asyncio.to_thread(served.process.wait, 30) == code
            await eventually(lambda: not alive(console), "the end of the console")
    assert served.process.stderr is not None
    assert "Traceback" not in served.process.stderr.read()
