"""The fixtures of all e2e tests, for runs that `e2e/run` starts."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from e2e.harness.browser import chromium
from e2e.harness.control_plane import ControlPlane
from e2e.harness.deployed import ProductImages
from e2e.harness.helm import Helm
from e2e.harness.installation import Installation
from e2e.harness.kept_cluster import KEPT, adopt
from e2e.harness.kustomize import Kustomize
from e2e.harness.nodes import Nodes
from e2e.harness.pods import Pods
from e2e.harness.processes import StartError
from e2e.harness.registry import Registry
from e2e.harness.service import Service
from e2e.harness.sink import Sink
from e2e.harness.workspace import Workspace, wait_until

pytest.register_assert_rewrite("tests.support.contract")

pytest_plugins = ("e2e.harness.components", "e2e.harness.failure_logs", "e2e.harness.run_order")


@pytest.fixture(scope="session")
def workspace() -> Workspace:
    """Return the folder for the state and the logs of the run."""
    return _workspace("E2E_STATE")


@pytest.fixture(scope="session")
def control_plane(built_etcd: Path, built_kubernetes_control_plane: Path) -> Iterator[ControlPlane]:
    """Run a real control plane for all tests, or use the kept one."""
    control_plane = ControlPlane(
        _workspace("E2E_CLUSTER"), etcd=built_etcd, kubernetes=built_kubernetes_control_plane
    )
    if KEPT in os.environ:
        try:
            adopt(control_plane)
        except (StartError, TimeoutError) as error:
            pytest.exit(f"can't use the kept cluster: run make e2e-down ({error})", returncode=1)
        yield control_plane
        control_plane.leave()
    else:
        with control_plane:
            yield control_plane


@pytest.fixture(scope="session")
def nodes(
    workspace: Workspace,
    control_plane: ControlPlane,
    built_kubernetes_node: Path,
    built_containerd: Path,
    built_coredns: Path,
) -> Iterator[Nodes]:
    """Run two nodes for all tests that need nodes; `with nodes.join() as third` adds a third.

    kube-proxy and DNS run as well, so that pods can reach Services by name.
    """
    with Nodes(
        workspace,
        control_plane,
        kubernetes=built_kubernetes_node,
        containerd=built_containerd,
        coredns=built_coredns,
    ) as nodes:
        yield nodes


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """Create a namespace in which pods can be created, and return its name."""
    control_plane.api_server.start()  # a failed test may have left it stopped
    admin = control_plane.admin
    body = {"metadata": {"generateName": "e2e-"}}
    name = admin.post("/api/v1/namespaces", body)["metadata"]["name"]
    accounts = f"/api/v1/namespaces/{name}/serviceaccounts"
    wait_until(lambda: admin.get(accounts)["items"], f"default service account of {name}")
    yield name
    control_plane.api_server.start()
    admin.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def pods(control_plane: ControlPlane, namespace: str) -> Pods:
    """Return the pods of the test's namespace, which admits `restricted` pods only."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    path = f"/api/v1/namespaces/{namespace}"
    control_plane.admin.patch(path, {"metadata": {"labels": labels}})
    spec = {"containers": [{"name": "main", "image": "example.com/lax:1"}]}
    control_plane.wait_until_refused(
        f"{path}/pods",
        {"metadata": {"name": "lax"}, "spec": spec},
        message="violates PodSecurity",
    )
    return Pods(control_plane.admin, namespace)


@pytest.fixture
def installation(workspace: Workspace, control_plane: ControlPlane, namespace: str) -> Installation:
    """Apply the product's own manifests to the test's namespace."""
    return Installation.apply(workspace, control_plane, namespace)


@pytest.fixture(scope="session")
def make_registry(workspace: Workspace) -> Callable[..., Registry]:
    """Return a function that makes registries. One can run at a time, and a locked one beside it.

    `with make_registry([Webhook(url=…, authorization=…)]) as registry:`
    """
    return partial(Registry, workspace)


@pytest.fixture(scope="session")
def make_service(workspace: Workspace) -> Callable[..., Service]:
    """Return a function that makes services. Any number of them can run.

    `with make_service({"IMAGES": …}, kubeconfig=…) as puller:`
    """
    return partial(Service, workspace)


@pytest.fixture(scope="session")
def make_helm(workspace: Workspace, built_helm: Path) -> Callable[..., Helm]:
    """Return a function that makes a helm, for no cluster or for a kubeconfig and a namespace."""
    return partial(Helm, workspace, built_helm / "helm")


@pytest.fixture(scope="session")
def kustomize(workspace: Workspace, built_kustomize: Path) -> Kustomize:
    """Return kustomize, which renders the manifests for Knative."""
    return Kustomize(workspace, built_kustomize / "kustomize")


@pytest.fixture(scope="session")
def product_images(built_sleep_image: Path, built_service_image: Path) -> ProductImages:
    """Return the product's own images."""
    return ProductImages(sleep=built_sleep_image, service=built_service_image)


@pytest.fixture(scope="module")
def browser(built_chromium: Path) -> Iterator[Browser]:
    """Return one browser for the tests of a module."""
    with chromium(built_chromium) as browser:
        yield browser


@pytest.fixture
def sink() -> Iterator[Sink]:
    """Run a server that records webhooks and events."""
    with Sink() as sink:
        yield sink


def _workspace(variable: str) -> Workspace:
    if variable not in os.environ:
        pytest.exit("e2e tests need a network namespace of their own: run `make e2e`")
    return Workspace(Path(os.environ[variable]))
