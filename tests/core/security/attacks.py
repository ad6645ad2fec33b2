"""Attacks on a signed workflow, each as the bytes that somebody who writes to the broker puts into a queue.

The attacker has every message there ever was, can write what he likes, and where the attack says so has one key that
the policy trusts for something else. Every attack begins with an honest message for `charge` and makes it wrong in one
way.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from joserfc import jws
from joserfc.jwk import OctKey

from paigeant_core.delegation import Delegation
from paigeant_core.message import Headers, PaigeantMessage
from paigeant_core.security.records import STEP, digest
from paigeant_core.security.refusal import Code
from tests.core.security.kit import PAID, PAYLOAD, SLIP, People, Story

TOKEN = "a token of Ann's"
PAYLOADS = {digest(body): body for body in (PAYLOAD, PAID)}


@dataclass(frozen=True, slots=True)
class Attack:
    """What is made wrong, and the code that it has to be refused with."""

    code: str
    forge: Callable[[Scene], PaigeantMessage]
    queue: str = ""
    """Where it is put; else where its headers say."""


class Scene:
    """The people, the topic and the time of an attack, and the workflow that it is on."""

    def __init__(self, people: People, topic: str, at: int, workflow: str) -> None:
        self.people = people
        self.topic = topic
        self.at = at
        self.workflow = workflow

    def story(self, workflow: str = "", **origin: Any) -> Story:
        """The honest beginning: started by the shop, validated by the desk."""
        return self.bare(workflow, **origin).step("desk", "validate", 1)

    def bare(self, workflow: str = "", **origin: Any) -> Story:
        """Started, and no more."""
        story = Story(self.people, workflow or self.workflow)
        story.at = self.at
        return story.origin(topic=self.topic, **origin)

    def message(self, story: Story, **wrong: Any) -> PaigeantMessage:
        """The message that the honest part of a chain gives, with `wrong` headers, slip, payload, token or records."""
        chain = story.verify(self.at)
        slip = wrong.pop("slip", None) or chain.slip.copy()
        records = wrong.pop("records", story.records)
        payload = wrong.pop("payload", None) or PAYLOADS[chain.payload]
        token = wrong.pop("token", None)
        fields: dict[str, Any] = {
            "message_id": f"m-{self.workflow}",
            "correlation_id": self.workflow,
            "topic": self.topic,
            "activity": slip.current_name(),
            "hop": slip.hop,
            "run": chain.run,
            "epoch": chain.epoch,
        }
        return PaigeantMessage(Headers(**(fields | wrong)), slip, payload, obo_token=token, records=list(records))

    def after(self, write: Callable[[Story], object], **wrong: Any) -> PaigeantMessage:
        """The message at `charge`, with one more record that somebody wrote."""
        story = self.story()
        honest = self.message(story)
        write(story)
        honest.records = list(story.records)
        honest.headers = msgspec.structs.replace(honest.headers, **wrong)
        return honest

    def header(self, **changes: Any) -> PaigeantMessage:
        """The last record's protected header changed, its payload and signature kept."""
        story = self.story()
        head, payload, signature = story.records[-1].split(".")
        header = json.loads(_decoded(head)) | changes
        return self.message(story, records=[*story.records[:-1], f"{_encoded(header)}.{payload}.{signature}"])


