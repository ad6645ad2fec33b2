"""Which of several servers to talk to: the one of a list that is a primary, or whom a sentinel names.

Who connects asks what :meth:`Addresses.search` says, over an event loop or in a thread,
and is done when that ends. Each time a line is made it is found out anew, so whoever was
cut off by a failover comes to the new primary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from redis import exceptions as driver

from paigeant_core.errors import ConfigError
from paigeant_core.transports.redis.scripts import Command
from paigeant_core.urls import SENTINEL, each_address

PORT = 6379
SENTINEL_PORT = 26379


class NoneLeads(driver.ConnectionError):
    """None of the addresses leads to a primary."""


class Question(NamedTuple):
    """What to ask whom.

    Attributes:
        host: of whom.
        port: of whom.
        command: what.
        sentinel: it is a sentinel, with a password of its own.
    """

    host: str
    port: int
    command: Command
    sentinel: bool = False


class Addresses:
    """The addresses in a URL.

    Args:
        url: ``redis://one,two/0``, or ``redis+sentinel://one,two/NAME/0``: NAME is what the sentinels call the primary.

    Raises:
        ConfigError: a sentinel's URL that names no primary, or a database that is no number.

    Attributes:
        plain: the URL as redis-py reads it, with the first address alone.
        service: what the sentinels call the primary; empty: the addresses are those of the servers.
        sentinel_login: user name and password at the sentinels; either may be empty.
        text: the addresses, for people.
    """

    def __init__(self, url: str) -> None:
        parts = [urlsplit(each) for each in each_address(url)]
        scheme, _, sentinel = parts[0].scheme.partition("+")
        path, query = parts[0].path, parts[0].query
        self.service = ""
        self.sentinel_login = ("", "")
        if f"+{sentinel}" == SENTINEL:
            self.service, path = _service_in(path)
            options = parse_qsl(query, keep_blank_values=True)
            said = dict(options)
            self.sentinel_login = (said.get("sentinel_username", ""), said.get("sentinel_password", ""))
            query = urlencode([(key, value) for key, value in options if not key.startswith("sentinel_")])
        elif not re.fullmatch(r"/?[0-9]*/?", unquote(path)):
            # redis-py would take the database 0 without a word.
            raise ConfigError("the database in the broker URL is no number; write e.g. redis://host:6379/0")
        port = SENTINEL_PORT if self.service else PORT
        self._listed = [(unquote(each.hostname or "localhost"), each.port or port) for each in parts]
        self.plain = urlunsplit((scheme, parts[0].netloc, path, query, ""))
        listed = ", ".join(f"{host}:{port}" for host, port in self._listed)
        self.text = f"{listed} (sentinels of {self.service})" if self.service else listed
        self._turn = 0

    @property
    def to_search(self) -> bool:
        """Whether there is anything to find out: one address of a server is taken as it is."""
        return bool(self.service) or len(self._listed) > 1

    def search(self, reason: Callable[[BaseException], str]) -> Generator[Question, Any, None]:
        """What to ask next, to be sent the answer or the error; it ends when the one who was asked leads.

        Args:
            reason: an error in a few words.

        Raises:
            NoneLeads: none does.
            AuthenticationError: one refuses the user name or the password; redis-py's.
        """
        said: list[str] = []
        for _ in self._listed:
            host, port = self._listed[self._turn % len(self._listed)]
            # Whoever is cut off while this one is silent goes on with the next.
            self._turn += 1
            if self.service:
                known = yield Question(host, port, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service), sentinel=True)
                if isinstance(known, Exception):
                    said.append(f"sentinel {host}:{port}: {reason(known)}")
                    continue
                if not (isinstance(known, list) and len(known) == 2):
                    said.append(f"sentinel {host}:{port} knows no {self.service!a}")
                    continue
                host, port = known[0].decode("utf-8", "replace"), int(known[1])
            role = yield Question(host, port, ("ROLE",))
            if isinstance(role, driver.AuthenticationError | driver.AuthorizationError):
                raise role
            if isinstance(role, Exception) and not isinstance(role, driver.NoPermissionError):
                said.append(f"{host}:{port}: {reason(role)}")
            elif isinstance(role, list) and role[0] == b"slave":
                said.append(f"{host}:{port} is a replica")
            else:
                self._turn -= 1
                return
        raise NoneLeads("; ".join(said))


def _service_in(path: str) -> tuple[str, str]:
    """What the path of a sentinel's URL calls the primary, and the path with the database."""
    name, _, database = path.strip("/").partition("/")
    if not name or not (database == "" or database.isdecimal()):
        raise ConfigError(
            "the URL of sentinels must name their primary: redis+sentinel://host:26379,host2:26379/NAME/0"
        )
    return unquote(name), f"/{database or 0}"
