"""What signatures cost a hop, beside the bare sign and verify of one record in the same run.

A hop here is what a worker does with a message and no broker: read it, verify it, make
the next one of its result, sign that, write it. Two workers take turns, so each has
seen all of a chain but what the other one signed. What counts is the ratio: what
signing adds to a hop, over one record bare signed and verified by joserfc, no chain, no
policy and no message around it. The primitives of the library underneath stand beside it.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey

from benchmarks.report import Noise, Options, Section, Table, Target, spread
from paigeant_core import transition as moves
from paigeant_core.dispatcher import new_workflow
from paigeant_core.message import PaigeantMessage
from paigeant_core.security.hop import Guard, sign_origin
from paigeant_core.security.keys import ALGORITHMS, REGISTRIES, SigningKey, import_jwk
from paigeant_core.security.records import STEP
from paigeant_core.security.trust import Principal, Trust, TrustedKey
from paigeant_core.transition import Span

TARGET = 1.3
HOPS = 20
LENGTHS = (5, 20, 100)
PAYLOAD = json.dumps({"customer_email": "ann@example.com", "pad": "x" * 980}).encode()
CLAIMS = b"x" * 290
"""As much as a step record says."""
SIGNED = b"x" * 520
"""As much as its signature covers."""


@dataclass(frozen=True, slots=True)
class Crew:
    """A dispatcher and two workers with keys of one algorithm."""

    shop: SigningKey
    workers: tuple[SigningKey, SigningKey]
    keys: Sequence[TrustedKey]

    @classmethod
    def hire(cls, algorithm: str) -> Crew:
        """Make the keys, and say what each counts for."""
        shop, one, two = (SigningKey.generate(name, algorithm=algorithm) for name in ("shop", "one", "two"))
        everything = frozenset({"*"})
        roles = {"shop": Principal(name="shop", roles=frozenset({"dispatcher"}))}
        for name in ("one", "two"):
            roles[name] = Principal(name=name, roles=frozenset({"worker"}), activities=everything)
        keys = [
            TrustedKey(
                kid=key.kid, algorithm=algorithm, key=import_jwk(key.public_document()), principal=roles[key.name]
            )
            for key in (shop, one, two)
        ]
        return cls(shop, (one, two), keys)

    def guards(self) -> tuple[Guard, Guard]:
        """The two workers' guards, each with a memory of its own, and nothing in it."""
        one, two = self.workers
        return Guard(one, Trust(self.keys), ["a"]), Guard(two, Trust(self.keys), ["a"])


def walk(
    hops: int,
    signer: SigningKey | None,
    guard: Callable[[int], Guard | None],
    beside: Mapping[str, Callable[[], None]] | None = None,
    took_beside: dict[str, list[float]] | None = None,
) -> list[float]:
    """Take a workflow through its hops.

    Args:
        hops: how many.
        signer: the dispatcher's key; None: nothing is signed.
        guard: who does a hop, by its number from 0.
        beside: what else is to be timed after each hop, in a machine that did other things meanwhile.
        took_beside: gets the seconds of that.

    Returns:
        Seconds for each hop.
    """
    now = time.time()
    message = new_workflow(["a"] * hops, PAYLOAD, topic="bench", at=now)
    if signer is not None:
        sign_origin(message, signer, now)
    body = message.encode()
    span = Span(worker="bench", started_at=now, completed_at=now)
    took = []
    state = ""
    for number in range(hops):
        own = guard(number)
        begun = time.perf_counter()
        message = PaigeantMessage.decode(body)
        if own is not None:
            own.verify(message, now)
        transition = moves.done(message, {"step": number}, span)
        if own is not None:
            transition = own.signed(transition, message, span, body)
        took.append(time.perf_counter() - begun)
        assert transition.record.body is not None
        body, state = transition.record.body, transition.record.state
        for name, operation in (beside or {}).items():
            begun = time.perf_counter()
            operation()
            assert took_beside is not None
            took_beside.setdefault(name, []).append(time.perf_counter() - begun)
    assert state == "completed"
    return took


def typical(walks: Sequence[Sequence[float]]) -> list[float]:
    """Of each hop the median of all walks, in microseconds: what else the machine does strikes some and not most."""
    return [statistics.median(hop) * 1e6 for hop in zip(*walks, strict=True)]


def bare(algorithm: str) -> Callable[[], None]:
    """One compact JWS of a record's size, signed and verified by joserfc."""
    key = OKPKey.generate_key("Ed25519") if algorithm == "Ed25519" else ECKey.generate_key("P-256")
    public = import_jwk(key.as_dict(private=False))
    header = {"alg": algorithm, "typ": STEP, "kid": key.thumbprint()}
    registry = REGISTRIES[algorithm]

    def operation() -> None:
        jws.deserialize_compact(
            jws.serialize_compact(header, CLAIMS, key, registry=registry), public, registry=registry
        )

    return operation


