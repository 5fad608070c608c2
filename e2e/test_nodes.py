"""The nodes of the harness behave as tests that run pods assume."""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.harness.control_plane import ControlPlane
from e2e.harness.installation import reference
from e2e.harness.kubernetes_api import ApiError, KubernetesApi
from e2e.harness.nodes import Node, Nodes
from e2e.harness.oci_images import File, Image, sleep_image
from e2e.harness.pods import LABELS, Pods, daemonset, restricted
from e2e.harness.registry import Registry
from e2e.harness.workspace import Workspace, http_session, wait_until

MakeRegistry = Callable[..., Registry]

SLEEP = reference("workspace/sleep", "1")
PROBE = reference("workspace/probe", "1")
NOT_READY = {"ready": False}
IMAGE_VOLUMES_SINCE = 35  # the minor version of Kubernetes
API_SERVER = "10.1.0.1"  # the address of its Service


@pytest.fixture(scope="module")
def registry(
    workspace: Workspace, make_registry: MakeRegistry, built_probe: Path
) -> Iterator[Registry]:
    """Run a registry with the two images that these tests use."""
    probe = File((built_probe / "probe").read_bytes(), 0o755)
    with make_registry() as registry:
        registry.push_image("workspace/sleep", "1", sleep_image(workspace))
        registry.push_image(
            "workspace/probe",
            "1",
            Image(files={"probe": probe}, entrypoint=["/probe"], user="65532:65532"),
        )
        yield registry


def test_two_nodes_are_ready_at_their_addresses(nodes: Nodes, control_plane: ControlPlane) -> None:
    assert nodes.names == ["node-1", "node-2"]
    assert addresses_of_ready_nodes(control_plane.admin) == {
        "node-1": "10.246.0.1",
        "node-2": "10.246.0.2",
    }


def test_the_control_plane_and_the_nodes_are_of_the_versions_that_were_built(
    nodes: Nodes, control_plane: ControlPlane, built_kubernetes_node: Path, built_containerd: Path
) -> None:
    kubernetes = version_of(built_kubernetes_node / "kubelet")
    containerd = version_of(built_containerd / "containerd")
    assert control_plane.admin.get("/version")["gitVersion"] == kubernetes
    for node in control_plane.admin.get("/api/v1/nodes")["items"]:
        info = node["status"]["nodeInfo"]
        assert info["kubeletVersion"] == kubernetes
        assert info["containerRuntimeVersion"] == f"containerd://{containerd}"


def test_a_restricted_pod_runs_on_each_node(nodes: Nodes, registry: Registry, pods: Pods) -> None:
    names = [pods.run(SLEEP, node=node) for node in nodes.names]
    for name in names:
        pods.wait_for(name, "Running")


def test_a_pod_that_is_not_restricted_is_refused(
    nodes: Nodes, registry: Registry, pods: Pods
) -> None:
    with pytest.raises(ApiError, match="violates PodSecurity"):
        pods.run(SLEEP, node="node-1", securityContext={})


def test_a_pod_asks_the_api_server_as_its_own_service_account(
    nodes: Nodes, registry: Registry, pods: Pods
) -> None:
    name = "kubernetes.default.svc"
    resolved = pods.output(PROBE, "resolve", f"{name}.cluster.local", node="node-1")
    assert resolved == f"{API_SERVER}\n"
    versions = pods.output(PROBE, "get", f"https://{name}/api", node="node-2")
    assert json.loads(versions)["versions"] == ["v1"]
    refused = pods.run(PROBE, "get", f"https://{API_SERVER}{pods.path}", node="node-1")
    pods.wait_for(refused, "Failed")
    assert f"system:serviceaccount:{pods.namespace}:default" in pods.log(refused)


def test_names_outside_the_cluster_are_unknown(
    nodes: Nodes, registry: Registry, pods: Pods
) -> None:
    name = pods.run(PROBE, "resolve", "example.org", node="node-1")
    pods.wait_for(name, "Failed")
    assert "no such host" in pods.log(name)


