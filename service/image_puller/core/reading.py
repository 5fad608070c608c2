"""A reading of the whole cluster: the status of all groups, and the labels of the nodes. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from image_puller.core import status
from image_puller.core.label_selector import LabelSelector
from image_puller.core.observation import Observation
from image_puller.core.problems import Problem
from image_puller.errors import ImagePullerError

Labels = Mapping[str, Mapping[str, str]]


class UnknownLabelsError(ImagePullerError):
    """Nodes can't be selected by labels, because nobody may list the nodes."""

    status = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The status as JSON, and the labels of each node. None: the nodes can't be listed."""

    json: dict[str, Any]
    labels: Labels | None

    def of_nodes(self, selector: LabelSelector | None) -> dict[str, Any]:
        """Return the status of the nodes that match a selector, which it names as `selector`.

        Raises UnknownLabelsError.
        """
        if selector is None:
            return self.json
        labels = self.labels
        if labels is None:
            raise UnknownLabelsError(
                "no selector can be used, because the nodes can't be listed; that needs the right "
                "to list nodes (nodes.watch of the chart, deploy/kubernetes/nodes.yaml)"
            )
        found = status.of_nodes(self.json, lambda node: selector.matches(labels.get(node, {})))
        return {**found, "selector": selector.text}


def of(found: Iterable[tuple[Observation, Sequence[Problem]]]) -> Reading:
    """Return the reading that has the observation of each group, with its problems."""
    groups = list(found)
    described = {seen.config.group: status.described(seen, problems) for seen, problems in groups}
    return Reading(json=status.of_groups(described), labels=_labels([seen for seen, _ in groups]))


def _labels(groups: Sequence[Observation]) -> Labels | None:
    if any(seen.live.daemonset is not None and seen.live.nodes is None for seen in groups):
        return None
    return {node.name: node.labels for seen in groups for node in seen.live.nodes or ()}
