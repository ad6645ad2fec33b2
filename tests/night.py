"""An operator's night, played in tmux at 80x24 on a real broker: what goes wrong, and what the screen says of it.

    python -m tests.night redis --pictures DIR
    python -m tests.night rabbitmq --pictures DIR

A worker dies, the payment provider fails, an activity has nobody who serves it, one message cannot be read and another
kills whoever reads it, and in the end the provider is back and what died of it is retried in one stroke. Keys are
pressed as a person presses them; each chapter waits for what a person would have to see. With `--pictures` every screen
that it comes by is kept as a PNG (and as text), to be looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.servers import RabbitServer, RedisServer
from tests.story import ROOT, Commands
from tests.tmux import Tmux

ORDERS = ["validate-order-details", "process-payment", "notify-warehouse"]
SUPPORT = ["classify-ticket-priority", "research-customer-history", "generate-initial-response"]
UNREADABLE = b'{"order": oops \xff\xfe'


class Crew:
    """Workers that are started again when they die, as a service manager does it."""

    def __init__(self, commands: Commands, folder: Path) -> None:
        self._commands, self._folder = commands, folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._kept: set[str] = set()
        self._given: dict[str, tuple[str, ...]] = {}
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Crew:
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._keeper.join()
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def start(self, name: str, *activities: str, kept: bool = True) -> None:
        """Start a worker, and start it again whenever it dies if it is ``kept``."""
        named = [part for activity in activities for part in ("--activity", activity)]
        self._processes[name] = subprocess.Popen(
            [sys.executable, "-m", "paigeant_console", "worker", str(ROOT / "tests" / "night_handlers.py"), *named],
            cwd=ROOT,
            env=self._commands.environment | {"NIGHT": str(self._folder), "NIGHT_WORKER": name},
            stderr=subprocess.DEVNULL,
        )
        if kept:
            self._kept.add(name)
            self._given[name] = activities

    def kill(self, name: str) -> None:
        """As if its machine had gone."""
        self._kept.discard(name)
        self._processes[name].kill()
        self._processes[name].wait()

    def _keep(self) -> None:
        while not self._over.wait(0.2):
            for name in list(self._kept):
                if self._processes[name].poll() is not None:
                    self.start(name, *self._given[name])


class Night:
    """The story, chapter by chapter.

    Args:
        url: the broker's.
        topic: for this night alone.
        orders: how many fail with the provider.
        keep: takes the name of a chapter and its screen, with colours.
    """

    def __init__(
        self, url: str, topic: str, *, orders: int = 12, keep: Callable[[str, str], None] | None = None
    ) -> None:
        self._url, self._topic, self._orders = url, topic, orders
        self._keep = keep or (lambda name, screen: None)
        self._commands = Commands(url, topic)
        self._serial = 0

    def play(self) -> None:
        """All of it; raises AssertionError where the screen says something else than it should."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            environment = self._commands.environment | {"XDG_STATE_HOME": name, "PAIGEANT_OPERATOR": "ann"}
            console = Tmux([sys.executable, "-m", "paigeant_console"], environment, cwd=ROOT)
            with Crew(self._commands, folder) as crew, console as tmux:
                self._evening(tmux, crew)
                self._unserved(tmux)
                self._provider_fails(tmux, folder)
                self._worker_dies(tmux, crew, folder)
                self._poison(tmux, crew)
                self._unserved_after_a_while(tmux)
                self._provider_is_back(tmux, folder)
                self._morning(tmux)

    def _shown(self, tmux: Tmux, name: str) -> None:
        time.sleep(0.4)  # for what is painted with the next flush
        self._serial += 1
        self._keep(f"{self._serial:02}-{name}", tmux.screen(colours=True))

    def _dispatch(self, steps: list[str], own_id: str, name: str, **variables: Any) -> None:
        given = [part for key, value in variables.items() for part in ("--var", f"{key}={value}")]
        self._commands.run("dispatch", *steps, "--id", own_id, "--name", name, "--label", "shop=eu", *given)

    # -- chapters -----------------------------------------------------------------------

    def _evening(self, tmux: Tmux, crew: Crew) -> None:
        tmux.until("no workflows yet in topic")
        self._shown(tmux, "nothing-yet")
        crew.start("w1", *ORDERS, *SUPPORT)
        for number in range(3):
            self._dispatch(ORDERS, f"order-{number:04}", "order", amount_eur=40 + number)
        tmux.until(lambda screen: screen.count("completed") >= 3)
        self._shown(tmux, "evening")

    def _unserved(self, tmux: Tmux) -> None:
        self._dispatch(["validate-order-details", "send-gift-card"], "gift-0001", "gift", amount_eur=25)
        tmux.until("send-gift-card")

    def _provider_fails(self, tmux: Tmux, folder: Path) -> None:
        (folder / "down").touch()
        for number in range(self._orders):
            self._dispatch(ORDERS, f"order-1{number:03}", "order", amount_eur=100 + number)
        tmux.until(f"✗ {self._orders} ")
        tmux.press("g")
        self._shown(tmux, "provider-fails")
        tmux.press("4")
        # One cause is one line, however many died of it, and its status is no number among others.
        tmux.until(f"{self._orders} workflows  ConnectionError: payment provider answered 503")
        self._shown(tmux, "one-cause")
        tmux.press("Enter", "j")
        tmux.until(lambda screen: screen.count("process-payment") > 1)
        tmux.press("Enter")
        tmux.until("attempts exhausted")
        self._shown(tmux, "one-of-them")
        tmux.press("q", "g", "Enter", "1")  # the group is closed again

    def _worker_dies(self, tmux: Tmux, crew: Crew, folder: Path) -> None:
        crew.start("w2", *SUPPORT, kept=False)
        tmux.press("3")
        tmux.until("w2-")
        tmux.press("1")
        crew.kill("w1")  # it is not to take the step
        self._dispatch(SUPPORT, "ticket-0001", "support", ticket="I-cannot-sign-in")
        tmux.until("research-customer")
        tmux.press("3")
        tmux.until(lambda screen: "ticket" in screen or "research" in screen)
        self._shown(tmux, "workers")
        tmux.press("1")
        tmux.type(":open ticket-0001")
        tmux.press("Enter")
        tmux.until("running")
        self._shown(tmux, "before-it-dies")
        crew.kill("w2")
        tmux.until(lambda screen: "w2" in screen and "renew" in screen)
        self._shown(tmux, "its-worker-died")
        crew.start("w1", *ORDERS, *SUPPORT)
        tmux.until(lambda screen: "running taken over" in screen)
        (folder / "gate").touch()
        tmux.until("completed")
        self._shown(tmux, "taken-over")
        tmux.press("q")

    def _poison(self, tmux: Tmux, crew: Crew) -> None:
        crew.start("reader", "read-attachment")
        self._dispatch(["read-attachment", "classify-ticket-priority"], "mail-0001", "mail", file="invoice.pdf")
        asyncio.run(unreadable(self._url, self._topic, "validate-order-details"))
        tmux.press("4")
        tmux.until("quarantined")
        tmux.until("its workers died", 60)
        self._shown(tmux, "poison")
        tmux.type(":open mail-0001")
        tmux.press("Enter")
        tmux.until(lambda screen: "mail-0001" in screen and "workers" in screen)
        self._shown(tmux, "five-workers-died")
        tmux.press("q", "1")

    def _unserved_after_a_while(self, tmux: Tmux) -> None:
        tmux.press("1")
        tmux.press("/")
        tmux.type("stuck:no_worker")
        tmux.press("Enter")
        tmux.until(lambda screen: "1 of " in screen and "no worker serves" in screen)
        self._shown(tmux, "filtered")
        tmux.press("Enter")
        tmux.until("no worker serves send-gift-card")
        self._shown(tmux, "why-is-it-stuck")
        tmux.press("h")
        tmux.until("because")
        tmux.type("the new worker is rolled out tomorrow")
        tmux.press("Enter")
        tmux.until("same as")
        self._shown(tmux, "hold")
        tmux.press("y")
        tmux.until("held")
        tmux.press("q", "Escape", "Escape")
        tmux.until(lambda screen: "FILTER" not in screen)

    def _provider_is_back(self, tmux: Tmux, folder: Path) -> None:
        (folder / "down").unlink()
        tmux.press("4")
        tmux.press("/")
        tmux.type("error:503")
        tmux.press("Enter")
        tmux.until(lambda screen: "FILTER" in screen and "payment provider" in screen)
        tmux.press("g", "r")
        tmux.until("because")
        tmux.type("the provider is back")
        tmux.press("Enter")
        screen = tmux.until("same as")
        assert f"{self._orders}" in screen
        self._shown(tmux, "bulk-retry")
        # So many are confirmed by their number, not by a key that a tired hand finds by itself.
        assert f"type {self._orders} to do it" in screen
        tmux.type(str(self._orders))
        tmux.press("Enter")
        tmux.until(f"{self._orders} done")
        self._shown(tmux, "bulk-retry-done")
        tmux.press("Escape", "1")
        tmux.press("g")

    def _morning(self, tmux: Tmux) -> None:
        self._completed(4 + self._orders)
        tmux.until(f"✓ {4 + self._orders}")
        self._shown(tmux, "morning")
        tmux.press("5")
        tmux.until(lambda screen: "the provider is back" in screen and "ann" in screen)
        self._shown(tmux, "audit")
        tmux.press("2")
        tmux.until("finished")
        self._shown(tmux, "traffic")

    def _completed(self, number: int) -> None:
        until = time.monotonic() + 60
        while len(self._commands.run("list", "state:completed", "--limit", "1000")) < number:
            assert time.monotonic() < until, "not all were completed"
            time.sleep(0.2)


