"""The console's app on a story, driven by keys; nothing here depends on how fast anything is."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from textual import events
from textual.pilot import Pilot

from paigeant_console.app import ConsoleApp
from paigeant_console.config import Look
from paigeant_console.contexts import NO_CONTEXTS, Contexts
from paigeant_console.feed import Feed, Phase
from paigeant_console.feed.ended import MOST_ENDED
from paigeant_console.model.confirmation import Target
from paigeant_console.screens.base import ConsoleScreen
from paigeant_core.security.keys import SigningKey
from paigeant_core.security.trust import Trust
from tests.console.story import Story

PATIENCE = 30.0
"""Seconds after which a test fails that waits for what does not come."""

NAMES = {
    " ": "space",
    "\n": "enter",
    ":": "colon",
    "/": "slash",
    "?": "question_mark",
    ".": "full_stop",
    "-": "minus",
    ">": "greater_than_sign",
    "<": "less_than_sign",
    "@": "at",
    "!": "exclamation_mark",
    "*": "asterisk",
    "%": "percent_sign",
    "=": "equals_sign",
    '"': "quotation_mark",
    "{": "left_curly_bracket",
    "}": "right_curly_bracket",
    ",": "comma",
    "[": "left_square_bracket",
    "]": "right_square_bracket",
}


class Console:
    """A running app, and what a test does with it."""

    def __init__(self, app: ConsoleApp, pilot: Pilot[Any], story: Story | None = None) -> None:
        self.app = app
        self.pilot = pilot
        self._story = story

    @property
    def story(self) -> Story:
        assert self._story is not None, "this console is on no story"
        return self._story

    @property
    def screen(self) -> Any:
        assert isinstance(self.app.screen, ConsoleScreen)
        return self.app.screen

    async def until(self, ready: Callable[[], Any], what: str = "") -> Any:
        """Wait until something is so, whatever time it takes."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not (result := ready()):
                    self.app.flush()
                    await self.pilot.pause()
                    await asyncio.sleep(0.002)
                return result
        except TimeoutError:
            raise AssertionError(f"never: {what or ready}; the screen:\n{self.text()}") from None

    async def settled(self) -> None:
        """Wait until the screen shows all that the journal says."""
        feed = self.app.feed
        await self.until(
            lambda: feed.status().phase is Phase.LIVE and feed.serial == self.story.records() and feed.fold.observed,
            "live and caught up",
        )
        await self.again()

    async def again(self) -> None:
        """Let the screen look once more, and what it asked for come back."""
        for _ in range(3):
            self.screen.again()
            await self.pilot.pause()
        await self.until(lambda: not getattr(self.screen, "_fetching", False), "the history")
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(NAMES.get(key, key))
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        """Type into a prompt or an editor; quicker than `press`, which waits for the screen after each key."""
        for character in text:
            name = NAMES.get(character, f"upper_{character.lower()}" if character.isupper() else character)
            self.app.post_message(events.Key(name, character))
        await self.pilot.pause()
        await self.pilot.pause()

    def lines(self) -> list[str]:
        """The screen as a person reads it."""
        screen = self.app.screen
        return [
            "".join(segment.text for segment in strip).rstrip()
            for strip in screen._compositor.render_strips(screen.size)
        ]

    def text(self) -> str:
        return "\n".join(self.lines())

    async def shows(self, text: str) -> None:
        await self.until(lambda: text in self.text(), repr(text))


@contextlib.asynccontextmanager
async def console(
    story: Story,
    tmp_path: Path,
    *,
    size: tuple[int, int] = (100, 30),
    read_only: bool = False,
    production: bool = False,
    context: str = "",
    url: str = "memory://story",
    given: bool = False,
    ascii_only: bool = False,
    look: Look | None = None,
    contexts: Contexts = NO_CONTEXTS,
    settle: bool = True,
    trust: Trust | None = None,
    signer: SigningKey | None = None,
    most_ended: int = MOST_ENDED,
) -> AsyncIterator[Console]:
    """Open the console on a story."""
    feed = Feed(
        "memory://story",
        story.topic,
        read_only=read_only,
        signer=signer,
        trust=trust,
        connect=story.transport,
        most_ended=most_ended,
    )
    app = ConsoleApp(
        feed,
        target=Target(url, story.topic, context, production, given),
        ascii_only=ascii_only,
        look=look or Look(),
        contexts=contexts,
        log_directory=tmp_path / "log",
        state_directory=tmp_path / "state",
    )
    try:
        async with app.run_test(size=size) as pilot:
            opened = Console(app, pilot, story)
            await opened.until(lambda: isinstance(app.screen, ConsoleScreen) and app.screen.built, "the first screen")
            if settle:
                await opened.settled()
            yield opened
    finally:
        feed.stop()


def writes(opened: Console) -> list[str]:
    """Listen to what is written to the terminal beside the screen: what is copied."""
    written: list[str] = []
    driver: Any = opened.app._driver
    driver.write = written.append
    return written


def copied(written: list[str]) -> str:
    """What was copied last of what was written."""
    found = re.search(r"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07", "".join(written))
    assert found is not None, written
    return base64.b64decode(found[1]).decode()


async def ask_for(opened: Console, key: str, reason: str) -> None:
    """Press the key of an act, give the reason, and wait for the question."""
    await opened.press(key)
    await opened.until(lambda: opened.screen.prompt.asking, "the reason")
    await opened.type(reason)
    await opened.press("enter")
    await opened.until(lambda: opened.screen.confirm_bar.confirmation is not None, "the confirmation")
    await opened.pilot.pause()
