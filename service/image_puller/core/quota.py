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


def _fullest(config: Config) -> State:
    entries = {
        entry.name: EntryState(image=entry.image, tags=_most_tags(config, entry))
        for entry in config.entries
    }
    return State(configuration="", entries=entries)


def _most_tags(config: Config, entry: Entry) -> tuple[Tag, ...]:
    # With a digest, the configured tag is one of the others: `nginx:1.29.1@sha256:…` and `exact`.
    is_apart = entry.policy.tag is not None and entry.tag is None
    most = config.keep_tags if entry.policy.tracks_other_tags else int(is_apart)
    names = (f"{entry.tag}.{number}" for number in range(most))
    return tuple(Tag(name=name, digest=None, time=_EPOCH) for name in names)
