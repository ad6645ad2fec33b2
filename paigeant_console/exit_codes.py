"""How a command ends, as a number that scripts can rely on."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the shell is told."""

    OK = 0
    """Done; an empty list too."""
    FAILED = 1
    """Some or all of it failed or was skipped."""
    USAGE = 2
    """The command line, the configuration or the input cannot be; an ambiguous prefix."""
    NOT_FOUND = 3
    """No such ID, or nothing matched."""
    UNREACHABLE = 4
    """No broker answers, or it answers with a failure."""
    REFUSED = 5
    """Read-only, over the limit, not confirmed, not allowed."""
    INTERRUPTED = 130
    """SIGINT: 128 and its number, as shells count."""
    BROKEN_PIPE = 141
    """Whoever read the output has gone; what a program that SIGPIPE ends is reported as."""
    TERMINATED = 143
    """SIGTERM."""


class Signalled(SystemExit):
    """A signal ends the process: its own class, to be told from a ``sys.exit()`` in somebody else's code.

    Attributes:
        last: the signal that came, whatever became of the exception; 0: none. Python swallows one that is raised while
            it collects garbage or tells a weak reference's owner, as it often does while modules are imported.
    """

    last: ClassVar[int] = 0


def exit_code(error: Exception) -> ExitCode:
    """The code that an error ends a command with.

    Args:
        error: What ended it.

    Returns:
        `FAILED` for what is not one of ours.
    """
    # Imported here: `--help` and a mistyped option need no library.
    from paigeant_core import errors

    codes: tuple[tuple[type[Exception], ExitCode], ...] = (
        # The most special first. A duplicate is no mistake in how the command was written: the same line works with
        # another ID, and a script that dispatches twice to be sure wants to tell the two apart.
        (errors.WorkflowNotFound, ExitCode.NOT_FOUND),
        (errors.AmbiguousID, ExitCode.USAGE),
        (errors.Refused, ExitCode.REFUSED),
        (errors.OperationError, ExitCode.FAILED),
        (errors.Unsupported, ExitCode.REFUSED),
        (errors.TransportError, ExitCode.UNREACHABLE),
        (errors.ConfigError, ExitCode.USAGE),
        (errors.InvalidMessage, ExitCode.USAGE),
        (errors.MessageTooLarge, ExitCode.USAGE),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), ExitCode.FAILED)
