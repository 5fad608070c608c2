"""OpenShift's templates on a real API server, and the service as a pod of an arbitrary user.

There is no OpenShift here. These take its place:

- the API group of Route, by which the service recognizes OpenShift;
- Pod Security `restricted`, and an admission policy that refuses what restricted-v2 refuses;
- the user that OpenShift would assign, in the pod's manifest.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e2e.harness.control_plane import ControlPlane
from e2e.harness.deployed import SLEEP_IMAGE, WEBHOOK, ProductImages, running, way_of_holding
from e2e.harness.installation import SECRET, Installation, reference
from e2e.harness.kubernetes_api import ApiError, Json
from e2e.harness.nodes import Nodes
from e2e.harness.oci_images import File, Image, sleep_image
from e2e.harness.pods import restricted
from e2e.harness.registry import HOST, Registry
from e2e.harness.workspace import Workspace, wait_until
from tests.support.oc_process import process

FOLDER = Path(__file__).parents[1] / "deploy" / "openshift"
USER = 1000730000
LAST_USER = USER + 9999
GROUP = "route.openshift.io"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
PATHS = {
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Service": "/api/v1/namespaces/{}/services",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "Route": f"/apis/{GROUP}/v1/namespaces/{{}}/routes",
}


@pytest.fixture
def openshift(control_plane: ControlPlane) -> Iterator[None]:
    """Create the API group of Route, with the fields that the template uses."""
    texts = {"type": "string"}
    spec = {
        "host": texts,
        "to": {"type": "object", "properties": {"kind": texts, "name": texts}},
        "port": {"type": "object", "properties": {"targetPort": texts}},
        "tls": {
            "type": "object",
            "properties": {"termination": texts, "insecureEdgeTerminationPolicy": texts},
        },
    }
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}}
    crd = {
        "metadata": {"name": f"routes.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {"kind": "Route", "plural": "routes"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }
    control_plane.admin.post(CRDS, crd)
    wait_until(lambda: has_group(control_plane), f"{GROUP} served")
    yield
    control_plane.admin.delete(f"{CRDS}/routes.{GROUP}")
    wait_until(lambda: not has_group(control_plane), f"{GROUP} gone")


def has_group(control_plane: ControlPlane) -> bool:
    groups = control_plane.admin.get("/apis")["groups"]
    return any(group["name"] == GROUP for group in groups)


@pytest.fixture
def project(control_plane: ControlPlane, openshift: None, namespace: str) -> Iterator[str]:
    """Return a namespace that admits what restricted-v2 admits, with users of its range."""
    admin = control_plane.admin
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    admin.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": labels}})
    name = f"{namespace}-restricted-v2"
    admin.post(POLICIES, {"metadata": {"name": name}, "spec": restricted_v2()})
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    binding = {
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": selector},
    }
    admin.post(BINDINGS, {"metadata": {"name": name}, "spec": binding})
    path = f"/api/v1/namespaces/{namespace}/pods"
    control_plane.wait_until_refused(path, pod(65532), message="not of this project")
    yield namespace
    admin.delete(f"{BINDINGS}/{name}")
    admin.delete(f"{POLICIES}/{name}")


def restricted_v2() -> Json:
    """Return a policy for MustRunAsRange and MustRunAs of the SCC; Pod Security checks the rest."""
    return {
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["pods"],
                }
            ]
        },
        "variables": [
            {
                "name": "containers",
                "expression": "object.spec.containers + "
                "(has(object.spec.initContainers) ? object.spec.initContainers : [])",
            },
            {
                "name": "users",
                "expression": "variables.containers"
                ".filter(c, has(c.securityContext) && has(c.securityContext.runAsUser))"
                ".map(c, c.securityContext.runAsUser)"
                " + (has(object.spec.securityContext) && has(object.spec.securityContext.runAsUser)"
                " ? [object.spec.securityContext.runAsUser] : [])",
            },
            {
                "name": "groups",
                "expression": "has(object.spec.securityContext)"
                " && has(object.spec.securityContext.fsGroup)"
                " ? [object.spec.securityContext.fsGroup] : []",
            },
        ],
        "validations": [
            {
                "expression": f"variables.users.all(u, u >= {USER} && u <= {LAST_USER})",
                "message": "a user that is not of this project",
            },
            {
                "expression": f"variables.groups.all(g, g >= {USER} && g <= {LAST_USER})",
                "message": "a group that is not of this project",
            },
        ],
    }


def pod(user: int) -> Json:
    """Return a pod with this user, which Pod Security admits."""
    spec = restricted("probe")
    spec["securityContext"]["runAsUser"] = user
    return {"metadata": {"name": "probe"}, "spec": spec}


def objects(name: str, **parameters: str) -> dict[str, Json]:
    """Return the objects of a template by kind."""
    return {each["kind"]: each for each in process(FOLDER / f"{name}.yaml", **parameters)}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("serviceaccount", {}),
        ("configmap", {}),
        ("app", {}),
        ("app", {"PRIORITY_CLASS_NAME": "system-cluster-critical", "PORT": "9000"}),
        ("secret", {"SOURCE": "quay"}),
        ("route", {}),
        ("route", {"HOST": "puller.example.com"}),
    ],
)
def test_the_api_server_knows_every_field_of_the_templates(
    control_plane: ControlPlane, project: str, name: str, parameters: dict[str, str]
) -> None:
    for kind, each in objects(name, **parameters).items():
        path = PATHS[kind].format(project)
        made = control_plane.admin.post(path, each, dryRun="All", fieldValidation="Strict")
        assert made["metadata"]["name"] == each["metadata"]["name"]


def test_an_unknown_field_is_refused(control_plane: ControlPlane, project: str) -> None:
    route = objects("route")["Route"]
    route["spec"]["hots"] = "x"
    with pytest.raises(ApiError, match=r'unknown field "spec\.hots"'):
        control_plane.admin.post(
            PATHS["Route"].format(project), route, dryRun="All", fieldValidation="Strict"
        )


def test_a_service_with_the_user_of_the_project_brings_a_push_to_the_nodes(
    nodes: Nodes,
    make_registry: Callable[..., Registry],
    workspace: Workspace,
    control_plane: ControlPlane,
    project: str,
    product_images: ProductImages,
) -> None:
    rights = objects("serviceaccount").values()
    installation = Installation.apply(workspace, control_plane, project, rights)
    configured, tracked = reference("openshift/app", "1.0.0"), reference("openshift/app", "1.1.0")
    with make_registry([WEBHOOK]) as registry:
        product_images.push(registry)
        registry.push_image("openshift/app", "1.0.0", with_content(workspace, "one"))
        apply(
            control_plane,
            project,
            objects(
                "configmap",
                IMAGES=f"app={configured}",
                KIP_IMAGE=SLEEP_IMAGE,
                ROLLOUT_MIN_INTERVAL_SECONDS="0",
                **way_of_holding(),
            ),
            objects(
                "secret",
                SOURCE="distribution",
                SOURCE_SECRET=SECRET,
                EVENTS_SECRET=SECRET,
                READ_SECRET=SECRET,
            ),
        )
        app = objects("app", IMAGE=f"{HOST}/image-puller/service", IMAGE_TAG="e2e")
        as_assigned(app["Deployment"])
        with running(installation, app["Deployment"], app["Service"]) as puller:
            assert users_of_the_service(workspace) == {(USER, 0)}
            puller.wait_until_held(configured, *nodes.names)
            digest = registry.push_image("openshift/app", "1.1.0", with_content(workspace, "two"))
            puller.wait_until_held(tracked, *nodes.names)
            assert [node.images()[tracked] for node in nodes] == [digest] * len(nodes.names)
            security = template(installation)["spec"]["securityContext"]
            assert "runAsUser" not in security
            assert "fsGroup" not in security


def apply(control_plane: ControlPlane, namespace: str, *found: dict[str, Json]) -> None:
    """Create the objects of templates."""
    for by_kind in found:
        for kind, each in by_kind.items():
            path = PATHS[kind].format(namespace)
            control_plane.admin.post(path, each, fieldValidation="Strict")


def as_assigned(deployment: Json) -> None:
    """Set the user and the fsGroup that the SCC would set; the main group stays 0."""
    spec = deployment["spec"]["template"]["spec"]
    spec["securityContext"]["fsGroup"] = USER
    for container in spec["containers"]:
        container["securityContext"]["runAsUser"] = USER


def users_of_the_service(workspace: Workspace) -> set[tuple[int, int]]:
    """Return users and groups of the service's processes on the nodes of this run."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
            is_ours = f"/{workspace.state.name}/" in (folder / "cgroup").read_text()
            status = dict(
                line.split(":\t", 1) for line in (folder / "status").read_text().splitlines()
            )
        except OSError:
            continue
        if is_ours and b"-m image_puller serve" in command:
            found.add((int(status["Uid"].split()[0]), int(status["Gid"].split()[0])))
    return found


def with_content(workspace: Workspace, content: str) -> Image:
    """Return an image of a container that runs, with this content."""
    image = sleep_image(workspace)
    return replace(image, files={**image.files, "content": File(content.encode())})


def template(installation: Installation) -> Any:
    """Return the DaemonSet's template."""
    return installation.settled()["spec"]["template"]
