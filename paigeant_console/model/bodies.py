"""The last message of each workflow, as far as they fit, for queries that ask for what is in the payload."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from paigeant_core.erasure import is_marker
from paigeant_core.journal import Kind, Record

__all__ = ["KEPT_BYTES", "BodyCache"]

# A plain string is compared faster than a member of an enumeration.
_QUARANTINED: Final = Kind.QUARANTINED.value

KEPT_BYTES: Final = 32 * 1024 * 1024
"""Bytes of messages that are kept; those that changed longest ago go first."""


class BodyCache:
    """Messages by correlation ID, in two halves: those that changed lately, and those that did before.

    Once the first half is full, what is in the second is let go of at once, and the first takes its place. That costs a
    fraction of what keeping all in their order does, and of the newest messages half the size is kept at least.

    Args:
        size: bytes to keep.
    """

    def __init__(self, size: int = KEPT_BYTES) -> None:
        self._half = size // 2
        self._used = 0
        """Bytes of those that changed lately."""
        self._lately: dict[str, bytes] = {}
        self._before: dict[str, bytes] = {}
        self.dropped = 0
        """How many were let go of, or passed over."""

    def __len__(self) -> int:
        return len(self._lately) + len(self._before)

    def get(self, correlation_id: str) -> bytes | None:
        """The last message of a workflow; None: it is not kept."""
        body = self._lately.get(correlation_id)
        return self._before.get(correlation_id) if body is None else body

    def take(self, records: Iterable[Record]) -> None:
        """Keep the messages that records publish; nothing is decoded."""
        lately, before = self._lately, self._before
        used = self._used
        for record in records:
            body = record.body
            if body is None:
                if is_marker(record):
                    used -= len(lately.pop(record.headers.correlation_id, b""))
                    before.pop(record.headers.correlation_id, None)
                continue
            if not record.state or record.kind == _QUARANTINED:
                continue
            key = record.headers.correlation_id
            used += len(body) - len(lately.get(key, b""))
            lately[key] = body
            if before:
                before.pop(key, None)
            if used > self._half:
                self.dropped += len(before)
                before = self._before = lately
                lately = self._lately = {}
                used = 0
        self._used = used

    def forget(self, workflows: Iterable[str]) -> None:
        """Let go of the messages of some workflows: nobody can ask for them any more."""
        for workflow in workflows:
            self._used -= len(self._lately.pop(workflow, b""))
            self._before.pop(workflow, None)

    def pass_over(self, records: int) -> None:
        """So many records are not taken: there are newer ones."""
        self.dropped += records
