"""The product as users run it: both images in the registry, the Deployment in a namespace."""

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from e2e.harness.control_plane import ControlPlane
from e2e.harness.installation import NAME, SECRET, Installation
from e2e.harness.kubernetes_api import ApiError, Json
from e2e.harness.pods import Pods
from e2e.harness.registry import HOST, Registry, Webhook
from e2e.harness.workspace import http_session, wait_until

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
SERVICE_IMAGE = f"{HOST}/image-puller/service:e2e"
NEXT_SERVICE_IMAGE = f"{HOST}/image-puller/service:next"
SLEEP_IMAGE = f"{HOST}/image-puller/service-sleep:e2e"
ADDRESS = "10.1.77.1"
"""The address of the Service; it is fixed, because the registry is configured before it exists."""

WEBHOOK = Webhook(url=f"http://{ADDRESS}/webhooks/distribution", authorization=f"Bearer {SECRET}")


@dataclass(frozen=True)
class Deployed:
    """The service as a pod, and what tests do with it and ask of it."""

    installation: Installation
    url: str = f"http://{ADDRESS}"
    token: str = SECRET

    @property
    def _admin(self) -> Any:
        return self.installation.control_plane.admin

    @property
    def _path(self) -> str:
        namespace = self.installation.namespace
        return f"/apis/apps/v1/namespaces/{namespace}/deployments/{NAME}"

    def status(self) -> Json:
        """Return /status, as soon as it answers.

        On a busy machine a late probe can take the pod out of the Service for a moment.
        """
        return wait_until(self._status, f"{self.url}/status")

    def _status(self) -> Json | None:
        try:
            with http_session() as session:
                answer = session.get(
                    f"{self.url}/status",
                    headers={"Authorization": f"Bearer {self.token}"},
                    timeout=10,
                )
        except (requests.ConnectionError, requests.Timeout):
            return None
        if answer.status_code == requests.codes.service_unavailable:
            return None
        answer.raise_for_status()
        found: Json = answer.json()
        return found

    def held_on(self, image: str) -> set[str]:
        """Return the nodes that have this image, according to /status."""
        return {
            node
            for each in self.status()["images"]
            if each["image"] == image
            for node, found in each["nodes"].items()
            if found["held"]
        }

    def wait_until_held(self, image: str, *nodes: str) -> None:
        """Wait until exactly these nodes have this image, according to /status."""
        wait_until(lambda: self.held_on(image) == set(nodes), f"{image} on {nodes}")

    def wait_until_notified(self, image: str, digest: str) -> None:
        """Wait until the registry's notification of this content has arrived; it can be late."""
        wait_until(
            lambda: any(
                each["image"] == image and each["digest"] == digest
                for each in self.status()["images"]
            ),
            f"the notification of {image}",
        )

    def scale(self, replicas: int) -> None:
        """Scale the service to this number of pods, and wait until they run."""
        self._admin.patch(self._path, {"spec": {"replicas": replicas}})
        wait_until(lambda: self._running() == replicas, f"{replicas} replicas")
        if replicas:
            self.status()

    def restart(self, **environment: str) -> None:
        """Replace the service's pod, and first change these variables."""
        configs = f"/api/v1/namespaces/{self.installation.namespace}/configmaps/k8s-image-puller"
        if environment:
            self._admin.patch(configs, {"data": environment})
        self.scale(0)
        self.scale(1)

    def upgrade(self, image: str) -> None:
        """Roll out another image of the service, and wait until it is rolled out."""
        path = "/spec/template/spec/containers/0/image"
        self._admin.patch(self._path, [{"op": "replace", "path": path, "value": image}])
        wait_until(self._is_rolled_out, f"the service of {image}")
        self.status()

    def _is_rolled_out(self) -> bool:
        deployment = self._admin.get(self._path)
        status = deployment["status"]
        return bool(
            status.get("observedGeneration") == deployment["metadata"]["generation"]
            and status.get("updatedReplicas") == status.get("readyReplicas") == 1
            and status.get("replicas") == 1
        )

    def pods(self) -> dict[str, str]:
        """Return the uid and the restart counts of the DaemonSet's pods, as JSON by node."""
        path = f"/api/v1/namespaces/{self.installation.namespace}/pods"
        listed = self._admin.get(path, labelSelector=f"image-puller.io/daemonset={NAME}")
        return {
            pod["spec"]["nodeName"]: json.dumps(
                [pod["metadata"]["uid"]]
                + [each["restartCount"] for each in pod["status"].get("containerStatuses", ())]
            )
            for pod in listed["items"]
            if "deletionTimestamp" not in pod["metadata"]  # its successor may exist already
            if "nodeName" in pod["spec"]  # it is scheduled
        }

    def _running(self) -> int:
        status = self._admin.get(self._path)["status"]
        if status.get("readyReplicas", 0) == status.get("replicas", 0) == 0:
            path = f"/api/v1/namespaces/{self.installation.namespace}/pods"
            return len(self._admin.get(path, labelSelector=f"app={NAME}")["items"])
        return int(status.get("readyReplicas", 0))


def deployed(
    installation: Installation, images: str, **environment: str
) -> AbstractContextManager[Deployed]:
    """Run the service as a pod until the context ends; then the DaemonSet is deleted as well.

    Its pod ends without the pause of `preStop`, to make tests fast.
    """
    return _deployed(installation, {"IMAGES": images, **environment}, pauses=False)


