"""A validator for the part of JSON Schema that the chart's schema uses. Helm has its own."""

import re
from collections.abc import Callable, Mapping
from typing import Any

Schema = Mapping[str, Any]

_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: _TYPES["number"](value) and value == int(value),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
}
_IGNORED = {"$schema", "title", "description", "definitions"}


def is_valid(value: Any, schema: Schema, root: Schema) -> bool:
    """Whether a value meets a schema. Raises KeyError for a keyword that is not known here."""
    return all(
        _KEYWORDS[keyword](value, argument, schema, root)
        for keyword, argument in schema.items()
        if keyword not in _IGNORED
    )


def _has_type(value: Any, expected: Any, _schema: Schema, _root: Schema) -> bool:
    names = [expected] if isinstance(expected, str) else expected
    return any(_TYPES[name](value) for name in names)


def _meets_reference(value: Any, reference: str, _schema: Schema, root: Schema) -> bool:
    return is_valid(value, root["definitions"][reference.removeprefix("#/definitions/")], root)


def _has_valid_items(value: Any, items: Schema, _schema: Schema, root: Schema) -> bool:
    return not isinstance(value, list) or all(is_valid(each, items, root) for each in value)


def _has_valid_names(value: Any, names: Schema, _schema: Schema, root: Schema) -> bool:
    return not isinstance(value, dict) or all(is_valid(each, names, root) for each in value)


def _has_valid_properties(value: Any, properties: Schema, _schema: Schema, root: Schema) -> bool:
    return not isinstance(value, dict) or all(
        is_valid(value[name], each, root) for name, each in properties.items() if name in value
    )


def _has_valid_others(value: Any, others: Any, schema: Schema, root: Schema) -> bool:
    if not isinstance(value, dict):
        return True
    found = [value[name] for name in value if name not in schema.get("properties", {})]
    return not found if others is False else all(is_valid(each, others, root) for each in found)


_KEYWORDS: Mapping[str, Callable[[Any, Any, Schema, Schema], bool]] = {
    "$ref": _meets_reference,
    "type": _has_type,
    "enum": lambda value, choices, *_: any(
        value == each and isinstance(value, bool) == isinstance(each, bool) for each in choices
    ),
    "anyOf": lambda value, schemas, _, root: any(is_valid(value, each, root) for each in schemas),
    "allOf": lambda value, schemas, _, root: all(is_valid(value, each, root) for each in schemas),
    "not": lambda value, schema, _, root: not is_valid(value, schema, root),
    "pattern": lambda value, pattern, *_: (
        not isinstance(value, str) or re.search(pattern, value) is not None
    ),
    "minLength": lambda value, least, *_: not isinstance(value, str) or len(value) >= least,
    "maxLength": lambda value, most, *_: not isinstance(value, str) or len(value) <= most,
    "minimum": lambda value, least, *_: not _TYPES["number"](value) or value >= least,
    "exclusiveMinimum": lambda value, least, *_: not _TYPES["number"](value) or value > least,
    "maximum": lambda value, most, *_: not _TYPES["number"](value) or value <= most,
    "items": _has_valid_items,
    "propertyNames": _has_valid_names,
    "properties": _has_valid_properties,
    "additionalProperties": _has_valid_others,
    "required": lambda value, names, *_: (
        not isinstance(value, dict) or all(name in value for name in names)
    ),
}
