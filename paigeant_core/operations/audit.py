"""The audit: who did what to which workflows, from where, why, and what came of it; what was refused too.

An entry is JSON and stands in a store of the broker's beside the journal, so it is kept
when the journal is trimmed. Each has a number and the digest of the one before it, so what
is removed or changed shows (:mod:`paigeant_core.security.audit_chain`). Where the operator
has a key it is signed; else what it says of the operator and of where they were is a claim
of their console, not a proof. A console that is read-only writes nothing, so of what it refuses there is none.
"""

from __future__ import annotations

import getpass
import os
import socket
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec

from paigeant_core.clock import rfc3339
from paigeant_core.errors import ConfigError, Refused
from paigeant_core.json_values import is_text, writable
from paigeant_core.operations.plan import Result

if TYPE_CHECKING:
    from paigeant_core.security.keys import Signer

MAX_REASON = 1000

AUDIT_TYPE = "paigeant-audit+jws"
"""What the signature of an entry says that it is of."""

NAMED = 100
"""Workflows that an entry names one by one, each with where it stood before and after; beyond, they are counted, and
the operation's own log has their IDs."""


def checked(action: str, reason: str) -> str:
    """The reason as it is kept.

    Raises:
        Refused: there is none, or it is too long.
        ConfigError: it is no UTF-8.
    """
    if not reason.strip() or len(reason) > MAX_REASON:
        raise Refused(f"{action}: give a reason of 1 to {MAX_REASON} characters, it is kept in the audit")
    check_text(action, "reason", reason)
    return reason.strip()


def check_text(action: str, what: str, text: str) -> None:
    """Check that the audit can keep a text as it is; one from a command line may hold bytes that are no UTF-8.

    Args:
        action: what is to be done.
        what: the text is.
        text: it.

    Raises:
        ConfigError: it cannot.
    """
    if not is_text(text):
        raise ConfigError(
            f"{action}: the {what} {ascii(text)[:80]} is no UTF-8, and the audit could not keep it; write it in UTF-8"
        )


def default_operator() -> str:
    """User and host of this process: a claim, not a proof."""
    return writable(f"{_user()}@{socket.gethostname()}")


@cache
def whereabouts() -> Mapping[str, Any]:
    """Where this process is: host, user, process, and over ssh whose address it is used from."""
    found: dict[str, Any] = {"host": writable(socket.gethostname()), "user": writable(_user()), "pid": os.getpid()}
    if hasattr(os, "getuid"):
        found["uid"] = os.getuid()
    # sshd sets it: client address, client port, server address, server port.
    if client := os.environ.get("SSH_CONNECTION", "").split(" ")[0]:
        found["ssh"] = writable(client[:100])
    return found


def entry(
    action: str,
    at: float,
    *,
    operator: str,
    reason: str,
    operation_id: str,
    targets: int,
    outcome: str,
    allowed: bool = True,
    selection: str = "",
    results: Sequence[Result] = (),
) -> bytes:
    """One entry.

    Args:
        action: the verb, and where it is of no workflow what it was done to.
        at: when.
        operator: who.
        reason: why.
        operation_id: of the operation; empty where none was begun.
        targets: how many workflows were selected.
        outcome: what came of it.
        allowed: False: it was refused, and the outcome says why.
        selection: by what they were selected, as it was written.
        results: what came of each.
    """
    document: dict[str, Any] = {
        "at": rfc3339(at),
        # What was done is done by now: a text that cannot be written as it is must not cost the entry.
        "operator": writable(operator),
        "action": writable(action),
        "reason": writable(reason),
        "operation_id": operation_id,
        "targets": targets,
        "outcome": writable(outcome),
        "allowed": allowed,
        "from": whereabouts(),
        "selection": writable(selection),
    }
    if results:
        document["before"] = Counter(result.before for result in results if result.before)
        document["after"] = Counter(result.after for result in results if result.after)
        document["workflows"] = [
            {
                "correlation_id": result.correlation_id,
                "before": result.before,
                "after": result.after,
                "outcome": result.outcome,
            }
            for result in results[:NAMED]
        ]
    return msgspec.json.encode(document)


def linked(data: bytes, before: bytes, signer: Signer | None) -> bytes:
    """An entry that follows another: numbered, with the digest of that, and signed where there is a key.

    Args:
        data: the entry.
        before: the newest entry; empty: there is none.
        signer: the operator's key.
    """
    document = msgspec.json.decode(data, type=dict[str, Any])
    document["n"] = (number_of(before) or 0) + 1
    document["prev"] = head_of(before) if before else ""
    if signer is None:
        return msgspec.json.encode(document)
    document["key"] = signer.kid
    # The whole of it is what is signed, and stands beside the signature for whoever only reads.
    document["signature"] = signer.sign(AUDIT_TYPE, msgspec.json.encode(document))
    return msgspec.json.encode(document)


def head_of(data: bytes) -> str:
    """What the entry behind this one names: SHA-256 of its bytes, base64url without padding."""
    return urlsafe_b64encode(sha256(data).digest()).rstrip(b"=").decode()


def number_of(data: bytes) -> int | None:
    """The number of an entry, 1…; None: it has none."""
    try:
        number = msgspec.json.decode(data, type=dict[str, Any]).get("n")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 1 << 53 else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
