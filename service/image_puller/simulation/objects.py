"""How the API server makes of a request's object one to store: pure functions of values."""

import copy
import random
import uuid
from typing import Any

from image_puller.simulation import answers, defaults, validation
from image_puller.simulation.answers import Cause, Json, RefusedError
from image_puller.simulation.defaults import TEMPLATE_GENERATION
from image_puller.simulation.resources import DAEMON_SETS, EVENTS, NODES, PODS, Resource

# What Kubernetes makes random names of: no vowels, so no words.
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SET_BY_SERVER = ("creationTimestamp", "deletionTimestamp", "generation", "managedFields")
_EMPTY_STATUS = {
    "currentNumberScheduled": 0,
    "desiredNumberScheduled": 0,
    "numberMisscheduled": 0,
    "numberReady": 0,
}
_EVENT = {"eventTime": None, "reportingComponent": "", "reportingInstance": ""}


def created(resource: Resource, manifest: Json, namespace: str, now: str) -> Json:
    """Give a new object of a request's: named, identified, complete."""
    metadata = {**manifest.get("metadata", {}), "uid": str(uuid.uuid4()), "creationTimestamp": now}
    for name in ("resourceVersion", "managedFields"):
        metadata.pop(name, None)
    if resource.namespaced:
        metadata["namespace"] = namespace
    if "name" not in metadata:
        metadata["name"] = random_name(metadata.get("generateName", ""))
    item = {**manifest, "metadata": metadata}
    item |= {"apiVersion": resource.api_version, "kind": resource.kind}
    if resource is DAEMON_SETS:
        metadata["generation"] = 1
        metadata["annotations"] = {**(metadata.get("annotations") or {}), TEMPLATE_GENERATION: "1"}
        item["status"] = dict(_EMPTY_STATUS)
    elif resource is PODS:
        metadata["generation"] = 1
        item["status"] = {"phase": "Pending"}
    return completed(resource, item)


def completed(resource: Resource, item: Json) -> Json:
    """Fill in defaults, and write what can be written in two ways in the one of the server.

    Refuses what is not of the shape of its kind.
    """
    try:
        return _completed(resource, copy.deepcopy(item))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RefusedError(
            400, f'{resource.kind} in version "v1" cannot be handled as a {resource.kind}: {error}'
        ) from error


def changed(resource: Resource, proposal: Json, live: Json) -> Json:
    """Give a patched object with what only the server may set.

    The generation counts changes of the spec, an annotation those of the template.
    """
    metadata, was = dict(proposal["metadata"]), live["metadata"]
    for name in _SET_BY_SERVER:
        metadata.pop(name, None)
        if name in was:
            metadata[name] = was[name]
    metadata.setdefault("resourceVersion", was["resourceVersion"])
    item = {**proposal, "metadata": metadata, "status": live["status"]}
    if resource is not DAEMON_SETS:
        return completed(resource, item)
    template_generation = was["annotations"][TEMPLATE_GENERATION]
    metadata["annotations"] = {
        **(metadata.get("annotations") or {}),
        TEMPLATE_GENERATION: template_generation,
    }
    item = completed(resource, item)
    if item["spec"] != live["spec"]:
        item["metadata"]["generation"] += 1
    if item["spec"]["template"] != live["spec"]["template"]:
        item["metadata"]["annotations"][TEMPLATE_GENERATION] = str(int(template_generation) + 1)
    return item


def check(resource: Resource, item: Json, live: Json | None = None) -> None:
    """Refuse an object that breaks the rules of its kind, or changes what can't be changed."""
    name = item["metadata"]["name"]
    causes = [*_identity(item, live), *_rules(resource, item, live)]
    if causes:
        raise answers.invalid(resource, name, causes)


def partial(item: Json) -> Json:
    """Give an object's metadata alone; the server keeps the template's generation elsewhere."""
    metadata = dict(item["metadata"])
    annotations = dict(metadata.pop("annotations", {}))
    annotations.pop(TEMPLATE_GENERATION, None)
    if annotations:
        metadata["annotations"] = annotations
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
    }


def random_name(prefix: str) -> str:
    """Complete a `generateName`; nothing comes of nothing."""
    return prefix and prefix + "".join(random.choices(_LETTERS, k=5))  # noqa: S311  no secret


def _completed(resource: Resource, item: Json) -> Json:
    item["metadata"] = _metadata(item["metadata"])
    if resource is DAEMON_SETS:
        item["spec"] = defaults.daemon_set_spec(item.get("spec") or {})
    elif resource is PODS:
        item["spec"] = defaults.pod_spec(item.get("spec") or {})
    elif resource is NODES:
        item["spec"] = defaults.compact(item.get("spec") or {})
    elif resource is EVENTS:
        item = {**_EVENT, **item}
    return item


def _metadata(metadata: Json) -> Json:
    for kind in ("annotations", "labels"):
        named: dict[str, Any] = metadata.get(kind) or {}
        if any(not isinstance(value, str) for value in named.values()):
            raise TypeError(f"json: cannot unmarshal into field metadata.{kind} of type string")
    name = metadata["name"]
    return {**defaults.compact(metadata), "name": name}


def _identity(item: Json, live: Json | None) -> list[Cause]:
    uid = item["metadata"].get("uid")
    if live is None or uid == live["metadata"]["uid"]:
        return []
    return [validation.invalid("metadata.uid", uid or "", "field is immutable")]


def _rules(resource: Resource, item: Json, live: Json | None) -> list[Cause]:
    if resource is DAEMON_SETS:
        return validation.daemon_set(item, live)
    if resource is PODS:
        return validation.pod(item)
    if resource is EVENTS:
        return validation.event(item)
    return list(validation.metadata(item["metadata"]))
