"""The product in a namespace, for a service outside of the cluster: RBAC objects and secrets."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from e2e.harness.control_plane import ControlPlane
from e2e.harness.kubernetes_api import ApiError, Json
from e2e.harness.registry import HOST
from e2e.harness.workspace import Workspace, wait_until

RBAC = Path(__file__).parents[2] / "deploy" / "kubernetes" / "rbac.yaml"
ACCOUNT = "k8s-image-puller"
NAME = "kubernetes-image-puller"
SECRET = "e2e-secret"
STATE = "image-puller.io/state"
DIGESTS = "image-puller.io/digests"
INSTALLER = "install-sleep"

_PATHS = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
}


@dataclass(frozen=True)
class Installation:
    """What a service needs in a namespace, and what tests read there."""

    control_plane: ControlPlane
    namespace: str
    kubeconfig: Path
    secrets: Path

    @classmethod
    def apply(
        cls,
        workspace: Workspace,
        control_plane: ControlPlane,
        namespace: str,
        rights: Iterable[Json] | None = None,
    ) -> "Installation":
        """Apply the shipped RBAC objects, or these, and wait until they are in force."""
        for document in rights or yaml.safe_load_all(RBAC.read_text()):
            control_plane.admin.post(_PATHS[document["kind"]].format(namespace), document)
        token = control_plane.token_for(namespace, ACCOUNT)
        path = f"/api/v1/namespaces/{namespace}/pods"
        wait_until(lambda: _may_list(control_plane, token, path), "the Role in force")
        secrets = workspace.folder("secrets")
        for name in ("harbor", "quay", "distribution", "gitlab", "events", "read"):
            (secrets / name).write_text(f"{SECRET}\n")
        return cls(control_plane, namespace, control_plane.kubeconfig(token), secrets)

    def environment(self, images: str, **more: str) -> dict[str, str]:
        """Return the environment of a service with these `IMAGES`."""
        own = {
            "IMAGES": images,
            "NAMESPACE": self.namespace,
            "WEBHOOK_SECRETS_DIR": str(self.secrets),
        }
        return own | more

    @property
    def path(self) -> str:
        """Return the DaemonSet's path."""
        return f"/apis/apps/v1/namespaces/{self.namespace}/daemonsets/{NAME}"

    def daemonset(self) -> Json | None:
        """Return the DaemonSet, or None if there is none."""
        try:
            return self.control_plane.admin.get(self.path)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def images(self) -> list[str]:
        """Return the images of the template, sorted; empty if there is no DaemonSet."""
        daemonset = self.daemonset()
        return [] if daemonset is None else images_of(daemonset)

    def wait_for_images(self, *images: str) -> Json:
        """Wait until the template has these images, in any order, and return the DaemonSet."""
        wait_until(lambda: sorted(self.images()) == sorted(images), f"images {images}")
        return self.control_plane.admin.get(self.path)

    def settled(self) -> Json:
        """Wait until the controller has observed the DaemonSet, and return it."""

        def seen() -> Json | None:
            live = self.control_plane.admin.get(self.path)
            generation = live["metadata"]["generation"]
            return live if live["status"].get("observedGeneration") == generation else None

        return wait_until(seen, "the DaemonSet seen by its controller")

    def state(self) -> Json:
        """Return the state that the DaemonSet holds."""
        live = self.control_plane.admin.get(self.path)
        state: Json = json.loads(live["metadata"]["annotations"][STATE])
        return state

    def warnings(self) -> list[str]:
        """Return the messages of all Events of type Warning."""
        events = self.control_plane.admin.get(f"/api/v1/namespaces/{self.namespace}/events")
        return [event["message"] for event in events["items"] if event["type"] == "Warning"]

    def wait_for_warning(self, message: str) -> None:
        """Wait until a warning has this text; the service sends Events asynchronously."""
        wait_until(lambda: any(message in each for each in self.warnings()), f"warning: {message}")

    def patches(self) -> float:
        """Count the PATCH requests for DaemonSets so far, without dry runs and statuses."""
        return self.control_plane.metric(
            "apiserver_request_total",
            verb="PATCH",
            resource="daemonsets",
            subresource="",
            dry_run="",
        )


POLICIES_SINCE = 30  # the minor version of Kubernetes


@dataclass(frozen=True, kw_only=True)
class Denial:
    """A rule for admission: objects for which the expression (CEL) is true are refused.

    `message` is that of the refusal, `probe` an object that must be refused.
    """

    group: str
    resource: str
    expression: str
    message: str
    probe: Json


def deny(installation: Installation, name: str, denial: Denial) -> Callable[[], None]:
    """Make admission refuse such objects in the namespace; return a function that ends it."""
    if installation.control_plane.minor < POLICIES_SINCE:
        pytest.skip("this release of Kubernetes has no stable ValidatingAdmissionPolicies")
    plane, name = installation.control_plane, f"{installation.namespace}-{name}"
    policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    bindings = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
    rule = {
        "apiGroups": [denial.group],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": [denial.resource],
    }
    validation = {"expression": f"!({denial.expression})", "message": denial.message}
    plane.admin.post(
        policies,
        {
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [validation],
            },
        },
    )
    selector = {"matchLabels": {"kubernetes.io/metadata.name": installation.namespace}}
    plane.admin.post(
        bindings,
        {
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": selector},
            },
        },
    )
    group = f"/apis/{denial.group}/v1" if denial.group else "/api/v1"
    path = f"{group}/namespaces/{installation.namespace}/{denial.resource}"
    plane.wait_until_refused(path, denial.probe, message=denial.message)

    def allow() -> None:
        plane.admin.delete(f"{bindings}/{name}")

    return allow


def deny_tag(installation: Installation, tag: str) -> None:
    """Make admission refuse all DaemonSets in the namespace that have an image with this tag."""
    probe = {
        "metadata": {"name": "probe"},
        "spec": {
            "selector": {"matchLabels": {"probe": "probe"}},
            "template": {
                "metadata": {"labels": {"probe": "probe"}},
                "spec": {"containers": [{"name": "probe", "image": f"probe:{tag}"}]},
            },
        },
    }
    found = f"c.image.endsWith(':{tag}')"
    deny(
        installation,
        tag.replace(".", "-"),
        Denial(
            group="apps",
            resource="daemonsets",
            expression=f"object.spec.template.spec.containers.exists(c, {found})",
            message=f"{tag} is not allowed",
            probe=probe,
        ),
    )


def images_of(daemonset: Json) -> list[str]:
    """Return the images that a DaemonSet holds, sorted: those that it runs, or mounts as volumes.

    A container that mounts images runs the sleep image, as the install container does.
    """
    spec = daemonset["spec"]["template"]["spec"]
    mounted = {
        each["name"]: each["image"]["reference"]
        for each in spec.get("volumes", ())
        if "image" in each
    }
    run = [
        each["image"]
        for each in spec["containers"]
        if each["name"] != INSTALLER
        if not any(mount["name"] in mounted for mount in each.get("volumeMounts", ()))
    ]
    return sorted([*run, *mounted.values()])


def reference(repository: str, tag: str) -> str:
    """Return the name by which nodes pull from the test registry."""
    return f"{HOST}/{repository}:{tag}"


def _may_list(control_plane: ControlPlane, token: str, path: str) -> bool:
    try:
        control_plane.client(token).get(path)
    except ApiError:
        return False
    return True
