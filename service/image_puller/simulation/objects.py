"""Turns the object of a request into the object to store. Pure, but for random names and UIDs."""

import copy
import random
import uuid
from typing import Any

from image_puller.simulation import defaults, responses, validation
from image_puller.simulation.defaults import TEMPLATE_GENERATION
from image_puller.simulation.resources import DAEMON_SETS, EVENTS, NODES, PODS, Resource
from image_puller.simulation.responses import ApiError, Cause, Json

# The letters of Kubernetes' random names. There are no vowels, so that no words arise.
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
    """Return the new object for a request, with name, UID and defaults."""
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
    """Return an object with defaults, and with values in their canonical form.

    Raises ApiError for an object that does not have the fields of its kind.
    """
    try:
        return _completed(resource, copy.deepcopy(item))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ApiError(
            400, f'{resource.kind} in version "v1" cannot be handled as a {resource.kind}: {error}'
        ) from error


def changed(resource: Resource, proposal: Json, live: Json) -> Json:
    """Return a patched object with the fields that only the server may set.

    The generation counts changes of the spec. An annotation counts those of the template.
    """
    metadata, previous = dict(proposal["metadata"]), live["metadata"]
    for name in _SET_BY_SERVER:
        metadata.pop(name, None)
        if name in previous:
            metadata[name] = previous[name]
    metadata.setdefault("resourceVersion", previous["resourceVersion"])
    item = {**proposal, "metadata": metadata, "status": live["status"]}
    if resource is not DAEMON_SETS:
        return completed(resource, item)
    template_generation = previous["annotations"][TEMPLATE_GENERATION]
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


def drop_image_volumes(resource: Resource, item: Json, live: Json | None = None) -> None:
    """Drop the image volumes of an object and their mounts, unless the live one has some."""
    spec = _pod_spec(resource, item)
    if live is not None and _image_volumes(_pod_spec(resource, live)):
        return
    dropped = _image_volumes(spec)
    owners = [(spec, "volumes"), *((each, "volumeMounts") for each in spec.get("containers", ()))]
    for owner, part in owners:
        kept = [each for each in owner.pop(part, ()) if each["name"] not in dropped]
        if kept:
            owner[part] = kept


def _pod_spec(resource: Resource, item: Json) -> Json:
    """Return the spec of a pod, or of the pods of a DaemonSet. Other kinds have none."""
    spec: Json = {}
    if resource is DAEMON_SETS:
        spec = item["spec"]["template"]["spec"]
    elif resource is PODS:
        spec = item["spec"]
    return spec


def _image_volumes(spec: Json) -> set[str]:
    return {volume["name"] for volume in spec.get("volumes", ()) if "image" in volume}


def check(resource: Resource, item: Json, live: Json | None = None) -> None:
    """Raise ApiError for an object that is not valid, or that changes an immutable field."""
    name = item["metadata"]["name"]
    causes = [*_identity(item, live), *_rules(resource, item, live)]
    if causes:
        raise responses.invalid(resource, name, causes)


def partial(item: Json) -> Json:
    """Return the metadata of an object. The server leaves out the template's generation."""
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


def partial_list(listed: Json) -> Json:
    """Return the metadata of listed objects. The real server writes an empty list as null."""
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": listed["metadata"],
        "items": [partial(item) for item in listed["items"]] or None,
    }


def random_name(prefix: str) -> str:
    """Return a random name for a `generateName`. An empty prefix gives an empty name."""
    return prefix and prefix + "".join(random.choices(_LETTERS, k=5))  # noqa: S311  not a secret


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
