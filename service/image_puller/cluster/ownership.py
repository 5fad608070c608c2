"""The owner of the DaemonSet: this service, the original puller, or somebody else."""

import logging
from enum import Enum, auto

from image_puller.cluster.interface import Cluster
from image_puller.config.configuration import Config
from image_puller.core.daemonset import ORIGINAL_SELECTOR, OWNER_LABEL, Manifest
from image_puller.errors import ForeignDaemonSetError, MissingError

log = logging.getLogger(__name__)


class Whose(Enum):
    """Whose a DaemonSet of our name is."""

    OURS = auto()
    OF_THE_ORIGINAL = auto()
    """Of the original puller. The service replaces it."""
    FOREIGN = auto()
    """Of somebody else. It is never changed."""


def whose(config: Config, live: Manifest) -> Whose:
    """Return whose a whole DaemonSet is."""
    name = config.daemonset_name
    selector = live["spec"]["selector"]
    owners = (live["metadata"].get("labels", {}), selector.get("matchLabels", {}))
    if any(labels.get(OWNER_LABEL) == name for labels in owners):
        return Whose.OURS
    is_original = selector == {"matchLabels": ORIGINAL_SELECTOR}
    return Whose.OF_THE_ORIGINAL if is_original else Whose.FOREIGN


def require_ours(config: Config, cluster: Cluster, live: Manifest) -> Manifest:
    """Return the DaemonSet if it is ours. `live` may hold its metadata only.

    A DaemonSet of the original puller is deleted, and MissingError is raised, so that ours is
    created. Raises ForeignDaemonSetError for any other.
    """
    name = config.daemonset_name
    if live["metadata"].get("labels", {}).get(OWNER_LABEL) == name:
        return live
    if "spec" not in live:
        return require_ours(config, cluster, cluster.read())
    match whose(config, live):
        case Whose.OURS:
            return live
        case Whose.OF_THE_ORIGINAL:
            log.warning("DaemonSet %s belongs to the original puller: replacing it", name)
            cluster.delete(live["metadata"]["uid"])
            raise MissingError(f"DaemonSet {name} belonged to the original puller")
        case Whose.FOREIGN:
            raise ForeignDaemonSetError(
                f"DaemonSet {name} in namespace {config.namespace} belongs to somebody else "
                f"(its selector is {live['spec']['selector']}); delete it, or set DAEMONSET_NAME "
                "to another name"
            )
