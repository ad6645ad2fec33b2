"""Whether the audit is whole: what was changed, removed or put in shows, as far as heads were kept elsewhere.

Each entry names the digest of the one before it. Whoever can write to the broker can make
such a chain anew, but not the signatures in it, and not the heads that somebody exported:
an exported head says what the entry with its number was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from paigeant_core.errors import ConfigError
from paigeant_core.operations.audit import AUDIT_TYPE, head_of, number_of
from paigeant_core.security.records import open_record
from paigeant_core.security.refusal import Code, VerificationError
from paigeant_core.security.trust import Trust

VALID = "valid"
UNSIGNED = "unsigned"
UNVERIFIED = "unverified"
EDITED = "edited"
REMOVED = "removed"


class Head(msgspec.Struct, frozen=True):
    """What an audit had come to when its head was exported."""

    topic: str
    n: int
    head: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was written.

    Attributes:
        n: the number of the entry; 0: it has none.
        code: ``edited``, ``removed``, ``unchained``, or why its signature does not count.
        said: a sentence.
    """

    n: int
    code: str
    said: str


@dataclass(slots=True)
class Verdict:
    """What was found.

    Attributes:
        entries: how many were looked at.
        signed: how many of them carry a signature that counts.
        first: the number of the oldest.
        last: the number of the newest.
        problems: what is wrong.
        heads: exported heads that were found as they were.
    """

    entries: int = 0
    signed: int = 0
    first: int = 0
    last: int = 0
    heads: int = 0
    problems: list[Problem] = field(default_factory=list)


def newest_head(topic: str, entries: Sequence[bytes], at: str) -> Head | None:
    """What the audit has come to; None: it has no numbered entry."""
    for data in reversed(entries):
        if (number := number_of(data)) is not None:
            return Head(topic, number, head_of(data), at)
    return None


def read_heads(data: bytes, topic: str) -> list[Head]:
    """Exported heads of a topic, one JSON object a line.

    Raises:
        ConfigError: a line is none.
    """
    found = []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            head = msgspec.json.decode(line, type=Head)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise ConfigError(f"line {number} is no exported head") from None
        if head.topic == topic:
            found.append(head)
    return found


def check(entries: Sequence[bytes], trust: Trust | None, heads: Iterable[Head] = ()) -> Verdict:
    """Go through the audit, oldest entry first; never raises for what it holds.

    Args:
        entries: all that there are.
        trust: whose signatures count; None: none is looked at.
        heads: what was exported.
    """
    verdict = Verdict(entries=len(entries))
    problems = verdict.problems
    by_number: dict[int, str] = {}
    before = b""
    for data in entries:
        number = number_of(data)
        if number is None:
            problems.append(Problem(0, "unchained", f"an entry behind number {verdict.last} has no number"))
            continue
        document = msgspec.json.decode(data, type=dict[str, Any])
        verdict.first = verdict.first or number
        if before:
            _follow(problems, before, verdict.last, number, document)
        elif number == 1 and document.get("prev"):
            problems.append(Problem(1, EDITED, "the first entry says that there was one before"))
        try:
            verdict.signed += _signature(document, trust)
        except VerificationError as refused:
            problems.append(Problem(number, refused.code, str(refused)))
        by_number[number] = head_of(data)
        verdict.last, before = number, data
    for head in heads:
        known = by_number.get(head.n)
        if known == head.head:
            verdict.heads += 1
        elif known is not None:
            problems.append(Problem(head.n, EDITED, f"entry {head.n} is not the one whose head was exported {head.at}"))
        elif head.n > verdict.last:
            said = f"the head of entry {head.n} was exported {head.at}, and the audit ends at {verdict.last}"
            problems.append(Problem(head.n, REMOVED, said))
        elif head.n >= verdict.first:
            problems.append(Problem(head.n, REMOVED, f"entry {head.n}, whose head was exported {head.at}, is gone"))
    return verdict


def _follow(problems: list[Problem], before: bytes, last: int, number: int, document: dict[str, Any]) -> None:
    if number != last + 1:
        missing = f"entries {last + 1} to {number - 1} are gone" if number > last + 1 else f"it stands behind {last}"
        problems.append(Problem(number, REMOVED, missing))
    elif document.get("prev") != head_of(before):
        problems.append(Problem(last, EDITED, f"entry {last} is not the one that entry {number} was made to follow"))


def _signature(document: dict[str, Any], trust: Trust | None) -> bool:
    signature = document.pop("signature", None)
    if signature is None or trust is None:
        return False
    if not isinstance(signature, str):
        raise VerificationError(Code.MALFORMED, "its signature is none")
    _, key, body = open_record(signature, trust, -1, (AUDIT_TYPE,))
    if key.revoked:
        raise VerificationError(Code.REVOKED, f"{key.principal.name}'s key {key.kid} is revoked")
    try:
        signed = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise VerificationError(Code.MALFORMED, "what was signed cannot be read") from None
    if signed != document:
        raise VerificationError(Code.BODY_DIGEST, "it is not what was signed")
    if document.get("operator") != key.principal.name:
        raise VerificationError(Code.ISS, f"it names another operator than {key.principal.name}, whose key signed it")
    return True
