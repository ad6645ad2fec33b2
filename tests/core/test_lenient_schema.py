"""Whatever a payload model's announced schema refuses an operator, the model itself refuses."""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import json
import re
from typing import Annotated, Any, Literal

import pydantic
import pytest
from pydantic import ConfigDict, Field

from paigeant_core.errors import NotEligible, PayloadInvalid
from paigeant_core.payload_model import PayloadModel
from paigeant_core.payload_schema import check_against
from tests.core.payload_kinds import BASE, KINDS, STRIPPED, Kept, Part, Shared, Strict, Text, Tree, Upper, Whole

CONFIGS = [
    ConfigDict(arbitrary_types_allowed=True),
    ConfigDict(
        arbitrary_types_allowed=True, str_strip_whitespace=True, coerce_numbers_to_str=True, val_json_bytes="base64"
    ),
    ConfigDict(arbitrary_types_allowed=True, strict=True),
    ConfigDict(arbitrary_types_allowed=True, str_to_upper=True, str_min_length=2, extra="forbid", val_json_bytes="hex"),
    ConfigDict(arbitrary_types_allowed=True, str_max_length=3),
]
VALUES = json.loads(r"""[
0, 1, 2, 3, -1, 1.0, 2.5, 1.5, 2.0, -0.0, 0.1, true, false, null, 9007199254740992, 9007199254740993,
18446744073709551616, 1.8446744073709552e+19, 1600000000, "", "1", "2", " 1 ", "1.0", "2.5", "1_000", "1e3",
"nan", "inf", "+1", "a", "A", "x", "\u00df", "\u00e9\u00e9", "ab", "abcd", "  ab  ", "true", "yes", "On",
"2020-01-01", "2020-01-01T00:00:00Z", "12:00", "P1D", "PT5S", "1600000000", "1.2.3.4", "::1", "1.2.3.0/24",
"1KB", "aGVsbG8=", "YQ==", "6162", "[1]", "[1,2,3,4]", "5", "1/2", "1+2j", "http://a.b", " http://a.b ",
"12345678-1234-4234-8234-123456789012", "math.pi", [], [1], ["1"], [1, "a"], ["1", "a"], ["a", 1], [1, 1],
[1, 1, 1], [1, 2], [1, 2, 3], [0, [1], 0], ["a", "b"], [null], [{}], [{}, {}], [{"x": 1}], [{"x": " 1 "}],
[["a", 1]], {}, {"1": 1}, {"1": 1, "01": 2}, {"a": "1"}, {"x": 1}, {"x": "1"}, {"x": " ab "}, {"x": 12},
{"x": null}, {"y": 1}, {"x": 1, "y": "s"}, {"x": "bad", "y": 1}, {"x": 1, "y": " s "}, {"x": 1, "y": [1]},
{"x": [{}, {}]}, {"x": [{"y": {}}]}, {"y": null}, {"x": 1, "n": 2}, {"x": 1, "n": "2"}, {"x": 1, "n": "bad"},
{"x": {"x": 1}}, {"n": {"x": 1}}, {"n": {"x": 1}, "x": "4"}, {"z": 1}, {"x": "\u00df"}
]""")
PAYLOADS = [b"{}", *(json.dumps({"v": value}).encode() for value in [*VALUES, "1" * 5000])]


@functools.cache
def refused(schema: bytes, payload: bytes) -> str:
    """What an operator is told who gives a step a payload; empty: it is taken."""
    try:
        return check_against({"a": schema}, "a", payload)
    except NotEligible as error:
        return str(error)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: re.sub(r"\W+|0x\w+", "-", str(kind))[:60])
def test_what_a_model_takes_an_operator_may_write(kind: Any) -> None:
    for config in CONFIGS:
        model = PayloadModel("a", pydantic.create_model("M", __config__=config, v=(kind, ...)))
        schema = model.schema()
        assert schema
        for payload in PAYLOADS:
            try:
                taken = model.check(payload)
            except PayloadInvalid:
                continue
            assert not refused(schema, payload), f"{payload!r} is {taken!r} with {config}"


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (int, "many", "payload.v must be of type integer"),
        (Annotated[float, Field(lt=0.5)], 0.5, "payload.v must be below 0.5"),
        (Annotated[decimal.Decimal, Field(gt=0)], 0, "payload.v must be above 0"),
        (Annotated[decimal.Decimal, Field(le=decimal.Decimal("0.1"))], 0.2, "payload.v must be at most 0.1"),
        (Annotated[str, BASE, STRIPPED], "abcd", "payload.v must have a length of at most 3"),
        (Annotated[str | None, Field(min_length=2)], {}, "payload.v is in none of the forms"),
        (Literal["a", "b"], "c", 'payload.v must be one of ["a","b"]'),
        (Text, "b", 'payload.v must be one of ["a"]'),
        (Whole, "one", "payload.v must be of type integer"),
        (dt.date, [], "payload.v must be of type string"),
        (Annotated[list[int], Field(max_length=1)], [1, 2], "payload.v must have at most this many items: 1"),
        (Annotated[set[int], Field(min_length=2)], [1], "payload.v must have at least this many items: 2"),
        (tuple[int, str], [1, 2], "payload.v[1] must be of type string"),
        (tuple[int, ...], [1, "a"], "payload.v[1] must be of type integer"),
        (dict[str, int], {"a": "b"}, "payload.v.a must be of type integer"),
        (list[Strict], [{}], "payload.v[0].x is missing"),
        (Shared, {}, "payload.v.n is missing"),
        (Part, {"x": "many"}, "payload.v.x must be of type integer"),
        (Upper, {"x": "ab", "n": 1}, "payload.v.n is no field of it"),
        (Kept, {"n": "many"}, "payload.v.n must be of type integer"),
        (Tree, {"y": {"x": [{"x": 1}]}}, "payload.v.y"),
    ],
)
def test_an_operator_is_refused_what_no_validator_could_mend(kind: Any, value: Any, said: str) -> None:
    model = PayloadModel("a", pydantic.create_model("M", v=(kind, ...)))
    assert refused(model.schema(), json.dumps({"v": value}).encode()).startswith(said)
