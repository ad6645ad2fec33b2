"""Key, trust policy and tokens: the files that PAIGEANT_KEY, PAIGEANT_TRUST and PAIGEANT_TOKENS name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from paigeant_console.token_file import read_token_file, tokens_of_environment

if TYPE_CHECKING:
    from paigeant_core.secret import Secret
    from paigeant_core.security.keys import Signer, SigningKey
    from paigeant_core.security.trust import Trust

__all__ = [
    "dispatchers_key",
    "key_of_environment",
    "no_policy",
    "operators_signing",
    "read_token",
    "tokens_of_environment",
    "trust_of_environment",
]

AGENT: Final = "agent"
"""What PAIGEANT_KEY says where the key is in an ssh-agent."""

MAX_TOKEN_INPUT: Final = 64 * 1024
"""Characters that are read of standard input."""


def key_of_environment() -> SigningKey | None:
    """The key in the file that PAIGEANT_KEY names; None: nothing is to be signed.

    Raises:
        ConfigError: The file holds none, or others can read it.
    """
    path = os.environ.get("PAIGEANT_KEY", "")
    if not path:
        return None
    from paigeant_core.security.keys import SigningKey

    return SigningKey.load(path)


def trust_of_environment() -> Trust | None:
    """The policy in the file that PAIGEANT_TRUST names; None: nothing is to be verified.

    Raises:
        ConfigError: The file holds none, or others can change it.
    """
    path = os.environ.get("PAIGEANT_TRUST", "")
    if not path:
        return None
    from paigeant_core.security.trust import Trust

    return Trust.load(path)


def no_policy() -> str:
    """What helps where no policy is named, so that nobody verifies signatures; empty: one is."""
    return "" if os.environ.get("PAIGEANT_TRUST", "") else "set PAIGEANT_TRUST to a trust.toml"


def operators_signing() -> tuple[Signer | None, Trust | None]:
    """The key that operations are signed with, and the policy that they have to pass; each None: there is none.

    Where PAIGEANT_KEY names no file, it is the key in the ssh-agent that the policy knows as an operator's.

    Raises:
        ConfigError: One of the files cannot be used, or the agent holds keys of more than one operator.
    """
    trust = trust_of_environment()
    asked = os.environ.get("PAIGEANT_KEY", "")
    if asked not in ("", AGENT):
        return key_of_environment(), trust
    path = os.environ.get("SSH_AUTH_SOCK", "")
    key = None
    if trust is not None and path:
        from paigeant_core.errors import ConfigError
        from paigeant_core.security.ssh_agent import key_in_agent

        try:
            key = key_in_agent(path, trust, "operator")
        except ConfigError:
            if asked:
                raise
    if asked and key is None:
        from paigeant_core.errors import ConfigError

        raise ConfigError(
            "PAIGEANT_KEY=agent: it takes a policy in PAIGEANT_TRUST, and an ssh-agent in SSH_AUTH_SOCK that holds "
            "the Ed25519 key of one of its operators"
        )
    return key, trust


def dispatchers_key() -> SigningKey | None:
    """The key to start workflows with; where there is a policy, one that it lets do so.

    Raises:
        ConfigError: What it signs would be refused, or there is a policy and no key.
    """
    import time

    key, trust = key_of_environment(), trust_of_environment()
    if trust is not None:
        if key is None:
            from paigeant_core.errors import ConfigError

            raise ConfigError("PAIGEANT_TRUST asks for signatures, and there is no key: set PAIGEANT_KEY")
        trust.check_signer(key, "dispatcher", time.time())
    return key


def read_token(path: str | None) -> Secret | None:
    """The token in a file that only its owner can read, or, for `-`, on standard input; None: none was named.

    Raises:
        ConfigError: There is none, others can read it, or it is more than a line.
    """
    if path is None:
        return None
    import sys

    from paigeant_core.errors import ConfigError
    from paigeant_core.secret import Secret

    if path != "-":
        return read_token_file(
            path, "--token-file takes the name of a file, not the token: the process list shows what is typed"
        )
    text = sys.stdin.read(MAX_TOKEN_INPUT).strip() if sys.stdin is not None else ""
    if not text or not text.isascii() or not text.isprintable():
        raise ConfigError("--token-file -: standard input must hold a token, one line, and nothing else")
    return Secret(text)
