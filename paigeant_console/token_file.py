"""Tokens that are handed over in files: the new token of a user, and what seals tokens on their way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from paigeant_core.secret import Secret
    from paigeant_core.tokens import Tokens

__all__ = ["read_token_file", "tokens_of_environment"]

MAX_PATH: Final = 400
"""Characters of a path that nobody takes for a token."""


def read_token_file(path: str, mistaken: str) -> Secret:
    """The token in a file that only its owner can read.

    Args:
        path: of the file; ``~`` is the user's home.
        mistaken: what to say of a path that is the token itself, most likely.

    Raises:
        ConfigError: There is none, others can read it, it is more than a line, or the path is the token.
    """
    from pathlib import Path

    from paigeant_core.errors import ConfigError
    from paigeant_core.secret import redact
    from paigeant_core.tokens.tokens import read_secret

    if len(path) > MAX_PATH or redact(path) != path:
        raise ConfigError(mistaken)
    try:
        return read_secret(Path(path).expanduser())
    except RuntimeError:
        raise ConfigError(f"{ascii(path)[:200]}: ~ is no home directory; write the whole path") from None


def tokens_of_environment() -> Tokens | None:
    """What the tokens.toml that PAIGEANT_TOKENS names says; None: tokens ride in memory alone.

    Raises:
        ConfigError: It, or a file that it names, cannot be read, or is open to others.
    """
    path = os.environ.get("PAIGEANT_TOKENS", "")
    if not path:
        return None
    from paigeant_core.tokens import Tokens

    return Tokens.load(path)
