"""`paigeant-console`: the console, and the same verbs as commands.

Typer reads the command line and makes a job of it; the job is done here, outside of Typer, so that every error ends in
one sentence on stderr and in an exit code of `ExitCode`, and no user sees a traceback. Neither Textual nor a driver is
imported before a command needs it, and nothing that takes time before `main` can catch a Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from paigeant_console import garbage
from paigeant_console.exit_codes import ExitCode, Signalled, exit_code

if TYPE_CHECKING:
    from paigeant_console.commands._call import Call

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what a command line says.

    Args:
        arguments: The command line without the program; by default this process's.

    Returns:
        The exit code, see `ExitCode`.
    """
    call: Call | None = None
    try:
        if arguments is None:
            # A process of its own.
            garbage.starting()
        from paigeant_console.commands.program import read

        with _ended_by_signals():
            job = read(arguments)
            if isinstance(job, int):
                code: int | None = job
            else:
                call = job.call
                if job.prints and sys.stdout is None:
                    # Found out at its first word, it would be broken off half-way.
                    from paigeant_core.errors import ConfigError

                    raise ConfigError(
                        "standard output is closed; give it a file, a pipe or /dev/null, then run it again"
                    )
                if arguments is None:
                    # A process of its own: what nobody awaited is no concern of whoever typed the command.
                    from paigeant_console.logs import quiet

                    quiet()
                code = job.do()
            if sys.stdout is not None:
                sys.stdout.flush()
            return int(code or ExitCode.OK)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else ExitCode.FAILED
    except BrokenPipeError:
        _drop_stdout()
        return ExitCode.BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the last one who can make a sentence of it
        return _explain(error, call)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGINT exits with 143 and 130 wherever no loop runs, instead of deaths by signal.

    A KeyboardInterrupt would not do: one that is raised in code given to `exec` as text, as that of dataclasses is
    while modules are imported, makes CPython end the process by the signal even when it was caught.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        Signalled.last = number
        raise Signalled(128 + number)

    Signalled.last = 0
    previous: dict[int, Any] = {}
    try:
        # SIGTERM last: whoever sees that it is handled knows that both are.
        for number in (signal.SIGINT, signal.SIGTERM):
            # What was ignored stays ignored: that is how nohup and background jobs work.
            if (before := signal.getsignal(number)) is not signal.SIG_IGN:
                with contextlib.suppress(ValueError):  # not the main thread
                    signal.signal(number, leave)
                    previous[number] = before
        yield
    finally:
        for changed, handler in previous.items():
            signal.signal(changed, handler)


def _explain(error: Exception, call: Call | None) -> int:
    from paigeant_console.commands.program import UsageError, sentence
    from paigeant_console.logs import debugging
    from paigeant_console.output import note

    if isinstance(error, UsageError):
        note(sentence(error))
        return ExitCode.USAGE
    from paigeant_core.errors import PaigeantError

    url = call.known_url if call is not None else os.environ.get("PAIGEANT_URL", "")
    if debugging():
        import traceback

        for line in "".join(traceback.format_exception(error)).splitlines():
            note(line, url=url)
    if isinstance(error, PaigeantError):
        note(f"{str(error) or type(error).__name__}{_hint(error)}", url=url)
        return exit_code(error)
    if getattr(error, "code", "") == "terminal_unsuitable":
        # Known by its code: its class would bring Textual with it.
        note(str(error))
        return ExitCode.USAGE
    if isinstance(error, OSError) and error.strerror:
        if sys.stdout is not None and error.filename is None:
            # Most likely of the data itself; what is left of it must not fail a second time at the end.
            _drop_stdout()
        where = f" ({error.filename})" if error.filename else ""
        note(f"{error.strerror}{where}", url=url)
        return ExitCode.FAILED
    # Of an error that nobody foresaw the class alone: its text may quote a payload.
    note(f"internal error: {type(error).__name__}; PAIGEANT_DEBUG=1 shows where, please report it", url=url)
    return ExitCode.FAILED


def _hint(error: Exception) -> str:
    """What to do about it, where the error itself is the library's and cannot know of flags."""
    from paigeant_core import errors

    hints: tuple[tuple[type[Exception], str], ...] = (
        (errors.WorkflowNotFound, "list shows what there is, --topic names another topic"),
        (errors.AmbiguousID, "write more of it"),
        (errors.AuthenticationError, "look at user and password in PAIGEANT_URL, --url or the context"),
        (errors.ConnectError, "is it up, and is PAIGEANT_URL, --url or the context right?"),
        (errors.MessageTooLarge, "keep what is large elsewhere, and its address in the payload"),
    )
    return next((f"; {hint}" for kind, hint in hints if isinstance(error, kind)), "")


def _drop_stdout() -> None:
    from paigeant_console.leaving import drop

    if not drop(sys.stdout):
        sys.stdout = None  # as in a process that was started without one
