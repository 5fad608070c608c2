"""Whose a DaemonSet of the configured name is: ours, the original puller's, or somebody else's."""

import logging

from image_puller.cluster.interface import Cluster
from image_puller.config.configuration import Config
from image_puller.core.daemonset import ORIGINAL_SELECTOR, OWNER_LABEL, Manifest
from image_puller.errors import ForeignDaemonSetError, MissingError

log = logging.getLogger(__name__)


def require_ours(config: Config, cluster: Cluster, live: Manifest) -> Manifest:
    """Return the DaemonSet if it is ours. `live` may hold its metadata only.

    A DaemonSet of the original puller is deleted, and MissingError is raised, so that ours is
    created. Raises ForeignDaemonSetError for any other.
    """
    name = config.daemonset_name
    if live["metadata"].get("labels", {}).get(OWNER_LABEL) == name:
        return live
    selector = live.get("spec", {}).get("selector")
    if selector is None:
        return require_ours(config, cluster, cluster.read())
    if selector.get("matchLabels", {}).get(OWNER_LABEL) == name:
        return live
    if selector == {"matchLabels": ORIGINAL_SELECTOR}:
        log.warning("DaemonSet %s belongs to the original puller: replacing it", name)
        cluster.delete(live["metadata"]["uid"])
        raise MissingError(f"DaemonSet {name} belonged to the original puller")
    raise ForeignDaemonSetError(
        f"DaemonSet {name} in namespace {config.namespace} belongs to somebody else "
        f"(its selector is {selector}); delete it, or set DAEMONSET_NAME to another name"
    )
