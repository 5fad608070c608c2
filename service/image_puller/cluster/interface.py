"""What this package needs of the API server. `client` implements it."""

from collections.abc import Sequence
from typing import Protocol

from image_puller.cluster.json_patch import Operation
from image_puller.core.charge import Process
from image_puller.core.daemonset import Manifest, Platform
from image_puller.core.node_state import Refusal
from image_puller.core.nodes import Node
from image_puller.core.pods import Pod
from image_puller.core.pulls import Pulled


class Cluster(Protocol):
    """One DaemonSet of known name and namespace, its pods, and the nodes.

    Every method may raise ClusterUnavailableError.
    """

    def read(self) -> Manifest:
        """Return the whole DaemonSet. Raises MissingError."""

    def read_metadata(self) -> Manifest:
        """Return the DaemonSet with its metadata only. Raises MissingError."""

    def create(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Create the DaemonSet. Raises LostRaceError if it exists, or RefusedByClusterError."""

    def patch(self, operations: Sequence[Operation], *, dry_run: bool = False) -> Manifest:
        """Return the DaemonSet after a JSON Patch. Raises MissingError, RefusedByClusterError.

        A failed `test` is a RefusedByClusterError too, because the API server answers both alike.
        """

    def delete(self, uid: str) -> None:
        """Delete the DaemonSet with that uid, and no other. Raises LostRaceError."""

    def admit_pod(self, template: Manifest) -> Manifest | None:
        """Try a pod of the template by dry run, and return it. Raises RefusedByClusterError.

        Return None where no pod may be tried.
        """

    def platform(self) -> Platform:
        """Return what the DaemonSet depends on beside the configuration."""

    def process(self) -> Process:
        """Return this process, which is its pod."""

    def lives(self, process: Process) -> bool:
        """Whether a process may still run. One outside the cluster counts as running."""

    def report(self, reason: str, message: str, *, is_warning: bool = True) -> None:
        """Create an Event about the DaemonSet, if that is possible."""

    def pods(self) -> tuple[Pod, ...]:
        """Return the DaemonSet's pods."""

    def nodes(self) -> tuple[Node, ...] | None:
        """Return the nodes, or None where the service may not list them."""

    def refusal(self, uid: str) -> Refusal | None:
        """Return the latest failure to create a pod of the DaemonSet with that uid.

        Return None where there is none, or where the service may not list Events.
        """

    def pulls(self) -> tuple[Pulled, ...]:
        """Return pulls of the DaemonSet's pods that Events report: a bounded number of them.

        Return nothing where the service may not list Events.
        """
