"""What an activity declares of its payload: a pydantic model that every step's payload is checked against."""

from __future__ import annotations

import logging
from typing import Any, Final, get_args

import msgspec

from paigeant_core.errors import ConfigError, PayloadInvalid
from paigeant_core.lenient_schema import lenient_schema
from paigeant_core.payload_schema import MAX_SCHEMA

logger = logging.getLogger("paigeant")

_SHOWN = 3
"""Errors that are named; the rest is counted."""

_SAFE: Final = frozenset(
    {
        "bool_parsing",
        "bool_type",
        "bytes_type",
        "date_type",
        "datetime_type",
        "decimal_parsing",
        "decimal_type",
        "dict_type",
        "enum",
        "extra_forbidden",
        "finite_number",
        "float_parsing",
        "float_type",
        "greater_than",
        "greater_than_equal",
        "int_from_float",
        "int_parsing",
        "int_type",
        "is_instance_of",
        "less_than",
        "less_than_equal",
        "list_type",
        "literal_error",
        "missing",
        "model_type",
        "multiple_of",
        "none_required",
        "set_type",
        "string_pattern_mismatch",
        "string_too_long",
        "string_too_short",
        "string_type",
        "time_type",
        "too_short",
        "tuple_type",
        "url_type",
        "uuid_type",
    }
)
"""pydantic's error types whose messages say what the model asks for, and nothing of what came.

Others may quote the payload (``union_tag_invalid``, ``uuid_parsing``), or are a validator's own words
(``value_error``).
"""


class PayloadModel:
    """A payload model, as an activity declares it.

    Args:
        activity: whose.
        declared: a ``BaseModel`` class, or anything else that pydantic's ``TypeAdapter`` takes.

    Raises:
        ConfigError: pydantic can make nothing of it.
    """

    def __init__(self, activity: str, declared: Any) -> None:
        # Here: a worker without models starts without pydantic.
        from pydantic import TypeAdapter

        self.activity = activity
        try:
            self._adapter: Any = TypeAdapter(declared)
        except Exception as error:
            raise ConfigError(
                f"activity {activity}: payload={ascii(declared)[:80]} is no pydantic model ({type(error).__name__})"
            ) from error

    def check(self, payload: bytes) -> Any:
        """What the payload is as an instance of the model.

        Args:
            payload: the bytes of a JSON object.

        Raises:
            PayloadInvalid: it does not fit. The text names fields and rules, and no value.
        """
        from pydantic import ValidationError

        try:
            return self._adapter.validate_json(payload)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            shown = "; ".join(f"{_path(item['loc'])}: {_rule(item)}" for item in found[:_SHOWN])
            more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            said = f"the payload does not fit the model of {self.activity}: {shown}{more}"
        except Exception as error:  # noqa: BLE001 - a validator of the model's own may raise anything
            said = f"the model of {self.activity} could not check the payload: {type(error).__name__}"
        # Out of the handlers: their exceptions hold the values.
        raise PayloadInvalid(said)

    def schema(self) -> bytes:
        """Its JSON Schema (2020-12), for those who have no code of the worker; empty: it has none that can be told."""
        try:
            schema = msgspec.json.encode(lenient_schema(self._adapter.core_schema), order="deterministic")
        except Exception as error:  # noqa: BLE001 - types bring core schemas of their own
            logger.warning("%s: its payload model has no JSON Schema (%s)", self.activity, type(error).__name__)
            return b""
        if len(schema) > MAX_SCHEMA:
            logger.warning("%s: the JSON Schema of its payload model is over %d bytes", self.activity, MAX_SCHEMA)
            return b""
        return schema


def _path(loc: tuple[int | str, ...]) -> str:
    path = "payload" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return path.encode("ascii", "backslashreplace").decode()[:120]


def _rule(item: Any) -> str:
    if item["type"] in _SAFE:
        return str(item["msg"])[:160]
    from pydantic_core.core_schema import ErrorType

    known = {*get_args(ErrorType)} - {"value_error", "assertion_error"}
    return str(item["type"]) if item["type"] in known else "refused by the model's own rule"
