"""Keys that sign: Ed25519 or ES256, in a file that only its owner can read."""

from __future__ import annotations

import json
import os
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

from paigeant_core.errors import ConfigError
from paigeant_core.names import is_name

ALGORITHMS: Final = ("Ed25519", "ES256")
"""The algorithms of JWS that count here; a key has exactly one of them."""

MAX_RECORD: Final = 512 * 1024
"""Characters of a record; an origin holds the steps with their arguments."""

MAX_KEY_FILE: Final = 16 * 1024
"""Bytes of a key file."""

BAD_KEY: Final = (JoseError, ValueError, TypeError, KeyError, AttributeError)
"""What joserfc and cryptography raise for a key that is none."""


def _registry(algorithm: str) -> jws.JWSRegistry:
    registry = jws.JWSRegistry(algorithms=[algorithm])
    registry.max_payload_length = MAX_RECORD
    return registry


REGISTRIES: Final = {algorithm: _registry(algorithm) for algorithm in ALGORITHMS}
"""For joserfc: each lets one algorithm pass, and payloads of any record."""

_MODELS: Final = {algorithm: registry.get_alg(algorithm) for algorithm, registry in REGISTRIES.items()}

_MEMBERS: Final = frozenset({"kty", "crv", "x", "y", "d", "alg", "use", "kid", "key_ops"})


class Signer(Protocol):
    """Whatever signs: a key in a file, or one that never leaves an agent or a vault."""

    @property
    def name(self) -> str:
        """The principal that signs with it."""

    @property
    def audience(self) -> str:
        """The environment that it signs for."""

    @property
    def algorithm(self) -> str:
        """One of :data:`ALGORITHMS`."""

    @property
    def kid(self) -> str:
        """Its RFC 7638 thumbprint."""

    def sign(self, typ: str, payload: bytes) -> str:
        """``payload`` as a compact JWS of type ``typ``."""


class SigningKey:
    """A private key, and what it signs as.

    Args:
        key: the private key.
        name: the principal that signs with it.
        audience: the environment that it signs for; empty: the only one.
    """

    __slots__ = ("_headers", "_key", "algorithm", "audience", "kid", "name")

    def __init__(self, key: OKPKey | ECKey, name: str, audience: str = "") -> None:
        self._key = key
        self.name = name
        self.audience = audience
        self.algorithm = algorithm_of(key)
        self.kid = key.thumbprint()
        self._headers: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<SigningKey {self.name} {self.algorithm} {self.kid}>"

    def __reduce__(self) -> Any:
        raise TypeError("a private key is not pickled")

    @classmethod
    def generate(cls, name: str, *, algorithm: str = "Ed25519", audience: str = "") -> SigningKey:
        """A new key.

        Args:
            name: the principal that will sign with it.
            algorithm: one of :data:`ALGORITHMS`.
            audience: the environment that it signs for.

        Raises:
            ConfigError: no such algorithm, or no name or audience.
        """
        if algorithm not in ALGORITHMS:
            raise ConfigError(f"algorithm {ascii(algorithm)[:40]}: use {' or '.join(ALGORITHMS)}")
        check_principal(name)
        check_audience(audience)
        made = OKPKey.generate_key("Ed25519") if algorithm == "Ed25519" else ECKey.generate_key("P-256")
        return cls(made, name, audience)

    @classmethod
    def load(cls, path: str | Path) -> SigningKey:
        """The key in a file that :meth:`save` wrote.

        Raises:
            ConfigError: it is missing, others can read or write it, or it holds no key.
        """
        path = Path(path)
        data = read_guarded(path, most=MAX_KEY_FILE, private=True)
        try:
            document = json.loads(data)
            if not isinstance(document, dict):
                raise TypeError
            key = import_jwk({name: value for name, value in document.items() if name in _MEMBERS})
            name, audience = document["name"], document.get("audience", "")
        except (*BAD_KEY, RecursionError):
            # Not the library's words: they could quote the key.
            raise ConfigError(f"{path}: this is no key file; make one with paigeant-console keygen") from None
        if not key.is_private:
            raise ConfigError(f"{path}: this is a public key, and signing needs the private one")
        check_principal(name)
        check_audience(audience)
        return cls(key, name, audience)

    def save(self, path: str | Path) -> None:
        """Write the key to a new file that only its owner can read.

        Raises:
            ConfigError: the file exists, or cannot be written.
        """
        document = self._key.as_dict(private=True)
        document.update(self._about(), name=self.name, audience=self.audience)
        write_private(path, json.dumps(document))

    def public_document(self) -> dict[str, Any]:
        """The public half as a JWK."""
        return {**self._key.as_dict(private=False), **self._about()}

    def sign(self, typ: str, payload: bytes) -> str:
        """``payload`` as a compact JWS.

        Args:
            typ: the type of what is signed, which the signature covers.
            payload: the exact bytes.
        """
        header = self._headers.get(typ)
        if header is None:
            document = {"alg": self.algorithm, "typ": typ, "kid": self.kid}
            header = self._headers[typ] = segment(json.dumps(document, separators=(",", ":")).encode())
        signed = f"{header}.{segment(payload)}"
        return f"{signed}.{segment(_MODELS[self.algorithm].sign(signed.encode(), self._key))}"

    def _about(self) -> dict[str, Any]:
        return {"alg": self.algorithm, "use": "sig", "kid": self.kid}


