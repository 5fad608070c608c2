"""The groups of `IMAGE_GROUPS`: each sets some variables for its own DaemonSet."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from image_puller.config import variables

LONGEST_NAME = 30
"""The length of a group's name. The DaemonSet's name ends in it, and has 63 characters at most."""


def parse(text: str) -> dict[str, dict[str, str]]:
    """Parse `IMAGE_GROUPS`: return the variables that each group sets, as their texts.

    Raises ValueError for what is no group. The texts are parsed as those of variables.
    """
    groups: dict[str, dict[str, str]] = {}
    for name, settings in variables.json_object(text).items():
        if len(variables.dns_label(name)) > LONGEST_NAME:
            raise ValueError(
                f"the name {name!r} is longer than {LONGEST_NAME} characters; shorten it"
            )
        if not isinstance(settings, dict):
            raise ValueError(f"{name}: must be an object, not {variables.quoted(settings)}")
        groups[name] = _variables(name, settings)
    return groups


def located(name: str, own: Collection[str], messages: Iterable[str]) -> Iterator[str]:
    """Yield those messages that are about variables which a group sets, with their place in it.

    Each message begins with its variable. Other messages are about variables themselves.
    """
    for message in messages:
        variable, _, text = message.partition(": ")
        keys = [_KEYS[each] for each in own if each == variable or each in text]
        if keys:
            yield f"IMAGE_GROUPS: {name}.{_KEYS.get(variable, keys[0])}: {text}"


def _variables(name: str, settings: Mapping[str, Any]) -> dict[str, str]:
    if not settings.get("images"):
        raise ValueError(f'{name}: has no images; set "images": "name=image;…"')
    found: dict[str, str] = {}
    for key, value in _flat(name, settings).items():
        if key not in _PARSERS:
            raise ValueError(
                f"{name}: {variables.quoted(key)} is not one of {', '.join(sorted(_PARSERS))}"
            )
        variable, as_text = _PARSERS[key]
        try:
            found[variable] = as_text(value)
        except ValueError as error:
            raise ValueError(f"{name}.{key}: {error}") from None
    return found


def _flat(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with those of `resources`, such as `resources.limits.memory`."""
    flat = {key: value for key, value in settings.items() if key != "resources"}
    resources = settings.get("resources", {})
    bounds = resources.items() if isinstance(resources, dict) else ()
    for bound, amounts in bounds:
        if not isinstance(amounts, dict):
            raise ValueError(f"{name}.resources.{bound}: must be an object")
        flat |= {f"resources.{bound}.{kind}": amount for kind, amount in amounts.items()}
    if not isinstance(resources, dict):
        raise ValueError(f"{name}.resources: must be an object")
    return flat


def _assignments(value: Any) -> str:
    """Return `name=value;…` of a text, of an object of texts, or of an array of assignments."""
    if isinstance(value, dict) and all(isinstance(each, str) for each in value.values()):
        return ";".join(f"{name}={each}" for name, each in value.items())
    if isinstance(value, list):
        return ";".join(map(_assignment, value))
    if not isinstance(value, str):
        raise ValueError("must be a text name=value;…, an object of texts, or an array")
    return value


def _assignment(value: Any) -> str:
    """Return `name=image` of a text, or of an object with the keys `name` and `image`."""
    match value:
        case str():
            return value
        case {"name": str(name), "image": str(image), **rest} if not rest:
            return f"{name}={image}"
        case _:
            raise ValueError(
                "must have items name=image or {name: …, image: …}, "
                f"not {variables.quoted(value)}"
            )


def _list(value: Any) -> str:
    """Return `a;b;…` of a text, or of an array of texts."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ";".join(value)
    return _text(value)


def _text(value: Any) -> str:
    """Return the text of a text or a number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"must be a text or a number, not {variables.quoted(value)}")
    return str(value)


def _amount(value: Any) -> str:
    """Return the text of a quantity. `null` leaves the request or limit out."""
    return "none" if value is None else _text(value)


_PARSERS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "images": ("IMAGES", _assignments),
    "imageTagPolicies": ("IMAGE_TAG_POLICIES", _assignments),
    "keepTags": ("KEEP_TAGS", _text),
    "nodeSelector": ("NODE_SELECTOR", json.dumps),
    "affinity": ("AFFINITY", json.dumps),
    "tolerations": ("TOLERATIONS", json.dumps),
    "imagePullSecrets": ("IMAGE_PULL_SECRETS", _list),
    "holdBy": ("HOLD_BY", _text),
    "rolloutMaxUnavailable": ("ROLLOUT_MAX_UNAVAILABLE", _text),
    "rolloutSeedNodes": ("ROLLOUT_SEED_NODES", _text),
    "priorityClassName": ("PRIORITY_CLASS_NAME", _text),
    "runtimeClassName": ("RUNTIME_CLASS_NAME", _text),
    "resources.requests.memory": ("CACHING_MEMORY_REQUEST", _amount),
    "resources.requests.cpu": ("CACHING_CPU_REQUEST", _amount),
    "resources.limits.memory": ("CACHING_MEMORY_LIMIT", _amount),
    "resources.limits.cpu": ("CACHING_CPU_LIMIT", _amount),
}
_KEYS = {variable: key for key, (variable, _) in _PARSERS.items()}