def allow_groups(installation: Installation, *daemonsets: str) -> None:
    """Add the DaemonSets of groups to the Role, as the documentation says."""
    admin = installation.control_plane.admin
    path = (
        f"/apis/rbac.authorization.k8s.io/v1/namespaces/{installation.namespace}/roles/"
        "k8s-image-puller"
    )
    names = [NAME, *daemonsets]
    admin.patch(path, [{"op": "replace", "path": "/rules/0/resourceNames", "value": names}])


def deployed_with_pause(
    installation: Installation, images: str, **environment: str
) -> AbstractContextManager[Deployed]:
    """Run the service as a pod until the context ends, with the shipped `preStop`."""
    return _deployed(installation, {"IMAGES": images, **environment}, pauses=True)


@contextmanager
def _deployed(
    installation: Installation, environment: dict[str, str], *, pauses: bool
) -> Iterator[Deployed]:
    admin = installation.control_plane.admin
    base = f"/api/v1/namespaces/{installation.namespace}"
    let_see_nodes(installation)
    data = {"KIP_IMAGE": SLEEP_IMAGE, **way_of_holding(), **environment}
    admin.post(f"{base}/configmaps", {"metadata": {"name": "k8s-image-puller"}, "data": data})
    secrets = dict.fromkeys(("distribution", "events", "read"), SECRET)
    body = {"metadata": {"name": "image-puller-secrets"}, "stringData": secrets}
    admin.post(f"{base}/secrets", body)
    policies = f"/apis/networking.k8s.io/v1/namespaces/{installation.namespace}/networkpolicies"
    for policy in yaml.safe_load_all((FOLDER / "networkpolicy.yaml").read_text()):
        admin.post(policies, policy, fieldValidation="Strict")
    deployment, service = yaml.safe_load_all((FOLDER / "service.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["image"] = SERVICE_IMAGE
    if not pauses:
        del container["lifecycle"]
    with running(installation, deployment, service) as puller:
        yield puller


def way_of_holding() -> dict[str, str]:
    """Return the variable `HOLD_BY` with the value of `E2E_HOLD_BY`, or nothing without one."""
    value = os.environ.get("E2E_HOLD_BY")
    return {"HOLD_BY": value} if value else {}


@contextmanager
def running(installation: Installation, deployment: Json, service: Json) -> Iterator[Deployed]:
    """Run this Deployment and its Service until the context ends.

    An exception gets a note with what the pods logged, because the pods are deleted then.
    """
    admin = installation.control_plane.admin
    base = f"/api/v1/namespaces/{installation.namespace}"
    service["spec"]["clusterIP"] = ADDRESS
    deployments = f"/apis/apps/v1/namespaces/{installation.namespace}/deployments"
    wait_until(lambda: _post_service(installation.control_plane, base, service), "the address")
    admin.post(deployments, deployment)
    puller = Deployed(installation)
    try:
        wait_until(lambda: _is_ready(installation), "the service's pod ready")
        puller.status()
        yield puller
    except Exception as error:
        error.add_note(Pods(admin, installation.namespace).log_ends())
        raise
    finally:
        admin.delete(f"{base}/services/{NAME}")
        admin.delete(f"{deployments}/{NAME}", propagationPolicy="Background")
        _wait_until_empty(installation, base)


def let_see_nodes(installation: Installation) -> None:
    """Apply the shipped ClusterRole and its binding, under names of the namespace."""
    _apply_for_nodes(installation, "nodes.yaml", "k8s-image-puller-nodes")


def let_remove_startup_taint(installation: Installation) -> None:
    """Apply the ClusterRole for `NODE_STARTUP_TAINT`, under names of the namespace."""
    _apply_for_nodes(installation, "startup-taint/nodes.yaml", "k8s-image-puller-startup-taint")


def _apply_for_nodes(installation: Installation, file: str, name: str) -> None:
    admin = installation.control_plane.admin
    suffix = name.removeprefix("k8s-image-puller")
    own = (FOLDER / file).read_text().replace(name, f"{installation.namespace}{suffix}")
    for document in yaml.safe_load_all(own):
        if document["kind"] == "ClusterRoleBinding":
            document["subjects"][0]["namespace"] = installation.namespace
        path = f"/apis/rbac.authorization.k8s.io/v1/{document['kind'].lower()}s"
        admin.post(path, document)


@dataclass(frozen=True, kw_only=True)
class ProductImages:
    """The images that the Dockerfile builds, as OCI layouts."""

    sleep: Path
    service: Path

    def push(self, registry: Registry) -> None:
        """Push both images to the names that tests deploy."""
        registry.push_layout("image-puller/service", "e2e", self.service)
        registry.push_layout("image-puller/service", "next", self.service, label="next")
        registry.push_layout("image-puller/service-sleep", "e2e", self.sleep)


def _post_service(control_plane: ControlPlane, base: str, service: Json) -> bool:
    """Create the Service; return False while its address still belongs to an earlier Service."""
    try:
        control_plane.admin.post(f"{base}/services", service)
    except ApiError as error:
        if "already allocated" in str(error):
            return False
        raise
    return True


def _is_ready(installation: Installation) -> bool:
    path = f"/apis/apps/v1/namespaces/{installation.namespace}/deployments/{NAME}"
    status = installation.control_plane.admin.get(path)["status"]
    return bool(status.get("readyReplicas"))


def _wait_until_empty(installation: Installation, base: str) -> None:
    """Wait until all pods are gone: the nodes have no room for two tests."""
    admin = installation.control_plane.admin
    wait_until(lambda: installation.daemonset() is None, "the DaemonSet gone")
    admin.delete(f"{base}/pods")
    wait_until(lambda: not admin.get(f"{base}/pods")["items"], "all pods gone")