def _decoded(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _encoded(document: object) -> str:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _resigned(scene: Scene, change: Callable[[bytes], bytes], by: str = "desk") -> PaigeantMessage:
    """The last record's claims changed as bytes, and signed by somebody with a key."""
    story = scene.story()
    honest = scene.message(story)
    claims = change(_decoded(story.records[-1].split(".")[1]))
    honest.records = [*story.records[:-1], scene.people.keys[by].sign(STEP, claims)]
    return honest


def _edited_claim(scene: Scene) -> PaigeantMessage:
    story = scene.story()
    head, payload, signature = story.records[-1].split(".")
    claims = json.loads(_decoded(payload)) | {"att": 2}
    return scene.message(story, records=[story.records[0], f"{head}.{_encoded(claims)}.{signature}"])


def _order(scene: Scene, order: Callable[[list[str]], list[str]]) -> PaigeantMessage:
    story = scene.story().step("payments", "charge", 2, out=digest(PAID))
    return scene.message(story, records=order(story.records))


def _spliced(scene: Scene) -> PaigeantMessage:
    other = scene.story(f"{scene.workflow}-other")
    story = scene.bare()
    return scene.message(scene.story(), records=[*story.records, other.records[1]])


def _new_origin(scene: Scene) -> PaigeantMessage:
    story, other = scene.story(), scene.bare(slip={"itinerary": ["validate", "charge"], "executed": []})
    return scene.message(story, records=[other.records[0], story.records[1]])


def _redirected(scene: Scene) -> PaigeantMessage:
    story = scene.story()
    slip = story.verify(scene.at).slip.copy()
    slip.itinerary.reverse()
    return scene.message(story, slip=slip)


def _wider(scene: Scene) -> PaigeantMessage:
    story = scene.story()
    slip = story.verify(scene.at).slip.copy()
    document = slip.to_document()
    document["itinerary"][0]["scopes"] = ["pay", "refund"]
    return scene.message(story, slip=type(slip).from_document(document))


def _with_public_key_as_secret(scene: Scene) -> PaigeantMessage:
    story = scene.story()
    head, payload, _ = story.records[-1].split(".")
    secret = OctKey.import_key(json.dumps(scene.people.keys["desk"].public_document()))
    header = json.loads(_decoded(head)) | {"alg": "HS256"}
    forged = jws.serialize_compact(header, _decoded(payload), secret, algorithms=["HS256"])
    return scene.message(story, records=[story.records[0], forged])


def _none(scene: Scene) -> PaigeantMessage:
    message = scene.header(alg="none")
    message.records[-1] = f"{message.records[-1].rpartition('.')[0]}."
    return message


def _other_last_bits(scene: Scene) -> PaigeantMessage:
    story = scene.story()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = story.records[-1]
    other = alphabet[alphabet.index(last[-1]) + 1]
    return scene.message(story, records=[story.records[0], last[:-1] + other])


def _compensated(scene: Scene) -> PaigeantMessage:
    story = scene.bare(slip=SLIP | {"on_failure": "compensate"})
    story.step("desk", "validate", 1).step("payments", "charge", 2, res="failed")
    return scene.message(story.step("desk", "validate", 1, res="undone"), epoch=7)


def _step(by: str = "payments", step: str = "charge", hop: int = 2, **wrong: Any) -> Callable[[Scene], PaigeantMessage]:
    return lambda scene: scene.after(lambda story: story.step(by, step, hop, **wrong))


def _operation(by: str, op: str, **wrong: Any) -> Callable[[Scene], PaigeantMessage]:
    return lambda scene: scene.after(lambda story: story.operate(by, op, **wrong), epoch=2)


def _staged(scene: Scene) -> PaigeantMessage:
    honest = scene.message(scene.bare(), activity="charge")
    story = Story(scene.people, scene.workflow)
    story.at = scene.at
    slip = scene.story().verify(scene.at).slip
    honest.records = story.origin(topic=scene.topic, aud="staging").records
    return PaigeantMessage(
        msgspec.structs.replace(honest.headers, hop=2), slip, honest.payload_bytes, records=honest.records
    )


def _elsewhere(scene: Scene) -> PaigeantMessage:
    story = Story(scene.people, scene.workflow)
    story.at = scene.at
    story.origin(topic=f"{scene.topic}-2").step("desk", "validate", 1)
    return scene.message(story)


def _started_by(scene: Scene, name: str) -> PaigeantMessage:
    honest = scene.message(scene.story())
    story = Story(scene.people, scene.workflow)
    story.at = scene.at
    honest.records = story.origin(by=name, topic=scene.topic).records
    return honest


def _argued(scene: Scene) -> PaigeantMessage:
    story = scene.story()
    document = story.verify(scene.at).slip.to_document()
    document["itinerary"][0]["arguments"] = {"amount": 1.0}
    return scene.message(story, slip=type(story.verify(scene.at).slip).from_document(document))


def _long_ago(story: Story) -> object:
    return _dated(story, -600)


def _dated(story: Story, seconds: int) -> object:
    return story.step("payments", "charge", 2, iat=story.at + seconds)


def _delegation(**fields: Any) -> Delegation:
    return Delegation(**({"iss": "idp", "sub": "ann", "scope": ("pay",), "tok": digest(TOKEN.encode())} | fields))


def _reauthorized(scene: Scene, **other: Any) -> PaigeantMessage:
    """A release that hands over another token than one of the same user for no more."""
    story = scene.story(dlg=_delegation(), tok=digest(b"sealed"))
    honest = scene.message(story)
    honest.headers = msgspec.structs.replace(honest.headers, epoch=2)
    story.operate("ann", "release", dlg=_delegation(tok=digest(b"new"), **other), tok=digest(b"new and sealed"))
    honest.records = list(story.records)
    return honest


def _edited_delegation(scene: Scene) -> PaigeantMessage:
    message = scene.message(scene.story(dlg=_delegation(jwe=""), tok=digest(b"sealed")))
    message.delegation = _delegation(jwe="sealed", scope=("pay", "admin"))
    return message


ATTACKS: Mapping[str, Attack] = {
    # -- the 36 of the design, in its order; rollback and fork, which need a hop that was done, are in the test
    "edit-body": Attack(Code.BODY_DIGEST, lambda s: s.message(s.story(), payload=b'{"amount": 5000}')),
    "swap-body": Attack(Code.BODY_DIGEST, lambda s: s.message(s.story(), payload=PAID)),
    "edit-claim": Attack(Code.SIGNATURE, _edited_claim),
    "drop": Attack(Code.SEQUENCE, lambda s: _order(s, lambda records: [records[0], records[2]])),
    "reorder": Attack(Code.SEQUENCE, lambda s: _order(s, lambda records: [records[0], records[2], records[1]])),
    "duplicate": Attack(Code.SEQUENCE, lambda s: _order(s, lambda records: [*records[:2], *records[1:]])),
    "splice": Attack(Code.SPLICE, _spliced),
    "replace-origin": Attack(Code.LINK, _new_origin),
    "wrong-worker": Attack(Code.NOT_AUTHORIZED, _step(by="desk")),
    "skip-ahead": Attack(Code.ORDER, _step(step="notify", hop=3)),
    "forbidden-insert": Attack(Code.INSERT, _step(ins=["charge"])),
    "insert-over-the-limit": Attack(Code.INSERT, _step(ins=["review"] * 99)),
    "wider-insert": Attack(Code.SCOPE, _step(ins=[{"name": "review", "scopes": ["admin"]}])),
    "wider-scope": Attack(Code.SLIP, _wider),
    "redirect": Attack(Code.SLIP, _redirected),
    "worker-forges-operation": Attack(Code.ROLE, _operation("payments", "retry")),
    "junior-operator-replays": Attack(Code.NOT_AUTHORIZED, _operation("ben", "replay")),
    "body-edit-under-retry": Attack(Code.OP_BODY, _operation("ann", "retry", out=digest(PAID))),
    "no-reason": Attack(Code.REASON, _operation("ann", "retry", reason=" ")),
    "type-confusion": Attack(Code.TYP, lambda s: s.header(typ="paigeant-origin+jws")),
    "none": Attack(Code.MALFORMED, _none),
    "hs256-with-the-public-key": Attack(Code.ALG, _with_public_key_as_secret),
    "crit": Attack(Code.HEADER, lambda s: s.header(crit=["exp"], exp=1)),
    "embedded-jwk": Attack(Code.HEADER, lambda s: s.header(jwk=s.people.keys["stranger"].public_document())),
    "unknown-kid": Attack(Code.UNKNOWN_KEY, _step(by="stranger")),
    "base64-last-bits": Attack(Code.MALFORMED, _other_last_bits),
    "base64-padding": Attack(Code.MALFORMED, lambda s: _order(s, lambda records: [records[0], records[1] + "=="])),
    "claim-twice": Attack(Code.MALFORMED, lambda s: _resigned(s, lambda claims: claims[:-1] + b',"att":9}')),
    "token-swap": Attack(Code.TOKEN_DIGEST, lambda s: s.message(s.story(tok=digest(TOKEN.encode())), token="another")),
    "cross-environment": Attack(Code.AUD, _staged),
    "past-the-deadline": Attack(Code.EXPIRED, lambda s: s.message(s.story(exp=s.at - 60))),
    "dated-back": Attack(Code.TIME_REGRESS, lambda s: s.after(_long_ago)),
    "300-records": Attack(Code.TOO_LARGE, lambda s: _order(s, lambda records: records[:1] + records[1:2] * 299)),
    "stripped": Attack(Code.UNSIGNED, lambda s: s.message(s.story(), records=[])),
    # -- more that was found since
    "none-with-a-signature": Attack(Code.ALG, lambda s: s.header(alg="none")),
    "other-algorithm": Attack(
        Code.ALG, lambda s: s.header(alg="ES256" if s.people.algorithm == "Ed25519" else "Ed25519")
    ),
    "another-name": Attack(Code.ISS, lambda s: _resigned(s, lambda claims: claims.replace(b"desk", b"shop"))),
    "another-workflow": Attack(Code.SPLICE, lambda s: s.message(s.story(f"{s.workflow}-2"))),
    "another-topic": Attack(Code.TOPIC, _elsewhere),
    "run-raised": Attack(Code.RUN, lambda s: s.message(s.story(), run=2)),
    "epoch-lowered": Attack(Code.EPOCH, lambda s: s.message(s.story().operate("ann", "retry"), epoch=1)),
    "epoch-beyond-numbers": Attack(Code.MALFORMED, lambda s: s.message(s.story(), epoch=10**30)),
    "wrong-queue": Attack(Code.MALFORMED, lambda s: s.message(s.bare()), queue="charge"),
    "hop-renumbered": Attack(Code.MALFORMED, lambda s: s.message(s.story(), hop=1)),
    "other-result-for-the-payload": Attack(Code.INPUT_DIGEST, _step(before=digest(PAID))),
    "operation-in-an-old-epoch": Attack(Code.EPOCH, _operation("ann", "retry", ep=1)),
    "from-tomorrow": Attack(Code.FUTURE, lambda s: s.after(lambda story: _dated(story, 86_400))),
    "a-time-of-400-digits": Attack(
        Code.MALFORMED, lambda s: _resigned(s, lambda claims: claims.replace(str(s.at).encode(), b"1" + b"0" * 400))
    ),
    "compensation-uncalled-for": Attack(Code.ORDER, _step(res="failed")),
    "compensated-again": Attack(Code.ORDER, _compensated),
    "two-records-as-one": Attack(Code.MALFORMED, lambda s: _order(s, lambda records: ["\n".join(records)])),
    "worker-as-operator": Attack(Code.SIGNATURE, lambda s: s.header(typ="paigeant-op+jws")),
    "somebody-elses-kid": Attack(Code.SIGNATURE, lambda s: s.header(kid=s.people.keys["payments"].kid)),
    "header-without-end": Attack(Code.HEADER, lambda s: s.header(kid="x" * 4000)),
    "worker-starts-a-workflow": Attack(Code.ROLE, lambda s: _started_by(s, "payments")),
    "arguments-edited": Attack(Code.SLIP, _argued),
    # -- by operators who go too far
    "replay-from-nowhere": Attack(Code.ORDER, _operation("ann", "replay", back=9)),
    "retry-that-goes-back": Attack(Code.OP_BODY, _operation("ann", "retry", back=0)),
    "replay-asked-of-a-running-step": Attack(Code.OP_BODY, _operation("ann", "replay", asks=True)),
    "steps-kept-in-front-of-its-own": Attack(Code.INSERT, _step(behind=1)),
    "insert-under-hold": Attack(Code.INSERT, _operation("ann", "hold", ins=["review"])),
    "wider-insert-by-an-operator": Attack(
        Code.SCOPE, _operation("ann", "insert", ins=[{"name": "review", "scopes": ["admin"]}])
    ),
    "token-handed-to-nobodys-workflow": Attack(Code.NOT_AUTHORIZED, _operation("ann", "release", tok=digest(b"mine"))),
    "token-of-another-user": Attack(Code.NOT_AUTHORIZED, lambda s: _reauthorized(s, sub="ben", scope=("pay",))),
    "token-for-more": Attack(Code.SCOPE, lambda s: _reauthorized(s, sub="ann", scope=("pay", "admin"))),
    "delegation-edited": Attack(Code.TOKEN_DIGEST, _edited_delegation),
}
"""By name, which is the attacked workflow's ID, too."""
