"""A store beside the broker for tokens: a message then carries a handle that is worth nothing by itself."""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

from paigeant_core.delegation import MAX_TOKEN
from paigeant_core.errors import ConfigError
from paigeant_core.limits import PARKED_AGE
from paigeant_core.secret import Secret
from paigeant_core.security.keys import read_guarded, write_private

_HANDLE: Final = re.compile(r"[0-9a-f]{32}\Z")


class Vault(Protocol):
    """Where tokens are kept. Called from threads, so it may take its time.

    One that holds a refresh token, or what else renews an access token, gives a fresh one
    to whoever fetches: the handle stays.
    """

    def store(self, workflow: str, token: Secret) -> str:
        """Keep ``token`` for ``workflow``; return a handle for it.

        Raises:
            OSError: it cannot be kept now.
        """

    def fetch(self, workflow: str, handle: str) -> Secret | None:
        """The token that ``handle`` stands for; None: there is none for ``workflow``.

        Raises:
            OSError: it cannot be told now.
        """


class FileVault:
    """A vault of files in a directory that only its owner can read; for one machine, or a shared file system.

    A token is a file of its own, for as long as parked workflows are kept (90 days).

    Args:
        directory: where; made if it is not there.

    Raises:
        ConfigError: others can read or write it, or it cannot be made.
    """

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self._directory.stat()
        except OSError as error:
            raise ConfigError(f"{directory}: no vault can be there: {error.strerror}") from None
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ConfigError(f"{directory}: a vault is a directory of one's own that others cannot read; chmod 700 it")

    def __repr__(self) -> str:
        return f"<FileVault {self._directory}>"

    def store(self, workflow: str, token: Secret) -> str:
        """See :class:`Vault`."""
        self._forget_old()
        handle = uuid4().hex
        try:
            write_private(self._directory / handle, json.dumps({"wf": workflow, "tok": token.reveal()}))
        except ConfigError as error:
            raise OSError(str(error)) from None
        return handle

    def fetch(self, workflow: str, handle: str) -> Secret | None:
        """See :class:`Vault`."""
        # The handle came from a message: nothing but one of ours is a name of a file here.
        if not _HANDLE.match(handle) or not (path := self._directory / handle).exists():
            return None
        try:
            document = json.loads(read_guarded(path, most=4 * MAX_TOKEN, private=True))
            token = document["tok"] if document["wf"] == workflow else None
        except (ConfigError, ValueError, TypeError, KeyError) as error:
            raise OSError(f"the vault's file of {workflow} cannot be read: {type(error).__name__}") from None
        return Secret(token) if isinstance(token, str) else None

    def _forget_old(self) -> None:
        too_old = time.time() - PARKED_AGE
        for path in self._directory.iterdir():
            with suppress(OSError):
                if _HANDLE.match(path.name) and path.stat().st_mtime < too_old:
                    path.unlink()
