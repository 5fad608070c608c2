"""What is cached where, told from the live DaemonSet and its pods. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from image_puller.config.configuration import Config
from image_puller.config.entries import INSTALLER
from image_puller.core import daemonset, rollout
from image_puller.core.changes import RollAgain
from image_puller.core.daemonset import DIGESTS, Image, Manifest
from image_puller.core.state import State
from image_puller.values.reference import InvalidReferenceError, Reference, is_digest, parse

_NOTHING_TO_RUN = ("RunContainerError", "StartError", "CrashLoopBackOff")
"""What a kubelet says of a container whose image is there, and whose command is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What the API server says at one moment: the DaemonSet (None: there is none), its pods.

    `nodes` is empty where the service may not ask for them.
    """

    daemonset: Manifest | None
    state: State | None
    pods: Sequence[Manifest] = ()
    nodes: Sequence[Manifest] = ()


def describe(config: Config, live: Live, *, problems: Sequence[str] = ()) -> dict[str, Any]:
    """The status as JSON. `problems` are those that only the process knows."""
    state = live.state
    images = [
        (entry.name, image)
        for entry in config.entries
        if state is not None and entry.name in state.entries
        for image in daemonset.images_of(config, entry, state.entries[entry.name])
    ]
    return {
        "daemonset": _daemonset(config, live),
        "images": [_image(name, image, live.pods) for name, image in images],
        "nodes": _nodes([image for _, image in images], live),
        "refused": [
            {"entry": name, "tag": refused.name, "digest": refused.digest, "reason": refused.reason}
            for name, followed in (state.entries if state else {}).items()
            for refused in followed.refused
        ],
        "unverified": [
            {
                "entry": name,
                "tag": push.tag,
                "digest": push.digest,
                "pushed": push.time.isoformat(),
                "reason": push.reason,
            }
            for name, followed in (state.entries if state else {}).items()
            for push in followed.unverified
        ],
        "problems": [*problems, *_problems(config, live)],
    }


def is_rolled_out(config: Config, live: Live) -> bool:
    """Whether every node runs what it should."""
    return _daemonset(config, live).get("rollout") == "complete"


def others(config: Config, live: Live, *, time: datetime) -> tuple[RollAgain, ...]:
    """The tags that moved, but of which a node's runtime reports another content.

    That is how a tag looks whose push was told before it could be read; each is rolled once more.
    """
    state = live.state
    if state is None or state.configuration != daemonset.configuration_hash(config):
        return ()
    return tuple(
        RollAgain(entry=image.entry, tag=image.tag.name, digest=image.tag.digest, time=time)
        for image in daemonset.images(config, state)
        if image.tag is not None and image.tag.moved and not image.tag.again
        if image.tag.digest is not None and any(_is_other(image, pod) for pod in live.pods)
    )


def select(status: dict[str, Any], image: str) -> dict[str, Any] | None:
    """The part that is about one image, by its entry's name or its reference; None if none is."""
    images = [
        each
        for each in status["images"]
        if image == each["entry"] or _meant(image) == _meant(each["image"])
    ]
    if not images:
        return None
    entries = {each["entry"] for each in images}
    parts = {
        part: [each for each in status[part] if each["entry"] in entries]
        for part in ("refused", "unverified")
    }
    return {**status, "images": images, **parts}


def _meant(image: str) -> str | Reference:
    """The image that a text names; the text itself where it names none."""
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
    """A state of another configuration (before this one takes charge, or after) says nothing."""
    is_ours = state.configuration == daemonset.configuration_hash(config)
    return is_ours and rollout.is_pending(config, state)


def _image(entry: str, image: Image, pods: Sequence[Manifest]) -> dict[str, Any]:
    nodes = {pod["spec"]["nodeName"]: _on_node(image, pod) for pod in pods if _is_placed(pod)}
    return {
        "entry": entry,
        "image": image.image,
        "container": image.container,
        "digest": image.tag.digest if image.tag else None,
        "cached": sum(1 for node in nodes.values() if node["cached"]),
        "nodes": dict(sorted(nodes.items())),
    }


def _nodes(images: Sequence[Image], live: Live) -> dict[str, Any]:
    created = {
        node["metadata"]["name"]: datetime.fromisoformat(node["metadata"]["creationTimestamp"])
        for node in live.nodes
    }
    return {
        pod["spec"]["nodeName"]: _node(images, pod, created.get(pod["spec"]["nodeName"]), live)
        for pod in sorted(filter(_is_placed, live.pods), key=lambda pod: pod["spec"]["nodeName"])
    }


def _node(
    images: Sequence[Image], pod: Manifest, created: datetime | None, live: Live
) -> dict[str, Any]:
    """Whether all images are there; how long that took can be told until the next rollout."""
    warm = all(_on_node(image, pod)["cached"] for image in images)
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


def _on_node(image: Image, pod: Manifest) -> dict[str, Any]:
    """Proof is a container that runs in a pod whose template expected just this content."""
    specs = {spec["name"]: spec for spec in pod["spec"]["containers"]}
    spec = specs.get(image.container)
    expected = _expected(pod).get(image.container)
    if spec is None or spec["image"] != image.image or expected != image.expected:
        return {"cached": False, "reason": "the node's pod is of an older template"}
    status = _status_of(pod, image.container)
    if "running" in status.get("state", {}):
        return {"cached": True, "imageID": _compare(image, status.get("imageID", ""))}
    return {"cached": False, "reason": _why_not(pod, status)}


def _is_other(image: Image, pod: Manifest) -> bool:
    return _is_placed(pod) and _on_node(image, pod).get("imageID") == "other"


def _expected(pod: Manifest) -> dict[str, str]:
    text = pod["metadata"].get("annotations", {}).get(DIGESTS, "{}")
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _compare(image: Image, image_id: str) -> str:
    """Runtimes report an image's first digest, not always the one that was asked for."""
    _, at, digest = image_id.rpartition("@")
    if not at or image.tag is None or image.tag.digest is None or not is_digest(digest):
        return "unknown"
    return "same" if digest == image.tag.digest else "other"


def _why_not(pod: Manifest, status: Manifest) -> str:
    """The runtime's words of the container, or of the one that brings what would run in it."""
    own, installers = _words(status), _words(_status_of(pod, INSTALLER))
    if installers and own.startswith(_NOTHING_TO_RUN):
        return f"waits for {INSTALLER} (KIP_IMAGE): {installers}"
    return own or str(pod.get("status", {}).get("message") or "waiting")


def _words(status: Manifest) -> str:
    """Why a container does not run; nothing where it does, or has only begun."""
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
        problems.append(f"DaemonSet {config.daemonset_name} holds no state that can be read")
    elif live.state.blocked is not None:
        problems.append(f"the template was refused by the cluster: {live.state.blocked.reason}")
    return problems
