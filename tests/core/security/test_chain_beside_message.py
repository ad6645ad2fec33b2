"""A chain beside the message that carries it: what one tells of token and steps, the other has signed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from paigeant_core.delegation import Delegation
from paigeant_core.message import Headers, PaigeantMessage
from paigeant_core.routing import RoutingSlip
from paigeant_core.security.chain import check_message
from paigeant_core.security.records import digest
from paigeant_core.security.refusal import Code, VerificationError
from tests.core.security.kit import AT, PAYLOAD, SLIP, Story, refused

# -- a token and another in its place ---------------------------------------------------

ANN = Delegation(iss="https://login", sub="ann", scope=("pay", "notify"), exp=AT + 60, tok="a")


AGAIN = Delegation(iss="https://login", sub="ann", scope=("pay",), exp=AT + 999, tok="b")


def test_a_release_hands_over_another_token_of_the_same_user(story: Story) -> None:
    chain = story.origin(tok="jwe-1", dlg=ANN).operate("ann", "release", tok="jwe-2", dlg=AGAIN).verify()
    assert (chain.token, chain.delegation) == ("jwe-2", AGAIN)
    held = message(epoch=2)
    held.delegation = replace(ANN, jwe="jwe")
    with pytest.raises(VerificationError, match="its token is not the one"):
        check_message(chain, held, AT)


@pytest.mark.parametrize(
    ("code", "op", "wrong"),
    [
        (Code.NOT_AUTHORIZED, "retry", {}),
        (Code.NOT_AUTHORIZED, "release", {"tok": ""}),
        (Code.NOT_AUTHORIZED, "release", {"dlg": None}),
        (Code.NOT_AUTHORIZED, "release", {"dlg": replace(AGAIN, sub="bob")}),
        (Code.NOT_AUTHORIZED, "release", {"dlg": replace(AGAIN, iss="https://other")}),
        (Code.SCOPE, "release", {"dlg": replace(AGAIN, scope=("pay", "admin"))}),
        (Code.SCOPE, "release", {"dlg": replace(AGAIN, scope=None)}),
    ],
)
def test_no_other_token_takes_its_place(story: Story, code: Code, op: str, wrong: dict[str, Any]) -> None:
    more = {"tok": "jwe-2", "dlg": AGAIN} | wrong
    assert refused(story.origin(tok="jwe-1", dlg=ANN).operate("ann", op, **more)) == (code, 1)


def test_a_workflow_of_nobodys_is_given_no_token(story: Story) -> None:
    assert refused(story.origin().operate("ann", "release", tok="jwe-2", dlg=AGAIN)) == (Code.NOT_AUTHORIZED, 1)


@pytest.mark.parametrize(
    "delegation",
    [None, replace(ANN, exp=ANN.exp + 1), replace(ANN, scope=("pay", "notify", "admin")), replace(ANN, sub="bob")],
)
def test_what_a_message_tells_of_its_token_is_what_was_signed(story: Story, delegation: Delegation | None) -> None:
    chain = story.origin(tok=digest(b"secret"), dlg=ANN).verify()
    told = message(token="secret")
    told.delegation = ANN
    check_message(chain, told, AT)
    told.delegation = delegation
    with pytest.raises(VerificationError) as caught:
        check_message(chain, told, AT)
    assert caught.value.code == Code.TOKEN_DIGEST


# -- a message beside its chain ---------------------------------------------------------


def message(**wrong: object) -> PaigeantMessage:
    fields: dict[str, object] = {
        "correlation_id": "order-1",
        "topic": "workflows",
        "activity": "validate",
        "hop": 1,
        "message_id": "m",
    }
    slip = RoutingSlip.from_document(wrong.pop("slip", SLIP))
    payload = wrong.pop("payload", PAYLOAD)
    token = wrong.pop("token", None)
    assert isinstance(payload, bytes)
    assert token is None or isinstance(token, str)
    return PaigeantMessage(Headers(**(fields | wrong)), slip, payload, obo_token=token)  # type: ignore[arg-type]


def test_a_message_that_fits_is_let_in(story: Story) -> None:
    chain = story.origin().verify()
    check_message(chain, message(), AT)
    # The fence raised it: the same step again, under the same key.
    check_message(chain, message(epoch=4, attempt=3), AT)


def arguments(value: object) -> dict[str, object]:
    return json.loads(json.dumps(SLIP).replace('"amount": 1', f'"amount": {json.dumps(value)}'))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        (Code.SPLICE, {"correlation_id": "order-2"}),
        (Code.TOPIC, {"topic": "other"}),
        (Code.RUN, {"run": 2}),
        (Code.SLIP, {"slip": {"itinerary": ["validate", "notify"]}}),
        (Code.SLIP, {"slip": SLIP | {"on_failure": "compensate"}}),
        (Code.SLIP, {"slip": arguments(2)}),
        (Code.SLIP, {"slip": arguments(1.0)}),
        (Code.SLIP, {"slip": arguments(True)}),
        (Code.BODY_DIGEST, {"payload": b'{"amount":5}'}),
        (Code.TOKEN_DIGEST, {"token": "stolen"}),
    ],
)
def test_a_message_that_does_not_fit_is_refused(story: Story, code: Code, wrong: dict[str, object]) -> None:
    chain = story.origin().verify()
    with pytest.raises(VerificationError) as caught:
        check_message(chain, message(**wrong), AT)
    assert (caught.value.code, caught.value.index) == (code, -1)


@pytest.mark.parametrize("done", [{"name": "other"}, {"attempt": 2}, {"skipped": True}])
def test_a_message_that_tells_otherwise_of_a_step_done_is_refused(story: Story, done: dict[str, object]) -> None:
    def told(**wrong: object) -> PaigeantMessage:
        executed = [{"name": "validate", "attempt": 1} | wrong]
        rest = SLIP | {"itinerary": SLIP["itinerary"][1:], "executed": executed}
        return message(activity="charge", hop=2, slip=rest)

    chain = story.started().verify()
    check_message(chain, told(), AT)
    with pytest.raises(VerificationError) as caught:
        check_message(chain, told(**done), AT)
    assert caught.value.code == Code.SLIP


def test_a_message_of_an_older_epoch_or_past_its_deadline_is_refused(story: Story) -> None:
    chain = story.origin(ep=3, exp=AT + 60).verify()
    check_message(chain, message(epoch=3), AT + 60)
    with pytest.raises(VerificationError, match="epoch 2"):
        check_message(chain, message(epoch=2), AT)
    with pytest.raises(VerificationError) as caught:
        check_message(chain, message(epoch=3), AT + 61)
    assert caught.value.code == Code.EXPIRED
