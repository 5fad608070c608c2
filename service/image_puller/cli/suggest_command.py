"""`image-puller suggest`: prints the images that pods use most, as a first configuration.

The value goes to standard output, and what it is made from to standard error.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from image_puller.config import variables
from image_puller.core import demand
from image_puller.core.daemonset import Manifest
from image_puller.core.demand import Demand, Workload
from image_puller.errors import RefusedByClusterError

_NOTHING = 1
_MOST_IMAGES = 1000
_MOST_NAMES = 5
_GIGABYTE = 10**9
_MEGABYTE = 10**6
_NOT_COUNTED = "Pods of DaemonSets and static pods do not count."

T = TypeVar("T")


class Survey(Protocol):
    """Reads what runs in a cluster."""

    def pods(self, namespace: str | None) -> Iterator[Manifest]:
        """Yield the pods of a namespace, or of all. Raises RefusedByClusterError."""

    def nodes(self) -> Iterator[Manifest]:
        """Yield the nodes. Raises RefusedByClusterError."""


def _argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return a parser of an argument, whose errors argparse prints."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


number = _argument(variables.whole_number(1, _MOST_IMAGES))
namespace = _argument(variables.dns_label)
label = _argument(variables.label_name)


def run(survey: Survey, *, namespaces: Sequence[str], most: int, label: str | None) -> int:
    """Print the images of most pods, for all nodes or by a label of them. Return the exit code.

    Raises RefusedByClusterError where pods can't be listed, or nodes that are needed.
    """
    workloads = tuple(_workloads(survey, tuple(dict.fromkeys(namespaces))))
    sizes, values = _nodes(survey, label)
    if label is None:
        images = demand.ranked(workloads, sizes)
        _print_table(_rows(images[:most]))
        _note(f"Images: {len(images[:most])} of {len(images)}. Pods: {len(workloads)}.")
        found = demand.images_line(images[:most])
    else:
        by_value = demand.by_value(workloads, values, sizes)
        groups = {value: images[:most] for value, images in by_value.items()}
        names = demand.group_names(label, groups)
        _print_table(
            row for value, name in names.items() for row in _rows(groups[value], f"{name}/")
        )
        counted = sum(each.node in values for each in workloads)
        _note(f"Pods on nodes with the label {label}: {counted} of {len(workloads)}.")
        found = demand.groups_json(label, groups) if groups else ""
    _note(_NOT_COUNTED)
    _note_unnamed(demand.unnamed(workloads))
    if not found:
        where = " in these namespaces" if namespaces else ""
        _note(f"There is nothing to suggest{where}.")
        return _NOTHING
    print(found)
    return 0


def _workloads(survey: Survey, namespaces: tuple[str, ...]) -> Iterator[Workload]:
    for each in namespaces or (None,):
        try:
            for pod in survey.pods(each):
                workload = demand.workload(pod)
                if workload is not None:
                    yield workload
        except RefusedByClusterError as error:
            remedy = (
                "Set KUBECONFIG to that of a user who may list pods in all namespaces, or name "
                "namespaces in --namespace"
                if each is None
                else f"Set KUBECONFIG to that of a user who may list pods in namespace {each}"
            )
            raise RefusedByClusterError(f"Pods can't be listed: {error}. {remedy}.") from error


def _nodes(survey: Survey, label: str | None) -> tuple[Mapping[str, int], Mapping[str, str]]:
    """Return the sizes of images, and the values of the label by node."""
    try:
        return demand.sizes_and_values(survey.nodes(), label)
    except RefusedByClusterError as error:
        if label is None:
            _note(f"Sizes are unknown, because nodes can't be listed: {error}.\n")
            return {}, {}
        raise RefusedByClusterError(
            f"Nodes can't be listed: {error}. Set KUBECONFIG to that of a user who may list nodes, "
            "or leave --by-node-label out."
        ) from error


def _note_unnamed(images: Sequence[str]) -> None:
    more = f" and {len(images) - _MOST_NAMES} more" if len(images) > _MOST_NAMES else ""
    if images:
        listed = ", ".join(map(variables.quoted, images[:_MOST_NAMES]))
        _note(f"No entry can name these images: {listed}{more}.")


def _rows(images: Sequence[Demand], group: str = "") -> Iterator[tuple[str, ...]]:
    for name, each in zip(demand.entries(images), images, strict=True):
        yield group + name, each.image, str(each.pods), str(each.nodes), _size(each.size)


def _size(size: int | None) -> str:
    if size is None:
        return "-"
    if size >= _GIGABYTE:
        return f"{size / _GIGABYTE:.1f} GB"
    return f"{max(round(size / _MEGABYTE), 1)} MB"


def _print_table(rows: Iterator[tuple[str, ...]]) -> None:
    lines = [("ENTRY", "IMAGE", "PODS", "NODES", "SIZE"), *rows]
    if len(lines) == 1:
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        _note("  ".join(cells).rstrip())
    _note("")


def _note(text: str) -> None:
    print(text, file=sys.stderr)
