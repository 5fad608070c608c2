"""The label and field selectors that the service uses."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from image_puller.simulation.responses import ApiError, Json

Predicate = Callable[[Json], bool]

_REQUIREMENT = re.compile(
    r"\s*(?P<key>[^=!\s]+)\s*(?:(?P<operator>==?|!=)\s*(?P<value>[^=!\s]*)\s*)?"
)
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "metadata.name": ("metadata", "name"),
    "metadata.namespace": ("metadata", "namespace"),
    "spec.nodeName": ("spec", "nodeName"),
    "status.phase": ("status", "phase"),
    "involvedObject.kind": ("involvedObject", "kind"),
    "involvedObject.name": ("involvedObject", "name"),
    "involvedObject.uid": ("involvedObject", "uid"),
    "reason": ("reason",),
}


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a selector of `matchLabels` selects these labels."""
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def by_labels(text: str) -> Predicate:
    """Return the predicate of a labelSelector such as `a=b,c!=d,e`."""
    tests = [_requirement(part) for part in text.split(",") if part]
    return lambda item: all(
        test(item["metadata"].get("labels", {}).get(key)) for key, test in tests
    )


def by_fields(text: str) -> Predicate:
    """Return the predicate of a fieldSelector such as `metadata.name=a`."""
    tests = [_field(part) for part in text.split(",") if part]
    return lambda item: all((_at(item, path) == value) is equal for path, value, equal in tests)


def _requirement(part: str) -> tuple[str, Callable[[str | None], bool]]:
    found = _REQUIREMENT.fullmatch(part)
    if found is None:
        raise ApiError(400, f"unable to parse requirement: {part}")
    operator, value = found["operator"], found["value"]
    if operator is None:
        return found["key"], lambda label: label is not None
    if operator == "!=":
        return found["key"], lambda label: label != value
    return found["key"], lambda label: label == value


def _field(part: str) -> tuple[tuple[str, ...], str, bool]:
    """Return the path of a field, its value, and whether that is wanted or unwanted."""
    before, _, value = part.partition("=")
    name = before.removesuffix("!")
    if name not in _FIELDS:
        known = ", ".join(f'"{field}"' for field in ("metadata.name", "metadata.namespace"))
        raise ApiError(400, f'"{name}" is not a known field selector: only {known}')
    return _FIELDS[name], value.removeprefix("="), name == before


def _at(item: Json, path: tuple[str, ...]) -> Any:
    value: Any = item
    for step in path:
        value = value.get(step, {})
    return value
