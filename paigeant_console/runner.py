"""Running one coroutine as a command: signals end it in order, and a second one at once; or that nobody reads it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from paigeant_console.exit_codes import Signalled

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run(
    main: Coroutine[Any, Any, int], *, on_signal: Callable[[], bool] | None = None, while_read: bool = False
) -> int:
    """Run a command's coroutine to its end.

    Args:
        main: The command; its result is the exit code.
        on_signal: Called at the first signal; True: the command ends by itself, so nothing is cancelled.
        while_read: The command may write nothing for hours, and is for nothing but what it writes: it ends with the
            reader of a pipe.

    Returns:
        The exit code; 128 and its number after a signal that cancelled the command.

    Raises:
        BrokenPipeError: Nobody reads what the command would write.
    """
    caught = 0
    unread = False

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(main)

        def receive(number: int) -> None:
            nonlocal caught
            if caught:
                with contextlib.suppress(Exception):
                    sys.stdout.flush()
                # Somebody asked twice: whatever still hangs is not waited for.
                os._exit(128 + number)
            caught = number
            if on_signal is None or not on_signal():
                task.cancel()

        def leave() -> None:
            nonlocal unread
            unread = True
            task.cancel()

        with _handlers(loop, receive), _watching(loop, leave) if while_read else contextlib.nullcontext():
            if Signalled.last:
                receive(Signalled.last)
            try:
                return loop.run_until_complete(task)
            except asyncio.CancelledError:
                if caught:
                    return 128 + caught
                if unread:
                    raise BrokenPipeError from None
                raise


def _watching(loop: asyncio.AbstractEventLoop, leave: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
    from paigeant_console.leaving import watching_for_its_reader

    def gone() -> None:
        loop.call_soon_threadsafe(leave)

    return watching_for_its_reader(sys.stdout, gone)


@contextlib.contextmanager
def _handlers(loop: asyncio.AbstractEventLoop, receive: Callable[[int], None]) -> Iterator[None]:
    previous: dict[int, Any] = {}
    for number in SIGNALS:
        # What was ignored stays ignored: that is how nohup and background jobs work.
        if (before := signal.getsignal(number)) is signal.SIG_IGN:
            continue
        # Only the main thread may; a test that runs a command in another one has no signals.
        with contextlib.suppress(ValueError, RuntimeError):
            loop.add_signal_handler(number, receive, number)
            previous[number] = before
    try:
        yield
    finally:
        for changed, handler in previous.items():
            loop.remove_signal_handler(changed)
            # The loop puts the default back, which is not always what was there.
            signal.signal(changed, handler)
