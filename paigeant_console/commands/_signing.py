"""The key and the trust policy that the environment names: PAIGEANT_KEY and PAIGEANT_TRUST, each a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paigeant_core.security.keys import SigningKey
    from paigeant_core.security.trust import Trust

__all__ = ["dispatchers_key", "key_of_environment", "operators_signing", "trust_of_environment"]


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


def operators_signing() -> tuple[SigningKey | None, Trust | None]:
    """The key that operations are signed with, and the policy that they have to pass; each None: there is none.

    Raises:
        ConfigError: One of the files cannot be used.
    """
    return key_of_environment(), trust_of_environment()


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
