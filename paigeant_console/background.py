"""Workers beside the console: a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

logger = logging.getLogger("paigeant")

STOP_PATIENCE = 5.0
"""Seconds that leaving waits for the thread; it is a daemon, so it cannot hold the process."""


class Background:
    """Runs ``main`` in a thread while the ``with`` block runs; then cancels it.

    Args:
        main: a coroutine function; it is cancelled at the end and may clean up.
        name: of the thread.
    """

    def __init__(self, main: Callable[[], Awaitable[None]], *, name: str) -> None:
        self._main = main
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.error: Exception | None = None
        """What ended ``main`` early, if anything did."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._loop is not None and self._task is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(STOP_PATIENCE)

    def _run(self) -> None:
        asyncio.run(self._keep())

    async def _keep(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._ready.set()
        try:
            await self._main()
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001 - it is told to whoever opened the console, not raised in a thread
            self.error = error
            logger.error("%s stopped: %s: %s", self._thread.name, type(error).__name__, error)
