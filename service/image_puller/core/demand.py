"""What runs in a cluster: the images that its pods use most, as a first configuration. Pure."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from image_puller.config.entries import COMMON_CONTAINER, INSTALL_CONTAINER
from image_puller.config.groups import LONGEST_NAME
from image_puller.core.daemonset import Manifest
from image_puller.values.reference import InvalidReferenceError, parse

_RUNS_ANYWAY = ("DaemonSet", "Node")
"""The controllers of pods that each node has by itself. That of a static pod is its Node."""
_ENDED = ("Succeeded", "Failed")
_ENTRY_CHARACTERS = 63
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A pod that counts: its node, and the images that the node needs for it, each once."""

    node: str
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """An image, how many pods use it now, and on how many nodes.

    `image` is its name as most of the pods have it. `size` is in bytes, or None where it is
    unknown.
    """

    image: str
    pods: int
    nodes: int
    size: int | None


def workload(pod: Manifest) -> Workload | None:
    """Return a pod as a workload, or None where it does not count.

    A pod counts if it is on a node, and has not ended and is not being deleted. Pods of DaemonSets
    and static pods do not count, because each node has their images without help.
    """
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    owners = metadata.get("ownerReferences") or ()
    runs_anyway = any(each.get("controller") and each["kind"] in _RUNS_ANYWAY for each in owners)
    has_ended = (pod.get("status") or {}).get("phase") in _ENDED
    node = spec.get("nodeName")
    if not node or runs_anyway or has_ended or metadata.get("deletionTimestamp"):
        return None
    return Workload(node=node, images=tuple(dict.fromkeys(filter(None, _images(spec)))))


def sizes_and_values(
    nodes: Iterable[Manifest], label: str | None
) -> tuple[Mapping[str, int], Mapping[str, str]]:
    """Return the sizes of images by their full names, and the values of a label by node.

    A node lists its 50 largest images only.
    """
    sizes: dict[str, int] = {}
    values: dict[str, str] = {}
    for node in nodes:
        labels = node["metadata"].get("labels") or {}
        if label in labels:
            values[node["metadata"]["name"]] = labels[label]
        for image in (node.get("status") or {}).get("images") or ():
            for name in image.get("names") or ():
                sizes[name] = max(image.get("sizeBytes") or 0, sizes.get(name, 0))
    return sizes, values


def ranked(workloads: Iterable[Workload], sizes: Mapping[str, int]) -> tuple[Demand, ...]:
    """Return the images of most pods first, and of as many pods those on most nodes."""
    pods: Counter[str] = Counter()
    nodes: defaultdict[str, set[str]] = defaultdict(set)
    spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for each in workloads:
        named = [(full, name) for name in each.images if (full := _full_name(name))]
        pods.update({full for full, _ in named})
        for full, name in named:
            nodes[full].add(each.node)
            spellings[full][name] += 1
    found = [
        Demand(
            image=spellings[full].most_common(1)[0][0],
            pods=count,
            nodes=len(nodes[full]),
            size=sizes.get(full) or None,
        )
        for full, count in pods.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.pods, -each.nodes, each.image)))


def unnamed(workloads: Iterable[Workload]) -> tuple[str, ...]:
    """Return the images that no entry can name, because their names are not valid."""
    names = dict.fromkeys(name for each in workloads for name in each.images)
    return tuple(name for name in names if _full_name(name) is None)


def by_value(
    workloads: Iterable[Workload], values: Mapping[str, str], sizes: Mapping[str, int]
) -> Mapping[str, tuple[Demand, ...]]:
    """Return the images by the value of a label of their nodes. `values` has it by node.

    Pods on other nodes do not count.
    """
    found: defaultdict[str, list[Workload]] = defaultdict(list)
    for each in workloads:
        if each.node in values:
            found[values[each.node]].append(each)
    ranks = {value: ranked(found[value], sizes) for value in sorted(found)}
    return {value: images for value, images in ranks.items() if images}


def images_line(demands: Sequence[Demand]) -> str:
    """Return images as the value of `IMAGES`."""
    return ";".join(f"{name}={image}" for name, image in entries(demands).items())


def groups_json(label: str, found: Mapping[str, Sequence[Demand]]) -> str:
    """Return images by the value of a label of their nodes, as the value of `IMAGE_GROUPS`."""
    return json.dumps(
        {
            name: {"images": entries(found[value]), "nodeSelector": {label: value}}
            for value, name in group_names(label, found).items()
        }
    )


def entries(demands: Sequence[Demand]) -> dict[str, str]:
    """Return the images by names for their entries, which are unique."""
    wanted = [parse(each.image).repository.rpartition("/")[2] for each in demands]
    names = _unique(wanted, _ENTRY_CHARACTERS, (INSTALL_CONTAINER, COMMON_CONTAINER))
    return dict(zip(names, (each.image for each in demands), strict=True))


def group_names(label: str, values: Collection[str]) -> Mapping[str, str]:
    """Return the names of groups by the values of a label. An empty value has that of the label."""
    wanted = [value or label.rpartition("/")[2] for value in values]
    return dict(zip(values, _unique(wanted, LONGEST_NAME), strict=True))


def _images(spec: Manifest) -> Iterator[str | None]:
    for kind in ("initContainers", "containers"):
        yield from (each.get("image") for each in spec.get(kind) or ())
    for volume in spec.get("volumes") or ():
        yield (volume.get("image") or {}).get("reference")


@lru_cache(maxsize=4096)
def _full_name(name: str) -> str | None:
    """Return an image as nodes name it, with its tag or digest, or None if it is not valid."""
    try:
        reference = parse(name)
    except InvalidReferenceError:
        return None
    return str(replace(reference, tag=reference.tag or reference.pull_tag))


def _unique(wanted: Iterable[str], most: int, reserved: Collection[str] = ()) -> Iterator[str]:
    """Yield DNS labels of at most so many characters, each once. A repeated one gets a number."""
    taken = set(reserved)
    for text in wanted:
        base = _NOT_IN_A_NAME.sub("-", text.lower())
        number, name = 1, base[:most].rstrip("-")
        while name in taken:
            number += 1
            suffix = f"-{number}"
            name = base[: most - len(suffix)].rstrip("-") + suffix
        taken.add(name)
        yield name
