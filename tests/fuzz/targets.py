"""What is fuzzed: each target reads bytes, may refuse them in one way, and keeps its promises about the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.fuzz import codecs, held, signed, words


@dataclass(frozen=True, slots=True)
class Target:
    """One reader.

    Attributes:
        name: as the command line calls it.
        check: reads an input; any exception is a finding.
        seeds: inputs to begin with.
        words: what such inputs are made of.
    """

    name: str
    check: Callable[[bytes], None]
    seeds: Sequence[bytes] = field(repr=False)
    words: Sequence[bytes] = field(default=(), repr=False)


def all_targets() -> dict[str, Target]:
    """Every target, by name."""
    made = (
        Target("message", codecs.message, codecs.MESSAGES, codecs.WORDS),
        Target("headers", codecs.headers, [body.partition(b"\n")[0] for body in codecs.MESSAGES], codecs.WORDS),
        Target("slip", codecs.slip, codecs.SLIPS, codecs.WORDS),
        Target("redis", codecs.redis_entry, codecs.ENTRIES, codecs.WORDS),
        Target("rabbitmq", codecs.rabbit_content, codecs.contents(), codecs.WORDS),
        Target("capsule", codecs.capsule, codecs.CAPSULES, codecs.WORDS),
        Target("record", signed.record, signed.record_seeds(), signed.WORDS),
        Target("claims", signed.claims, signed.claim_seeds(), signed.WORDS),
        Target("chain", signed.chain, signed.chain_seeds(), signed.WORDS),
        Target("jwk", signed.jwk, signed.jwk_seeds(), signed.WORDS),
        Target("token", held.token, held.token_seeds(), held.TOKEN_WORDS),
        Target("audit", held.audit, held.audit_seeds(), held.AUDIT_WORDS),
        Target("query", words.query, words.QUERIES, words.QUERY_WORDS),
        Target("safe_text", words.safe_text, words.TEXTS, words.TEXT_WORDS),
    )
    return {target.name: target for target in made}
