"""Parts of a status, as `GET /status` answers it."""

from typing import Any

Json = dict[str, Any]

NOT_READY = {"warm": False, "counts": False, "state": "not warm", "reason": "the node is not ready"}


def on_node(state: str, reason: str = "", image_id: str | None = None) -> Json:
    """Return what a status says about an image on a node."""
    found: Json = {"held": state == "held", "state": state}
    if image_id is not None:
        found["imageID"] = image_id
    if reason:
        found["reason"] = reason
    return found


def image(
    reference: str, *states: Json | str, entry: str = "app", digest: str | None = None
) -> Json:
    """Return an image with its state on `node-1`, `node-2` and so on."""
    nodes = {
        f"node-{number}": on_node(state) if isinstance(state, str) else state
        for number, state in enumerate(states, start=1)
    }
    return {
        "entry": entry,
        "image": reference,
        "container": entry,
        "holder": entry,
        "digest": digest,
        "held": sum(each["held"] for each in nodes.values()),
        "nodes": nodes,
    }


def tag(image: str, *, entry: str = "app", digest: str | None = None, reason: str = "") -> Json:
    """Return an item of `quarantined`, `refused` or `unverified`."""
    name = image.rpartition(":")[2]
    return {"entry": entry, "image": image, "tag": name, "digest": digest, "reason": reason}


def status(*images: Json, rollout: str | None = "complete", **parts: Any) -> Json:
    """Return a status with these images, and other parts such as `quarantined` and `nodes`.

    `rollout` is None where the DaemonSet does not exist.
    """
    names = {name for image in images for name in image["nodes"]}
    nodes = {name: {"warm": True, "counts": True, "state": "warm"} for name in sorted(names)}
    return {
        "daemonset": {"exists": False} if rollout is None else {"exists": True, "rollout": rollout},
        "images": list(images),
        "nodes": nodes | parts.pop("nodes", {}),
        "quarantined": [],
        "refused": [],
        "unverified": [],
        "problems": [],
        "groups": {},
        **parts,
    }


def only_groups(**groups: Json) -> Json:
    """Return the status of a service whose `IMAGES` is empty."""
    return {**status(), "daemonset": None, "groups": groups}
