"""The JSON Schema of a payload model that refuses nothing the model itself would take.

pydantic tells what a payload is like once a model's own code has seen it. Operators are held by what they may write:
where such code comes first, that is anything. Imported where a schema is made: pydantic is loaded with it.
"""

from __future__ import annotations

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema


class LenientSchema(GenerateJsonSchema):
    """Leaves out what is looked at only after a value was changed."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        """What the validator says that it takes; else anything: it makes of it what the field is."""
        return self._before(schema.get("json_schema_input_schema"))

    def function_wrap_schema(self, schema: core_schema.WrapValidatorFunctionSchema) -> JsonSchemaValue:
        """As before a validator."""
        return self._before(schema.get("json_schema_input_schema"))

    def _before(self, told: core_schema.CoreSchema | None) -> JsonSchemaValue:
        return {} if told is None else self.generate_inner(told)

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        """Spaces around it do not count to its length, where they are stripped."""
        found = super().str_schema(schema)
        if schema.get("strip_whitespace"):
            found.pop("maxLength", None)
        return found

    def set_schema(self, schema: core_schema.SetSchema) -> JsonSchemaValue:
        """What is there twice counts once."""
        return _any_length(super().set_schema(schema))

    def frozenset_schema(self, schema: core_schema.FrozenSetSchema) -> JsonSchemaValue:
        """As of a set."""
        return _any_length(super().frozenset_schema(schema))


def _any_length(found: JsonSchemaValue) -> JsonSchemaValue:
    found.pop("maxItems", None)
    return found
