"""What the DaemonSet controller decides: pure functions of a DaemonSet, its pods and the nodes."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from image_puller.simulation.answers import Json
from image_puller.simulation.defaults import TEMPLATE_GENERATION

REVISION_LABEL = "controller-revision-hash"
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
    """What to do next; `surplus` are pods, `missing` are nodes."""

    surplus: tuple[Json, ...]
    missing: tuple[Json, ...]


def plan(daemon_set: Json, pods: Sequence[Json], nodes: Sequence[Json]) -> Plan:
    """Decide which pods go and which nodes get one, within `maxUnavailable`."""
    wanted = [node for node in nodes if fits(daemon_set, node)]
    names = {node["metadata"]["name"] for node in wanted}
    misplaced = [pod for pod in pods if pod["spec"]["nodeName"] not in names]
    placed = [pod for pod in pods if pod["spec"]["nodeName"] in names]
    taken = {pod["spec"]["nodeName"] for pod in placed}
    missing = [node for node in wanted if node["metadata"]["name"] not in taken]
    outdated = _replaceable(daemon_set, placed, len(wanted))
    surplus = [pod for pod in misplaced if not is_terminating(pod)]
    return Plan(surplus=(*surplus, *outdated), missing=tuple(missing))


def pod(daemon_set: Json, node: Json) -> Json:
    """Build the pod of a DaemonSet for a node, bound to it: nobody schedules here."""
    metadata, template = daemon_set["metadata"], daemon_set["spec"]["template"]
    given = template.get("metadata", {})
    labels = {
        **given.get("labels", {}),
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
            "annotations": given.get("annotations", {}),
            "ownerReferences": [owner],
        },
        "spec": {
            **template["spec"],
            "tolerations": tolerations,
            "nodeName": node["metadata"]["name"],
        },
    }


def status(daemon_set: Json, pods: Iterable[Json], nodes: Iterable[Json]) -> Json:
    """Count; of what is zero only the required fields are there, as Go's JSON has it."""
    wanted = {node["metadata"]["name"] for node in nodes if fits(daemon_set, node)}
    mine = [pod for pod in pods if not is_terminating(pod)]
    placed = [pod for pod in mine if pod["spec"]["nodeName"] in wanted]
    ready = sum(map(is_ready, placed))
    live = revision(daemon_set)
    required = {
        "currentNumberScheduled": len({pod["spec"]["nodeName"] for pod in placed}),
        "numberMisscheduled": len(mine) - len(placed),
        "desiredNumberScheduled": len(wanted),
        "numberReady": ready,
    }
    optional = {
        "observedGeneration": daemon_set["metadata"]["generation"],
        "updatedNumberScheduled": sum(is_current(pod, live) for pod in placed),
        "numberAvailable": ready,
        "numberUnavailable": len(wanted) - ready,
    }
    return required | {name: count for name, count in optional.items() if count}


def fits(daemon_set: Json, node: Json) -> bool:
    """Tell whether a DaemonSet wants a pod on a node: its selector matches, no taint repels."""
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
    """Name a template: the same template, the same name."""
    text = json.dumps(daemon_set["spec"]["template"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def is_current(pod: Json, live: str) -> bool:
    """Tell whether a pod is made from the template of that revision."""
    labels: Mapping[str, str] = pod["metadata"]["labels"]
    return labels[REVISION_LABEL] == live


def is_ready(pod: Json) -> bool:
    """Tell whether a pod's condition `Ready` is true."""
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def is_terminating(pod: Json) -> bool:
    """Tell whether a pod is to be deleted, and only its node does not say that it is gone."""
    return "deletionTimestamp" in pod["metadata"]


def is_owned(item: Json, uid: str) -> bool:
    """Tell whether an object belongs to another."""
    return any(owner["uid"] == uid for owner in item["metadata"].get("ownerReferences", []))


def _replaceable(daemon_set: Json, placed: Sequence[Json], wanted: int) -> list[Json]:
    """Give the outdated pods that may go now: those that serve nobody always may."""
    strategy = daemon_set["spec"]["updateStrategy"]
    if strategy["type"] != "RollingUpdate":
        return []
    live = revision(daemon_set)
    kept = [pod for pod in placed if not is_terminating(pod)]
    outdated = [pod for pod in kept if not is_current(pod, live)]
    serving = [pod for pod in outdated if is_ready(pod)]
    idle = [pod for pod in outdated if not is_ready(pod)]
    unready = sum(not is_ready(pod) for pod in kept if is_current(pod, live))
    unavailable = wanted - len(kept) + unready
    budget = _share(strategy["rollingUpdate"]["maxUnavailable"], wanted)
    return [*idle, *serving[: max(0, budget - unavailable)]]


def _share(amount: Any, of: int) -> int:
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
