"""Workflows and journal records as a query sees them."""

from __future__ import annotations

import contextlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

from paigeant_console.model.fold import Fold
from paigeant_console.model.query import STUCK_WORDS
from paigeant_console.model.row import Row, trust_of
from paigeant_core.clock import parse_rfc3339, rfc3339
from paigeant_core.errors import PaigeantError
from paigeant_core.journal import Record
from paigeant_core.json_values import BAD_JSON
from paigeant_core.message import Headers, PaigeantMessage

__all__ = ["RecordView", "RowView"]

MAX_LEAVES = 10_000
"""Values of one payload that are looked at."""

_FIGURE = re.compile(r"[0-9.e+-]+")
_NO_INTEGER = re.compile(rb"[0-9][.eE]")


class _Written(float):
    """A number of a payload that is no integer, and how it was written."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


_decode_written = msgspec.json.Decoder(dict[str, Any], float_hook=_Written).decode


class _HeadersView(ABC):
    """What both have: the headers of a message, and perhaps its payload.

    Args:
        body: The message, for its payload; None: it is not at hand.
        now: Seconds since the Unix epoch.
    """

    __slots__ = ("_body", "_now", "_payload")

    def __init__(self, body: bytes | None, now: float) -> None:
        self._body = body
        self._now = now
        self._payload: dict[str, Any] | None = None

    @property
    @abstractmethod
    def _headers(self) -> Headers: ...

    def now(self) -> float:
        """See `View.now`."""
        return self._now

    def texts(self, name: str) -> Iterable[str]:
        """See `View.texts`; a subclass knows more fields."""
        headers = self._headers
        match name:
            case "id":
                return (headers.correlation_id,)
            case "name":
                return (headers.name,) if headers.name else ()
            case "topic":
                return (headers.topic,)
            case "created":
                return (headers.created_at,)
        return ()

    def number(self, name: str) -> float | None:
        """See `View.number`; a subclass knows more fields."""
        headers = self._headers
        match name:
            case "hop":
                return headers.hop
            case "run":
                return headers.run
            case "epoch":
                return headers.epoch
            case "attempt":
                return headers.attempt
            case "created":
                return self._created()
            case "age":
                created = self._created()
                return None if created is None else self._now - created
        return None

    def keyed(self, name: str, key: str) -> Iterable[str]:
        """See `View.keyed`."""
        if name == "label":
            value = self._headers.label_map.get(key)
            return () if value is None else (value,)
        return (text for found in _at(self._decoded(), key.split(".")) for text in _leaves(found))

    def everything(self) -> Iterable[str]:
        """See `View.everything`; a subclass has texts."""
        return ()

    def holds(self, needle: str) -> bool:
        """See `View.holds`."""
        return any(needle in text.casefold() for text in self.everything())

    def _labels(self) -> Iterator[str]:
        for key, value in self._headers.label_map.items():
            yield key
            yield value

    def _created(self) -> float | None:
        try:
            return parse_rfc3339(self._headers.created_at)
        except (ValueError, OverflowError):
            return None

    def _decoded(self) -> dict[str, Any]:
        if self._payload is None:
            self._payload = {}
            if self._body is not None:
                # Quarantined bytes, or a payload that no handler could read either, have nothing to match.
                with contextlib.suppress(PaigeantError, *BAD_JSON):
                    self._payload = _decode_written(PaigeantMessage.decode(self._body).payload_bytes)
        return self._payload


class RowView(_HeadersView):
    """A workflow.

    Args:
        fold: What the row belongs to.
        row: The workflow.
        now: Seconds since the Unix epoch.
        body: Its last message, where the query needs the payload.
        judge: Says what its signatures are worth.
    """

    __slots__ = ("_fold", "_judge", "_row")

    def __init__(
        self,
        fold: Fold,
        row: Row,
        now: float,
        body: bytes | None = None,
        judge: Callable[[Row], str] = trust_of,
    ) -> None:
        super().__init__(body, now)
        self._fold = fold
        self._row = row
        self._judge = judge

    @property
    def _headers(self) -> Headers:
        # A row makes them anew each time, so only for who asks.
        return self._row.headers

    def texts(self, name: str) -> Iterable[str]:
        """See `View.texts`."""
        row = self._row
        match name:
            case "state":
                return (str(row.state),)
            case "step":
                return (row.step,) if row.step else ()
            case "stuck":
                stuck = self._fold.stuck(row, self._now)
                return (stuck,) if stuck else ()
            case "error":
                return _error_texts(row.error)
            case "worker":
                return tuple(filter(None, (row.runner, row.worker)))
            case "updated":
                return (rfc3339(row.at),)
            case "trust":
                return (self._judge(row),)
        return super().texts(name)

    def number(self, name: str) -> float | None:
        """See `View.number`."""
        return self._row.at if name == "updated" else super().number(name)

    def everything(self) -> Iterator[str]:
        """See `View.everything`."""
        for name in ("id", "name", "state", "step", "stuck", "error", "worker", "topic"):
            yield from self.texts(name)
        yield from self._row.names
        yield from self._labels()
        if self._row.reason:
            yield self._row.reason
        yield from _leaves(self._decoded(), keys=True)

    def holds(self, needle: str) -> bool:
        """See `View.holds`: of a hundred thousand rows in a part of a second, so nothing is taken apart in vain."""
        row = self._row
        texts = (row.correlation_id, row.name, row.state, row.activity, row.worker, row.runner, row.topic, row.reason)
        if needle in "\0".join(texts).casefold() or needle in _folded(row.names):
            # A needle with a NUL could be found across two texts.
            return "\0" not in needle or super().holds(needle)
        if row.error is not None and any(needle in text.casefold() for text in _error_texts(row.error)):
            return True
        if row.labels and any(needle in text.casefold() for text in self._labels()):
            return True
        if _is_reason(needle) and needle in (self._fold.stuck(row, self._now) or ""):
            return True
        if self._body is None or not _may_hold(self._body, needle):
            return False
        return any(needle in text.casefold() for text in _leaves(self._decoded(), keys=True))


class RecordView(_HeadersView):
    """A record of the journal, told as `tail` tells it: of the step that it is about.

    Args:
        record: The record.
        now: Seconds since the Unix epoch.
        document: `record.to_document()`, where it was made already.
    """

    __slots__ = ("_document", "_record")

    def __init__(self, record: Record, now: float, document: dict[str, Any] | None = None) -> None:
        super().__init__(record.body, now)
        self._record = record
        self._document = record.to_document() if document is None else document

    @property
    def _headers(self) -> Headers:
        return self._record.headers

    def texts(self, name: str) -> Iterable[str]:
        """See `View.texts`."""
        record, document = self._record, self._document
        match name:
            case "state":
                return (str(record.state),) if record.state else ()
            case "kind":
                return (str(record.kind),)
            case "step":
                return (str(document["activity"]),) if document["activity"] else ()
            case "worker":
                return (record.worker,) if record.worker else ()
            case "error":
                return _error_texts(record.detail.get("error"))
            case "stuck":
                # The journal's word for why; what is stuck right now, only a workflow can be asked.
                reason = record.detail.get("reason")
                return (reason,) if isinstance(reason, str) else ()
            case "updated":
                return (document["at"],)
        return super().texts(name)

    def number(self, name: str) -> float | None:
        """See `View.number`."""
        if name == "updated":
            return self._record.at
        if name in ("hop", "attempt"):
            value = self._document[name]
            return value if isinstance(value, int | float) else None
        return super().number(name)

    def everything(self) -> Iterator[str]:
        """See `View.everything`."""
        for name in ("id", "name", "kind", "state", "step", "error", "worker", "topic"):
            yield from self.texts(name)
        yield from self._labels()
        yield from _leaves(self._document["detail"], keys=True)
        yield from _leaves(self._decoded(), keys=True)


@lru_cache(maxsize=4096)
def _folded(names: tuple[str, ...]) -> str:
    """The names of an itinerary, which many workflows share."""
    return "\0".join(names).casefold()


@lru_cache(maxsize=64)
def _is_reason(needle: str) -> bool:
    return any(needle in word for word in STUCK_WORDS)


@lru_cache(maxsize=64)
def _bare(needle: str) -> bytes | None:
    """A needle as it would stand in JSON; None: it could stand there in another way too, such as a slash."""
    plain = needle.isascii() and needle.isprintable() and not any(char in needle for char in '"\\/')
    return needle.encode() if plain and needle else None


def _may_hold(body: bytes, needle: str) -> bool:
    """Whether a needle may be in the payload of a message, without taking it apart; False is certain."""
    bare = _bare(needle)
    if bare is None or not body.isascii() or b"\\u" in body:
        return True
    if bare in body.lower():
        return True
    if _FIGURE.fullmatch(needle) is None:
        return False
    # A number that is no integer may be told in another form than it was written in.
    return _NO_INTEGER.search(body, body.find(b"\n", body.find(b"\n") + 1)) is not None


def _error_texts(error: object) -> Iterable[str]:
    if not isinstance(error, dict):
        return ()
    kind, message = str(error.get("type", "")), str(error.get("message", ""))
    return (kind, message, f"{kind}: {message}")


def _at(value: object, path: list[str]) -> Iterator[object]:
    """Every value that a path can mean: a key may hold dots itself, and of a list each element is asked."""
    if not path:
        yield value
        return
    if isinstance(value, list):
        if path[0].isdecimal() and len(path[0]) < 10 and int(path[0]) < len(value):
            yield from _at(value[int(path[0])], path[1:])
        for item in value:
            if isinstance(item, dict):
                yield from _at(item, path)
    elif isinstance(value, dict):
        for count in range(1, len(path) + 1):
            key = ".".join(path[:count])
            if key in value:
                yield from _at(value[key], path[count:])


def _leaves(value: object, *, keys: bool = False) -> Iterator[str]:
    """Texts in a JSON value, without recursion; of an object with `keys` their names too."""
    waiting = [value]
    left = MAX_LEAVES
    while waiting and left:
        item = waiting.pop()
        left -= 1
        if isinstance(item, dict):
            if keys:
                yield from (key for key in item if isinstance(key, str))
            waiting.extend(reversed(item.values()))
        elif isinstance(item, list):
            waiting.extend(reversed(item))
        elif isinstance(item, str):
            yield item
        elif item is None or isinstance(item, bool):
            yield {None: "null", True: "true", False: "false"}[item]
        elif not isinstance(item, _Written):
            yield str(item)
        else:
            # As `show` has it, and as its value: 1.10 is found by either.
            yield item.text
            if math.isfinite(item):
                yield str(item)
