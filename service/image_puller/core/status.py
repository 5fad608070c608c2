"""The status as JSON: which node holds which image, and what is wrong. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from image_puller.config.configuration import Config
from image_puller.core import daemonset, node_state, observation, problems
from image_puller.core.daemonset import DesiredImage
from image_puller.core.node_state import ImageOnNode, NodeState, Place
from image_puller.core.observation import Live, Observation
from image_puller.core.problems import Problem
from image_puller.core.state import EntryState, Seeding
from image_puller.values import quantity
from image_puller.values.reference import InvalidReferenceError, Reference, is_digest, parse

_PARTS = ("quarantined", "refused", "unverified")
"""The lists of a status whose items have an entry."""
_WITHOUT_IMAGES: Mapping[str, Any] = {part: [] for part in ("images", *_PARTS)}
_NO_IMAGES: Mapping[str, Any] = {"daemonset": None, "nodes": {}, **_WITHOUT_IMAGES}
"""The status of a group without entries, which has no DaemonSet."""


def describe(config: Config, live: Live, *, of_process: Sequence[Problem] = ()) -> dict[str, Any]:
    """Return the status as JSON. `of_process` has the problems that only the process knows."""
    seen = observation.observe(config, live)
    return described(seen, (*of_process, *problems.find(seen)))


def described(seen: Observation, found: Sequence[Problem]) -> dict[str, Any]:
    """Return the status of an observation as JSON, with all its problems."""
    state = seen.live.state
    return {
        "daemonset": _daemonset(seen),
        "images": [_image(seen, image) for image in seen.images],
        "nodes": {place.node: _node(seen, place) for place in seen.places},
        "quarantined": [
            {
                "entry": name,
                "image": _pushed(entry, each.tag.name),
                "tag": each.tag.name,
                "digest": each.tag.digest,
                "state": "quarantined",
                "since": each.since.isoformat(),
                "reason": each.reason,
            }
            for name, entry in (state.entries if state else {}).items()
            for each in entry.quarantined
        ],
        "refused": [
            {
                "entry": name,
                "image": _pushed(entry, refused.name),
                "tag": refused.name,
                "digest": refused.digest,
                "reason": refused.reason,
            }
            for name, entry in (state.entries if state else {}).items()
            for refused in entry.refused
        ],
        "unverified": [
            {
                "entry": name,
                "image": _pushed(entry, push.tag),
                "tag": push.tag,
                "digest": push.digest,
                "pushed": push.time.isoformat(),
                "reason": push.reason,
            }
            for name, entry in (state.entries if state else {}).items()
            for push in entry.unverified
        ],
        "problems": [problem.message for problem in found],
    }


def of_groups(found: Mapping[str | None, dict[str, Any]]) -> dict[str, Any]:
    """Return the status of all groups as one.

    It is that of the group of `IMAGES`. Its `groups` has those of the named groups, and its
    `problems` has the problems of all groups, each once.
    """
    named = {
        name: {part: value for part, value in each.items() if part != "problems"}
        for name, each in found.items()
        if name is not None
    }
    problems = dict.fromkeys(problem for each in found.values() for problem in each["problems"])
    return {**found.get(None, _NO_IMAGES), "groups": named, "problems": list(problems)}


def select(status: dict[str, Any], image: str) -> dict[str, Any] | None:
    """Return the part about one image, or None. `image` is an entry's name or a reference."""
    groups = {name: _selected(each, image) for name, each in status["groups"].items()}
    named = {name: each for name, each in groups.items() if each is not None}
    main = _selected(status, image)
    if main is None and not named:
        return None
    return {**(main or {**status, **_WITHOUT_IMAGES}), "groups": named}


def of_nodes(status: dict[str, Any], is_selected: Callable[[str], bool]) -> dict[str, Any]:
    """Return the status with only the nodes that are selected by their names."""
    groups = {name: _of_nodes(each, is_selected) for name, each in status["groups"].items()}
    return {**_of_nodes(status, is_selected), "groups": groups}


def _of_nodes(status: dict[str, Any], is_selected: Callable[[str], bool]) -> dict[str, Any]:
    def selected(nodes: Mapping[str, Any]) -> dict[str, Any]:
        return {name: each for name, each in nodes.items() if is_selected(name)}

    images = [{**each, "nodes": selected(each["nodes"])} for each in status["images"]]
    for each in images:
        each["held"] = sum(on_node["held"] for on_node in each["nodes"].values())
    return {**status, "images": images, "nodes": selected(status["nodes"])}


def without_images(status: dict[str, Any]) -> dict[str, Any]:
    """Return the status of the nodes, as of an image that is not desired."""
    groups = {name: {**each, **_WITHOUT_IMAGES} for name, each in status["groups"].items()}
    return {**status, **_WITHOUT_IMAGES, "groups": groups}


def is_named(name: str, entry: str, image: str) -> bool:
    """Whether a name is that of the entry, or of the image."""
    return name == entry or _named(name) in _names(image)


