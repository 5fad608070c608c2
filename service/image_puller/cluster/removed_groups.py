"""The DaemonSets of groups that the configuration no longer has: they are deleted."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.core.daemonset import OWNER_LABEL, Manifest
from image_puller.errors import ClusterUnavailableError, ImagePullerError, RefusedByClusterError

log = logging.getLogger(__name__)


class Siblings(Protocol):
    """The DaemonSets of one installation."""

    def siblings(self) -> tuple[Manifest, ...]:
        """Return the metadata of the installation's DaemonSets. Raises RefusedByClusterError."""

    def delete_sibling(self, name: str, uid: str) -> None:
        """Delete one of them. Raises RefusedByClusterError."""


class RemovedGroups:
    """Deletes the DaemonSets of removed groups. Only the process in charge may use it."""

    def __init__(self, config: Config, cluster: Siblings, now: Callable[[], datetime]) -> None:
        self._config = config
        self._cluster = cluster
        self._now = now
        self._began = now()
        self._reported: set[str] = set()

    def delete(self) -> None:
        """Delete what no group of the configuration has. Where that fails, the next check tries."""
        try:
            for live in self._cluster.siblings():
                if self._is_left_over(live["metadata"]):
                    self._delete(live["metadata"]["name"], live["metadata"]["uid"])
        except RefusedByClusterError as error:
            log.debug("DaemonSets can't be listed, so those of removed groups stay: %s", error)
        except ClusterUnavailableError as error:
            log.debug("DaemonSets of removed groups are looked for at the next check: %s", error)

    def _is_left_over(self, metadata: Manifest) -> bool:
        """Whether a DaemonSet is ours, and of no group.

        One that was made after this process began may be that of a newer process.
        """
        name, labels = metadata["name"], metadata.get("labels", {})
        created = datetime.fromisoformat(metadata["creationTimestamp"])
        is_new = self._now() - created < timedelta(seconds=limits.NEW_GROUP_SECONDS)
        is_old = created < self._began or not is_new
        is_kept = name in {group.daemonset_name for group in self._config.all_groups}
        return labels.get(OWNER_LABEL) == name and is_old and not is_kept

    def _delete(self, name: str, uid: str) -> None:
        try:
            self._cluster.delete_sibling(name, uid)
        except ImagePullerError as error:
            if name not in self._reported:
                self._reported.add(name)
                log.warning(
                    "DaemonSet %s is of no group of IMAGE_GROUPS, and can't be deleted: %s; run "
                    "kubectl delete daemonset %s --namespace %s",
                    name,
                    error,
                    name,
                    self._config.namespace,
                )
            return
        log.info("DaemonSet %s was deleted: no group of IMAGE_GROUPS has it", name)
