"""Whether a payload fits the JSON Schema that a worker announced for an activity.

A schema comes from the broker, so it is trusted less than code: a check has an end, fetches
nothing and runs no regular expression. What JSON Schema cannot say of a pydantic model, or
says more strictly than pydantic's lax mode, is left to the worker, which checks every
payload before a step is run. So what is refused here would be refused there.

Sources: JSON Schema 2020-12 (Validation, section 6), pydantic's conversion table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from paigeant_core.errors import NotEligible

MAX_SCHEMA: Final = 64 * 1024
"""Bytes of a schema that is announced and gone by."""
MOST_RULES: Final = 100_000
"""Rules that one check applies at most: schemas can be written whose check has no end."""

_KEYWORDS: Final = frozenset(
    {
        "$ref",
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "prefixItems",
        "properties",
        "required",
    }
)
"""What is gone by as it is.

Not ``pattern`` and its like (regular expressions of others), ``multipleOf`` (of floats it is a matter of rounding),
``uniqueItems`` (pydantic makes a set of doubles), ``not`` (less checked would be more refused).
"""

_NUMBERS: Final = frozenset({"integer", "number"})
_TIMES: Final = frozenset({"date", "date-time", "duration", "time"})
_BOUNDS: Final = {
    "minimum": "be at least",
    "maximum": "be at most",
    "exclusiveMinimum": "be above",
    "exclusiveMaximum": "be below",
    "minLength": "have a length of at least",
    "maxLength": "have a length of at most",
    "minItems": "have at least this many items:",
    "maxItems": "have at most this many items:",
    "minProperties": "have at least this many fields:",
    "maxProperties": "have at most this many fields:",
    "const": "be",
    "enum": "be one of",
}

_Rule = Callable[[Any, Any, Any, Any], Any]


def check_against(schemas: Mapping[str, bytes], activity: str, payload: bytes) -> str:
    """Refuse a payload that breaks what an activity declared; what is to be said beside: empty, or that it is unknown.

    Args:
        schemas: what workers announced, by activity.
        activity: whose step it goes to.
        payload: the bytes of a JSON object.

    Raises:
        NotEligible: it breaks it. The text names the field and the rule, and no value of the payload.
    """
    schema = schemas.get(activity)
    if not schema:
        return ""
    try:
        broken = _broken(schema, payload)
    except Exception:  # noqa: BLE001 - what others wrote as a schema may break the check anywhere
        return f"whether the payload fits the model of {activity} could not be found out: its worker will"
    if broken:
        raise NotEligible(f"{broken}, by the payload model of {activity}")
    return ""


def _broken(schema: bytes, payload: bytes) -> str:
    # Here: most operations change no payload, and start without it.
    from jsonschema.exceptions import best_match
    from referencing import Registry

    if len(schema) > MAX_SCHEMA:
        raise ValueError("the schema is too large")
    # An empty registry: the library's own fetches what a $ref names.
    validator = _validator()(_own(msgspec.json.decode(schema)), registry=Registry())
    error = best_match(validator.iter_errors(msgspec.json.decode(payload)))
    return "" if error is None else _said(error)


def _own(schema: Any) -> Any:
    """The schema without ``$schema``, by which a part of it could choose another validator than ours."""
    if isinstance(schema, dict):
        return {key: _own(value) for key, value in schema.items() if key != "$schema"}
    return [_own(item) for item in schema] if isinstance(schema, list) else schema


def _validator() -> Any:
    """A validator class for one check: it counts."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    left = MOST_RULES

    def counted(rule: _Rule) -> _Rule:
        def apply(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
            nonlocal left
            left -= 1
            if left < 0:
                raise ValueError("the schema asks for too much")
            yield from rule(validator, value, instance, schema) or ()

        return apply

    stock = Draft202012Validator.VALIDATORS
    rules: dict[str, _Rule] = {name: stock[name] for name in _KEYWORDS}
    # Of alternatives less is checked than they say, so more than one may seem to fit.
    rules |= {"oneOf": stock["anyOf"], "type": _type, "additionalProperties": _additional(stock)}
    ours = {name: counted(rules.get(name, _passed_over)) for name in stock}
    return extend(Draft202012Validator, ours)


def _passed_over(*_: Any) -> tuple[()]:
    return ()


def _additional(stock: Mapping[str, _Rule]) -> _Rule:
    def additional(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        # Which properties are left then is found out by regular expressions.
        return (
            () if "patternProperties" in schema else stock["additionalProperties"](validator, value, instance, schema)
        )

    return additional


def _type(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """``type``, with what pydantic's lax mode converts let pass."""
    from jsonschema.exceptions import ValidationError

    types = {value} if isinstance(value, str) else set(value)
    if any(validator.is_type(instance, name) for name in types) or _converts(instance, types, schema):
        return
    yield ValidationError("type")


def _converts(instance: Any, types: set[str], schema: Any) -> bool:
    if isinstance(instance, str):
        if types & _NUMBERS:
            try:
                float(instance)
            except ValueError:
                pass
            else:
                return True
        words = ("0", "1", "f", "t", "n", "y", "no", "off", "on", "yes", "false", "true")
        return "boolean" in types and instance.lower() in words
    if isinstance(instance, bool):
        return bool(types & _NUMBERS)
    if isinstance(instance, int | float):
        return ("boolean" in types and instance in (0, 1)) or (
            "string" in types and isinstance(schema, dict) and schema.get("format") in _TIMES
        )
    return False


def _said(error: Any) -> str:
    path = "payload" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    rule, value = error.validator, error.validator_value
    if rule == "required":
        return f"{_short(path + '.' + next(name for name in value if name not in error.instance))} is missing"
    if rule == "additionalProperties" and value is False:
        known = error.schema.get("properties", {})
        return f"{_short(path + '.' + next(name for name in error.instance if name not in known))} is no field of it"
    where = _short(path)
    if rule == "type":
        return f"{where} must be of type {_short(value if isinstance(value, str) else ' or '.join(value))}"
    if rule in _BOUNDS:
        return f"{where} must {_BOUNDS[rule]} {_short(msgspec.json.encode(value).decode())}"
    return f"{where} is in none of the forms that are allowed" if rule in ("anyOf", "oneOf") else f"{where} is refused"


def _short(text: str) -> str:
    # Names of others: for a terminal, a log and the audit.
    plain = text.encode("ascii", "backslashreplace").decode()
    plain = "".join(character if character.isprintable() else "?" for character in plain)
    return plain if len(plain) <= 120 else plain[:117] + "..."
