"""Writes the golden chains anew: ``python -m tests.core.security.golden.make``; the same bytes every time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from paigeant_core.message import PaigeantMessage
from paigeant_core.security.hop import mark_of
from paigeant_core.security.keys import SigningKey, import_jwk, segment
from paigeant_core.security.records import digest
from paigeant_core.security.refusal import Code
from tests.core.security.attacks import ATTACKS, TOKEN, Scene
from tests.core.security.kit import AT, PAID, PAYLOAD, SLIP, People, Story

HERE = Path(__file__).parent
TOPIC = "golden"
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_WHOLE = ("300-records", "epoch-beyond-numbers")
"""Attacks that make a large file, or one that no reader need get so far with."""


class FixedKey(SigningKey):
    """A key that is made of its name, and signs the same bytes the same way (RFC 6979 for ES256)."""

    def __init__(self, name: str, algorithm: str) -> None:
        secret = sha256(f"golden {algorithm} {name}".encode()).digest()
        self._curve: ec.EllipticCurvePrivateKey | None = None
        if algorithm == "Ed25519":
            public = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
            document = {"kty": "OKP", "crv": "Ed25519", "x": segment(public), "d": segment(secret)}
        else:
            number = int.from_bytes(secret) % (_ORDER - 1) + 1
            self._curve = ec.derive_private_key(number, ec.SECP256R1())
            point = self._curve.public_key().public_numbers()
            x, y, d = (segment(value.to_bytes(32)) for value in (point.x, point.y, number))
            document = {"kty": "EC", "crv": "P-256", "x": x, "y": y, "d": d}
        super().__init__(import_jwk(document), name, "test")

    def sign(self, typ: str, payload: bytes) -> str:
        """As any key, but for the random number of ECDSA."""
        signed, _, signature = super().sign(typ, payload).rpartition(".")
        if self._curve is not None:
            der = self._curve.sign(signed.encode(), ec.ECDSA(SHA256(), deterministic_signing=True))
            signature = segment(b"".join(number.to_bytes(32) for number in decode_dss_signature(der)))
        return f"{signed}.{signature}"


def people(algorithm: str) -> People:
    """The people of the tests, with keys that are the same every time."""
    them = People(algorithm)
    for name in them.keys:
        them.keys[name] = FixedKey(name, algorithm)
    return them


def policy(them: People) -> dict[str, Any]:
    """Who is trusted, with what and for what."""
    return {
        "audience": them.audience,
        "principals": [
            {
                "name": name,
                "roles": sorted(principal.roles),
                **{
                    field: sorted(getattr(principal, field))
                    for field in ("activities", "inserts", "operations")
                    if getattr(principal, field)
                },
                "keys": [them.keys[name].public_document()],
            }
            for name, principal in them.principals.items()
        ],
    }


Write = Callable[[Scene], PaigeantMessage]


def _valid(write: Callable[[Story], object], **origin: Any) -> Write:
    def forge(scene: Scene) -> PaigeantMessage:
        story = scene.bare(**origin)
        write(story)
        return scene.message(story)

    return forge


def _started(story: Story) -> Story:
    return story.step("desk", "validate", 1)


def _charged(story: Story) -> Story:
    return _started(story).step("payments", "charge", 2, out=digest(PAID))


def _skipped(story: Story) -> Story:
    return _started(story).operate("ann", "skip")


_UNDO = SLIP | {"on_failure": "compensate"}
_UNUSUAL = {
    "itinerary": [{"name": "validate", "arguments": {"π": [1.0, 1e-7, 12345678901234567890, True, None, "é\u2028\\"]}}],
    "executed": [],
}
VALID: Mapping[str, Write] = {
    "origin": _valid(lambda s: s),
    "one-step": _valid(_started),
    "two-steps-and-a-new-payload": _valid(_charged),
    "inserted-steps": _valid(lambda s: _started(s).step("payments", "charge", 2, ins=["review", "review"])),
    "compensation-under-way": _valid(
        lambda s: _charged(s).step("payments", "notify", 3, res="failed").step("payments", "charge", 2, res="undone"),
        slip=_UNDO,
    ),
    "retried": _valid(lambda s: _started(s).operate("ben", "retry")),
    "held-and-released-with-a-payload": _valid(
        lambda s: _started(s).operate("ann", "hold").operate("ann", "release", out=digest(PAID))
    ),
    "skipped": _valid(_skipped),
    "inserted-by-an-operator": _valid(lambda s: _started(s).operate("ann", "insert", ins=["review"])),
    "replayed": _valid(lambda s: _charged(s).operate("ann", "replay", out=digest(PAYLOAD))),
    "compensated-by-an-operator": _valid(lambda s: _charged(s).operate("ann", "compensate")),
    "replayed-after-its-compensation": _valid(
        lambda s: (
            _started(s).operate("ann", "compensate").step("desk", "validate", 1, res="undone").operate("ann", "replay")
        )
    ),
    "before-its-deadline": _valid(_started, exp=AT + 60),
    "with-a-token": lambda scene: scene.message(scene.story(tok=digest(TOKEN.encode())), token=TOKEN),
    "epoch-raised-by-the-fence": lambda scene: scene.message(scene.story(), epoch=7, attempt=3),
    "unusual-arguments": _valid(lambda s: s, slip=_UNUSUAL),
}
"""Messages that are to be run."""


def case(name: str, algorithm: str, code: str, write: Write, **more: Any) -> dict[str, Any]:
    """One file."""
    message = write(Scene(people(algorithm), TOPIC, AT, name))
    return {
        "name": name,
        "algorithm": algorithm,
        "now": AT,
        "topic": TOPIC,
        "queue": message.headers.activity,
        "message": message.encode().decode(),
        "result": code,
        **more,
    }


def cases() -> dict[str, dict[str, Any]]:
    """Every case by the name of its file, without `.json`."""
    made = {}
    for algorithm in ("Ed25519", "ES256"):
        for name, write in VALID.items():
            made[f"valid-{name}-{algorithm}"] = case(name, algorithm, "valid", write)
    for name, attack in ATTACKS.items():
        if name not in _WHOLE:
            more = {"queue": attack.queue} if attack.queue else {}
            made[f"{attack.code}-{name}"] = case(name, "Ed25519", str(attack.code), attack.forge, **more)
    too_many = lambda scene: scene.message(scene.story(), records=["x"] * 257)  # noqa: E731 - one of many like it
    late = {"payments": {"not_before": AT + 1}}
    more_cases: list[tuple[str, Code, Write, dict[str, Any]]] = [
        ("257-records", Code.TOO_LARGE, too_many, {}),
        ("signed-before-its-key-was-valid", Code.KEY_WINDOW, _valid(_charged), {"validity": late}),
        ("signed-by-a-stolen-key", Code.REVOKED, _valid(_charged), {"validity": {"payments": {"revoked": True}}}),
        ("an-older-state", Code.ROLLBACK, _valid(_started), {"mark": mark_of(_records("an-older-state", _charged))}),
        ("one-operator-at-a-flagged-activity", Code.APPROVAL, _valid(_skipped), {"flagged": ["charge"]}),
        ("another-line", Code.FORK, _valid(_charged), {"mark": mark_of(_records("another-line", _other))}),
    ]
    for name, code, write, more in more_cases:
        made[f"{code}-{name}"] = case(name, "Ed25519", str(code), write, **more)
    return made


def _other(story: Story) -> Story:
    return _started(story).step("payments", "charge", 2, att=2)


def _records(workflow: str, write: Callable[[Story], Story]) -> list[str]:
    return write(Scene(people("Ed25519"), TOPIC, AT, workflow).bare()).records


def files() -> dict[str, str]:
    """What is to stand in each file of the folder."""
    made = {f"{name}.json": document for name, document in cases().items()}
    made |= {f"policy-{algorithm}.json": policy(people(algorithm)) for algorithm in ("Ed25519", "ES256")}
    return {name: json.dumps(document, indent=1, ensure_ascii=True) + "\n" for name, document in made.items()}


if __name__ == "__main__":
    for old in HERE.glob("*.json"):
        old.unlink()
    for name, text in files().items():
        (HERE / name).write_text(text, encoding="ascii")
    print(f"{len(files())} files")
