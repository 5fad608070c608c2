"""What the tests of the DaemonSet share: images, requests, and what other processes do."""

import copy
from collections.abc import Callable

from image_puller.core.changes import Change
from image_puller.simulation import SimulatedCluster
from tests.support.installation import NAME, NAMESPACE, Installation, Json
from tests.support.replica import Replica

MakeReplica = Callable[..., Replica]
"""The type of the fixture `replica`."""

APP = "quay.io/org/app:1.2.3"
NEWER = "quay.io/org/app:1.2.4"
NEWEST = "quay.io/org/app:1.2.5"
OTHER = "quay.io/org/other:2.0.0"
BOTH = f"app={APP};other={OTHER}"
LATEST = "app=quay.io/org/app:latest"
AT_ONCE = {"ROLLOUT_MIN_INTERVAL_SECONDS": "0"}
"""The variables with which a template never waits."""

CHECK_READS = ["GET apis", "GET deployments", "GET daemonsets"]
"""The reads of a check, as `Installation.sent` names requests."""
READ_OWN_POD = "GET pods"
"""The read with which a process learns once which pod it is."""
READ_STATE = "GET daemonsets metadata"
DRY_RUN = "PATCH daemonsets dry run"
TRY_POD = "POST pods dry run"
TRY_VOLUMES = [TRY_POD, "POST daemonsets dry run"]
"""The dry runs with which a check sees whether the cluster takes image volumes."""
CHECK = [*CHECK_READS, *TRY_VOLUMES, DRY_RUN]
"""The requests of a check that finds everything in order, without that for nodes."""
WRITE = "PATCH daemonsets"


def commit_before(
    cluster: SimulatedCluster, rival: Replica, *changes: Change, method: str = "PATCH", nth: int = 1
) -> None:
    """Let another process commit right before the nth request of a method is served."""

    def count_down(remaining: int) -> None:
        if remaining:
            cluster.before(method, lambda: count_down(remaining - 1))
        else:
            rival.commit(*changes)

    count_down(nth)


def delete(puller: Replica, installation: Installation) -> None:
    """Delete the live DaemonSet."""
    puller.cluster.delete(installation.live()["metadata"]["uid"])


def start_pod(cluster: SimulatedCluster, name: str) -> None:
    """Create a pod of the service, a second after the last one."""
    cluster.advance(1)
    container = {"name": "kubernetes-image-puller", "image": "example.com/service:1"}
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"containers": [container]},
    }
    cluster.add(manifest)


def end_pod(cluster: SimulatedCluster, name: str) -> None:
    """Delete a pod of the service."""
    cluster.delete(name, NAMESPACE, resource="pods")


def drift(cluster: SimulatedCluster) -> None:
    """Change the first image of the live template, as a person with kubectl might."""

    def edit(daemonset: Json) -> None:
        container = daemonset["spec"]["template"]["spec"]["containers"][0]
        container["image"] = "example.com/something/else:1"

    cluster.change(NAME, NAMESPACE, edit)


def refuse_new_templates(cluster: SimulatedCluster, live: Json) -> None:
    """Refuse every template but the one of this DaemonSet."""
    template = copy.deepcopy(live["spec"]["template"])
    cluster.deny(lambda daemonset: daemonset["spec"]["template"] != template, "frozen")


def refuse_pods(cluster: SimulatedCluster, message: str) -> None:
    """Refuse every pod, as Pod Security or a quota does."""
    cluster.deny(lambda _pod: True, message, status=403, resource="pods")


def forbid_pods(cluster: SimulatedCluster) -> None:
    """Forbid the service to create pods, as RBAC does."""
    user = "system:serviceaccount:k8s-image-puller:kubernetes-image-puller"
    refuse_pods(cluster, f'User "{user}" cannot create resource "pods" in API group ""')
