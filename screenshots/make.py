"""Draw the pictures of README and docs from the real app, on a seeded story.

    make screenshots

The same SVGs each time: clock, IDs and sizes are fixed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tests.console.appkit import Console, console  # noqa: E402 - the checkout's own, wherever this is called from
from tests.console.story import sample_story  # noqa: E402

SIZE = (110, 30)


async def look(opened: Console, *keys: str) -> None:
    """Press ``keys`` and let the screen look once more."""
    for key in keys:
        await opened.press(key)
        await opened.again()


async def one_dead(opened: Console) -> None:
    """Open the workflow that is dead."""
    await look(opened, "4", "G", "enter")
    await opened.until(lambda: bool(opened.screen.page.names()), "the workflow")
    await opened.again()


async def stuck(opened: Console) -> None:
    """Open the workflow that nobody serves."""
    await look(opened, "/")
    await opened.type("stuck:no_worker")
    await opened.press("enter")
    await opened.until(lambda: opened.screen.table.cursor_key is not None, "the row")
    await look(opened, "enter")
    await opened.until(lambda: bool(opened.screen.page.names()), "the workflow")
    await opened.again()


async def confirming(opened: Console) -> None:
    """Ask for a retry of two, of which one has to be released instead, up to the question."""
    await look(opened, "4", "G", " ", "home", " ", "r")
    await opened.until(lambda: opened.screen.prompt.asking, "the prompt")
    await opened.type("the provider is back")
    await opened.press("enter")
    await opened.until(lambda: opened.screen.confirm_bar.waiting, "the question")


PICTURES: dict[str, Callable[[Console], Awaitable[None]]] = {
    "workflows": look,
    "workflow": one_dead,
    "stuck": stuck,
    "traffic": lambda opened: look(opened, "2"),
    "queues": lambda opened: look(opened, "3"),
    "confirm": confirming,
}


async def draw(name: str, steps: Callable[[Console], Awaitable[None]]) -> None:
    """Open the console, go to a view, and keep the picture."""
    with tempfile.TemporaryDirectory() as folder:
        async with console(sample_story(), Path(folder), size=SIZE) as opened:
            await steps(opened)
            svg = opened.app.export_screenshot(title="paigeant-console")
    (HERE / f"{name}.svg").write_text(svg, encoding="utf-8")
    print(f"screenshots/{name}.svg")


def main() -> None:
    """Draw all of them, in UTC."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    for name, steps in PICTURES.items():
        asyncio.run(draw(name, steps))


if __name__ == "__main__":
    main()