async def unreadable(url: str, topic: str, activity: str) -> None:
    """Put what is no message into an activity's queue, past the library."""
    if url.startswith("redis"):
        import redis.asyncio

        from paigeant_core.transports.redis.keys import Keys

        client: Any = redis.asyncio.Redis.from_url(url)
        await client.xadd(Keys(topic).work(activity), {"m": UNREADABLE})
        await client.aclose()
        return
    import aio_pika

    line = await aio_pika.connect(url)
    async with line, line.channel() as channel:
        message = aio_pika.Message(UNREADABLE, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key=f"paigeant.{topic}.work.{activity}")


# -- pictures ------------------------------------------------------------------------------------------


async def draw(screens: dict[str, str], folder: Path) -> None:
    """Each screen as a PNG and as text."""
    from tests.console.browser import Browser

    async with Browser() as browser:
        page = await browser.open("about:blank")
        for name, screen in screens.items():
            frame = await page.call("Page.getFrameTree")
            own = frame["frameTree"]["frame"]["id"]
            await page.call("Page.setDocumentContent", frameId=own, html=as_html(screen))
            picture = await page.screenshot()
            (folder / f"{name}.png").write_bytes(picture)
            (folder / f"{name}.txt").write_text(screen, encoding="utf-8")
            print(folder / f"{name}.png")


