"""The last message of each workflow, as far as they fit, for queries that ask for what is in the payload."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from paigeant_core.erasure import is_marker
from paigeant_core.journal import Kind, Record

__all__ = ["KEPT_BYTES", "BodyCache"]

_QUARANTINED = Kind.QUARANTINED

KEPT_BYTES: Final = 32 * 1024 * 1024
"""Bytes of messages that are kept; those that changed longest ago go first."""


class BodyCache:
    """Messages by correlation ID.

    Args:
        size: bytes to keep.
    """

    def __init__(self, size: int = KEPT_BYTES) -> None:
        self._size = size
        self._used = 0
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self.dropped = 0
        """How many were let go of."""

    def __len__(self) -> int:
        return len(self._bodies)

    def get(self, correlation_id: str) -> bytes | None:
        """The last message of a workflow; None: it is not kept."""
        return self._bodies.get(correlation_id)

    def take(self, records: Iterable[Record]) -> None:
        """Keep the messages that records publish; nothing is decoded."""
        bodies = self._bodies
        for record in records:
            body = record.body
            if body is None:
                if is_marker(record):
                    self._used -= len(bodies.pop(record.headers.correlation_id, b""))
                continue
            if not record.state or record.kind == _QUARANTINED:
                continue
            key = record.headers.correlation_id
            # Taken out, so that it comes to the end.
            old = bodies.pop(key, None)
            bodies[key] = body
            self._used += len(body) if old is None else len(body) - len(old)
        while self._used > self._size and len(self._bodies) > 1:
            _, gone = self._bodies.popitem(last=False)
            self._used -= len(gone)
            self.dropped += 1
