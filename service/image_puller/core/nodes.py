"""The nodes: only the facts that the status needs, and whether a pod may run there. Pure."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from image_puller.core.daemonset import Manifest

_ADDED = tuple(
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
"""The tolerations that the DaemonSet controller adds to each pod.

https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/#taints-and-tolerations
"""


_VERSION = re.compile(r"v?([0-9]{1,9})\.([0-9]{1,9})")
_RUNTIME = re.compile(rf"(containerd|cri-o)://{_VERSION.pattern}")
_RUNTIMES = {"containerd": (2, 1), "cri-o": (1, 31)}
_KUBELET = (1, 35)
"""The first versions that can mount image volumes, which is then on by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node. `images` has the names under which its kubelet lists images, by tag and by digest.

    `runtime` and `kubelet` have their versions, such as `containerd://2.1.0` and `v1.35.0`.
    """

    name: str
    uid: str = ""
    created: datetime | None = None
    is_ready: bool = True
    is_cordoned: bool = False
    labels: Mapping[str, str]
    taints: tuple[Manifest, ...] = ()
    images: frozenset[str] = frozenset()
    runtime: str = ""
    kubelet: str = ""


def of_manifest(manifest: Manifest, is_wanted: Callable[[str], bool]) -> Node:
    """Return the facts of a node, with the image names that are wanted.

    Every field but the name may be missing or null.
    """
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    created = metadata.get("creationTimestamp")
    conditions, info = status.get("conditions") or (), status.get("nodeInfo") or {}
    spec = manifest.get("spec") or {}
    return Node(
        name=metadata["name"],
        uid=str(metadata.get("uid") or ""),
        created=datetime.fromisoformat(created) if created else None,
        is_ready=all(each.get("status") == "True" for each in conditions if _is_ready(each)),
        is_cordoned=bool(spec.get("unschedulable")),
        labels=metadata.get("labels") or {},
        taints=tuple(spec.get("taints") or ()),
        images=frozenset(
            name
            for image in status.get("images") or ()
            for name in image.get("names") or ()
            if is_wanted(repository(name))
        ),
        runtime=sys.intern(str(info.get("containerRuntimeVersion") or "")),
        kubelet=sys.intern(str(info.get("kubeletVersion") or "")),
    )


def repository(name: str) -> str:
    """Return the part of an image's name before its tag and digest."""
    tagged = name.partition("@")[0]
    before, colon, tag = tagged.rpartition(":")
    return before if colon and "/" not in tag else tagged


def why_not_selected(template: Manifest, node: Node) -> str | None:
    """Return why a template does not select a node, or None where it does."""
    spec = template["spec"]
    for key, value in (spec.get("nodeSelector") or {}).items():
        if node.labels.get(key) != value:
            return f"the node does not have the label {key}={value} (NODE_SELECTOR)"
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required and not any(_matches(t, node) for t in required.get("nodeSelectorTerms") or ()):
        return "the node does not match the required node affinity (AFFINITY)"
    return None


def untolerated_taint(template: Manifest, node: Node) -> str | None:
    """Return the first taint that keeps new pods of a template from a node, or None."""
    found = untolerated_taints(template, node)
    return text_of_taint(found[0]) if found else None


def untolerated_taints(template: Manifest, node: Node) -> tuple[Manifest, ...]:
    """Return the taints that keep new pods of a template from a node."""
    tolerations = [*(template["spec"].get("tolerations") or ()), *_ADDED]
    return tuple(
        taint
        for taint in node.taints
        if taint.get("effect") != "PreferNoSchedule"
        and not any(_tolerates(each, taint) for each in tolerations)
    )


def text_of_taint(taint: Manifest) -> str:
    """Return a taint as `kubectl taint` has it."""
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key')}{value}:{taint.get('effect')}"


def mounts_images(node: Node) -> bool:
    """Whether the kubelet and the runtime of a node can mount image volumes, by their versions."""
    runtime = _RUNTIME.match(node.runtime)
    kubelet = _VERSION.match(node.kubelet)
    return (
        runtime is not None
        and kubelet is not None
        and _number(runtime[2], runtime[3]) >= _RUNTIMES[runtime[1]]
        and _number(kubelet[1], kubelet[2]) >= _KUBELET
    )


def meets_all(expressions: Sequence[Manifest], labels: Mapping[str, str]) -> bool:
    """Whether labels meet all `matchExpressions` of a selector."""
    return all(_meets(each, labels.get(each["key"])) for each in expressions)


def _number(major: str, minor: str) -> tuple[int, int]:
    return int(major), int(minor)


def _is_ready(condition: Manifest) -> bool:
    return condition.get("type") == "Ready"


def _tolerates(toleration: Mapping[str, Any], taint: Manifest) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("key") not in (None, "", taint.get("key")):
        return False
    operator, value = toleration.get("operator") or "Equal", taint.get("value") or ""
    if operator in ("Lt", "Gt"):
        return _compares(operator, value, [str(toleration.get("value"))])
    return operator == "Exists" or (toleration.get("value") or "") == value


def _matches(term: Manifest, node: Node) -> bool:
    """Whether a node matches a term. A term without requirements matches no node."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return meets_all(expressions, node.labels) and all(_meets(each, node.name) for each in fields)


def _meets(requirement: Manifest, value: str | None) -> bool:
    operator, values = requirement["operator"], requirement.get("values") or ()
    match operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return value is not None and _compares(operator, value, values)


def _compares(operator: str, value: str, values: Sequence[str]) -> bool:
    """Compare whole numbers, as `Gt` and `Lt` do. Anything else does not match."""
    try:
        mine, bound = int(value), int(values[0])
    except (ValueError, IndexError):
        return False
    return mine > bound if operator == "Gt" else mine < bound if operator == "Lt" else False
