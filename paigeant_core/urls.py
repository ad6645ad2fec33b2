"""Broker URLs: read once, and never shown with their password."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from paigeant_core.errors import ConfigError

SCHEMES = ("memory", "redis", "rediss", "amqp", "amqps")
_SECRET_OPTION = re.compile(r"pass|secret|token|key", re.IGNORECASE)


def parse_url(url: str) -> SplitResult:
    """``url`` in its parts.

    Raises:
        ConfigError: no such scheme, a port that is no number, or control characters.
    """
    if not isinstance(url, str) or any(ord(character) < 33 or ord(character) == 127 for character in url):
        raise ConfigError("the broker URL holds spaces or control characters")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ConfigError("the broker URL cannot be read; write e.g. redis://host:6379/0") from None
    if parts.scheme not in SCHEMES or "://" not in url:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ConfigError(f"unknown broker URL scheme {ascii(parts.scheme)[:40]}; use one of {known}")
    return parts


def mask_url(url: str) -> str:
    """``url`` for people: a password, and options that sound like one, become ``***``.

    Where it cannot be said what of it is the password, nothing of it is shown.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
        url.encode()
    except ValueError:
        return "***"
    if parts.scheme not in (*SCHEMES, "http", "https") or not url[len(parts.scheme) :].startswith("://"):
        return "***"  # user:password@host is a URL too, of the scheme `user`
    if "@" in parts.path + parts.query + parts.fragment:
        # A password with a bare / ? or # in it ends the host's part early: the rest of it stands behind.
        return f"{parts.scheme}://***"
    netloc = parts.netloc
    if "@" in netloc:
        user, _, host = netloc.rpartition("@")
        name, colon, _ = user.partition(":")
        netloc = f"{name}{':***' if colon else ''}@{host}"
    query = parts.query
    if query:
        pairs = [
            (key, "***" if _SECRET_OPTION.search(key) else value)
            for key, value in parse_qsl(query, keep_blank_values=True)
        ]
        query = urlencode(pairs, safe="*", quote_via=quote)
    # Not geturl(): it leaves the slashes out where nothing follows them.
    return f"{parts.scheme}://{netloc}{parts.path}{'?' if query else ''}{query}"


def has_password(url: str) -> bool:
    """Whether ``url`` carries a password."""
    try:
        return bool(urlsplit(url).password)
    except ValueError:
        return False
