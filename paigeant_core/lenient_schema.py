"""The JSON Schema of a payload model that refuses nothing the model itself would take.

pydantic's own schema tells what a value is like in the end, and what authors wrote of it for readers. Operators are
held by what they may write, so here a rule is told only where it is known to hold of the value as it comes: nothing of
what a validator changes first, nothing of what is looked at after one, and of kinds that are converted in many ways
nothing. It is made from the core schema, which pydantic validates by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum, EnumType
from typing import Any, Final

_Schema = dict[str, Any]
_Config = Mapping[str, Any]

_PLAIN: Final[Mapping[str, _Schema]] = {
    "bool": {"type": "boolean"},
    "bytes": {"type": "string"},  # the length of the bytes is not the text's
    "complex": {"type": ["number", "string"]},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "fraction": {"type": ["number", "string"]},
    "json": {"type": "string"},
    "none": {"type": "null"},
    "time": {"type": "string", "format": "time"},
    "timedelta": {"type": "string", "format": "duration"},
    "uuid": {"type": "string"},
}
_INNER: Final[Mapping[str, str]] = {
    "custom-error": "schema",
    "dataclass-field": "schema",
    "json-or-python": "json_schema",
    "lax-or-strict": "lax_schema",
    "model-field": "schema",
    "typed-dict-field": "schema",
}
"""What is as another is: where that stands."""
_BOUNDS: Final = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_EXACT: Final = 2**53
"""From here on floats leave out whole numbers: a number may be beyond a bound before it is rounded, and not after."""
_KINDS: Final = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
"""As JSON has them; a bool is an int, too."""
_UNKNOWN: Final[_Config] = {"coerce_numbers_to_str": True, "str_strip_whitespace": True, "str_to_upper": True}
"""What is defined once and used more than once: whose configuration counts is not told, so whatever may be done is."""


def lenient_schema(core: Any) -> _Schema:
    """The JSON Schema (2020-12) of what is validated by a core schema of pydantic's."""
    return _Teller().told(core)


