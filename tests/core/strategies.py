"""What hypothesis makes messages of, used by several modules."""

from __future__ import annotations

import json
import string
from typing import Any

from hypothesis import strategies as st

from paigeant_core.message import Headers, PaigeantMessage
from paigeant_core.routing import Executed, RoutingSlip, Step

activity_names = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=64)
correlation_ids = st.text(string.ascii_letters + string.digits + "_.:-", min_size=1, max_size=128).filter(
    lambda text: not text.startswith("q-")
)
# All that UTF-8 can say: lone surrogates have tests of their own.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(texts, json_values, max_size=5)
# The same object may be written in many ways, and each has to come back as it was.
payloads = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(),
    json_objects,
    st.sampled_from([None, 0, 2]),
    st.booleans(),
)

steps = st.builds(
    Step,
    activity_names,
    arguments=json_objects,
    retry=st.sampled_from([{}, {"max_attempts": 5}, {"backoff": "constant", "initial": 0.5}]),
    timeout=st.none() | st.floats(0.001, 1e6),
    scopes=st.lists(texts, max_size=2),
)
executed = st.builds(Executed, activity_names, st.integers(0, 9), skipped=st.booleans())


@st.composite
def slips(draw: st.DrawFn) -> RoutingSlip:
    done = draw(st.lists(executed, max_size=4))
    todo = draw(st.lists(steps, max_size=4))
    undoing = draw(st.integers(0, len(done)))
    return RoutingSlip(todo, done, on_failure=draw(st.sampled_from(["dead_letter", "compensate"])), undoing=undoing)


@st.composite
def messages(draw: st.DrawFn, payload: st.SearchStrategy[bytes] = payloads) -> PaigeantMessage:
    slip = draw(slips())
    headers = Headers(
        message_id=draw(st.uuids()).hex,
        correlation_id=draw(correlation_ids),
        name=draw(texts),
        labels=json.dumps(draw(st.dictionaries(texts, texts, max_size=2))),
        topic=draw(activity_names),
        activity=slip.current_name(),
        hop=slip.hop,
        run=draw(st.integers(1, 10**6)),
        epoch=draw(st.integers(1, 10**6)),
        attempt=draw(st.integers(1, 100)),
        steps_done=len(slip.executed),
        steps_total=len(slip.executed) + len(slip.itinerary),
        created_at="2026-01-31T09:05:00.123Z",
        timestamp="2026-01-31T09:05:01.000Z",
        traceparent=draw(texts),
    )
    return PaigeantMessage(
        headers,
        slip,
        draw(payload),
        obo_token=draw(st.none() | texts) or None,
        records=draw(st.lists(texts, max_size=2)),
    )
