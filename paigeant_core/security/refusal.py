"""Why a signed record, a chain of them or a message is refused: one stable code each."""

from __future__ import annotations

from enum import StrEnum

from paigeant_core.errors import MessageError


class Code(StrEnum):
    """The codes, in the order in which what they stand for is looked at."""

    TOO_LARGE = "too_large"
    """A record or a chain over its cap."""
    UNSIGNED = "unsigned"
    """No records, where signatures are required."""
    MALFORMED = "malformed"
    """No compact JWS, or claims that are none."""
    HEADER = "header"
    """The protected header is not exactly alg, typ and kid."""
    TYP = "typ"
    """A type of record that cannot stand at this place."""
    UNKNOWN_KEY = "unknown_key"
    """The key is not in the trust policy."""
    ALG = "alg"
    """Not the algorithm of the key."""
    SIGNATURE = "signature"
    """The signature is not of these bytes by this key."""
    ISS = "iss"
    """It names another principal than the key's."""
    KEY_WINDOW = "key_window"
    """Signed before or after the key was valid."""
    REVOKED = "revoked"
    """The key was revoked."""
    FUTURE = "future"
    """Signed in the future."""
    AUD = "aud"
    """Signed for another environment."""
    SPLICE = "splice"
    """It belongs to another workflow."""
    SEQUENCE = "sequence"
    """It carries the number of another place in the chain."""
    LINK = "link"
    """It does not follow the record before it."""
    INPUT_DIGEST = "input_digest"
    """It starts from another payload than the one before left."""
    EPOCH = "epoch"
    """An older epoch than the workflow had reached."""
    TIME_REGRESS = "time_regress"
    """Signed before the record that it follows."""
    ROLE = "role"
    """Its principal has not the role for such a record."""
    NOT_AUTHORIZED = "not_authorized"
    """Its principal may not do this activity or operation."""
    ORDER = "order"
    """Not the step that was to be done."""
    INSERT = "insert"
    """It inserts steps that its principal may not insert."""
    SCOPE = "scope"
    """It inserts a step with permissions that the workflow was not started with."""
    REASON = "reason"
    """An operation without a reason."""
    APPROVAL = "approval"
    """It takes a second operator, and none signed the same."""
    OP_BODY = "op_body"
    """It changes the payload, which this kind of record may not."""
    TOPIC = "topic"
    """The message is in another topic than the one signed."""
    SLIP = "slip"
    """The message's routing slip is not the one that the records give."""
    RUN = "run"
    """The message's run is not the one that the records give."""
    BODY_DIGEST = "body_digest"
    """The payload is not the one that was signed last."""
    TOKEN_DIGEST = "token_digest"  # noqa: S105 - the name of a refusal
    """The on-behalf-of token is not the one that was signed."""
    EXPIRED = "expired"
    """Past the workflow's signed deadline."""
    ROLLBACK = "rollback"
    """An older state of the workflow, or a second copy of it, put into a queue again."""
    FORK = "fork"
    """Another line of the workflow than the one that went on."""


class VerificationError(MessageError):
    """What was signed and what is there do not agree.

    Args:
        code: why, for scripts, the journal and quarantine.
        said: why, in a sentence without anything from the payload.
        index: the record's place in the chain; -1: the message itself.
    """

    code = "unverified"

    def __init__(self, code: Code, said: str, index: int = -1) -> None:
        super().__init__(f"record {index}: {said}" if index >= 0 else said)
        self.code = str(code)
        self.index = index
