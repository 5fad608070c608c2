"""The decisions of the DaemonSet controller: pure functions of a DaemonSet, its pods, the nodes."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from image_puller.simulation.defaults import TEMPLATE_GENERATION
from image_puller.simulation.responses import Json

REVISION_LABEL = "controller-revision-hash"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_ADDED_TOLERATIONS = tuple(
    {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": effect}
    for key, effect in (
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    )
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The next actions: `misplaced` pods are deleted, and `missing` are the nodes that get a pod.

    The `outdated` pods are deleted as well, once no node is missing.
    """

    misplaced: tuple[Json, ...]
    missing: tuple[Json, ...]
    outdated: tuple[Json, ...]


def plan(daemon_set: Json, pods: Sequence[Json], nodes: Sequence[Json]) -> Plan:
    """Return which pods to delete and which nodes get one, within `maxUnavailable`."""
    desired = [node for node in nodes if fits(daemon_set, node)]
    names = {node["metadata"]["name"] for node in desired}
    misplaced = [pod for pod in pods if node_of(pod) not in names]
    placed = [pod for pod in pods if node_of(pod) in names]
    taken = {node_of(pod) for pod in placed}
    missing = [node for node in desired if node["metadata"]["name"] not in taken]
    outdated = _replaceable(daemon_set, placed, len(desired))
    return Plan(
        misplaced=tuple(pod for pod in misplaced if not is_terminating(pod)),
        missing=tuple(missing),
        outdated=tuple(outdated),
    )


def pod(daemon_set: Json, node: Json) -> Json:
    """Return the pod of a DaemonSet for a node. The scheduler has still to bind it."""
    metadata, template = daemon_set["metadata"], daemon_set["spec"]["template"]
    template_metadata = template.get("metadata", {})
    labels = {
        **template_metadata.get("labels", {}),
        REVISION_LABEL: revision(daemon_set),
        "pod-template-generation": metadata["annotations"][TEMPLATE_GENERATION],
    }
    owner = {
        "apiVersion": daemon_set["apiVersion"],
        "kind": daemon_set["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    tolerations = [*template["spec"].get("tolerations", []), *_ADDED_TOLERATIONS]
    return {
        "metadata": {
            "generateName": f"{metadata['name']}-",
            "labels": labels,
            "annotations": template_metadata.get("annotations", {}),
            "ownerReferences": [owner],
        },
        "spec": {
            **template["spec"],
            "tolerations": tolerations,
            "affinity": _affinity(template["spec"].get("affinity", {}), node["metadata"]["name"]),
        },
    }


def node_of(pod: Json) -> str | None:
    """Return the node that a pod of a DaemonSet is bound to, or that it is meant for."""
    spec = pod["spec"]
    if "nodeName" in spec:
        return str(spec["nodeName"])
    match spec.get("affinity", {}).get("nodeAffinity", {}).get(_REQUIRED, {}):
        case {"nodeSelectorTerms": [{"matchFields": [{"values": [name]}]}]}:
            return str(name)
    return None


def status(daemon_set: Json, pods: Iterable[Json], nodes: Iterable[Json]) -> Json:
    """Return the status of a DaemonSet. As in Go's JSON, optional fields that are 0 are omitted."""
    desired = {node["metadata"]["name"] for node in nodes if fits(daemon_set, node)}
    remaining = [pod for pod in pods if not is_terminating(pod)]
    placed = [pod for pod in remaining if node_of(pod) in desired]
    ready = sum(map(is_ready, placed))
    live = revision(daemon_set)
    required = {
        "currentNumberScheduled": len({node_of(pod) for pod in placed}),
        "numberMisscheduled": len(remaining) - len(placed),
        "desiredNumberScheduled": len(desired),
        "numberReady": ready,
    }
    optional = {
        "observedGeneration": daemon_set["metadata"]["generation"],
        "updatedNumberScheduled": sum(is_current(pod, live) for pod in placed),
        "numberAvailable": ready,
        "numberUnavailable": len(desired) - ready,
    }
    return required | {name: count for name, count in optional.items() if count}


def fits(daemon_set: Json, node: Json) -> bool:
    """Whether a DaemonSet selects a node and tolerates all its taints."""
    spec = daemon_set["spec"]["template"]["spec"]
    selector: Mapping[str, str] = spec.get("nodeSelector", {})
    if not selector.items() <= node["metadata"].get("labels", {}).items():
        return False
    tolerations = [*spec.get("tolerations", []), *_ADDED_TOLERATIONS]
    taints = node.get("spec", {}).get("taints", [])
    return all(
        taint["effect"] == "PreferNoSchedule" or any(_tolerates(one, taint) for one in tolerations)
        for taint in taints
    )


def revision(daemon_set: Json) -> str:
    """Return the hash of a DaemonSet's template."""
    text = json.dumps(daemon_set["spec"]["template"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def is_current(pod: Json, live: str) -> bool:
    """Whether a pod has the template with this hash."""
    labels: Mapping[str, str] = pod["metadata"]["labels"]
    return labels[REVISION_LABEL] == live


def is_ready(pod: Json) -> bool:
    """Whether a pod's condition `Ready` is true."""
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def is_terminating(pod: Json) -> bool:
    """Whether a pod is being deleted, and its kubelet has not yet confirmed it."""
    return "deletionTimestamp" in pod["metadata"]


def is_owned(item: Json, uid: str) -> bool:
    """Whether the object with this UID owns the item."""
    return any(owner["uid"] == uid for owner in item["metadata"].get("ownerReferences", []))


def _affinity(affinity: Json, name: str) -> Json:
    """Return the affinity of a pod for one node. The real controller also replaces the terms."""
    field = {"key": "metadata.name", "operator": "In", "values": [name]}
    required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    return {**affinity, "nodeAffinity": {**affinity.get("nodeAffinity", {}), _REQUIRED: required}}


def _replaceable(daemon_set: Json, placed: Sequence[Json], desired: int) -> list[Json]:
    """Return the outdated pods that may be deleted now. Those that are not ready always may.

    They count as unavailable, as in Kubernetes 1.37. Version 1.27 did not count them.
    """
    strategy = daemon_set["spec"]["updateStrategy"]
    if strategy["type"] != "RollingUpdate":
        return []
    live = revision(daemon_set)
    kept = [pod for pod in placed if not is_terminating(pod)]
    outdated = [pod for pod in kept if not is_current(pod, live)]
    ready = [pod for pod in outdated if is_ready(pod)]
    not_ready = [pod for pod in outdated if not is_ready(pod)]
    unready = sum(not is_ready(pod) for pod in kept if is_current(pod, live))
    unavailable = desired - len(kept) + unready + len(not_ready)
    budget = _absolute(strategy["rollingUpdate"]["maxUnavailable"], desired)
    return [*not_ready, *ready[: max(0, budget - unavailable)]]


def _absolute(amount: Any, of: int) -> int:
    text = str(amount)
    return math.ceil(int(text[:-1]) * of / 100) if text.endswith("%") else int(text)


def _tolerates(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect", taint["effect"]) != taint["effect"]:
        return False
    if "key" in toleration and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("value", "") == taint.get("value", ""))