class _Teller:
    """One core schema's."""

    def __init__(self) -> None:
        self._cores: dict[str, Any] = {}
        self._defs: _Schema = {}
        self._names: dict[str, str] = {}
        self._may_omit = False
        """Whether what was told since it was cleared may have code that leaves a value out of what holds it."""

    def told(self, core: Any) -> _Schema:
        found = self._of(core, {})
        return {**found, "$defs": self._defs} if self._defs else found

    def _of(self, core: Any, config: _Config) -> _Schema:
        kind = core["type"]
        if kind in _PLAIN:
            return dict(_PLAIN[kind])
        if kind in _INNER:
            return self._of(core[_INNER[kind]], config)
        tell = getattr(self, "_" + kind.replace("-", "_"), self._anything)
        found: _Schema = tell(core, config)
        return found

    def _anything(self, core: Any, config: _Config) -> _Schema:
        self._may_omit = True
        return {}

    def _function_before(self, core: Any, config: _Config) -> _Schema:
        """What the validator says that it takes; else anything: it makes of it what the field is."""
        self._may_omit = True
        told = core.get("json_schema_input_schema")
        return {} if told is None else self._of(told, config)

    _function_plain = _function_wrap = _function_before

    def _function_after(self, core: Any, config: _Config) -> _Schema:
        self._may_omit = True
        return self._of(core["schema"], config)

    def _default(self, core: Any, config: _Config) -> _Schema:
        found = self._of(core["schema"], config)
        return found if core.get("on_error", "raise") == "raise" else self._anything(core, config)

    def _chain(self, core: Any, config: _Config) -> _Schema:
        return self._of(core["steps"][0], config)

    def _nullable(self, core: Any, config: _Config) -> _Schema:
        return _any_of([self._of(core["schema"], config), {"type": "null"}])

    def _union(self, core: Any, config: _Config) -> _Schema:
        choices = (choice[0] if isinstance(choice, tuple) else choice for choice in core["choices"])
        return _any_of([self._of(choice, config) for choice in choices])

    def _tagged_union(self, core: Any, config: _Config) -> _Schema:
        return _any_of([self._of(choice, config) for choice in core["choices"].values()])

    def _definitions(self, core: Any, config: _Config) -> _Schema:
        self._cores |= {item["ref"]: item for item in core["definitions"]}
        for item in core["definitions"]:
            self._defs[self._name(item["ref"])] = self._of(item, _UNKNOWN)
        return self._of(core["schema"], config)

    def _definition_ref(self, core: Any, config: _Config) -> _Schema:
        self._may_omit = True
        return {"$ref": f"#/$defs/{self._name(core['schema_ref'])}"}

    def _name(self, ref: str) -> str:
        # Not pydantic's: it has addresses of the process in it.
        return self._names.setdefault(ref, str(len(self._names)))

    def _int(self, core: Any, config: _Config) -> _Schema:
        return {"type": "integer", **_bounds(core)}

    def _float(self, core: Any, config: _Config) -> _Schema:
        return {"type": "number", **_bounds(core)}

    def _decimal(self, core: Any, config: _Config) -> _Schema:
        """A list may be its sign, digits and exponent."""
        return {"type": ["array", "number", "string"], **_bounds(core)}

    def _str(self, core: Any, config: _Config) -> _Schema:
        """Its lengths are of what it is made into."""

        def rule(name: str) -> Any:
            return core.get(name, config.get("str_" + name))

        found: _Schema = {"type": "string"}
        if core.get("coerce_numbers_to_str", config.get("coerce_numbers_to_str")):
            found["type"] = ["number", "string"]
        if rule("to_lower") or rule("to_upper"):
            return found  # they make two characters of some
        if rule("min_length"):
            found["minLength"] = rule("min_length")
        if rule("max_length") is not None and not rule("strip_whitespace"):
            found["maxLength"] = rule("max_length")
        return found

    def _literal(self, core: Any, config: _Config) -> _Schema:
        return _one_of(core["expected"])

    def _enum(self, core: Any, config: _Config) -> _Schema:
        """It may be asked for what is none of its values, and its class may answer."""
        cls = core["cls"]
        asked = next(base for base in cls.__mro__ if "_missing_" in vars(base))
        if core.get("missing") or asked is not Enum or type(cls).__call__ is not EnumType.__call__:
            return self._anything(core, config)
        return _one_of([*(member.value for member in core["members"]), *cls._value2member_map_])

    def _list(self, core: Any, config: _Config) -> _Schema:
        found, may_omit = self._items(core, config)
        if core.get("max_length") is not None and not may_omit:
            found["maxItems"] = core["max_length"]
        return found

    def _set(self, core: Any, config: _Config) -> _Schema:
        """What is there twice counts once."""
        return self._items(core, config)[0]

    _deque = _frozenset = _set

    def _items(self, core: Any, config: _Config) -> tuple[_Schema, bool]:
        """What every item is and how few there may be, and whether some may be left out."""
        before, self._may_omit = self._may_omit, False
        found: _Schema = {"type": "array"}
        if "items_schema" in core:
            found["items"] = self._of(core["items_schema"], config)
        if core.get("min_length"):
            found["minItems"] = core["min_length"]
        may_omit, self._may_omit = self._may_omit, before or self._may_omit
        return found, may_omit

    def _tuple(self, core: Any, config: _Config) -> _Schema:
        many = core.get("variadic_item_index")
        items = [self._of(item, config) for item in core["items_schema"]]
        fixed = items if many is None else items[:many]
        found: _Schema = {"type": "array"}
        if fixed:
            found["prefixItems"] = fixed
        if many is None:
            found["maxItems"] = len(items)
        elif many == len(items) - 1:
            found["items"] = items[many]
        if not any(map(self._may_be_missing, core["items_schema"])):
            found["minItems"] = len(items) - (many is not None)
        return found

    def _dict(self, core: Any, config: _Config) -> _Schema:
        """Keys may become the same."""
        found: _Schema = {"type": "object"}
        if "values_schema" in core:
            found["additionalProperties"] = self._of(core["values_schema"], config)
        if core.get("min_length"):
            found["minProperties"] = core["min_length"]
        return found

    def _model(self, core: Any, config: _Config) -> _Schema:
        """Its configuration is its own; with an ``__init__`` of its own it takes what that takes."""
        if core.get("custom_init"):
            return self._anything(core, config)
        self._may_omit |= bool(core.get("post_init"))
        return self._of(core["schema"], core.get("config") or {})

    _dataclass = _model

    def _model_fields(self, core: Any, config: _Config) -> _Schema:
        return self._fields(core, core["fields"].items(), config)

    def _dataclass_args(self, core: Any, config: _Config) -> _Schema:
        return self._fields(core, ((field["name"], field) for field in core["fields"]), config)

    def _typed_dict(self, core: Any, config: _Config) -> _Schema:
        return self._fields(core, core["fields"].items(), core.get("config") or config)

    def _fields(self, core: Any, fields: Any, config: _Config) -> _Schema:
        properties: _Schema = {}
        required = []
        for name, field in fields:
            found = self._of(field, config)
            paths = [*_paths(field, name, config)]
            if len(paths) > 1 or len(paths[0]) > 1 or field.get("init") is False:
                # Which of them counts is left to the worker.
                properties |= {path[0]: {} for path in paths}
                continue
            properties.setdefault(paths[0][0], found)
            if field.get("required", True) and not self._may_be_missing(field):
                required.append(paths[0][0])
        schema: _Schema = {"type": "object", "properties": properties}
        if required:
            schema["required"] = required
        extra = core.get("extra_behavior") or config.get("extra_fields_behavior")
        if extra == "forbid":
            schema["additionalProperties"] = False
        elif extra == "allow" and "extras_schema" in core:
            schema["additionalProperties"] = self._of(core["extras_schema"], config)
        return schema

    def _may_be_missing(self, core: Any) -> bool:
        """Whether it has a default: pydantic looks for one through no more than a reference."""
        while core["type"] != "default" and core["type"] not in ("dataclass", "model") and "schema" in core:
            core = core["schema"]
        if core["type"] == "definition-ref":
            core = self._cores.get(core["schema_ref"], core)
        return core["type"] in ("default", "definition-ref", "missing-sentinel")