def primitives(algorithm: str) -> Callable[[], None]:
    """One signature and one verification of as many bytes, by cryptography alone."""
    if algorithm == "Ed25519":
        edwards = Ed25519PrivateKey.generate()
        public = edwards.public_key()
        return lambda: public.verify(edwards.sign(SIGNED), SIGNED)
    curve = generate_private_key(SECP256R1())
    point, kind = curve.public_key(), ECDSA(SHA256())
    return lambda: point.verify(curve.sign(SIGNED, kind), SIGNED, kind)


def compare(algorithm: str, hops: int, rounds: int, noise: Noise) -> tuple[list[list[str]], tuple[float, ...]]:
    """What signing adds to a hop.

    Returns:
        Rows of a table, and the quarters of the ratio that counts.
    """
    crew = Crew.hire(algorithm)
    operations = {"joserfc": bare(algorithm), "primitives": primitives(algorithm)}
    floors: dict[str, list[float]] = {name: [] for name in operations}
    added: dict[str, list[float]] = {"another worker": [], "the same worker": []}
    plain = []
    for _ in range(rounds):
        one, other = crew.guards()
        single = crew.guards()[0]
        took: dict[str, list[float]] = {}
        plain.append(_middle(walk(hops, None, _nobody, operations, took)))
        for name, times in took.items():
            floors[name].append(_middle(times))
        for who, guards in (("another worker", [one, other]), ("the same worker", [single])):
            added[who].append(_middle(walk(hops, crew.shop, (guards * hops).__getitem__)) - plain[-1])
        noise.sample()
    rows = [[f"{algorithm}: a hop, unsigned", spread(plain, " µs"), "", ""]]
    rows += [[f"{algorithm}: bare, {name}", spread(figures, " µs"), "", ""] for name, figures in floors.items()]
    for who, figures in added.items():
        ratios = [spread(_ratios(figures, floors[name])) for name in ("joserfc", "primitives")]
        rows.append([f"{algorithm}: signing adds, the hop before by {who}", spread(figures, " µs"), *ratios])
    return rows, tuple(statistics.quantiles(_ratios(added["another worker"], floors["joserfc"]), n=4))


def anew(algorithm: str, rounds: int) -> list[list[str]]:
    """What it costs when no worker has seen anything of a chain: a service for every activity."""
    crew = Crew.hire(algorithm)
    operations = {"joserfc": bare(algorithm)}
    rows = []
    for hops in LENGTHS:
        signed, unsigned = [], []
        took: dict[str, list[float]] = {}
        for _ in range(max(3, rounds * 5 // hops)):
            guards = [crew.guards()[0] for _ in range(hops)]
            signed.append(walk(hops, crew.shop, guards.__getitem__))
            unsigned.append(walk(hops, None, _nobody, operations, took))
        floor = statistics.median(took["joserfc"]) * 1e6
        added = [one - other for one, other in zip(typical(signed), typical(unsigned), strict=True)]
        figures = (statistics.mean(added), added[-1])
        rows.append([algorithm, str(hops), *(f"{figure:,.0f} µs, {figure / floor:.1f} of bare" for figure in figures)])
    return rows


def run(options: Options) -> Section:
    """See the module."""
    section = Section("trust", "Signatures")
    rounds = options.rounds or (3 if options.quick else 60)
    section.how = (
        "A worker's part of a hop, without a broker: read, verify, make the next message, sign, write; two workers in"
        f" turns, 1 KB of payload, {HOPS} hops, {rounds} rounds. Bare: one record of the same size, signed and verified"
        " by joserfc, and by the primitives of cryptography underneath, between the hops of the unsigned run."
    )
    noise = Noise()
    rows: list[list[str]] = []
    for algorithm in ALGORITHMS:
        more, (low, middle, high) = compare(algorithm, HOPS, rounds, noise)
        rows += more
        asked = f"{algorithm}: signing adds at most {TARGET} × the bare sign and verify to a hop whose prefix was seen"
        measured = f"{middle:.2f} × (middle half {low:.2f} to {high:.2f})"
        section.targets.append(Target(asked, measured, middle <= TARGET))
    section.tables.append(Table("A hop", ["", "time", "of joserfc", "of the primitives"], rows))
    rows = [row for algorithm in ALGORITHMS for row in anew(algorithm, rounds)]
    columns = ["", "hops", "signing adds to a hop", "to the last hop"]
    section.tables.append(Table("A chain verified anew at every hop (a service for every activity)", columns, rows))
    section.noise = str(noise)
    return section


def _middle(seconds: Sequence[float]) -> float:
    """Microseconds of most of them; the first two, in which a worker has not seen the prefix, are left out."""
    return statistics.median(seconds[2:]) * 1e6


def _ratios(figures: Sequence[float], floors: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(figures, floors, strict=True)]


def _nobody(_: int) -> None:
    return None