def seeding(seen: Observation) -> str:
    """Return what nodes wait for because of `ROLLOUT_SEED_NODES`, or nothing."""
    state, seeds = seen.live.state, seen.config.rollout_seed_nodes
    if state is None or state.seeding is None:
        return ""
    if state.seeding is Seeding.EMPTY and seen.selects_nothing:
        return f"no node is selected; of the nodes that join, the first {seeds} pull first"
    if state.seeding is Seeding.EMPTY:
        return f"the first {seeds} nodes pull once the pods of all ready nodes run without images"
    held = sum(map(seen.runs_template, seen.ready))
    return (
        f"{held} of {seeds} seeds hold all images; {state.max_unavailable} nodes change at once, "
        "and the others wait for the seeds"
    )


def _selected(status: dict[str, Any], image: str) -> dict[str, Any] | None:
    images = [each for each in status["images"] if is_named(image, each["entry"], each["image"])]
    if not images:
        return None
    entries = {each["entry"] for each in images}
    parts = {part: [each for each in status[part] if each["entry"] in entries] for part in _PARTS}
    return {**status, "images": images, **parts}


def _names(image: str) -> tuple[str | Reference, ...]:
    """Return what an image may be asked for by: with its digest, or only by its tag."""
    named = _named(image)
    if isinstance(named, str) or named.tag is None:
        return (named,)
    return named, replace(named, digest=None)


def _named(image: str) -> str | Reference:
    """Return the image that a text names, or the text itself where it names none."""
    try:
        reference = parse(image)
    except InvalidReferenceError:
        return image
    return replace(reference, tag="latest") if str(reference) == reference.name else reference


def _daemonset(seen: Observation) -> dict[str, Any]:
    live = seen.live
    described: dict[str, Any] = {
        "name": seen.config.daemonset_name,
        "namespace": seen.config.namespace,
        "exists": live.daemonset is not None,
    }
    if live.daemonset is None:
        return described
    counts = live.daemonset.get("status") or {}
    described |= {
        "desired": counts.get("desiredNumberScheduled", 0),
        "updated": counts.get("updatedNumberScheduled", 0),
        "ready": counts.get("numberReady", 0),
        "rollout": seen.rollout,
    }
    waits = seeding(seen)
    if waits:
        described["seeding"] = waits
    if live.state is not None and live.state.changed is not None:
        described["changed"] = live.state.changed.isoformat()
    if live.state is not None:
        described["holdBy"] = "volumes" if live.state.holding.by_volumes else "containers"
        if live.state.holding.reason:
            described["holdByReason"] = live.state.holding.reason
        if live.state.holding.differs_since is not None:
            described["holdByDiffersSince"] = live.state.holding.differs_since.isoformat()
    asked = daemonset.asked(live.daemonset["spec"]["template"])
    described["requests"] = {
        kind: quantity.render(asked[f"requests.{kind}"])
        for kind in ("cpu", "memory")
        if f"requests.{kind}" in asked
    }
    return described


def _image(seen: Observation, image: DesiredImage) -> dict[str, Any]:
    states = seen.states[image.container]
    return {
        "entry": image.entry,
        "image": image.image,
        "container": image.container,
        "holder": image.holder,
        "digest": image.tag.digest if image.tag else None,
        "held": sum(each.is_held for each in states.values()),
        "nodes": {node: _on_node(each) for node, each in states.items()},
    }


def _pushed(entry: EntryState, name: str) -> str:
    """Return the image of an entry with a tag, or with a digest in its place."""
    tag, digest = (None, name) if is_digest(name) else (name, None)
    return str(replace(parse(entry.image), tag=tag, digest=digest))


def _on_node(found: ImageOnNode) -> dict[str, Any]:
    described: dict[str, Any] = {"held": found.is_held, "state": found.state.value}
    if found.image_id is not None:
        described["imageID"] = found.image_id
    if found.reason:
        described["reason"] = found.reason
    return described


def _node(seen: Observation, place: Place) -> dict[str, Any]:
    """Return the state of a node, and its warm-up time if it joined after the last rollout."""
    states = {image.container: seen.states[image.container][place.node] for image in seen.images}
    state, reason = node_state.state_of(place, states)
    described: dict[str, Any] = {
        "warm": state is NodeState.WARM,
        "counts": place.counts,
        "state": state.value,
    }
    if reason:
        described["reason"] = reason
    seconds = warm_up_seconds(seen, place, state)
    if seconds is not None:
        described["warmUpSeconds"] = seconds
    return described


def warm_up_seconds(seen: Observation, place: Place, state: NodeState) -> float | None:
    """Return the seconds from a warm node's creation until its last image was held, if known."""
    if state is not NodeState.WARM:
        return None
    created = place.facts.created if place.facts else None
    changed = seen.live.state.changed if seen.live.state else None
    if place.pod is None or created is None or changed is None or created < changed:
        return None
    holders = [place.pod.holder(image.container) for image in seen.images]
    started = [
        datetime.fromisoformat(each.running_since)
        for each in holders
        if each is not None and each.running_since
    ]
    return (max(started) - created).total_seconds() if started else None
