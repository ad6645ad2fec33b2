"""People with keys, a policy that knows them, and chains that they sign; any field can be made wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from paigeant_core.security.chain import Chain, verify
from paigeant_core.security.keys import SigningKey, algorithm_of, import_jwk
from paigeant_core.security.records import Claims, Operation, Origin, StepDone, digest, sign
from paigeant_core.security.refusal import VerificationError
from paigeant_core.security.trust import Principal, Trust, TrustedKey

AT = 1_800_000_000
"""When the chains here are signed, and verified."""
PAYLOAD = b'{"amount": 5}'
PAID = b'{"amount": 5,"paid":true}'
SLIP = {
    "itinerary": ["validate", {"name": "charge", "arguments": {"amount": 1}, "scopes": ["pay"]}, "notify"],
    "executed": [],
}


def trusted(key: SigningKey, principal: Principal, **more: Any) -> TrustedKey:
    public = import_jwk(key.public_document())
    return TrustedKey(kid=key.kid, algorithm=algorithm_of(public), key=public, principal=principal, **more)


def names(*items: str) -> frozenset[str]:
    return frozenset(items)


@dataclass
class People:
    """Shop starts, payments charges and notifies, desk validates, ann operates, ben only retries."""

    algorithm: str = "Ed25519"
    audience: str = "test"
    keys: dict[str, SigningKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("shop", "desk", "payments", "ann", "ben", "stranger"):
            self.keys[name] = SigningKey.generate(name, algorithm=self.algorithm, audience=self.audience)
        self.principals = {
            "shop": Principal(name="shop", roles=names("dispatcher")),
            "desk": Principal(name="desk", roles=names("worker"), activities=names("validate"), inserts=names("*")),
            "payments": Principal(
                name="payments",
                roles=names("worker"),
                activities=names("charge", "notify", "review"),
                inserts=names("review"),
            ),
            "ann": Principal(name="ann", roles=names("operator"), operations=names("*")),
            "ben": Principal(name="ben", roles=names("operator"), operations=names("retry")),
        }

    def trust(self, audience: str | None = None, **of: dict[str, Any]) -> Trust:
        """The policy; ``of``: validity by name."""
        keys = [trusted(self.keys[name], principal, **of.get(name, {})) for name, principal in self.principals.items()]
        return Trust(keys, self.audience if audience is None else audience)


class Story:
    """A chain while it is written."""

    def __init__(self, people: People, workflow: str = "order-1") -> None:
        self.people = people
        self.workflow = workflow
        self.records: list[str] = []
        self.at = AT
        self.trust = people.trust()

    def origin(self, by: str = "shop", **wrong: Any) -> Story:
        fields: dict[str, Any] = {
            "iss": by,
            "iat": self.at,
            "wf": self.workflow,
            "n": 0,
            "ep": 1,
            "out": digest(PAYLOAD),
            "topic": "workflows",
            "aud": "test",
            "slip": SLIP,
        } | wrong
        fields["slip"] = msgspec.Raw(json.dumps(fields["slip"]).encode())
        return self._add(by, Origin(**fields))

    def step(self, by: str, step: str, hop: int, **wrong: Any) -> Story:
        fields = self._common(by) | {"step": step, "hop": hop, "att": 1, "res": "done"} | wrong
        return self._add(by, StepDone(**_raw(fields)))

    def operate(self, by: str, op: str, **wrong: Any) -> Story:
        common = self._common(by)
        common["ep"] += 1
        return self._add(by, Operation(**_raw(common | {"op": op, "reason": "because"} | wrong)))

    def started(self) -> Story:
        return self.origin().step("desk", "validate", 1)

    def charged(self) -> Story:
        return self.started().step("payments", "charge", 2, out=digest(PAID))

    def verify(self, now: float = AT) -> Chain:
        return verify(self.records, self.trust, now)

    def _common(self, by: str) -> dict[str, Any]:
        # What the right next record would say, if all before is right.
        chain = verify(self.records, self.people.trust(), self.at)
        return {
            "iss": by,
            "iat": self.at,
            "wf": self.workflow,
            "n": chain.length,
            "ep": chain.epoch,
            "prev": chain.head,
            "before": chain.payload,
            "out": chain.payload,
        }

    def _add(self, by: str, claims: Claims) -> Story:
        self.records.append(sign(self.people.keys[by], claims))
        return self


def _raw(fields: dict[str, Any]) -> dict[str, Any]:
    if "ins" in fields:
        fields["ins"] = [msgspec.Raw(json.dumps(step).encode()) for step in fields["ins"]]
    return fields


def refused(story: Story, now: float = AT) -> tuple[str, int]:
    """Code and place of the refusal."""
    with pytest.raises(VerificationError) as caught:
        story.verify(now)
    return caught.value.code, caught.value.index
