"""The status: which node holds which image, from the live DaemonSet and its pods. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from image_puller.config.configuration import Config
from image_puller.config.entries import INSTALL_CONTAINER
from image_puller.core import daemonset, rollout
from image_puller.core.changes import PullAgain
from image_puller.core.daemonset import DIGESTS, DesiredImage, Manifest
from image_puller.core.state import State
from image_puller.values.reference import InvalidReferenceError, Reference, is_digest, parse

_NOTHING_TO_RUN = ("RunContainerError", "StartError", "CrashLoopBackOff")
"""What the kubelet reports where the node has the image, but its command does not exist yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What the API server has at one moment.

    `daemonset` is None where it is missing. `state` is None where it can't be read. `nodes` is
    empty where the service may not list them.
    """

    daemonset: Manifest | None
    state: State | None
    pods: Sequence[Manifest] = ()
    nodes: Sequence[Manifest] = ()


def describe(config: Config, live: Live, *, problems: Sequence[str] = ()) -> dict[str, Any]:
    """Return the status as JSON. `problems` are those that only the process knows."""
    state = live.state
    images = [
        (entry.name, image)
        for entry in config.entries
        if state is not None and entry.name in state.entries
        for image in daemonset.desired_images_of(config, entry, state.entries[entry.name])
    ]
    return {
        "daemonset": _daemonset(config, live),
        "images": [_image(name, image, live.pods) for name, image in images],
        "nodes": _nodes([image for _, image in images], live),
        "refused": [
            {"entry": name, "tag": refused.name, "digest": refused.digest, "reason": refused.reason}
            for name, entry in (state.entries if state else {}).items()
            for refused in entry.refused
        ],
        "unverified": [
            {
                "entry": name,
                "tag": push.tag,
                "digest": push.digest,
                "pushed": push.time.isoformat(),
                "reason": push.reason,
            }
            for name, entry in (state.entries if state else {}).items()
            for push in entry.unverified
        ],
        "problems": [*problems, *_problems(config, live)],
    }


def is_rolled_out(config: Config, live: Live) -> bool:
    """Whether every selected node runs the current template."""
    return _daemonset(config, live).get("rollout") == "complete"


def wrong_contents(config: Config, live: Live, *, time: datetime) -> tuple[PullAgain, ...]:
    """Return a change for each mutated tag of which a node has other content than was pushed.

    That happens where a registry announced the push before nodes could pull it. Each such tag is
    pulled again once.
    """
    state = live.state
    if state is None or state.configuration != daemonset.configuration_hash(config):
        return ()
    return tuple(
        PullAgain(entry=image.entry, tag=image.tag.name, digest=image.tag.digest, time=time)
        for image in daemonset.desired_images(config, state)
        if image.tag is not None and image.tag.mutated and not image.tag.pulled_again
        if image.tag.digest is not None and any(_has_other_content(image, pod) for pod in live.pods)
    )


def select(status: dict[str, Any], image: str) -> dict[str, Any] | None:
    """Return the part about one image, or None. `image` is an entry's name or a reference."""
    images = [
        each
        for each in status["images"]
        if image == each["entry"] or _named(image) == _named(each["image"])
    ]
    if not images:
        return None
    entries = {each["entry"] for each in images}
    parts = {
        part: [each for each in status[part] if each["entry"] in entries]
        for part in ("refused", "unverified")
    }
    return {**status, "images": images, **parts}


def _named(image: str) -> str | Reference:
    """Return the image that a text names, or the text itself where it names none."""
    try:
        reference = parse(image)
    except InvalidReferenceError:
        return image
    return replace(reference, tag="latest") if str(reference) == reference.name else reference


def _daemonset(config: Config, live: Live) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": config.daemonset_name,
        "namespace": config.namespace,
        "exists": live.daemonset is not None,
    }
    if live.daemonset is None:
        return described
    counts = live.daemonset.get("status", {})
    described |= {
        "desired": counts.get("desiredNumberScheduled", 0),
        "updated": counts.get("updatedNumberScheduled", 0),
        "ready": counts.get("numberReady", 0),
        "rollout": _rollout(config, live, counts),
    }
    if live.state is not None and live.state.changed is not None:
        described["changed"] = live.state.changed.isoformat()
    return described


def _rollout(config: Config, live: Live, counts: Manifest) -> str:
    if live.state is not None and live.state.blocked is not None:
        return "blocked"
    if live.state is not None and _is_pending(config, live.state):
        return "pending"
    metadata = live.daemonset["metadata"] if live.daemonset else {}
    desired = counts.get("desiredNumberScheduled", 0)
    seen = counts.get("observedGeneration", 0) >= metadata.get("generation", 0)
    everywhere = counts.get("updatedNumberScheduled", 0) == desired == counts.get("numberReady", 0)
    return "complete" if seen and everywhere else "in progress"


