"""Sign with an Ed25519 key that stays in an ssh-agent: its signature is the one that a JWS wants.

The protocol is that of draft-miller-ssh-agent: a length, a type and the fields of it, over
the socket that SSH_AUTH_SOCK names. Key and signature are written as RFC 8709 says.
"""

from __future__ import annotations

import binascii
import socket
import struct
from base64 import b64decode, urlsafe_b64encode
from typing import Final, NamedTuple

import msgspec
from joserfc.jwk import OKPKey

from paigeant_core.errors import ConfigError
from paigeant_core.security.trust import Trust

PATIENCE: Final = 60.0
"""Seconds for an answer: the agent may ask its owner to touch or to confirm something."""

MAX_ANSWER: Final = 256 * 1024
"""Bytes; OpenSSH's own cap."""

KIND: Final = b"ssh-ed25519"

_REQUEST_IDENTITIES: Final = 11
_IDENTITIES: Final = 12
_SIGN: Final = 13
_SIGNED: Final = 14


class Identity(NamedTuple):
    """A key in the agent."""

    blob: bytes
    """As the protocol names it."""
    public: bytes
    """Its 32 bytes."""
    comment: str


class AgentKey:
    """An Ed25519 key in an agent, and what it signs as; see :class:`paigeant_core.security.keys.Signer`.

    Args:
        path: the agent's socket.
        identity: the key.
        name: the principal.
        audience: the environment.
    """

    algorithm: Final = "Ed25519"

    def __init__(self, path: str, identity: Identity, name: str, audience: str = "") -> None:
        self._path = path
        self._identity = identity
        self.name = name
        self.audience = audience
        self.kid = kid_of(identity.public)

    def __repr__(self) -> str:
        return f"<AgentKey {self.name} {self.kid}>"

    def sign(self, typ: str, payload: bytes) -> str:
        """``payload`` as a compact JWS of type ``typ``.

        Raises:
            ConfigError: the agent does not answer, or will not sign.
        """
        header = msgspec.json.encode({"alg": self.algorithm, "typ": typ, "kid": self.kid})
        signed = _base64(header) + b"." + _base64(payload)
        asked = struct.pack(">B", _SIGN) + _string(self._identity.blob) + _string(signed) + struct.pack(">I", 0)
        fields = _Fields(_ask(self._path, asked, _SIGNED))
        answer = _Fields(fields.string())
        if answer.string() != KIND or len(signature := answer.string()) != 64:
            raise ConfigError("the ssh-agent answered with another signature than one of Ed25519")
        return (signed + b"." + _base64(signature)).decode()


def identities(path: str) -> list[Identity]:
    """The Ed25519 keys in the agent whose socket is ``path``.

    Raises:
        ConfigError: no agent answers there.
    """
    fields = _Fields(_ask(path, struct.pack(">B", _REQUEST_IDENTITIES), _IDENTITIES))
    found = []
    for _ in range(fields.number()):
        blob, comment = fields.string(), fields.string()
        public = public_of(blob)
        if public is not None:
            found.append(Identity(blob, public, comment.decode("utf-8", "replace")))
    return found


def key_in_agent(path: str, trust: Trust, role: str) -> AgentKey | None:
    """The one key in the agent that the policy knows as one of that role; None: there is none.

    Raises:
        ConfigError: no agent answers, or there is more than one.
    """
    found = [
        AgentKey(path, identity, known.principal.name, trust.audience)
        for identity in identities(path)
        if (known := trust.keys.get(kid_of(identity.public))) is not None
        and role in known.principal.roles
        and not known.revoked
    ]
    if len(found) > 1:
        names = ", ".join(sorted(key.name for key in found))
        raise ConfigError(f"the ssh-agent holds keys of more than one {role}: {names}; name a key file in PAIGEANT_KEY")
    return found[0] if found else None


def public_line(text: str) -> bytes:
    """The 32 bytes of the key in an OpenSSH public key file.

    Raises:
        ConfigError: it is none of Ed25519.
    """
    words = text.split()
    try:
        public = public_of(b64decode(words[1], validate=True))
    except (IndexError, binascii.Error, ValueError):
        public = None
    if public is None:
        raise ConfigError('this is no public Ed25519 key of OpenSSH, "ssh-ed25519 AAAA... comment"')
    return public


def public_of(blob: bytes) -> bytes | None:
    """The 32 bytes of an Ed25519 key as the protocol writes it; None: it is of another kind."""
    try:
        fields = _Fields(blob)
        return public if fields.string() == KIND and len(public := fields.string()) == 32 else None
    except ConfigError:
        return None


def kid_of(public: bytes) -> str:
    """The RFC 7638 thumbprint of a public key."""
    return OKPKey.import_key(document_of(public)).thumbprint()


def document_of(public: bytes) -> dict[str, str | list[str]]:
    """A public key as a JWK."""
    return {"kty": "OKP", "crv": "Ed25519", "x": _base64(public).decode()}


class _Fields:
    """Fields of a message, one behind the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self) -> int:
        return int.from_bytes(self._take(4))

    def string(self) -> bytes:
        return self._take(self.number())

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise ConfigError("the ssh-agent's answer cannot be read")
        self._at, start = end, self._at
        return self._data[start:end]


def _ask(path: str, message: bytes, expected: int) -> bytes:
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(PATIENCE)
            line.connect(path)
            line.sendall(_string(message))
            length = int.from_bytes(_receive(line, 4))
            if not 0 < length <= MAX_ANSWER:
                raise ConfigError("the ssh-agent's answer cannot be read")
            answer = _receive(line, length)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigError(f"no ssh-agent answers at {ascii(path)[:200]}: {why}; look at SSH_AUTH_SOCK") from None
    if answer[0] != expected:
        raise ConfigError("the ssh-agent will not do it; is the key still in it, and was it confirmed?")
    return answer[1:]


def _receive(line: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = line.recv(length - len(data))
        if not part:
            raise ConfigError("the ssh-agent's answer ends early")
        data += part
    return data


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