def _any_of(schemas: list[_Schema]) -> _Schema:
    return {"anyOf": schemas} if all(schemas) else {}


def _one_of(expected: Sequence[Any]) -> _Schema:
    """Texts are as they are; true, 1, 1.0 and "1" may be one another, and what JSON does not have may be anything."""
    if all(isinstance(value, str) for value in expected):
        return {"type": "string", "enum": [*dict.fromkeys(str.__str__(value) for value in expected)]}
    kinds = {next((name for kind, name in _KINDS.items() if isinstance(value, kind)), "") for value in expected}
    return {} if "" in kinds else {"type": sorted(kinds)}


def _bounds(core: Any) -> _Schema:
    """The bounds that are the same of a number that is read as a float and of the model's."""
    found: _Schema = {}
    for name, rule in _BOUNDS.items():
        if core.get(name) is None:
            continue
        bound = Decimal(str(core[name]))
        if bound.is_finite() and abs(bound) < _EXACT:
            told = int(bound) if bound == int(bound) else float(bound)
            if Decimal(str(told)) == bound:
                found[rule] = told
    return found


def _paths(field: Any, name: str, config: _Config) -> Iterator[list[Any]]:
    """Where a field's value may stand: keys and indexes from the object that has it."""
    alias = field.get("validation_alias")
    by_alias = alias is not None and config.get("validate_by_alias", True)
    if by_alias:
        if isinstance(alias, str):
            yield [alias]
        elif isinstance(alias[0], list):
            yield from alias
        else:
            yield alias
    if not by_alias or config.get("validate_by_name"):
        yield [name]
