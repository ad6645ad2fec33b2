"""On whose behalf a workflow runs, until when and for what: what may be known of its token without the token.

A token is opaque to whoever carries it (RFC 6749 section 1.4). Where it is a JWT its
claims are read as a hint, unverified: the API that the token is for verifies it. Here
they only ever narrow what a step may do.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Final

import msgspec

from paigeant_core.errors import InvalidMessage
from paigeant_core.secret import Secret

MAX_TOKEN: Final = 16 * 1024
"""Characters of a token."""

MAX_SCOPES: Final = 100
_MAX_TEXT: Final = 300
_LAST: Final = 253_402_300_799
"""The end of the year 9999: later times cannot be written."""


class Delegation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a message says of its token."""

    iss: str = ""
    """Who issued it; empty: it does not tell."""
    sub: str = ""
    """The user; empty: it does not tell."""
    scope: tuple[str, ...] | None = None
    """What it permits; None: it does not tell."""
    exp: Annotated[int, msgspec.Meta(ge=0, le=_LAST)] = 0
    """Until when, seconds since the Unix epoch; 0: it does not tell."""
    tok: str = ""
    """SHA-256 of it, base64url."""
    jwe: str = ""
    """The token itself, encrypted for the workers of the topic."""
    vault: str = ""
    """Or what a vault knows it by."""

    @property
    def carrier(self) -> str:
        """What rides in place of the token; empty: the token itself does, or nothing."""
        return self.jwe or self.vault

    def summary(self) -> Delegation:
        """It without the carrier: what may be shown and signed."""
        return msgspec.structs.replace(self, jwe="", vault="") if self.carrier else self

    def expired(self, now: float) -> bool:
        """Whether it is over; a token that does not tell never is. A vault may have renewed its one."""
        return bool(self.exp) and not self.vault and self.exp <= now

    def narrowed_by(self, other: Delegation) -> str:
        """Why ``other`` may not take the place of this one; empty: it may.

        Only a token of the same user may, for no more than was permitted before.
        """
        if not other.iss or not other.sub:
            return "it does not tell its issuer and its user, so nobody can say that it is the same user's"
        if (other.iss, other.sub) != (self.iss, self.sub):
            return "it is of another user or another issuer"
        if self.scope is None:
            return ""
        if other.scope is None:
            return "it does not tell what it permits, and the one before did"
        more = sorted(set(other.scope) - set(self.scope))
        return f"it permits more than the one before: {listed(more)}" if more else ""


def delegation_of(token: Secret, scopes: Sequence[str] | None = None) -> Delegation:
    """What is to be said of ``token``.

    Args:
        token: the token.
        scopes: what it permits, where it does not tell, or less than it tells.

    Raises:
        InvalidMessage: it is too large, or ``scopes`` are more than it permits.
    """
    text = token.reveal()
    if len(text) > MAX_TOKEN:
        raise InvalidMessage(f"the on-behalf-of token has {len(text)} characters, at most {MAX_TOKEN} are carried")
    claims = _claims(text)
    told = _scopes(claims)
    if scopes is not None:
        if isinstance(scopes, str) or not all(is_scope(item) for item in scopes) or len(scopes) > MAX_SCOPES:
            raise InvalidMessage("obo_scopes must be a list of scopes: texts without white space")
        if told is not None and (more := sorted(set(scopes) - set(told))):
            raise InvalidMessage(f"obo_scopes name more than the token permits: {listed(more)}")
        told = tuple(dict.fromkeys(scopes))
    exp = claims.get("exp")
    return Delegation(
        iss=_text(claims.get("iss")),
        sub=_text(claims.get("sub")),
        scope=told,
        exp=int(exp) if isinstance(exp, int | float) and not isinstance(exp, bool) and 0 < exp <= _LAST else 0,
        tok=token_digest(text),
    )


def token_digest(token: str | None) -> str:
    """What is signed of a token, or of what rides in its place; empty: there is none."""
    if not token:
        return ""
    return urlsafe_b64encode(sha256(token.encode("utf-8", "surrogatepass")).digest()).rstrip(b"=").decode()


def listed(scopes: Iterable[str]) -> str:
    """Scopes for a sentence."""
    names = [ascii(scope)[1:-1][:60] for scope in scopes]
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _claims(token: str) -> Mapping[str, Any]:
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = msgspec.json.decode(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _scopes(claims: Mapping[str, Any]) -> tuple[str, ...] | None:
    # `scope` is a text with spaces (RFC 8693 section 4.2, RFC 9068); some write `scp`, some a list.
    found = claims.get("scope", claims.get("scp"))
    items = found.split() if isinstance(found, str) else found
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        return None
    return tuple(dict.fromkeys(item for item in items if is_scope(item)))[:MAX_SCOPES]


def is_scope(item: object) -> bool:
    """Whether ``item`` can be a permission of a token: a text without white space."""
    return isinstance(item, str) and 0 < len(item) <= _MAX_TEXT and item.isprintable() and " " not in item


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        return ""
    return value if value.isprintable() else ""
