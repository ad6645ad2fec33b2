"""An account says of every record who signed what, and after the first refusal nothing more."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from paigeant_core.message import Headers, PaigeantMessage
from paigeant_core.routing import RoutingSlip
from paigeant_core.security.account import Account, account
from paigeant_core.security.chain import MAX_CHAIN
from tests.core.security.kit import AT, PAID, People, Story


def body(story: Story, slip: object | None = None) -> bytes:
    chain = story.verify()
    document = chain.slip.to_document() if slip is None else slip
    folded = RoutingSlip.from_document(document)
    headers = Headers(
        message_id="m",
        correlation_id="order-1",
        topic="workflows",
        activity=folded.current_name(),
        hop=folded.hop,
        run=chain.run,
        epoch=chain.epoch,
    )
    return PaigeantMessage(headers, folded, PAID, records=story.records).encode()


def of(story: Story, data: bytes, at: float = AT) -> Account:
    return account(data, story.people.trust(), AT, at)


def test_every_record_is_told(story: Story) -> None:
    found = of(story, body(story.charged().operate("ann", "hold", reason="wait for Ben")))
    assert (found.status, found.reason) == ("valid", "")
    assert [(entry.kind, entry.name, entry.result, entry.hop, entry.signer) for entry in found.entries] == [
        ("origin", "", "", 0, "shop"),
        ("step", "validate", "done", 1, "desk"),
        ("step", "charge", "done", 2, "payments"),
        ("operation", "hold", "wait for Ben", 0, "ann"),
    ]
    assert {entry.at for entry in found.entries} == {AT}
    assert found.entries[0].kid == story.people.keys["shop"].kid


def test_behind_the_first_refusal_nothing_is_said(story: Story) -> None:
    data = body(story.charged())
    head, _, signature = story.records[1].rpartition(".")
    other = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    found = of(story, data.replace(story.records[1].encode(), other.encode()))
    assert [entry.status for entry in found.entries] == ["valid", "signature", "unchecked"]
    assert found.status == "signature"
    assert found.reason.startswith("record 1: ")


def test_records_that_hold_do_not_save_a_message_that_differs(story: Story) -> None:
    found = of(story, body(story.charged(), {"itinerary": ["notify", "notify"], "executed": []}))
    assert [entry.status for entry in found.entries] == ["valid"] * 3
    assert found.status == "slip"


def test_a_deadline_is_looked_at_as_of_when_it_was_journalled(story: Story) -> None:
    data = body(story.origin(exp=AT + 10).step("desk", "validate", 1).step("payments", "charge", 2, out=_PAID))
    assert of(story, data, at=AT + 10).status == "valid"
    assert of(story, data, at=AT + 11).status == "expired"


_PAID = Story(People()).charged().verify().payload


def test_what_is_no_signed_message_has_an_account_as_well(story: Story) -> None:
    story.origin()
    assert of(story, b"nonsense").status == "malformed"
    data = body(story.step("desk", "validate", 1))
    message = PaigeantMessage.decode(data)
    message.records = []
    assert of(story, message.encode()).status == "unsigned"
    message.records = story.records * MAX_CHAIN
    assert of(story, message.encode()).status == "too_large"


@settings(max_examples=200)
@given(data=st.data())
def test_it_never_raises(data: st.DataObject) -> None:
    whole = body(_STORY)
    at = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(at, min(len(whole), at + 5)))
    found = account(whole[:at] + data.draw(st.binary(max_size=5)) + whole[end:], _STORY.trust, AT, AT)
    assert (found.status == "valid") == (found.reason == "")


_STORY = Story(People()).charged()
