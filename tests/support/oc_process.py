"""Processes OpenShift Templates as `oc process` does.

https://docs.openshift.com/container-platform/4.18/openshift_images/using-templates.html
"""

import json
import re
import secrets
import string
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]

_IN_TEXT = re.compile(r"\$\{([a-zA-Z0-9_]+)\}")
_WHOLE_VALUE = re.compile(r"\$\{\{([a-zA-Z0-9_]+)\}\}")
_GENERATED = re.compile(r"\[([^\]]+)\]\{([0-9]+)\}")
_RANGES = {
    "a-z": string.ascii_lowercase,
    "A-Z": string.ascii_uppercase,
    "0-9": string.digits,
}


@cache
def read(file: Path) -> Json:
    """Return the Template of a file. Callers must not change it."""
    template: Json = yaml.safe_load(file.read_text())
    return template


def process(file: Path, **values: str) -> list[Json]:
    """Return the objects of a Template. Parameters without a value here have their default.

    Raises ValueError for an unknown parameter, and for a required parameter without a value.
    """
    template = read(file)
    parameters = {each["name"]: _value(each, values) for each in template["parameters"]}
    if unknown := values.keys() - parameters.keys():
        raise ValueError(f"{file.name}: unknown parameter {sorted(unknown)}")
    objects: list[Json] = _replaced(template["objects"], parameters)
    return objects


def _value(parameter: Json, values: dict[str, str]) -> str:
    name = parameter["name"]
    value = values.get(name, parameter.get("value", ""))
    if not value and "generate" in parameter:
        if parameter["generate"] != "expression":
            raise ValueError(f"{name}: unknown generator {parameter['generate']!r}")
        value = _GENERATED.sub(_generated, parameter["from"])
    if not value and parameter.get("required"):
        raise ValueError(f"{name} is required and must be specified")
    if not isinstance(value, str):
        raise ValueError(f"{name}: the value must be a string, not {value!r}")
    return value


def _generated(expression: re.Match[str]) -> str:
    ranges, count = expression.groups()
    alphabet = "".join(_RANGES[each] for each in re.findall(".-.", ranges))
    return "".join(secrets.choice(alphabet) for _ in range(int(count)))


def _replaced(value: Any, parameters: dict[str, str]) -> Any:
    """Return a value with its parameters replaced, also in keys. Unknown names are left as is."""
    match value:
        case dict():
            return {
                _in_text(key, parameters): _replaced(each, parameters)
                for key, each in value.items()
            }
        case list():
            return [_replaced(each, parameters) for each in value]
        case str():
            whole = _WHOLE_VALUE.fullmatch(value)
            if whole and whole[1] in parameters:
                return json.loads(parameters[whole[1]])
            return _in_text(value, parameters)
        case _:
            return value


def _in_text(text: str, parameters: dict[str, str]) -> str:
    return _IN_TEXT.sub(lambda name: parameters.get(name[1], name[0]), text)
