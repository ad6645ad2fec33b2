"""What the signatures of a workflow say: whether they hold, from which hop on they do not, and who did what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from paigeant_core.clock import rfc3339
from paigeant_core.errors import PaigeantError
from paigeant_core.journal import Record, without_late
from paigeant_core.message import PaigeantMessage

if TYPE_CHECKING:
    from paigeant_core.security.account import Entry
    from paigeant_core.security.trust import Trust

__all__ = ["UNSIGNED", "UNVERIFIED", "VALID", "Finding", "examine", "last_body", "statuses"]

VALID: Final = "valid"
UNSIGNED: Final = "unsigned"
UNVERIFIED: Final = "unverified"
"""It is signed, and there is no policy here to verify it by."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found.

    Attributes:
        status: one of the words above, or the code of the first refusal.
        reason: why, in a sentence; empty where nothing is to be said.
        broken_since: the hop from which on nothing counts; None: none.
        entries: the signed records, oldest first; empty where they were not verified.
    """

    status: str
    reason: str = ""
    broken_since: int | None = None
    entries: Sequence[Entry] = ()

    def hop(self, hop: int) -> Entry | None:
        """Who signed that this hop was done, the last time; None: nobody did."""
        return next((entry for entry in reversed(self.entries) if entry.kind == "step" and entry.hop == hop), None)

    @property
    def interventions(self) -> Sequence[Entry]:
        """What operators did, and who."""
        return [entry for entry in self.entries if entry.kind == "operation"]

    def to_document(self) -> dict[str, Any]:
        """As ``show --json`` shows it."""
        return {
            "trust": self.status,
            "trust_reason": self.reason or None,
            "trust_broken_since": self.broken_since,
            "signatures": [
                {
                    "kind": entry.kind or None,
                    "name": entry.name or None,
                    "hop": entry.hop or None,
                    "signer": entry.signer or None,
                    "key": entry.kid or None,
                    "at": rfc3339(entry.at) if entry.at else None,
                    "result": entry.result or None,
                    "status": entry.status,
                }
                for entry in self.entries
            ],
        }


def statuses() -> list[str]:
    """All that :attr:`Finding.status` can be."""
    # Not imported before somebody asks for them.
    from paigeant_core.errors import InvalidMessage, UnsupportedVersion
    from paigeant_core.security.refusal import Code

    return list(
        dict.fromkeys([VALID, UNSIGNED, UNVERIFIED, *map(str, Code), InvalidMessage.code, UnsupportedVersion.code])
    )


def last_body(history: Sequence[Record]) -> tuple[bytes, float] | None:
    """The bytes that a workflow stands at, and when they were journalled; None: the journal has none any more."""
    for record in reversed(without_late(history)):
        if record.state and record.body is not None:
            return record.body, record.at
    return None


def examine(body: bytes, policy: Trust | None, now: float, at: float) -> Finding:
    """Look at the records of a message.

    Args:
        body: the message's bytes.
        policy: whose signatures count; None: nobody can tell here.
        now: the time, seconds since the Unix epoch.
        at: when the message was journalled.
    """
    if policy is None:
        try:
            signed = bool(PaigeantMessage.decode(body).records)
        except PaigeantError:
            signed = False
        return Finding(UNVERIFIED, "there is no trust policy here: set PAIGEANT_TRUST") if signed else Finding(UNSIGNED)
    from paigeant_core.security.account import account

    found = account(body, policy, now, at)
    if found.status in (VALID, UNSIGNED):
        return Finding(found.status, found.reason, entries=found.entries)
    since = 1
    for entry in found.entries:
        if entry.status != VALID:
            break
        if entry.kind == "step":
            since = entry.hop + 1 if entry.result == "done" else entry.hop
    return Finding(found.status, found.reason, since, found.entries)