def test_a_service_is_reached_from_pods_and_from_the_host(
    nodes: Nodes, registry: Registry, pods: Pods
) -> None:
    name = pods.run(PROBE, "serve", ":8080", node="node-1")
    pods.wait_for(name, "Running")
    service = {
        "metadata": {"name": "web"},
        "spec": {"selector": LABELS, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    services = f"/api/v1/namespaces/{pods.namespace}/services"
    address = pods.admin.post(services, service)["spec"]["clusterIP"]
    wait_until(lambda: answer(f"http://{address}/") == name, "the Service at its address")
    url = f"http://web.{pods.namespace}.svc.cluster.local/"
    assert pods.output(PROBE, "get", url, node="node-2") == name


def test_a_pod_with_pull_policy_never_runs_where_its_image_is(
    nodes: Nodes, registry: Registry, pods: Pods, workspace: Workspace
) -> None:
    image = reference("workspace/never-pulled", "1")
    # A kubelet that has pulled the same content by another name would ask the registry first.
    registry.push_image("workspace/never-pulled", "1", with_layers(workspace, b"never pulled"))
    nodes["node-1"].pull(image)
    here = pods.run(image, node="node-1", imagePullPolicy="Never")
    there = pods.run(image, node="node-2", imagePullPolicy="Never")
    pods.wait_for(here, "Running")
    pods.wait_for_reason(there, "ErrImageNeverPull")
    assert image not in nodes["node-2"].images()


def test_a_node_has_a_pulled_image_until_it_is_removed(nodes: Nodes, registry: Registry) -> None:
    node, image = nodes["node-1"], Image(files={"content": File(b"removed")})
    name, digest = reference("workspace/removed", "1"), image.digest
    assert registry.push_image("workspace/removed", "1", image) == digest
    assert name not in node.images()
    node.pull(name)
    assert node.images()[name] == digest
    assert {digest, *image.layer_digests} <= node.blobs()
    node.remove_image(name)
    assert digest not in node.images().values()
    assert not {digest, *image.layer_digests} & node.blobs()


def test_a_node_can_have_old_content_of_latest(
    nodes: Nodes, registry: Registry, pods: Pods, workspace: Workspace
) -> None:
    node, name = nodes["node-2"], reference("workspace/app", "latest")
    old = registry.push_image("workspace/app", "latest", with_layers(workspace, b"old"))
    node.pull(name)
    new = registry.push_image("workspace/app", "latest", with_layers(workspace, b"new"))
    pods.wait_for(pods.run(name, node=node.name, imagePullPolicy="IfNotPresent"), "Running")
    assert node.images()[name] == old
    pods.wait_for(pods.run(name, node=node.name, imagePullPolicy="Always"), "Running")
    assert node.images()[name] == new


def test_a_kubelet_collects_the_images_that_no_container_runs_or_mounts(
    nodes: Nodes,
    registry: Registry,
    pods: Pods,
    workspace: Workspace,
    control_plane: ControlPlane,
) -> None:
    if control_plane.minor < IMAGE_VOLUMES_SINCE:
        pytest.skip("this release of Kubernetes has no image volumes by default")
    unused, mounted = (reference(f"workspace/{name}", "1") for name in ("unused", "mounted"))
    for name in "unused", "mounted":
        registry.push_image(f"workspace/{name}", "1", with_layers(workspace, name.encode()))
    with nodes.join() as third:
        name = pods.run(SLEEP, node=third.name, volume=mounted)
        pods.wait_for(name, "Running")
        third.pull(unused)
        assert {SLEEP, mounted, unused} <= set(third.images())
        third.collect_images()
        assert {SLEEP, mounted} <= set(third.images())
        assert unused not in third.images()
        assert pods.status(name)["containerStatuses"][0]["restartCount"] == 0
        pods.wait_for(pods.run(PROBE, "serve", ":8080", node=third.name), "Running")


def test_a_layer_is_fetched_once(nodes: Nodes, registry: Registry, workspace: Workspace) -> None:
    one, two = with_layers(workspace, b"shared", b"one"), with_layers(workspace, b"shared", b"two")
    _, shared, own = two.layer_digests
    for tag, image in ("1", one), ("2", two):
        registry.push_image("workspace/layers", tag, image)
        nodes["node-1"].pull(reference("workspace/layers", tag))
    wait_until(lambda: registry.blob_fetches()[own], "the log of the last fetch")
    fetches = registry.blob_fetches()
    assert (fetches[shared], fetches[own]) == (1, 1)


def test_a_third_node_joins_without_images_and_leaves(
    nodes: Nodes, registry: Registry, pods: Pods
) -> None:
    with nodes.join() as third:
        assert nodes.names == ["node-1", "node-2", "node-3"]
        assert "node-3" in addresses_of_ready_nodes(pods.admin)
        assert not any("workspace/" in name for name in third.images())
        pods.wait_for(pods.run(SLEEP, node=third.name), "Running")
        assert SLEEP in third.images()
    assert nodes.names == ["node-1", "node-2"]
    assert "node-3" not in addresses_of_ready_nodes(pods.admin)
    assert pods.all() == []
    assert "/node-3" not in Path("/proc/self/mounts").read_text()


def test_a_node_that_left_comes_back_with_its_images(
    nodes: Nodes, registry: Registry, pods: Pods
) -> None:
    with nodes.join() as third:
        pods.wait_for(pods.run(SLEEP, node=third.name), "Running")
        third.stop()
        assert "node-3" not in addresses_of_ready_nodes(pods.admin)
        third.start()
        assert SLEEP in third.images()
        name = pods.run(SLEEP, node=third.name, imagePullPolicy="Never")
        pods.wait_for(name, "Running")


def test_pods_of_a_dead_node_do_not_block_a_rollout(
    nodes: Nodes, registry: Registry, pods: Pods, workspace: Workspace
) -> None:
    new = reference("workspace/rollout", "2")
    registry.push_image("workspace/rollout", "2", sleep_image(workspace))
    path = f"/apis/apps/v1/namespaces/{pods.namespace}/daemonsets"
    with nodes.join() as third:
        pods.admin.post(path, daemonset("everywhere", restricted(SLEEP)))
        wait_until(lambda: nodes_running(pods, SLEEP) == set(nodes.names), "pods on all nodes")
        third.kill()
        replaced = daemonset("everywhere", restricted(new))
        pods.admin.patch(f"{path}/everywhere", replaced)
        wait_until(lambda: nodes_running(pods, new) == {"node-1", "node-2"}, "new pods elsewhere")


def test_a_node_that_restarts_runs_its_pods_again(
    nodes: Nodes, registry: Registry, pods: Pods
) -> None:
    path = f"/apis/apps/v1/namespaces/{pods.namespace}/daemonsets"
    with nodes.join() as third:
        pods.admin.post(path, daemonset("everywhere", restricted(SLEEP)))
        wait_until(lambda: nodes_running(pods, SLEEP) == set(nodes.names), "pods on all nodes")
        third.kill()
        third.start()
        wait_until(lambda: restarts(pods, third) >= 1, "the pod on node-3 again")


def addresses_of_ready_nodes(admin: KubernetesApi) -> dict[str, str]:
    """Return the addresses of all Ready nodes by name."""
    return {
        node["metadata"]["name"]: address["address"]
        for node in admin.get("/api/v1/nodes")["items"]
        for condition in node["status"]["conditions"]
        for address in node["status"]["addresses"]
        if condition["type"] == "Ready" and condition["status"] == "True"
        if address["type"] == "InternalIP"
    }


def version_of(program: Path) -> str:
    """Return the version of a program, which is what looks like one in the answer."""
    command = (program, "--version")
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (version,) = (word for word in printed.split() if word.count(".") == 2 and "/" not in word)
    return version


def with_layers(workspace: Workspace, *layers: bytes) -> Image:
    """Return the sleep image with more layers."""
    return replace(sleep_image(workspace), layers=layers)


def answer(url: str) -> str:
    """Return the answer of a URL, or the error."""
    with http_session() as session:
        try:
            return session.get(url, timeout=10).text
        except OSError as error:
            return str(error)


def nodes_running(pods: Pods, image: str) -> set[str]:
    """Return the nodes on which a pod with this image is ready."""
    return {
        pod["spec"]["nodeName"]
        for pod in pods.all()
        # Not the image in the status, which has any name that the node knows.
        if pod["spec"]["containers"][0]["image"] == image
        if all(each["ready"] for each in pod["status"].get("containerStatuses", [NOT_READY]))
    }


def restarts(pods: Pods, node: Node) -> int:
    """Count the restarts of containers on a node that are ready now."""
    return sum(
        each["restartCount"]
        for pod in pods.all()
        if pod["spec"].get("nodeName") == node.name
        for each in pod["status"].get("containerStatuses", ())
        if each["ready"]
    )
