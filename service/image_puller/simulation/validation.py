"""The validation of DaemonSets and pods, for the errors that a wrong configuration can cause.

The messages are those of the real server.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from image_puller.simulation import canonical_quantities, selectors
from image_puller.simulation.responses import Cause, Json

ANNOTATIONS_LIMIT = 256 * 1024  # bytes of all names and values of an object's annotations

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_LENGTH = 63
_NOT_A_LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', "
    f"regex used for validation is '{_LABEL}')"
)
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_NOT_A_SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', "
    f"regex used for validation is '{_SUBDOMAIN}')"
)
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PERCENT = re.compile(r"(\d+)%")


def invalid(field: str, value: object, problem: str) -> Cause:
    """Return the cause for a value that is not valid. The message shows the value as JSON."""
    shown = json.dumps(value, separators=(",", ":"), sort_keys=True)
    return Cause("FieldValueInvalid", f"Invalid value: {shown}: {problem}", field)


def daemon_set(manifest: Json, live: Json | None) -> list[Cause]:
    """Return what is wrong with a DaemonSet, and with the change if `live` is given."""
    return [
        *metadata(manifest["metadata"]),
        *_changed_selector(manifest["spec"], live),
        *_selector(manifest["spec"]),
        *_pod(manifest["spec"]["template"]["spec"], "spec.template.spec"),
        *_restart_policy(manifest["spec"]["template"]["spec"]),
        *_max_unavailable(manifest["spec"]["updateStrategy"].get("rollingUpdate")),
    ]


def pod(manifest: Json) -> list[Cause]:
    """Return what is wrong with a pod."""
    return [*metadata(manifest["metadata"]), *_pod(manifest["spec"], "spec")]


def event(manifest: Json) -> list[Cause]:
    """Return what is wrong with an Event."""
    causes = list(metadata(manifest["metadata"]))
    namespace = manifest.get("involvedObject", {}).get("namespace")
    if namespace != manifest["metadata"]["namespace"]:
        field = "involvedObject.namespace"
        causes.append(invalid(field, namespace or "", "does not match event.namespace"))
    return causes


def metadata(given: Json) -> Iterator[Cause]:
    """Yield what is wrong with an object's name and annotations."""
    name = given["name"]
    if not name:
        problem = "Required value: name or generateName is required"
        yield Cause("FieldValueRequired", problem, "metadata.name")
    elif not re.fullmatch(_SUBDOMAIN, name):
        yield invalid("metadata.name", name, _NOT_A_SUBDOMAIN)
    annotations: dict[str, str] = given.get("annotations", {})
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > ANNOTATIONS_LIMIT:
        problem = f"Too long: may not be more than {ANNOTATIONS_LIMIT} bytes"
        yield Cause("FieldValueTooLong", problem, "metadata.annotations")


def _changed_selector(spec: Json, live: Json | None) -> Iterator[Cause]:
    if live and spec.get("selector") != live["spec"]["selector"]:
        yield invalid("spec.selector", spec.get("selector"), "field is immutable")


def _selector(spec: Json) -> Iterator[Cause]:
    selector = spec.get("selector")
    if selector == {}:
        yield invalid("spec.selector", selector, "empty selector is invalid for daemonset")
        return
    labels = spec["template"].get("metadata", {}).get("labels")
    if selector is None or not selectors.selects(selector, labels or {}):
        field = "spec.template.metadata.labels"
        yield invalid(field, labels, "`selector` does not match template `labels`")


def _pod(spec: Json, path: str) -> Iterator[Cause]:
    containers = spec.get("containers", [])
    if not containers:
        yield _required(f"{path}.containers")
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    taken: set[str] = set()
    for number, container in enumerate(containers):
        field = f"{path}.containers[{number}]"
        yield from _container(container, field, volumes)
        yield from _duplicate(container.get("name"), f"{field}.name", taken)


def _container(container: Json, path: str, volumes: set[str]) -> Iterator[Cause]:
    yield from _container_name(container.get("name"), f"{path}.name")
    if not container.get("image"):
        yield _required(f"{path}.image")
    policy = container["imagePullPolicy"]
    if policy not in _PULL_POLICIES:
        yield _unsupported(f"{path}.imagePullPolicy", policy, _PULL_POLICIES)
    for number, mount in enumerate(container.get("volumeMounts", [])):
        if mount["name"] not in volumes:
            field = f"{path}.volumeMounts[{number}].name"
            yield Cause("FieldValueNotFound", f'Not found: "{mount["name"]}"', field)
    yield from _resources(container["resources"], f"{path}.resources.requests")


def _container_name(name: str | None, field: str) -> Iterator[Cause]:
    if not name:
        yield _required(field)
    elif not re.fullmatch(_LABEL, name):
        yield invalid(field, name, _NOT_A_LABEL)
    elif len(name) > _LABEL_LENGTH:
        yield invalid(field, name, f"must be no more than {_LABEL_LENGTH} characters")


def _duplicate(name: str | None, field: str, taken: set[str]) -> Iterator[Cause]:
    if name in taken:
        yield Cause("FieldValueDuplicate", f'Duplicate value: "{name}"', field)
    elif name:
        taken.add(name)


def _resources(resources: Mapping[str, Mapping[str, str]], field: str) -> Iterator[Cause]:
    limits = resources.get("limits", {})
    for name, request in sorted(resources.get("requests", {}).items()):
        limit = limits.get(name)
        if limit is not None and _exceeds(request, limit):
            problem = f"must be less than or equal to {name} limit of {limit}"
            yield invalid(field, request, problem)


def _exceeds(request: str, limit: str) -> bool:
    return canonical_quantities.parse(request) > canonical_quantities.parse(limit)


def _restart_policy(spec: Json) -> Iterator[Cause]:
    policy = spec["restartPolicy"]
    if policy != "Always":
        yield _unsupported("spec.template.spec.restartPolicy", policy, ("Always",))


def _max_unavailable(rolling: Json | None) -> Iterator[Cause]:
    if rolling is None:
        return
    field = "spec.updateStrategy.rollingUpdate.maxUnavailable"
    given: Any = rolling["maxUnavailable"]
    percent = _PERCENT.fullmatch(str(given))
    if percent and int(percent[1]) > 100:  # noqa: PLR2004  per cent
        yield invalid(field, given, "must not be greater than 100%")
    if given in (0, "0%") and rolling["maxSurge"] in (0, "0%"):
        problem = "Required value: cannot be 0 when maxSurge is 0"
        yield Cause("FieldValueRequired", problem, field)


def _required(field: str) -> Cause:
    return Cause("FieldValueRequired", "Required value", field)


def _unsupported(field: str, value: str, supported: tuple[str, ...]) -> Cause:
    listed = ", ".join(f'"{choice}"' for choice in supported)
    problem = f'Unsupported value: "{value}": supported values: {listed}'
    return Cause("FieldValueNotSupported", problem, field)
