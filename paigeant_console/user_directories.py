"""Where this user's files are, as platformdirs says; a user may have no home, as in many a container."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

__all__ = ["NoHome", "user_directory"]

_PROGRAM: Final = "paigeant-console"


class NoHome(OSError):
    """This user has no home directory, and no XDG variable names another one."""

    def __init__(self) -> None:
        super().__init__(errno.ENOENT, "there is no home directory; set HOME to one")


def user_directory(kind: Literal["config", "state", "log"]) -> Path:
    """Where files of one kind are, or would be: nothing is made.

    Args:
        kind: Of what.

    Raises:
        NoHome: There is no such place.
    """
    import platformdirs

    finders: dict[str, Callable[..., Path]] = {
        "config": platformdirs.user_config_path,
        "state": platformdirs.user_state_path,
        "log": platformdirs.user_log_path,
    }
    try:
        return finders[kind](_PROGRAM, appauthor=False)
    except RuntimeError:
        raise NoHome from None
