"""The repair of a DaemonSet that somebody else has changed."""

import logging
from collections.abc import Sequence
from typing import Any

from image_puller.cluster.interface import Cluster
from image_puller.cluster.json_patch import Operation, put, put_annotation, put_label
from image_puller.config.configuration import Config
from image_puller.core import daemonset
from image_puller.core.daemonset import STATE, Manifest, Platform
from image_puller.core.state import State

log = logging.getLogger(__name__)


def strategy(config: Config, state: State) -> Operation:
    """Return the operation that sets how many nodes change at once. It restarts no pod."""
    return put("/spec/updateStrategy", daemonset.update_strategy(config, state.max_unavailable))


def structure(config: Config, state: State, platform: Platform) -> list[Operation]:
    """Return the operations that set everything of ours but the template and the annotation."""
    operations = [strategy(config, state)]
    operations += [put_label(key, value) for key, value in daemonset.labels(config).items()]
    operations += [put_annotation(key, v) for key, v in config.daemonset_annotations.items()]
    owners = daemonset.owner_references(platform)
    operations += [put("/metadata/ownerReferences", value) for value in owners.values()]
    return operations


def has_drifted(cluster: Cluster, live: Manifest, operations: Sequence[Operation]) -> bool:
    """Whether the operations would change the live DaemonSet, by a dry run.

    Raises RefusedByClusterError. Where admission changes the DaemonSet in another way each time,
    the difference is no drift.
    """
    repaired = cluster.patch(operations, dry_run=True)
    if _shape(repaired) == _shape(live):
        return False
    if _shape(cluster.patch(operations, dry_run=True)) != _shape(repaired):
        log.warning(
            "admission changes DaemonSet %s in another way each time: it can't be repaired",
            live["metadata"]["name"],
        )
        return False
    return True


def _shape(live: Manifest) -> Any:
    """Return the parts of a DaemonSet that a repair compares."""
    metadata = live["metadata"]
    annotations = {k: v for k, v in metadata.get("annotations", {}).items() if k != STATE}
    return live["spec"], metadata.get("labels"), annotations, metadata.get("ownerReferences")