def _is_pending(config: Config, state: State) -> bool:
    """Whether a rollout is pending. A state of another configuration does not count."""
    is_ours = state.configuration == daemonset.configuration_hash(config)
    return is_ours and rollout.is_pending(config, state)


def _image(entry: str, image: DesiredImage, pods: Sequence[Manifest]) -> dict[str, Any]:
    nodes = {pod["spec"]["nodeName"]: _on_node(image, pod) for pod in pods if _is_placed(pod)}
    return {
        "entry": entry,
        "image": image.image,
        "container": image.container,
        "digest": image.tag.digest if image.tag else None,
        "held": sum(1 for node in nodes.values() if node["held"]),
        "nodes": dict(sorted(nodes.items())),
    }


def _nodes(images: Sequence[DesiredImage], live: Live) -> dict[str, Any]:
    created = {
        node["metadata"]["name"]: datetime.fromisoformat(node["metadata"]["creationTimestamp"])
        for node in live.nodes
    }
    return {
        pod["spec"]["nodeName"]: _node(images, pod, created.get(pod["spec"]["nodeName"]), live)
        for pod in sorted(filter(_is_placed, live.pods), key=lambda pod: pod["spec"]["nodeName"])
    }


def _node(
    images: Sequence[DesiredImage], pod: Manifest, created: datetime | None, live: Live
) -> dict[str, Any]:
    """Return whether the node is warm, and its warm-up time if it joined after the last rollout."""
    warm = all(_on_node(image, pod)["held"] for image in images)
    changed = live.state.changed if live.state else None
    if not warm or created is None or changed is None or created < changed:
        return {"warm": warm}
    started = (
        datetime.fromisoformat(each["state"]["running"]["startedAt"])
        for each in pod["status"]["containerStatuses"]
    )
    return {"warm": warm, "warmUpSeconds": (max(started) - created).total_seconds()}


def _is_placed(pod: Manifest) -> bool:
    return "nodeName" in pod["spec"] and "deletionTimestamp" not in pod["metadata"]


def _on_node(image: DesiredImage, pod: Manifest) -> dict[str, Any]:
    """Return whether a node holds an image: in a running container that expects this content."""
    specs = {spec["name"]: spec for spec in pod["spec"]["containers"]}
    spec = specs.get(image.container)
    expected = _expected(pod).get(image.container)
    if spec is None or spec["image"] != image.image or expected != image.expected:
        return {"held": False, "reason": "the node's pod has an older template"}
    status = _status_of(pod, image.container)
    if "running" in status.get("state", {}):
        return {"held": True, "imageID": _compare(image, status.get("imageID", ""))}
    return {"held": False, "reason": _why_not_running(pod, status)}


def _has_other_content(image: DesiredImage, pod: Manifest) -> bool:
    return _is_placed(pod) and _on_node(image, pod).get("imageID") == "other"


def _expected(pod: Manifest) -> dict[str, str]:
    text = pod["metadata"].get("annotations", {}).get(DIGESTS, "{}")
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _compare(image: DesiredImage, image_id: str) -> str:
    """Compare digests. Runtimes report an image's first digest, not always the requested one."""
    _, at, digest = image_id.rpartition("@")
    if not at or image.tag is None or image.tag.digest is None or not is_digest(digest):
        return "unknown"
    return "same" if digest == image.tag.digest else "other"


def _why_not_running(pod: Manifest, status: Manifest) -> str:
    """Return why a container does not run: its own reason, or that of the install container."""
    own, installers = _reason_of(status), _reason_of(_status_of(pod, INSTALL_CONTAINER))
    if installers and own.startswith(_NOTHING_TO_RUN):
        return f"waiting for container {INSTALL_CONTAINER} (KIP_IMAGE): {installers}"
    return own or str(pod.get("status", {}).get("message") or "waiting")


def _reason_of(status: Manifest) -> str:
    """Return why a container does not run, or "" where it runs or has only begun."""
    state = status.get("state", {})
    found = state.get("waiting") or state.get("terminated") or {}
    if found.get("reason") in (None, "ContainerCreating"):
        return ""
    return ": ".join(filter(None, (found["reason"], found.get("message"))))


def _status_of(pod: Manifest, container: str) -> Manifest:
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return next((each for each in statuses if each["name"] == container), {})


def _problems(config: Config, live: Live) -> list[str]:
    problems = list(config.warnings)
    if live.daemonset is None:
        problems.append(f"DaemonSet {config.daemonset_name} does not exist")
    elif live.state is None:
        problems.append(f"DaemonSet {config.daemonset_name} has no readable state annotation")
    elif live.state.blocked is not None:
        problems.append(
            f"the cluster refuses new pods, so the pods that run stay: {live.state.blocked.reason}"
        )
    return problems
