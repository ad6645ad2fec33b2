"""What dispatcher, worker and operator do with tokens: let them ride sealed, open them, exchange them."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from paigeant_core.delegation import Delegation, delegation_of, token_digest
from paigeant_core.errors import ConfigError, TokenExpired
from paigeant_core.message import PaigeantMessage
from paigeant_core.secret import Secret
from paigeant_core.security.keys import read_guarded
from paigeant_core.security.refusal import Code, VerificationError
from paigeant_core.tokens.exchange import AuthorizationServerDown, TokenExchange
from paigeant_core.tokens.topic_key import TopicKey, kid_of
from paigeant_core.tokens.vault import FileVault, Vault

MAX_FILE: Final = 64 * 1024
"""Bytes of a tokens.toml, and of a file with a secret that it names."""

_FIELDS: Final[Mapping[str, type]] = {"keys": list, "vault": str, "exchange": dict}
_EXCHANGE: Final[Mapping[str, type | tuple[type, ...]]] = {
    "endpoint": str,
    "client_id": str,
    "client_secret_file": str,
    "actor_token_file": str,
    "audience": str,
    "resource": str,
    "timeout": (int, float),
}


class Tokens:
    """How the tokens of a topic ride, and what becomes of them before a step.

    Args:
        keys: topic keys: tokens are encrypted for the first, and opened by whichever fits.
        vault: where tokens are kept instead; messages carry handles.
        exchange: gives each step a token of its own; None: a step gets the workflow's.

    Raises:
        ConfigError: neither keys nor a vault.
    """

    def __init__(
        self, keys: Sequence[TopicKey] = (), *, vault: Vault | None = None, exchange: TokenExchange | None = None
    ) -> None:
        if not keys and vault is None:
            raise ConfigError("tokens need a topic key that they are encrypted for, or a vault that keeps them")
        self._keys = {key.kid: key for key in keys}
        self._first = keys[0] if keys else None
        self._vault = vault
        self.exchange = exchange

    def __repr__(self) -> str:
        return f"<Tokens keys={list(self._keys)} vault={self._vault!r} exchange={self.exchange!r}>"

    @classmethod
    def load(cls, path: str | Path) -> Tokens:
        """What a tokens.toml says; files that it names lie beside it.

        Raises:
            ConfigError: it, or a file that it names, cannot be read, is open to others, or says what cannot be.
        """
        path = Path(path)
        data = read_guarded(path, most=MAX_FILE, private=False)
        try:
            document = tomllib.loads(data.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{path}: this is no TOML: {error}") from None
        _check(document, _FIELDS, path, "")
        names = document.get("keys", [])
        if not all(isinstance(name, str) for name in names):
            raise ConfigError(f"{path}: keys must be names of files with topic keys")
        keys = [TopicKey.load(path.parent / name) for name in names]
        vault = FileVault(path.parent / document["vault"]) if "vault" in document else None
        try:
            return cls(keys, vault=vault, exchange=_exchange(document.get("exchange"), path))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None

    def carry(self, workflow: str, token: Secret, delegation: Delegation) -> Delegation:
        """``delegation`` with what carries ``token`` for ``workflow`` from now on.

        Raises:
            ConfigError: the vault cannot keep it now.
        """
        if self._vault is not None:
            try:
                return msgspec.structs.replace(delegation.summary(), vault=self._vault.store(workflow, token))
            except OSError as error:
                raise ConfigError(
                    f"the vault cannot keep the token: {error.strerror or type(error).__name__}"
                ) from None
        assert self._first is not None
        return msgspec.structs.replace(delegation.summary(), jwe=self._first.seal(workflow, token))

    def unseal(self, message: PaigeantMessage) -> None:
        """Open the token that ``message`` carries encrypted, if one of the keys fits.

        Raises:
            VerificationError: what it carries was changed, or is another workflow's.
        """
        delegation = message.delegation
        if delegation is None or not delegation.jwe:
            return
        key = self._keys.get(kid_of(delegation.jwe))
        if key is None or not key.opens:
            return
        token = key.open(message.correlation_id, delegation.jwe)
        if token_digest(token.reveal()) != delegation.tok:
            raise VerificationError(Code.TOKEN_DIGEST, "its sealed token is not the one that it tells of")
        message.opened(token)

    async def fetch(self, message: PaigeantMessage, wait: float) -> Delegation | None:
        """Get the token of ``message`` from the vault, where it carries a handle; what is to be known of it then.

        Args:
            message: that is about to be run.
            wait: seconds until the next try, if the vault is in trouble.

        Raises:
            TokenExpired: the vault has none for this workflow, or one of another user.
            AuthorizationServerDown: it cannot be asked now.
        """
        delegation = message.delegation
        if delegation is None or not delegation.vault or self._vault is None:
            return delegation
        try:
            token = await asyncio.to_thread(self._vault.fetch, message.correlation_id, delegation.vault)
        except OSError as error:
            raise AuthorizationServerDown(wait, f"the token vault cannot be asked: {type(error).__name__}") from None
        if token is None:
            raise TokenExpired("the vault has no token for it any more")
        if token_digest(token.reveal()) != delegation.tok:
            # Renewed: another token, of the same user and for no more.
            renewed = delegation_of(token)
            if why := delegation.narrowed_by(renewed):
                raise TokenExpired(f"the vault's token cannot take the place of the one before: {why}")
            delegation = renewed
        message.opened(token)
        return delegation.summary()


def _exchange(table: dict[str, Any] | None, path: Path) -> TokenExchange | None:
    if table is None:
        return None
    _check(table, _EXCHANGE, path, "exchange.")
    if "endpoint" not in table:
        raise ConfigError("exchange needs an endpoint, the URL where tokens are exchanged")
    given: dict[str, Any] = {name: value for name, value in table.items() if not name.endswith("_file")}
    if "client_secret_file" in table:
        given["client_secret"] = read_secret(path.parent / table["client_secret_file"])
    if "actor_token_file" in table:
        # Read anew for each exchange: whatever renews it writes the file.
        actor = path.parent / table["actor_token_file"]
        read_secret(actor)
        given["actor_token"] = lambda: _read_again(actor)
    return TokenExchange(given.pop("endpoint"), **given)


def read_secret(path: Path) -> Secret:
    """The one line in a file that only its owner can read.

    Raises:
        ConfigError: it is missing, open to others, empty, or more than a line.
    """
    try:
        text = read_guarded(path, most=MAX_FILE, private=True).decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable():
        raise ConfigError(f"{path}: it must hold one line of text and nothing else")
    return Secret(text)


def _read_again(path: Path) -> Secret:
    try:
        return read_secret(path)
    except ConfigError as error:
        raise OSError(str(error)) from None


def _check(table: Mapping[str, Any], fields: Mapping[str, Any], path: Path, prefix: str) -> None:
    for name, value in table.items():
        if name not in fields:
            raise ConfigError(f"{path}: unknown key {ascii(prefix + name)[:80]}; known are {', '.join(fields)}")
        if not isinstance(value, fields[name]) or isinstance(value, bool):
            raise ConfigError(f"{path}: {prefix}{name} is of the wrong kind")
