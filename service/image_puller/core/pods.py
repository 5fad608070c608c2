"""The pods of the DaemonSet: only the facts that the status needs, read from manifests. Pure."""

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from image_puller.core.daemonset import DIGESTS, Manifest

GENERATION_LABEL = "pod-template-generation"
"""The label in which the DaemonSet controller notes the generation of a pod's template."""

_HAS_ONLY_BEGUN = (None, "ContainerCreating", "PodInitializing")
_READY_TO_START = ("PodReadyToStartContainers", "PodHasNetwork")


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container of a pod: its image in the spec, and what the kubelet reports of it.

    `running_since` is None where it does not run. `reason` says why it does not run. It is "" where
    it runs or has only begun. `last_exit` says how it ended the last time, or is "".
    `image_volumes` has the images that it mounts, by the names of their volumes.
    """

    name: str
    image: str
    image_id: str = ""
    running_since: str | None = None
    reason: str = ""
    last_exit: str = ""
    image_volumes: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of the DaemonSet.

    `node` is the node that it runs on, or is meant for while the scheduler has not bound it.
    `unscheduled` is the scheduler's reason. `failed` is why the pod ended. `created` is since when
    it exists, and `deleted` since when it terminates. `waits_for` is the message of the kubelet
    while no container can start.
    `digests` has what its template expects, by container.
    """

    name: str
    node: str | None
    is_bound: bool
    is_ready: bool
    generation: str | None = None
    created: str | None = None
    deleted: str | None = None
    started: str | None = None
    unscheduled: str = ""
    failed: str = ""
    waits_for: str = ""
    digests: Mapping[str, str]
    containers: tuple[Container, ...] = ()

    def container(self, name: str) -> Container | None:
        """Return the container of that name, if there is one."""
        return next((each for each in self.containers if each.name == name), None)

    def holder(self, name: str) -> Container | None:
        """Return what holds an image: the container that mounts it, or else that runs it."""
        mounting = (each for each in self.containers if name in each.image_volumes)
        return next(mounting, None) or self.container(name)


def of_manifest(manifest: Manifest) -> Pod:
    """Return the facts of a pod. Every field but the name may be missing or null."""
    metadata, spec, status = (_map(manifest, name) for name in ("metadata", "spec", "status"))
    bound = spec.get("nodeName")
    scheduled, ready = _condition(status, "PodScheduled"), _condition(status, "Ready")
    is_scheduled = bool(bound) or scheduled.get("status") == "True"
    text = _map(metadata, "annotations").get(DIGESTS)
    return Pod(
        name=metadata["name"],
        node=bound or _meant_for(spec),
        is_bound=bool(bound),
        is_ready=ready.get("status") == "True",
        generation=_map(metadata, "labels").get(GENERATION_LABEL),
        created=metadata.get("creationTimestamp"),
        deleted=metadata.get("deletionTimestamp"),
        started=status.get("startTime"),
        unscheduled="" if is_scheduled else joined(scheduled),
        failed=joined(status) or "the pod has ended" if status.get("phase") == "Failed" else "",
        waits_for=_waits_for(status),
        digests=_digests(text if isinstance(text, str) else "{}"),
        containers=tuple(_containers(spec, status)),
    )


def joined(found: Manifest) -> str:
    """Return the reason and the message of a condition or a state, as one text."""
    return ": ".join(str(found[key]) for key in ("reason", "message") if found.get(key))


def _containers(spec: Manifest, status: Manifest) -> Iterator[Container]:
    reported = {each["name"]: each for each in status.get("containerStatuses") or ()}
    images = {
        _shared(each["name"]): _shared(_map(each, "image").get("reference"))
        for each in spec.get("volumes") or ()
        if each.get("image")
    }
    for each in spec.get("containers") or ():
        found = reported.get(each["name"], {})
        state, last = _map(found, "state"), _map(found, "lastState")
        yield Container(
            name=_shared(each["name"]),
            image=_shared(each.get("image")),
            image_id=_shared(found.get("imageID")),
            running_since=_map(state, "running").get("startedAt") if "running" in state else None,
            reason=_shared(_why_not_running(state)),
            last_exit=_shared(_exit(_map(last, "terminated"))),
            image_volumes={
                mount["name"]: images[mount["name"]]
                for mount in (each.get("volumeMounts") or () if images else ())
                if mount["name"] in images
            },
        )


def _why_not_running(state: Manifest) -> str:
    if state.get("terminated"):
        return _exit(state["terminated"])
    waiting = _map(state, "waiting")
    return "" if waiting.get("reason") in _HAS_ONLY_BEGUN else joined(waiting)


def _exit(terminated: Manifest) -> str:
    code = terminated.get("exitCode")
    shown = f" (exit code {code})" if code is not None else ""
    reason = terminated.get("reason") or ("ended" if terminated else "")
    return joined({"reason": f"{reason}{shown}", "message": terminated.get("message")})


def _waits_for(status: Manifest) -> str:
    """Return why no container can start yet. The kubelet needs a network and the volumes first."""
    found = next(filter(None, (_condition(status, name) for name in _READY_TO_START)), {})
    if found.get("status") != "False":
        return ""
    return joined(found) or "the kubelet has not prepared the pod's network and volumes yet"


def _meant_for(spec: Manifest) -> str | None:
    """Return the node of the affinity that the DaemonSet controller gives each pod."""
    affinity = _map(_map(spec, "affinity"), "nodeAffinity")
    required = _map(affinity, "requiredDuringSchedulingIgnoredDuringExecution")
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and field.get("values"):
                return str(field["values"][0])
    return None


def _condition(status: Manifest, kind: str) -> Manifest:
    conditions = status.get("conditions") or ()
    return next((each for each in conditions if each.get("type") == kind), {})


@lru_cache(maxsize=16)
def _digests(text: str) -> Mapping[str, str]:
    """Return the digests of an annotation. All pods of one template share the result."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _shared(text: Any) -> str:
    """Return a text of which the process keeps one copy, because thousands of pods repeat it."""
    return sys.intern(str(text or ""))


def _map(parent: Manifest, name: str) -> Manifest:
    return parent.get(name) or {}
