"""The quota that the namespace needs for the DaemonSet's pods. Pure."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from image_puller.config.configuration import Config
from image_puller.config.entries import Entry
from image_puller.core import daemonset
from image_puller.core.state import EntryState, State, Tag
from image_puller.values import quantity

_EPOCH = datetime.fromtimestamp(0, UTC)


def manifest(config: Config, nodes: int) -> dict[str, Any]:
    """Return a ResourceQuota for the pods of so many nodes, with as many tags as they can have."""
    template = daemonset.template(config, _fullest(config), daemonset.Platform())
    pod = {"pods": Decimal(1), **daemonset.asked(template)}
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": config.daemonset_name, "namespace": config.namespace},
        "spec": {"hard": {what: quantity.render(pod[what] * nodes) for what in sorted(pod)}},
    }


def describe(config: Config) -> str:
    """Return what the pods request of each node, and how to request less."""
    least = daemonset.template(config, _fullest(config, tags=0), daemonset.Platform())
    most = daemonset.template(config, _fullest(config), daemonset.Platform())
    text = f"each pod of the DaemonSet requests {_requests(least)}"
    if most != least:
        text += f", and up to {_requests(most)} with all tracked tags"
    return (
        f"{text}; to request less of each node, lower CACHING_CPU_REQUEST, "
        "CACHING_MEMORY_REQUEST or KEEP_TAGS, or use fewer entries"
    )


def _requests(template: dict[str, Any]) -> str:
    asked = daemonset.asked(template)
    containers = len(template["spec"]["containers"])
    cpu, memory = (quantity.render(asked[f"requests.{each}"]) for each in ("cpu", "memory"))
    return f"{cpu} CPU and {memory} memory ({containers} containers)"


def _fullest(config: Config, tags: int | None = None) -> State:
    """Return a state with so many tracked tags for each entry, by default `KEEP_TAGS`."""
    count = config.keep_tags if tags is None else tags
    entries = {
        entry.name: EntryState(image=entry.image, tags=_most_tags(entry, count))
        for entry in config.entries
    }
    return State(configuration="", entries=entries)


def _most_tags(entry: Entry, count: int) -> tuple[Tag, ...]:
    if not entry.policy.tracks_other_tags:
        return ()
    names = (f"{entry.tag}.{number}" for number in range(count))
    return tuple(Tag(name=name, digest=None, time=_EPOCH) for name in names)
