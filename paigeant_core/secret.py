"""Text that must not be seen: a wrapper that shows stars, and a filter that keeps it out of logs."""

from __future__ import annotations

import hmac
import logging
import re
from typing import Any, Final
from weakref import WeakValueDictionary

STARS: Final = "***"

SHORTEST: Final = 16
"""Characters from which on a secret is looked for in other text; a shorter one would be found where it is not."""

_SHAPES: Final = re.compile(
    # A JWT or JWE (RFC 7519): its header is a JSON object, which begins so in base64url.
    r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){2,4}"
    # Credentials of a header (RFC 6750, RFC 7617).
    r"|(?<=Bearer )[A-Za-z0-9._~+/=-]{8,}|(?<=Basic )[A-Za-z0-9+/=]{8,}"
)


class Secret(str):
    """A text that is ``***`` to whoever prints, formats, pickles or encodes it; :meth:`reveal` gives it.

    It is a ``str`` of three stars, so JSON encoders and format strings have nothing else to show.
    """

    __slots__ = ("__weakref__", "_value")

    _value: str

    def __new__(cls, value: str) -> Secret:
        """Wrap ``value``."""
        self = super().__new__(cls, STARS)
        self._value = value
        if len(value) >= SHORTEST:
            _live[id(self)] = self
        return self

    def reveal(self) -> str:
        """The text itself."""
        return self._value

    def __repr__(self) -> str:
        return STARS

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return False  # to a str it would be equal to, it is three stars
        mine, theirs = (item._value.encode("utf-8", "surrogatepass") for item in (self, other))
        return hmac.compare_digest(mine, theirs)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> Any:
        return (str, (STARS,))


_live: WeakValueDictionary[int, Secret] = WeakValueDictionary()


def conceal(text: str) -> str:
    """``text`` with stars for every secret that this process holds. Cut it afterwards: half a secret is not found."""
    for secret in list(_live.values()):
        text = text.replace(secret.reveal(), STARS)
    return text


def redact(text: str) -> str:
    """``text`` with stars for every secret that this process holds, and for what has the shape of a token."""
    return _SHAPES.sub(STARS, conceal(text))


class RedactingFilter(logging.Filter):
    """Keeps secrets out of a log: add it to the handlers whose output is kept."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace what the record says by itself redacted; let it pass."""
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that do not fit are the handler's to complain of
            return True
        redacted = redact(text)
        if redacted != text:
            record.msg, record.args = redacted, None
        if record.exc_info:
            # Another handler may have formatted it before, and left it there for all.
            record.exc_text = redact(record.exc_text or logging.Formatter().formatException(record.exc_info))
        return True
