"""The control plane that `make e2e-up` keeps between runs; `e2e/cluster` runs this module."""

import os
import sys
from pathlib import Path

from e2e.harness.control_plane import ControlPlane
from e2e.harness.kubernetes_api import Json, KubernetesApi
from e2e.harness.processes import StartError
from e2e.harness.workspace import Workspace, wait_until

KEPT = "E2E_KEPT"
"""The environment variable of a run on the kept cluster."""

NAMESPACES = "/api/v1/namespaces"
OWN_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
# The kinds outside of namespaces that tests create. Those that block other deletions come first.
KINDS = (
    f"{_ADMISSION}/validatingwebhookconfigurations",
    f"{_ADMISSION}/mutatingwebhookconfigurations",
    f"{_ADMISSION}/validatingadmissionpolicybindings",
    f"{_ADMISSION}/validatingadmissionpolicies",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    f"{_RBAC}/clusterrolebindings",
    f"{_RBAC}/clusterroles",
    "/apis/scheduling.k8s.io/v1/priorityclasses",
    "/api/v1/nodes",
)


def adopt(control_plane: ControlPlane) -> None:
    """Take over the kept control plane, and delete what earlier runs left.

    Raise StartError if a program has ended, or runs with another version or other flags.
    """
    control_plane.adopt()
    clean(control_plane.admin)


def clean(admin: KubernetesApi) -> None:
    """Delete all objects that the cluster did not have at its start, and wait until they are gone.

    Namespaces with generated names can still be terminating then. Their names are not used again,
    and their pods and Services are gone.
    """
    for kind in KINDS:
        for name in _left(admin, kind):
            admin.delete(f"{kind}/{name}")
    # Its node is gone, so no kubelet would confirm that the pod has ended.
    for pod in admin.get("/api/v1/pods")["items"]:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        admin.delete(path, gracePeriodSeconds="0")
    for name in _left(admin, NAMESPACES):
        admin.delete(f"{NAMESPACES}/{name}")
    wait_until(lambda: _is_clean(admin), "a clean cluster")


def _is_clean(admin: KubernetesApi) -> bool:
    namespaces = [
        item["metadata"]["name"]
        for item in admin.get(NAMESPACES)["items"]
        if "generateName" not in item["metadata"]
    ]
    services = [item["metadata"]["name"] for item in admin.get("/api/v1/services")["items"]]
    return (
        set(namespaces) == set(OWN_NAMESPACES)
        and services == ["kubernetes"]
        and not admin.get("/api/v1/pods")["items"]
        and not any(_left(admin, kind) for kind in KINDS)
    )


def _left(admin: KubernetesApi, kind: str) -> list[str]:
    """Return the names of the objects of a kind that tests created."""
    return [
        item["metadata"]["name"]
        for item in admin.get(kind)["items"] or ()
        if not _is_own(item["metadata"])
    ]


def _is_own(metadata: Json) -> bool:
    """Return whether Kubernetes itself created the object."""
    return (
        "kubernetes.io/bootstrapping" in metadata.get("labels", {})
        or metadata["name"] in OWN_NAMESPACES
        or metadata["name"].startswith("system-")
    )


def main() -> None:
    """Start the control plane and leave it running, or check that it can be used."""
    components = Path(os.environ["E2E_COMPONENTS"])
    control_plane = ControlPlane(
        Workspace(Path(os.environ["E2E_CLUSTER"])),
        etcd=components / "etcd",
        kubernetes=components / "kubernetes-control-plane",
    )
    try:
        if sys.argv[1] == "start":
            control_plane.start()
            control_plane.leave()
        else:
            control_plane.adopt()
    except StartError as error:
        sys.exit(f"e2e: {error}")


if __name__ == "__main__":
    main()
