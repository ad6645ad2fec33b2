"""A chain says what its records say, and whatever is wrong with one is refused with its own code."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey

from paigeant_core.errors import MessageTooLarge
from paigeant_core.security import chain as chains
from paigeant_core.security.chain import MAX_CHAIN, extend, verify
from paigeant_core.security.keys import MAX_RECORD, signature_holds
from paigeant_core.security.records import STEP, digest, read
from paigeant_core.security.refusal import Code, VerificationError
from tests.core.security.kit import AT, PAID, PAYLOAD, SLIP, People, Story, refused

# -- what a chain says ------------------------------------------------------------------


def test_an_origin_says_what_is_to_be_done(story: Story) -> None:
    chain = story.origin(exp=AT + 60, tok=digest(b"secret")).verify()
    assert (chain.workflow, chain.topic, chain.audience) == ("order-1", "workflows", "test")
    assert chain.slip.to_document() == SLIP
    assert (chain.length, chain.run, chain.epoch, chain.expires) == (1, 1, 1, AT + 60)
    assert chain.payload == digest(PAYLOAD)
    assert chain.token == digest(b"secret")
    assert chain.signer == "shop"


def test_steps_move_the_slip_and_the_payload(story: Story) -> None:
    chain = story.charged().verify()
    assert chain.slip.to_document() == {
        "itinerary": ["notify"],
        "executed": [{"name": "validate", "attempt": 1}, {"name": "charge", "attempt": 1}],
    }
    assert chain.payload == digest(PAID)


def test_inserted_steps_come_next(story: Story) -> None:
    chain = story.started().step("payments", "charge", 2, ins=["review"]).verify()
    assert chain.slip.names() == ("validate", "charge", "review", "notify")


def test_the_rest_can_be_left_out(story: Story) -> None:
    chain = story.started().step("payments", "charge", 2, fin=True).verify()
    assert chain.slip.finished


def test_a_failure_begins_the_compensation_and_undoing_goes_backwards(story: Story) -> None:
    story.origin(slip=SLIP | {"on_failure": "compensate"}).step("desk", "validate", 1)
    story.step("payments", "charge", 2).step("payments", "notify", 3, res="failed")
    assert story.verify().slip.undoing == 2
    story.step("payments", "charge", 2, res="undone")
    assert story.verify().slip.undoing == 1


def test_operations_do_what_they_are_called(story: Story) -> None:
    story.charged().operate("ann", "insert", ins=["review"])
    assert story.verify().slip.names() == ("validate", "charge", "notify", "review")
    story.operate("ann", "skip")
    assert story.verify().slip.to_document()["executed"][-1] == {"name": "notify", "attempt": 0, "skipped": True}
    story.operate("ann", "compensate")
    assert story.verify().slip.undoing == 2
    story.operate("ann", "skip")
    assert story.verify().slip.undoing == 1
    story.operate("ann", "replay", out=digest(b"{}"))
    chain = story.verify()
    assert (chain.run, chain.epoch, chain.slip.undoing, chain.payload) == (2, 6, 0, digest(b"{}"))
    story.operate("ben", "retry")
    assert story.verify().slip.to_document() == chain.slip.to_document()
    assert story.verify().epoch == 7


# -- what is wrong with one record ------------------------------------------------------

WRONG: dict[str, tuple[Code, Callable[[Story], object]]] = {
    "a stranger's key": (Code.UNKNOWN_KEY, lambda s: s.started().step("stranger", "charge", 2)),
    "somebody else's name": (Code.ISS, lambda s: s.started().step("payments", "charge", 2, iss="desk")),
    "from tomorrow": (Code.FUTURE, lambda s: s.started().step("payments", "charge", 2, iat=AT + 200)),
    "of another workflow": (Code.SPLICE, lambda s: s.started().step("payments", "charge", 2, wf="order-2")),
    "of another place": (Code.SEQUENCE, lambda s: s.started().step("payments", "charge", 2, n=3)),
    "behind another record": (Code.LINK, lambda s: s.started().step("payments", "charge", 2, prev=digest(b"x"))),
    "of another payload": (
        Code.INPUT_DIGEST,
        lambda s: s.started().step("payments", "charge", 2, before=digest(PAID)),
    ),
    "of an older epoch": (
        Code.EPOCH,
        lambda s: s.started().operate("ann", "retry").step("payments", "charge", 2, ep=1),
    ),
    "an operation that raises no epoch": (Code.EPOCH, lambda s: s.started().operate("ann", "retry", ep=1)),
    "dated back": (Code.TIME_REGRESS, lambda s: s.started().step("payments", "charge", 2, iat=AT - 121)),
    "a worker that operates": (Code.ROLE, lambda s: s.started().operate("payments", "retry")),
    "an operator that works": (Code.ROLE, lambda s: s.started().step("ann", "charge", 2)),
    "a worker of another activity": (Code.NOT_AUTHORIZED, lambda s: s.started().step("desk", "charge", 2)),
    "a junior operator": (Code.NOT_AUTHORIZED, lambda s: s.started().operate("ben", "replay")),
    "an operation that is none": (Code.NOT_AUTHORIZED, lambda s: s.started().operate("ann", "promote")),
    "ahead of its turn": (Code.ORDER, lambda s: s.started().step("payments", "notify", 3)),
    "the right step at another hop": (Code.ORDER, lambda s: s.started().step("payments", "charge", 3)),
    "undone, and nothing is": (Code.ORDER, lambda s: s.started().step("payments", "charge", 2, res="undone")),
    "a result that is none": (Code.ORDER, lambda s: s.started().step("payments", "charge", 2, res="perhaps")),
    "an insert that is not allowed": (Code.INSERT, lambda s: s.started().step("payments", "charge", 2, ins=["charge"])),
    "an insert by a retry": (Code.INSERT, lambda s: s.started().operate("ann", "retry", ins=["review"])),
    "an insert that wants more": (
        Code.SCOPE,
        lambda s: s.origin().step("desk", "validate", 1, ins=[{"name": "x", "scopes": ["admin"]}]),
    ),
    "an operator's insert that wants more": (
        Code.SCOPE,
        lambda s: s.started().operate("ann", "insert", ins=[{"name": "x", "scopes": ["admin"]}]),
    ),
    "a payload edited by retry": (Code.OP_BODY, lambda s: s.started().operate("ann", "retry", out=digest(PAID))),
    "a payload edited by failing": (
        Code.OP_BODY,
        lambda s: s.started().step("payments", "charge", 2, res="failed", out=digest(PAID)),
    ),
    "a compensation that nobody asked for": (
        Code.ORDER,
        lambda s: s.started().step("payments", "charge", 2, res="failed"),
    ),
    "a time that is none": (Code.MALFORMED, lambda s: s.started().step("payments", "charge", 2, iat=10**400)),
    "a step after its compensation": (
        Code.ORDER,
        lambda s: (
            s.started()
            .operate("ann", "compensate")
            .step("desk", "validate", 1, res="undone")
            .step("payments", "charge", 2)
        ),
    ),
    "a skip after its compensation": (
        Code.ORDER,
        lambda s: s.origin().operate("ann", "compensate").operate("ann", "skip"),
    ),
    "no reason": (Code.REASON, lambda s: s.started().operate("ann", "retry", reason="  ")),
    "steps without end": (Code.INSERT, lambda s: s.started().step("payments", "charge", 2, ins=["review"] * 99)),
    "an insert that is no step": (Code.MALFORMED, lambda s: s.started().step("payments", "charge", 2, ins=[7])),
    "a step of a finished slip": (
        Code.ORDER,
        lambda s: s.started().step("payments", "charge", 2, fin=True).step("payments", "notify", 3),
    ),
    "nothing left to skip": (
        Code.MALFORMED,
        lambda s: s.started().step("payments", "charge", 2, fin=True).operate("ann", "skip"),
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_record_is_refused_at_its_place(story: Story, what: str) -> None:
    code, write = WRONG[what]
    write(story)
    assert refused(story) == (code, len(story.records) - 1)


WRONG_ORIGIN = {
    "for another environment": (Code.AUD, {"aud": "production"}),
    "by a worker": (Code.ROLE, {"by": "desk"}),
    "numbered": (Code.SEQUENCE, {"n": 1}),
    "with steps done": (Code.MALFORMED, {"slip": {"itinerary": ["a"], "executed": [{"name": "b"}]}}),
    "with nothing to do": (Code.MALFORMED, {"slip": {"itinerary": []}}),
    "with a slip that is none": (Code.MALFORMED, {"slip": 7}),
    "with a name that is none": (Code.MALFORMED, {"slip": {"itinerary": ["a b"]}}),
    "from tomorrow": (Code.FUTURE, {"iat": AT + 200}),
}


@pytest.mark.parametrize("what", WRONG_ORIGIN)
def test_a_wrong_origin_is_refused(story: Story, what: str) -> None:
    code, wrong = WRONG_ORIGIN[what]
    assert refused(story.origin(**wrong)) == (code, 0)  # type: ignore[arg-type]


def test_keys_count_within_their_time_alone(people: People) -> None:
    story = Story(people).charged()
    for validity, code in (
        ({"not_after": AT - 1}, Code.KEY_WINDOW),
        ({"not_before": AT + 1}, Code.KEY_WINDOW),
        ({"revoked": True}, Code.REVOKED),
    ):
        story.trust = people.trust(payments=validity)
        assert refused(story) == (code, 2)
    story.trust = people.trust(payments={"not_before": AT, "not_after": AT})
    assert story.verify().length == 3


def test_each_record_a_little_older_goes_no_further_back(story: Story) -> None:
    story.origin().step("desk", "validate", 1, iat=AT - 100).step("payments", "charge", 2, iat=AT - 121)
    assert refused(story) == (Code.TIME_REGRESS, 2)


# -- what is wrong with the form --------------------------------------------------------


def forge(story: Story, header: Mapping[str, str], key: OctKey) -> str:
    """The last record again, with another header, by another key."""
    body = base64.urlsafe_b64decode(story.records[-1].split(".")[1] + "==")
    return jws.serialize_compact(dict(header), body, key, algorithms=[header["alg"]])


def segment(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def header_of(record: str) -> dict[str, str]:
    document: dict[str, str] = json.loads(base64.urlsafe_b64decode(record.split(".", 1)[0] + "=="))
    return document


def test_other_headers_are_refused(story: Story) -> None:
    good = story.charged().records[-1]
    _, payload, signature = good.split(".")
    right = header_of(good)
    assert set(right) == {"alg", "typ", "kid"}
    public = story.people.keys["stranger"].public_document()
    other = "ES256" if right["alg"] == "Ed25519" else "Ed25519"
    twice = b'{"alg":"none",' + json.dumps(right).encode()[1:]
    for header, code in (
        (right | {"crit": ["exp"], "exp": 1}, Code.HEADER),
        (right | {"jwk": public}, Code.HEADER),
        (right | {"b64": False}, Code.HEADER),
        ({"alg": right["alg"], "typ": right["typ"]}, Code.HEADER),
        (right | {"kid": 7}, Code.HEADER),
        (twice, Code.HEADER),
        (b"[" * 300, Code.HEADER),
        (right | {"kid": "x" * 400}, Code.HEADER),  # nor kept by the memory of headers
        (b'{"alg":NaN}', Code.HEADER),
        (right | {"typ": "JWT"}, Code.TYP),
        (right | {"typ": "paigeant-origin+jws"}, Code.TYP),
        (right | {"kid": "../../etc/passwd"}, Code.UNKNOWN_KEY),
        (right | {"alg": "none"}, Code.ALG),
        (right | {"alg": "HS256"}, Code.ALG),
        (right | {"alg": other}, Code.ALG),
        (right | {"typ": "paigeant-op+jws"}, Code.SIGNATURE),
        (right | {"kid": story.people.keys["desk"].kid}, Code.SIGNATURE),
    ):
        story.records[-1] = f"{segment(header)}.{payload}.{signature}"
        assert refused(story) == (code, 2), header


def test_the_public_key_is_no_secret_to_sign_with(story: Story) -> None:
    good = story.charged().records[-1]
    secret = OctKey.import_key(json.dumps(story.people.keys["payments"].public_document()))
    story.records[-1] = forge(story, header_of(good) | {"alg": "HS256"}, secret)
    assert refused(story) == (Code.ALG, 2)


def test_claims_that_are_none_are_refused_once_the_signature_holds(story: Story) -> None:
    key = story.started().people.keys["payments"]
    for claims in (
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"iss":"payments","iss":"ann"}',
        b'{"iat":NaN}',
        b'{"iat":' + b"9" * 5000 + b"}",
    ):
        record = key.sign(STEP, claims)
        with pytest.raises(VerificationError) as caught:
            read(record, story.trust, 1)
        assert caught.value.code == Code.MALFORMED, claims[:40]


def test_an_unknown_claim_is_refused(story: Story) -> None:
    claims = json.loads(base64.urlsafe_b64decode(story.charged().records[-1].split(".")[1] + "=="))
    story.records[-1] = story.people.keys["payments"].sign(STEP, json.dumps(claims | {"more": 1}).encode())
    assert refused(story) == (Code.MALFORMED, 2)
    story.records[-1] = story.people.keys["payments"].sign(STEP, json.dumps(claims).encode())
    assert story.verify().length == 3


def test_a_claim_twice_is_refused(story: Story) -> None:
    claims = base64.urlsafe_b64decode(story.charged().records[-1].split(".")[1] + "==")
    story.records[-1] = story.people.keys["payments"].sign(STEP, claims[:-1] + b',"att":9}')
    assert refused(story) == (Code.MALFORMED, 2)


@pytest.mark.parametrize("text", ["", ".", "..", "a.b", "a.b.c.d", "a.b.c ", "a.b.c\n", "é.b.c", "\ud800.b.c", "a..c"])
def test_what_is_no_compact_form_is_malformed(story: Story, text: str) -> None:
    story.started().records.append(text)
    assert refused(story) == (Code.MALFORMED, 2)


def test_base64_has_one_form(story: Story) -> None:
    good = story.charged().records[-1]
    # 64 bytes of signature: 86 characters, of whose last only two bits count.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(good[-1]) + 1]
    for text, code in ((good[:-1] + other, "malformed"), (good + "=", "malformed"), (good + "A", "signature")):
        story.records[-1] = text
        assert refused(story)[0] == code


def test_a_step_may_have_large_arguments(story: Story) -> None:
    step = {"name": "validate", "arguments": {"text": "x" * 300_000}}
    assert story.origin(slip={"itinerary": [step]}).verify().slip.to_document()["itinerary"] == [step]
    with pytest.raises(MessageTooLarge, match="the cap is"):
        story.origin(slip={"itinerary": [step, step]})


def test_caps_hold(story: Story) -> None:
    story.started().records.append("A" * (MAX_RECORD + 1))
    assert refused(story) == (Code.TOO_LARGE, 2)
    story.records = [story.records[0]] * (MAX_CHAIN + 1)
    assert refused(story)[0] == Code.TOO_LARGE
    story.records = []
    assert refused(story) == (Code.UNSIGNED, -1)


# -- a chain as a whole -----------------------------------------------------------------


@pytest.fixture(scope="module")
def long() -> tuple[Story, Story]:
    """Two whole chains of two workflows, with an operation in each."""
    people = People("Ed25519")
    stories = []
    for workflow in ("order-1", "order-2"):
        story = Story(people, workflow).charged().operate("ann", "replay", out=digest(PAYLOAD))
        stories.append(story.step("payments", "notify", 3).operate("ben", "retry"))
    return stories[0], stories[1]


@settings(max_examples=300)
@given(data=st.data())
def test_a_chain_that_was_tampered_with_is_refused(long: tuple[Story, Story], data: st.DataObject) -> None:
    good, other = long[0].records, long[1].records
    place = data.draw(st.integers(0, len(good) - 1))
    records = list(good)
    how = data.draw(st.sampled_from(["change", "drop", "swap", "double", "splice", "insert"]))
    if how == "change":
        at = data.draw(st.integers(0, len(good[place]) - 1))
        new = data.draw(st.characters(codec="ascii").filter(lambda c: c != good[place][at]))
        records[place] = good[place][:at] + new + good[place][at + 1 :]
    elif how == "drop":
        # Dropping the last is a rollback, which the records alone cannot tell: the fence's high-water mark does.
        del records[min(place, len(good) - 2)]
    elif how == "swap":
        second = data.draw(st.integers(0, len(good) - 1).filter(lambda n: n != place))
        records[place], records[second] = records[second], records[place]
    elif how == "double":
        records.insert(place, good[place])
    else:
        taken = other[data.draw(st.integers(0, len(other) - 1))]
        records[place : place + (how == "splice")] = [taken]
        if records == other[: len(records)]:
            return
    for trust in (long[0].trust, long[0].people.trust()):
        # With what was verified before remembered, and without.
        verify(good, trust, AT)
        with pytest.raises(VerificationError) as caught:
            verify(records, trust, AT)
        assert caught.value.code in set(Code)
        with pytest.raises(VerificationError):
            verify(records, long[0].people.trust(), AT)


@settings(max_examples=300)
@given(records=st.lists(st.text() | st.from_regex(r"[\w-]{1,40}\.[\w-]{1,40}\.[\w-]{1,40}"), max_size=4))
def test_nothing_but_our_error_is_raised(long: tuple[Story, Story], records: list[str]) -> None:
    for prefix in ([], long[0].records[:3]):
        if prefix and not records:
            continue
        with pytest.raises(VerificationError):
            verify([*prefix, *records], long[0].trust, AT)


_NAMES = ["iss", "iat", "wf", "n", "ep", "in", "ins", "slip"]
_FIELDS = ["step", "hop", "att", "res", "ins", "fin", "iat", "n", "ep"]
_anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=8),
)
_claims = st.binary(max_size=60) | _anything.map(lambda value: json.dumps(value).encode())
_options = st.dictionaries(st.sampled_from(["name", "scopes", "timeout"]), st.integers() | st.text(max_size=3))
_items = st.lists(st.integers() | st.text(max_size=3) | _options, max_size=3)
_values = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | _items


@settings(max_examples=100)
@given(claims=_claims)
def test_whatever_a_trusted_key_signed_is_read_or_refused(long: tuple[Story, Story], claims: bytes) -> None:
    people = long[0].people
    for prefix, by, typ in (
        ([], "shop", "paigeant-origin+jws"),
        (long[0].records[:2], "payments", STEP),
        (long[0].records[:2], "ann", "paigeant-op+jws"),
    ):
        with pytest.raises(VerificationError):
            verify([*prefix, people.keys[by].sign(typ, claims)], long[0].trust, AT)


@settings(max_examples=100)
@given(field=st.sampled_from(_FIELDS), value=_values)
def test_any_value_in_a_claim_is_taken_or_refused(long: tuple[Story, Story], field: str, value: object) -> None:
    record = long[0].records[2]
    claims = json.loads(base64.urlsafe_b64decode(record.split(".")[1] + "=="))
    forged = long[0].people.keys["payments"].sign(STEP, json.dumps(claims | {field: value}).encode())
    try:
        chain = verify([*long[0].records[:2], forged], long[0].trust, AT)
    except VerificationError:
        return
    assert chain.length == 3
    assert chain.slip.to_document()["executed"][0] == {"name": "validate", "attempt": 1}


def test_what_was_verified_is_not_verified_again(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    first = story.charged().verify()
    counted: list[int] = []
    plain = signature_holds

    def count(*arguments: Any) -> bool:
        counted.append(1)
        return plain(*arguments)

    monkeypatch.setattr("paigeant_core.security.records.signature_holds", count)
    assert story.verify() is first
    story.operate("ann", "hold")
    counted.clear()
    assert story.verify().length == 4
    assert len(counted) == 1
    story.trust = story.people.trust()
    story.verify()
    assert len(counted) == 5


def test_the_longest_known_beginning_is_taken(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    records = story.charged().operate("ann", "hold").operate("ann", "release").records
    trust = story.people.trust()
    verify(records[:1], trust, AT)
    known = verify(records[:2], trust, AT)
    begun: list[object] = []

    def watched(chain: chains.Chain | None, *rest: Any) -> chains.Chain:
        begun.append(chain)
        return extend(chain, *rest)

    monkeypatch.setattr(chains, "extend", watched)
    assert verify(records, trust, AT).length == 5
    assert begun[0] is known
    assert len(begun) == 3


def test_two_records_written_as_one_are_not_known_by_their_digest(story: Story) -> None:
    story.charged().verify()
    first, second, third = story.records
    for records in (["\n".join(story.records)], [f"{first}\n{second}", third], [first, f"{second}\n{third}"]):
        with pytest.raises(VerificationError) as caught:
            verify(records, story.trust, AT)
        assert caught.value.code == Code.MALFORMED


def test_a_replay_goes_on_from_a_compensation(story: Story) -> None:
    assert story.started().operate("ann", "compensate").step("desk", "validate", 1, res="undone").verify().over
    assert story.operate("ben", "retry").verify().over
    assert story.operate("ann", "replay").step("payments", "charge", 2).verify().length == 7
