"""Quotas: what the DaemonSet's pods need, and whether an exceeded one has room for them. Pure."""

import re
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from image_puller.config.configuration import Config, HoldBy
from image_puller.config.entries import Entry
from image_puller.core import daemonset, holding
from image_puller.core.daemonset import Manifest
from image_puller.core.state import EntryState, State, Tag
from image_puller.values import quantity

_EPOCH = datetime.fromtimestamp(0, UTC)
_EXCEEDED = re.compile(
    r"exceeded quota: [^,]+, requested: .+?, used: (?P<used>.+?), limited: (?P<limited>.+)"
)
_ALIASES = {"count/pods": "pods", "cpu": "requests.cpu", "memory": "requests.memory"}
"""Names that a quota has for the same resource."""


def manifest(config: Config, nodes: int) -> dict[str, Any]:
    """Return a ResourceQuota for the pods of so many nodes, with as many tags as they can have.

    Each node is taken to have a pod of each group. `HOLD_BY=auto` may choose containers, which need
    more.
    """
    total: dict[str, Decimal] = defaultdict(Decimal)
    for group in config.all_groups:
        by_volumes = group.hold_by is HoldBy.VOLUMES
        fullest = _fullest(group, group.keep_tags, by_volumes=by_volumes)
        template = daemonset.template(group, fullest, daemonset.Platform())
        for what, amount in {"pods": Decimal(1), **daemonset.asked(template)}.items():
            total[what] += amount
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": config.installation, "namespace": config.namespace},
        "spec": {"hard": {what: quantity.render(total[what] * nodes) for what in sorted(total)}},
    }


def has_room(refusal: str, live: Manifest, template: Manifest) -> bool:
    """Whether a quota that refused one more pod has room once all pods have the new template.

    `refusal` is the API server's message, `live` the whole DaemonSet, whose pods count in the
    quota now. The kubelet deletes each old pod before its new one is created.
    """
    if not daemonset.asks_for_more(template, live["spec"]["template"]):
        return True
    amounts = _EXCEEDED.search(refusal)
    if amounts is None:
        return False
    try:
        used, limited = (_amounts(amounts[part]) for part in ("used", "limited"))
    except ValueError:
        return False
    status = live.get("status", {})
    before = {"pods": Decimal(1), **daemonset.asked(live["spec"]["template"])}
    after = {"pods": Decimal(1), **daemonset.asked(template)}
    for what, limit in limited.items():
        name = _ALIASES.get(what, what)
        if name not in after:
            return False
        others = used.get(what, Decimal(0)) - before.get(name, Decimal(0)) * status.get(
            "currentNumberScheduled", 0
        )
        pods = max(status.get("desiredNumberScheduled", 0), 1)  # without nodes, one must fit
        if others + after[name] * pods > limit:
            return False
    return True


def _amounts(text: str) -> dict[str, Decimal]:
    pairs = (item.partition("=") for item in text.split(","))
    return {name.strip(): quantity.parse(amount.strip()) for name, _, amount in pairs}


def describe(config: Config) -> str:
    """Return what the pods request of each node, and how to request less."""
    by_volumes = config.hold_by is HoldBy.VOLUMES
    which = "the DaemonSet" if config.group is None else f"DaemonSet {config.daemonset_name}"
    text = f"each pod of {which} requests {_range(config, by_volumes=by_volumes)}"
    if config.hold_by is HoldBy.AUTO:
        text += f" if containers hold the images, and {_range(config, by_volumes=True)} by volumes"
    return (
        f"{text}; to request less of each node, lower CACHING_CPU_REQUEST, "
        "CACHING_MEMORY_REQUEST or KEEP_TAGS, or use fewer entries"
    )


def _range(config: Config, *, by_volumes: bool) -> str:
    least, most = (
        daemonset.template(
            config, _fullest(config, tags, by_volumes=by_volumes), daemonset.Platform()
        )
        for tags in (0, config.keep_tags)
    )
    text = _requests(least)
    return text if most == least else f"{text}, and up to {_requests(most)} with all tracked tags"


def _requests(template: dict[str, Any]) -> str:
    asked = daemonset.asked(template)
    containers = len(template["spec"]["containers"])
    cpu, memory = (quantity.render(asked[f"requests.{each}"]) for each in ("cpu", "memory"))
    return f"{cpu} CPU and {memory} memory ({containers} containers)"


def _fullest(config: Config, count: int, *, by_volumes: bool) -> State:
    """Return a state with so many tracked tags for each entry.

    With volumes, one tag of each entry may have a container of its own.
    """
    entries = {
        entry.name: EntryState(image=entry.image, tags=_most_tags(entry, count))
        for entry in config.entries
    }
    state = State(configuration="", entries=entries)
    if not by_volumes:
        return state
    common = daemonset.with_all_common(config, state)
    new = {
        str(entry.reference_of(tag.name))
        for entry in config.entries
        for tag in entries[entry.name].tags[:1]
    }
    for image in new:
        common = holding.with_apart(common, image)
    return common


def _most_tags(entry: Entry, count: int) -> tuple[Tag, ...]:
    # With a digest, the configured tag is one of the others: `nginx:1.29.1@sha256:…` and `exact`.
    is_apart = entry.policy.tag is not None and entry.tag is None
    most = count if entry.policy.tracks_other_tags else min(count, int(is_apart))
    names = (f"{entry.tag}.{number}" for number in range(most))
    return tuple(Tag(name=name, digest=None, time=_EPOCH) for name in names)
