"""Broker URLs: read once, and never shown with their password.

One that names several servers lists them: ``amqp://ann:secret@one:5672,two:5672/prod``.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from paigeant_core.errors import ConfigError

SENTINEL = "+sentinel"
SCHEMES = ("memory", "redis", "rediss", f"redis{SENTINEL}", f"rediss{SENTINEL}", "amqp", "amqps")
_SECRET_OPTION = re.compile(r"pass|secret|token|key", re.IGNORECASE)
_SEVERAL = re.compile(r"((?!memory:)[^:/?#]*://(?:[^/?#]*@)?)([^/?#@]*,[^/?#@]*)((?:[/?#].*)?)", re.DOTALL)


def each_address(url: str) -> list[str]:
    """``url`` once for each server that it names, with that one's address alone."""
    several = _SEVERAL.fullmatch(url)
    if several is None:
        return [url]
    before, hosts, after = several.groups()
    return [f"{before}{host}{after}" for host in hosts.split(",")]


def management_url(url: str) -> str:
    """Where a RabbitMQ's management API is: its host with port 15672, or what ``?management=URL`` in its URL says.

    See https://www.rabbitmq.com/docs/management for the ports.
    """
    parts = urlsplit(url)
    tls = parts.scheme == "amqps"
    named = dict(parse_qsl(parts.query)).get("management")
    return named or f"http{'s' if tls else ''}://{parts.hostname}:{15671 if tls else 15672}"


def parse_url(url: str) -> SplitResult:
    """``url`` in its parts; of several servers it has the first one's address.

    Raises:
        ConfigError: no such scheme, no host, a port that is no number, an empty address among several, or control
            characters.
    """
    if not isinstance(url, str) or any(ord(character) < 33 or ord(character) == 127 for character in url):
        raise ConfigError("the broker URL holds spaces or control characters")
    try:
        each = _split(url)
    except ValueError:
        raise ConfigError("the broker URL cannot be read; write e.g. redis://host:6379/0") from None
    parts = each[0]
    if parts.scheme not in SCHEMES or "://" not in url:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ConfigError(f"unknown broker URL scheme {ascii(parts.scheme)[:40]}; use one of {known}")
    if parts.scheme != "memory" and not parts.netloc:
        raise ConfigError(f"the broker URL names no host; write e.g. {parts.scheme}://host/")
    if len(each) > 1 and not all(one.hostname for one in each):
        raise ConfigError("one of the addresses in the broker URL is empty; write e.g. redis://one:6379,two:6379/0")
    return parts


def _split(url: str) -> list[SplitResult]:
    """``url`` in its parts, once for each server; a ValueError where it cannot be read."""
    each = [urlsplit(one) for one in each_address(url)]
    for parts in each:
        _ = parts.port
    return each


def mask_url(url: str) -> str:
    """``url`` for people: a password, options that sound like one, and passwords of URLs in options become ``***``.

    Where it cannot be said what of it is the password, nothing of it is shown.
    """
    try:
        each = _split(url)
        url.encode()
    except ValueError:
        return "***"
    parts = each[0]
    if parts.scheme not in (*SCHEMES, "http", "https") or not url[len(parts.scheme) :].startswith("://"):
        return "***"  # user:password@host is a URL too, of the scheme `user`
    if "@" in parts.path + parts.query + parts.fragment:
        # A password with a bare / ? or # in it ends the host's part early: the rest of it stands behind.
        return f"{parts.scheme}://***"
    user, at, _ = parts.netloc.rpartition("@")
    netloc = ",".join(one.netloc.rpartition("@")[2] for one in each)
    if at:
        name, colon, _ = user.partition(":")
        netloc = f"{name}{':***' if colon else ''}@{netloc}"
    query = parts.query
    if query:
        pairs = [
            (key, "***" if _SECRET_OPTION.search(key) else _mask_value(value))
            for key, value in parse_qsl(query, keep_blank_values=True)
        ]
        query = urlencode(pairs, safe="*", quote_via=quote)
    # Not geturl(): it leaves the slashes out where nothing follows them.
    return f"{parts.scheme}://{netloc}{parts.path}{'?' if query else ''}{query}"


def _mask_value(value: str) -> str:
    """The value of an option for people: one that is a URL, or names a user, is masked as a URL is."""
    plain = value
    while plain != (decoded := unquote(plain)):
        plain = decoded
    if "://" not in plain and "@" not in plain:
        return value
    # No option of ours is a URL with a URL in it.
    return mask_url(plain) if plain.count("://") == 1 else "***"


def has_password(url: str) -> bool:
    """Whether ``url`` carries a password."""
    return bool(password_in(url))


def password_in(url: str) -> str:
    """The password that ``url`` carries, as it stands there; empty: none."""
    try:
        return urlsplit(each_address(url)[0]).password or ""
    except ValueError:
        return ""


def without_password(url: str) -> str:
    """``url`` with its user, if it names one, and without its password."""
    password = password_in(url)
    return url.replace(f":{password}@", "@", 1).replace("://@", "://", 1) if password else url
