"""What the signatures of workflows in memory are worth: verified a few at a time, for a list that asks.

To verify takes a part of a millisecond for each, and there may be a hundred thousand: so it is done between two keys,
and what was found holds until the workflow has another message, or the policy changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paigeant_console.model.row import Row
from paigeant_console.model.trust import UNSIGNED, examine, statuses

if TYPE_CHECKING:
    from paigeant_core.security.trust import Trust

__all__ = ["Judge"]


@dataclass(frozen=True, slots=True)
class _Case:
    """A message that is to be verified: by what the fence knows it, its bytes, and when it was journalled."""

    token: str
    body: bytes
    at: float


class Judge:
    """Knows what signatures are worth, or finds out.

    Args:
        policy: whose signatures count.
        body: gives the last message of a workflow, as long as it is kept.
        now: seconds since the Unix epoch.
    """

    def __init__(self, policy: Trust, body: Callable[[str], bytes | None], now: Callable[[], float]) -> None:
        self._policy = policy
        self._body = body
        self._now = now
        self._changes = policy.changes
        self._found: dict[str, tuple[str, str]] = {}
        self._waiting: dict[str, _Case] = {}
        self._statuses = frozenset(statuses())

    def __len__(self) -> int:
        """How many wait to be verified."""
        return len(self._waiting)

    def __contains__(self, correlation_id: str) -> bool:
        """Whether a workflow waits for that."""
        return correlation_id in self._waiting

    def known(self, row: Row) -> str | None:
        """What a row's signatures are worth; None: nobody has verified them.

        Args:
            row: which.
        """
        if row.state == "quarantined":
            # Its bytes are not kept, and whoever quarantined it said by which code.
            code = "" if row.error is None else row.error["type"]
            return code if code in self._statuses else None
        if not row.signed:
            return UNSIGNED if row.names else None
        token, status = self._found.get(row.correlation_id, ("", ""))
        return status if token == row.token and status else None

    def ask(self, row: Row) -> bool:
        """Let a row be verified by :meth:`verify`; whether it can be: its message may not be kept any more.

        Args:
            row: which; read under the lock that guards it.
        """
        body = self._body(row.correlation_id) if row.signed else None
        if body is None:
            self._waiting.pop(row.correlation_id, None)
            return False
        self._waiting[row.correlation_id] = _Case(row.token, body, row.at)
        return True

    def verify(self, until: float) -> list[str]:
        """Verify one that waits, and others as long as there is time; no lock is needed.

        Args:
            until: by `time.perf_counter`.

        Returns:
            Which are known now.
        """
        done = []
        while self._waiting:
            correlation_id, case = self._waiting.popitem()
            status = examine(case.body, self._policy, self._now(), case.at).status
            self._found[correlation_id] = case.token, status
            done.append(correlation_id)
            if time.perf_counter() >= until:
                break
        return done

    def forget(self, correlation_id: str) -> None:
        """A workflow has left memory."""
        self._found.pop(correlation_id, None)
        self._waiting.pop(correlation_id, None)

    def start_anew(self) -> None:
        """Nothing is waited for any more."""
        self._waiting.clear()

    def outdated(self) -> bool:
        """Whether the policy has changed, so that all is to be asked anew; what was found is forgotten then."""
        if self._changes == self._policy.changes:
            return False
        self._changes = self._policy.changes
        self._found.clear()
        self._waiting.clear()
        return True
