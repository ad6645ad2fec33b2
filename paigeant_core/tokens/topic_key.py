"""The key that the tokens of a topic are encrypted for: who dispatches has its public half, workers have it whole."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from paigeant_core.errors import ConfigError
from paigeant_core.secret import Secret
from paigeant_core.security.keys import BAD_KEY, MAX_KEY_FILE, read_guarded, segment, write_private
from paigeant_core.security.refusal import Code, VerificationError

ALGORITHM: Final = "ECDH-ES+A256KW"
ENCRYPTION: Final = "A256GCM"
TYP: Final = "paigeant-token+jwe"

MAX_JWE: Final = 32 * 1024
"""Characters of an encrypted token."""

# Without any algorithm of zip: what is decrypted is never larger than what came (RFC 8725 section 3.6).
_REGISTRY: Final = jwe.JWERegistry(algorithms=[ALGORITHM, ENCRYPTION])
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){4}\Z")
_MEMBERS: Final = frozenset({"kty", "crv", "x", "d"})


class TopicKey:
    """An X25519 key (RFC 8037), whole or its public half.

    Args:
        key: the key.
    """

    __slots__ = ("_key", "kid")

    def __init__(self, key: OKPKey) -> None:
        if key.curve_name != "X25519":
            raise ConfigError("a topic key is an X25519 key")
        self._key = key
        self.kid = key.thumbprint()

    def __repr__(self) -> str:
        return f"<TopicKey {self.kid}{'' if self.opens else ' (public)'}>"

    def __reduce__(self) -> Any:
        raise TypeError("a topic key is not pickled")

    @property
    def opens(self) -> bool:
        """Whether it is whole, and decrypts."""
        return self._key.is_private

    @classmethod
    def generate(cls) -> TopicKey:
        """A new key."""
        return cls(OKPKey.generate_key("X25519"))

    @classmethod
    def load(cls, path: str | Path) -> TopicKey:
        """The key in a file that ``keygen --topic-key`` made: the whole one, or the public half that it printed.

        Raises:
            ConfigError: there is none in it, or others can read a whole one or write it.
        """
        path = Path(path)
        data = read_guarded(path, most=MAX_KEY_FILE, private=False)
        try:
            document = json.loads(data)
            key = cls.from_document(document)
        except (*BAD_KEY, RecursionError, ConfigError):
            raise ConfigError(
                f"{path}: this is no topic key; make one with paigeant-console keygen --topic-key"
            ) from None
        if key.opens:
            read_guarded(path, most=MAX_KEY_FILE, private=True)
        return key

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> TopicKey:
        """The key that a JWK describes.

        Raises:
            ValueError, JoseError, TypeError, KeyError, ConfigError: it describes no X25519 key, or halves of two.
        """
        key = OKPKey.import_key({name: value for name, value in document.items() if name in _MEMBERS})
        private = key.private_key if key.is_private else None
        _ = private or key.public_key  # joserfc looks at the numbers when they are first used
        # Its name is made of the public half that stands there, and joserfc takes the private one as it is.
        if isinstance(private, X25519PrivateKey) and segment(private.public_key().public_bytes_raw()) != document["x"]:
            raise ValueError("x is not the public half of d")
        return cls(key)

    def save(self, path: str | Path) -> None:
        """Write the whole key to a new file that only its owner can read.

        Raises:
            ConfigError: the file exists, or cannot be written.
        """
        write_private(path, json.dumps({**self._key.as_dict(private=True), **self._about()}))

    def public_document(self) -> dict[str, Any]:
        """The public half as a JWK."""
        return {**self._key.as_dict(private=False), **self._about()}

    def seal(self, workflow: str, token: Secret) -> str:
        """``token`` as a compact JWE (RFC 7516) that opens for ``workflow`` alone."""
        header = {"alg": ALGORITHM, "enc": ENCRYPTION, "typ": TYP, "kid": self.kid}
        plain = json.dumps({"wf": workflow, "tok": token.reveal()}).encode()
        return jwe.encrypt_compact(header, plain, self._key, registry=_REGISTRY)

    def open(self, workflow: str, sealed: str) -> Secret:
        """The token that :meth:`seal` encrypted; ``kid`` was looked at before.

        Raises:
            VerificationError: it was changed, or is another workflow's.
        """
        try:
            found = jwe.decrypt_compact(sealed, self._key, registry=_REGISTRY)
            headers = found.headers()
            document = json.loads(found.plaintext or b"")
            bound, token = document["wf"], document["tok"]
            if headers.get("typ") != TYP or "zip" in headers or not isinstance(token, str):
                raise ValueError
        except (JoseError, ValueError, TypeError, KeyError, AssertionError, RecursionError):
            raise VerificationError(Code.TOKEN_DIGEST, "its sealed token cannot be opened: it was changed") from None
        if bound != workflow:
            raise VerificationError(Code.SPLICE, "its sealed token belongs to another workflow")
        return Secret(token)

    def _about(self) -> dict[str, Any]:
        return {"alg": ALGORITHM, "use": "enc", "kid": self.kid}


def kid_of(sealed: str) -> str:
    """Which key opens a compact JWE; nothing but that is believed of its header.

    Raises:
        VerificationError: it is no compact JWE.
    """
    try:
        if len(sealed) > MAX_JWE or not _COMPACT.match(sealed):
            raise ValueError
        header = sealed.partition(".")[0]
        kid = json.loads(urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise VerificationError(Code.TOKEN_DIGEST, "its sealed token is no compact JWE") from None
    return kid if isinstance(kid, str) else ""