def as_html(screen: str) -> str:
    """A screen with its colours, as a page."""
    import io

    from rich.ansi import AnsiDecoder
    from rich.console import Console
    from rich.terminal_theme import MONOKAI

    console = Console(record=True, width=80, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    # One decoder for all lines: tmux does not say again what a line goes on with.
    for line in AnsiDecoder().decode(screen):
        console.print(line, soft_wrap=True)
    style = (
        "<style>body{margin:12px;background:#0c0c0c}pre{font:16px/20px 'DejaVu Sans Mono',monospace !important}</style>"
    )
    return style + console.export_html(theme=MONOKAI, inline_styles=True)


def main() -> None:
    """Play a night on one broker."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("broker", choices=["redis", "rabbitmq"])
    parser.add_argument("--orders", type=int, default=12)
    parser.add_argument("--pictures", type=Path, metavar="DIR")
    options = parser.parse_args()
    screens: dict[str, str] = {}
    begun = time.monotonic()
    try:
        with RedisServer() if options.broker == "redis" else RabbitServer() as server:
            Night(server.url, "night", orders=options.orders, keep=screens.__setitem__).play()
        print(f"{options.broker}: a night in {time.monotonic() - begun:.0f} s, {len(screens)} screens")
    finally:
        if options.pictures is not None:
            options.pictures.mkdir(parents=True, exist_ok=True)
            asyncio.run(draw(screens, options.pictures))


if __name__ == "__main__":
    main()