def segment(data: bytes) -> str:
    """Base64url without padding (RFC 7515, section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def signature_holds(signed: str, signature: str, key: OKPKey | ECKey, algorithm: str) -> bool:
    """Whether a signature of a compact JWS is of this text by this key.

    By joserfc's algorithm itself: its reader of compact JWS would parse the header a second
    time, for each record of each hop.

    Args:
        signed: the first two segments and the dot between them.
        signature: the third segment.
        key: the public key.
        algorithm: the one algorithm of that key.
    """
    try:
        raw = urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        return bool(_MODELS[algorithm].verify(signed.encode(), raw, key))
    except (JoseError, ValueError):
        return False


def algorithm_of(key: OKPKey | ECKey) -> str:
    """The one algorithm that ``key`` signs with.

    Raises:
        ValueError: there is none among :data:`ALGORITHMS`.
    """
    if isinstance(key, OKPKey) and key.curve_name == "Ed25519":
        return "Ed25519"
    if isinstance(key, ECKey) and key.curve_name == "P-256":
        return "ES256"
    raise ValueError("neither an Ed25519 nor a P-256 key")


def import_jwk(document: dict[str, Any]) -> OKPKey | ECKey:
    """The key that a JWK describes, looked at whole: kind, point, and what it says of itself.

    Raises:
        ValueError, JoseError, TypeError, KeyError: it describes none of ours.
    """
    own = {name: value for name, value in document.items() if name in ("kty", "crv", "x", "y", "d")}
    if own["kty"] not in ("OKP", "EC"):
        raise ValueError("neither an Ed25519 nor a P-256 key")
    key = OKPKey.import_key(own) if own["kty"] == "OKP" else ECKey.import_key(own)
    algorithm = algorithm_of(key)
    private = key.private_key if key.is_private else None
    _ = private or key.public_key  # joserfc looks at the numbers when they are first used
    # Its name is made of the public half that stands there, and joserfc takes the private one of Ed25519 as it is.
    if isinstance(private, Ed25519PrivateKey) and segment(private.public_key().public_bytes_raw()) != own["x"]:
        raise ValueError("x is not the public half of d")
    if document.get("alg", algorithm) not in (algorithm, "EdDSA" if algorithm == "Ed25519" else algorithm):
        raise ValueError("alg is that of another kind of key")
    if document.get("use", "sig") != "sig":
        raise ValueError("use is not sig")
    operation = "sign" if key.is_private else "verify"
    if (operations := document.get("key_ops")) is not None and (
        not isinstance(operations, list) or operation not in operations
    ):
        raise ValueError(f"key_ops has no {operation}")
    if document.get("kid", key.thumbprint()) != key.thumbprint():
        raise ValueError("kid is not its RFC 7638 thumbprint")
    return key


def read_guarded(path: Path, *, most: int, private: bool) -> bytes:
    """What stands in a file that nobody else may change, or, if it is private, read.

    Args:
        path: the file.
        most: bytes it may have.
        private: refuse it if others can read it, too.

    Raises:
        ConfigError: it is missing, not a plain file, too large, not ours, or open to others.
    """
    try:
        # Not to wait for somebody to write into it, should it be a pipe.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            # Of the file that is open, so that nobody can put another one in its place in between.
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{path}: this is no plain file")
            if found.st_uid not in (os.geteuid(), 0):
                raise ConfigError(f"{path}: it belongs to another user, who could change it")
            if private and found.st_mode & 0o077:
                raise ConfigError(f"{path}: others can read it (mode {found.st_mode & 0o777:o}); chmod 600 it")
            if found.st_mode & 0o022:
                raise ConfigError(f"{path}: others can change it (mode {found.st_mode & 0o777:o}); chmod go-w it")
            data = file.read(most + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be read: {error.strerror or type(error).__name__}") from None
    if len(data) > most:
        raise ConfigError(f"{path}: it is larger than {most} bytes")
    return data


def write_private(path: str | Path, text: str) -> None:
    """Write a line of ASCII to a new file that only its owner can read.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    try:
        # O_EXCL follows no link, and never writes over a key that something is signed with.
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(handle)
    except FileExistsError:
        raise ConfigError(f"{path}: there is a file already, and a key is never written over") from None
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be written: {error.strerror or type(error).__name__}") from None


def check_principal(name: object) -> str:
    """Return ``name`` if it can name a principal.

    Raises:
        ConfigError: it is no text of 1 to 64 letters, digits, ``_ . -``.
    """
    if not isinstance(name, str) or not is_name(name):
        raise ConfigError(f"name {ascii(name)[:80]}: use 1 to 64 letters, digits, '_', '.' or '-'")
    return name


def check_audience(audience: object) -> str:
    """Return ``audience`` if it can name an environment; empty is one.

    Raises:
        ConfigError: it is no text of at most 64 letters, digits, ``_ . -``.
    """
    if audience != "" and (not isinstance(audience, str) or not is_name(audience)):
        raise ConfigError(f"audience {ascii(audience)[:80]}: use at most 64 letters, digits, '_', '.' or '-'")
    return audience
