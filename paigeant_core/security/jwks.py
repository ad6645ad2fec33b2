"""JWK sets that somebody else publishes: fetched by https, within limits, the last good one kept.

Only from the URL that the policy names: nothing in a message names one, and no redirect
is followed. A set that cannot be fetched, or is none, leaves the one before in force.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from paigeant_core.errors import ConfigError

WITHIN: Final = 5.0
"""Seconds that a fetch may take."""

MAX_SET: Final = 256 * 1024
"""Bytes of a set."""

APART: Final = 60.0
"""Seconds between two fetches of one URL at least, whatever asks for them."""

_LOCAL: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class JwkSets:
    """The sets of one policy.

    Args:
        clock: seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._good: dict[str, list[Any]] = {}
        self._asked: dict[str, float] = {}
        self.problems: dict[str, str] = {}
        """Why the last fetch failed, by URL."""

    def keys(self, url: str) -> list[Any]:
        """The keys in the set at ``url``, the last good ones where it cannot be had now.

        Raises:
            ConfigError: the URL is none of https, or there never was a good one.
        """
        check_url(url)
        asked = self._asked.get(url)
        now = self._clock()
        if asked is None or now - asked >= APART:
            self._asked[url] = now
            try:
                self._good[url] = _fetch(url)
                self.problems.pop(url, None)
            except ConfigError as error:
                self.problems[url] = str(error)
        if url not in self._good:
            raise ConfigError(self.problems.get(url, f"{url}: it was not fetched yet"))
        return self._good[url]


def check_url(url: str) -> None:
    """Look whether keys may be fetched from there.

    Raises:
        ConfigError: it is no https URL (http counts on this machine), or names a user.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise ConfigError("jwks must be an https URL or the name of a file") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOCAL):
        raise ConfigError("jwks must be an https URL or the name of a file: keys that decide are not fetched in clear")
    if not host or parts.username is not None:
        raise ConfigError("jwks: the URL names no host, or a user; it holds public keys, so none is needed")


def keys_in(data: bytes, where: str) -> list[Any]:
    """The keys of a JWK set.

    Raises:
        ConfigError: it is none.
    """
    try:
        keys = json.loads(data)["keys"]
    except (ValueError, RecursionError, TypeError, KeyError):
        raise ConfigError(f'{where}: this is no JWK set, an object with "keys"') from None
    if not isinstance(keys, list):
        raise ConfigError(f'{where}: "keys" must be a list')
    return keys


def _fetch(url: str) -> list[Any]:
    until = time.monotonic() + WITHIN
    data = b""
    try:
        with (
            httpx.Client(timeout=WITHIN, follow_redirects=False) as client,
            client.stream("GET", url, headers={"Accept": "application/jwk-set+json, application/json"}) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise ConfigError(f"{url}: it answered {answer.status_code}")
            for part in answer.iter_bytes(16 * 1024):
                data += part
                if len(data) > MAX_SET:
                    raise ConfigError(f"{url}: it is larger than {MAX_SET} bytes")
                if time.monotonic() > until:
                    raise ConfigError(f"{url}: it took longer than {WITHIN:g} s")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise ConfigError(f"{url}: it cannot be fetched: {type(error).__name__}") from None
    return keys_in(data, url)
