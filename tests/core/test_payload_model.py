"""What an activity declares of its payload: what the worker says of one that breaks it, and what operators are told."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paigeant_core.activity import ActivityContext
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import ConfigError, NotEligible, PayloadInvalid
from paigeant_core.journal import State
from paigeant_core.operations import Operations
from paigeant_core.payload_model import PayloadModel
from paigeant_core.payload_schema import MAX_SCHEMA, check_against
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from paigeant_core.worker import Worker

SECRET = "hunter2"


class Item(pydantic.BaseModel):
    """A part of an order."""

    sku: Annotated[str, pydantic.Field(min_length=1, max_length=4)]
    weight: float = 1.0


class Cash(pydantic.BaseModel):
    """One of two."""

    kind: Literal["cash"]


class Paid(pydantic.BaseModel):
    """The other."""

    kind: Literal["paid"]
    card: Annotated[str, pydantic.Field(pattern="^[0-9]+$")]


class Order(pydantic.BaseModel):
    """Rules of every kind."""

    model_config = pydantic.ConfigDict(extra="forbid")

    amount: Annotated[int, pydantic.Field(gt=0, multiple_of=5)]
    items: list[Item] = []
    by: Annotated[Cash | Paid, pydantic.Field(discriminator="kind")] | None = None
    urgent: bool = False
    tags: Annotated[list[str], pydantic.Field(max_length=2)] = []
    boxes: Annotated[int, pydantic.WrapValidator(lambda value, check: 0 if value == "none" else check(value))] = 1
    code: Annotated[str, pydantic.StringConstraints(strip_whitespace=True, max_length=2)] = ""
    stops: Annotated[set[int], pydantic.Field(max_length=1)] = set()
    stays: Annotated[frozenset[int], pydantic.Field(max_length=1)] = frozenset()

    @pydantic.field_validator("tags", mode="before")
    @classmethod
    def split(cls, value: Any) -> Any:
        """Take a text, too."""
        return value.split(",") if isinstance(value, str) else value

    @pydantic.field_validator("urgent")
    @classmethod
    def never(cls, value: bool) -> bool:
        """Say no in words of its own."""
        if value:
            raise ValueError(f"{SECRET} is never urgent")
        return value


MODEL = PayloadModel("charge", Order)
ANNOUNCED = {"charge": MODEL.schema()}


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"amount": SECRET}, "payload.amount: Input should be a valid integer"),
        ({"amount": -5, "more": SECRET}, "payload.amount: Input should be greater than 0; payload.more: Extra"),
        ({"items": [{"sku": SECRET}]}, "payload.items[0].sku: String should have at most 4 characters"),
        ({"amount": 5, "by": {"kind": SECRET}}, "payload.by: union_tag_invalid"),
        ({"amount": 5, "by": {"kind": "paid", "card": SECRET}}, "payload.by.paid.card: String should match"),
        ({"amount": 5, "urgent": True}, "payload.urgent: refused by the model's own rule"),
        ({"items": [{}] * 9}, "and 7 more"),
    ],
)
def test_a_worker_names_field_and_rule_and_no_value(payload: dict[str, Any], said: str) -> None:
    with pytest.raises(PayloadInvalid) as caught:
        MODEL.check(msgspec.json.encode(payload))
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"amount": SECRET}, "payload.amount must be of type integer"),
        ({"amount": 0}, "payload.amount must be above 0"),
        ({"amount": 5, "more": SECRET}, "payload.more is no field of it"),
        ({"amount": 5, "items": [{"sku": "a"}, {}]}, "payload.items[1].sku is missing"),
        ({"amount": 5, "items": [{"sku": SECRET}]}, "payload.items[0].sku must have a length of at most 4"),
        ({"amount": 5, "by": {"kind": "paid"}}, "payload.by"),
        ({"amount": 5, "by": SECRET}, "payload.by"),
    ],
)
def test_an_operator_is_told_field_and_rule_and_no_value(payload: dict[str, Any], said: str) -> None:
    with pytest.raises(NotEligible) as caught:
        check_against(ANNOUNCED, "charge", msgspec.json.encode(payload))
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith(", by the payload model of charge")
    assert SECRET not in str(caught.value)
    assert check_against(ANNOUNCED, "other", msgspec.json.encode(payload)) == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": "5"},
        {"amount": 5.0},
        {"urgent": "off"},
        {"urgent": 0},
        {"items": [{"sku": "a", "weight": "2"}]},
        {"tags": "a,b"},
        {"boxes": "none"},
        {"code": " ab "},
        {"stops": [1, 1], "stays": [1, 1]},
    ],
)
def test_what_pydantic_converts_an_operator_may_write(fields: dict[str, Any]) -> None:
    payload = msgspec.json.encode({"amount": 5, **fields})
    assert MODEL.check(payload)
    assert check_against(ANNOUNCED, "charge", payload) == ""


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-10, 10)
    | st.sampled_from([1.5, 5.0, "5", "yes", "abcde", "cash", "paid", "a,b", " ab ", "none"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["sku", "weight", "kind", "card"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(list(Order.model_fields)), values))
def test_what_an_operator_is_refused_the_worker_would_refuse(fields: dict[str, Any]) -> None:
    payload = msgspec.json.encode({"amount": 5, **fields})
    try:
        check_against(ANNOUNCED, "charge", payload)
    except NotEligible:
        with pytest.raises(PayloadInvalid):
            MODEL.check(payload)


class Changed(pydantic.BaseModel):
    """What came in an older form is mended first."""

    n: int

    @pydantic.model_validator(mode="before")
    @classmethod
    def mend(cls, value: Any) -> Any:
        """Take what it is called by now."""
        return {"n": value["count"]} if "count" in value else value


Listed = Annotated[list[int], pydantic.BeforeValidator(lambda value: [value], json_schema_input_type=int)]


def test_where_a_models_own_code_comes_first_an_operator_is_refused_what_it_says_it_does_not_take() -> None:
    changed = {"a": PayloadModel("a", Changed).schema()}
    assert check_against(changed, "a", b'{"count": 1}') == ""
    listed = {"a": PayloadModel("a", pydantic.create_model("M", n=(Listed, ...))).schema()}
    assert check_against(listed, "a", b'{"n": 1}') == ""
    with pytest.raises(NotEligible, match=r"payload\.n must be of type integer"):
        check_against(listed, "a", b'{"n": "many"}')


EVIL = {"pattern": "^(a+)+$"}
TEXT = "a" * 40 + "!"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
DOUBLING: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {}}


def hostile() -> Iterator[Any]:
    """Schemas whose check would run for ever, fetch something or break."""
    yield {"properties": {"a": EVIL}}
    yield {"properties": {"a": {"$schema": DRAFT, **EVIL}}, "$schema": DRAFT}
    yield {"patternProperties": {EVIL["pattern"]: {}}, "additionalProperties": False}
    yield {"propertyNames": EVIL, "unevaluatedProperties": False}
    yield {"$ref": "#"}
    yield {"properties": {"a": {"oneOf": [{"pattern": "^a"}, {"pattern": "^aa"}]}}}
    yield {"$defs": DOUBLING, "$ref": "#/$defs/d0"}
    yield from ({"type": "none"}, {"minProperties": "x"}, {"required": 3}, [1], 5, {"enum": 7}, {"properties": []})
    yield {"description": "x" * MAX_SCHEMA, "required": ["b"]}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("schema", hostile(), ids=lambda schema: str(schema)[:40])
def test_a_hostile_schema_neither_hangs_nor_refuses(schema: Any) -> None:
    said = check_against({"a": msgspec.json.encode(schema)}, "a", msgspec.json.encode({"a": TEXT, TEXT: 1}))
    assert said in ("", "whether the payload fits the model of a could not be found out: its worker will")


def test_nothing_is_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        schema = {"$ref": f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"}
        assert "could not be found out" in check_against({"a": msgspec.json.encode(schema)}, "a", b"{}")
        with pytest.raises(BlockingIOError):
            server.accept()


def test_what_is_no_model_is_refused_when_it_is_declared() -> None:
    worker = Worker()
    with pytest.raises(ConfigError, match=r"activity charge: payload=.* is no pydantic model"):
        worker.activity("charge", payload=object())(lambda _: None)


def test_a_model_without_a_schema_is_not_announced_and_still_checks() -> None:
    def positive(value: Any) -> Any:
        raise KeyError(SECRET)

    fields: dict[str, Any] = {"part": ("NotDefinedYet", ...)}
    later = pydantic.create_model("M", **fields)
    assert PayloadModel("charge", later).schema() == b""
    with pytest.raises(PayloadInvalid, match="could not check the payload: KeyError"):
        PayloadModel("charge", Annotated[dict[str, Any], pydantic.AfterValidator(positive)]).check(b"{}")


async def test_a_compensator_is_run_whatever_the_payload_is_by_then() -> None:
    transport = MemoryTransport("models", broker=MemoryBroker())
    worker, seen = Worker(), []

    @worker.activity("charge", payload=Order)
    async def charge(ctx: ActivityContext) -> dict[str, Any]:
        return {"amount": "none any more", "of": ctx.data.amount}

    @charge.compensate
    async def refund(ctx: ActivityContext) -> None:
        seen.append(ctx.payload["of"])

    worker.activity("ship", payload=Order)(lambda _: seen.append("shipped"))
    workflow = await WorkflowDispatcher(transport).dispatch_workflow(
        ["charge", "ship"], {"amount": 5}, on_failure="compensate"
    )
    serving = asyncio.create_task(worker.run(transport))
    async with asyncio.timeout(10):
        while True:
            standing = await Operations(transport).standing(workflow)
            if standing is not None and standing.state == State.COMPENSATED:
                break
            await asyncio.sleep(0.01)
    worker.stop()
    await serving
    assert seen == [5]


def test_a_worker_without_models_starts_without_pydantic_and_jsonschema() -> None:
    code = """if True:
        import sys
        from paigeant_core import Worker
        import paigeant_core.operations, paigeant_core.payload_schema
        Worker().activity("a")(lambda _: None)
        assert not {"pydantic", "jsonschema"} & set(sys.modules), "loaded"
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
