"""`image-puller wait` in shell pipelines, for images that come to real nodes or do not."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.harness.control_plane import ControlPlane
from e2e.harness.deployed import WEBHOOK, Deployed, ProductImages, deployed
from e2e.harness.installation import SECRET, Installation, reference
from e2e.harness.kubernetes_api import ApiError, KubernetesApi
from e2e.harness.nodes import Nodes
from e2e.harness.oci_images import File, Image, sleep_image
from e2e.harness.registry import Registry
from e2e.harness.workspace import TIMEOUT_SECONDS, Workspace, http_session, wait_until

AT_ONCE = {"ROLLOUT_MIN_INTERVAL_SECONDS": "0"}
GRACE_SECONDS = 60  # after which Kubernetes notices a dead node, with some seconds to spare
NOT_TRACKED = "does not track it yet"


@pytest.fixture(scope="module")
def registry(
    make_registry: Callable[..., Registry], product_images: ProductImages
) -> Iterator[Registry]:
    """Run a registry with the product's own images, and the service as its webhook."""
    with make_registry([WEBHOOK]) as registry:
        product_images.push(registry)
        yield registry


class Pipeline:
    """A shell that runs `image-puller wait …`, and then `echo deployed` if that was successful."""

    def __init__(self, workspace: Workspace, arguments: str, **environ: str) -> None:
        environment = workspace.environment() | environ
        folder = Path(sys.executable).parent
        environment["PATH"] = f"{folder}{os.pathsep}{environment['PATH']}"
        self._log = workspace.log("pipeline")
        self._began = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ("sh", "-c", f"image-puller wait {arguments} && echo deployed"),
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text()

    def prints(self, text: str) -> None:
        """Wait until it has printed a text."""
        wait_until(lambda: text in self.output, f"{text} in the pipeline")

    def end(self, seconds: float = TIMEOUT_SECONDS) -> tuple[int, float]:
        """Return its exit code, and how long it has run."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        assert self.output.endswith("\ndeployed\n") == (code == 0), self.output
        return code, time.monotonic() - self._began


def in_cluster(workspace: Workspace, puller: Deployed, arguments: str) -> Pipeline:
    """Return a pipeline that asks the service."""
    environ = {"IMAGE_PULLER_URL": puller.url, "IMAGE_PULLER_TOKEN": SECRET}
    return Pipeline(workspace, arguments, **environ)


def with_content(workspace: Workspace, content: str) -> Image:
    image = sleep_image(workspace)
    return replace(image, files={**image.files, "content": File(content.encode())})


def cordon(control_plane: ControlPlane, node: str) -> None:
    """Cordon a node, as `kubectl cordon` does."""
    control_plane.admin.patch(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True}})


def viewer(control_plane: ControlPlane, namespace: str) -> Path:
    """Return the kubeconfig of a user with the ClusterRole `view` in a namespace."""
    control_plane.admin.post(
        f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "viewer"}}
    )
    control_plane.admin.post(
        f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
        {
            "metadata": {"name": "viewer"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "view",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "viewer", "namespace": namespace}],
        },
    )
    token = control_plane.token_for(namespace, "viewer")
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    wait_until(lambda: may_list(control_plane.client(token), path), "the ClusterRole in force")
    return control_plane.kubeconfig(token)


def may_list(client: KubernetesApi, path: str) -> bool:
    try:
        client.get(path)
    except ApiError:
        return False
    return True


def test_pipelines_go_on_once_all_nodes_hold_an_image_that_is_pushed_meanwhile(
    nodes: Nodes,
    registry: Registry,
    installation: Installation,
    workspace: Workspace,
    control_plane: ControlPlane,
) -> None:
    old, new = reference("wait/app", "1.0.0"), reference("wait/app", "1.1.0")
    registry.push_image("wait/app", "1.0.0", with_content(workspace, "one"))
    registry.forget_notifications()
    admin = control_plane.kubeconfig(control_plane.admin_token)
    place = f"--namespace {installation.namespace}"
    with deployed(installation, f"app={old}", **AT_ONCE) as puller, ThreadPoolExecutor() as pool:
        puller.wait_until_held(old, *nodes.names)
        by_service = in_cluster(workspace, puller, new)
        by_cluster = Pipeline(workspace, f"{new} {place}", KUBECONFIG=str(admin))
        for each in (by_service, by_cluster):
            each.prints(NOT_TRACKED)
        answer = pool.submit(get, f"{puller.url}/status/{new}?wait=60")
        digest = registry.push_image("wait/app", "1.1.0", with_content(workspace, "two"))
        for each in (by_service, by_cluster):
            assert each.end()[0] == 0
            assert "2/2 nodes hold it" in each.output
            assert all(node.images()[new] == digest for node in nodes)
        assert answer.result() == 200
        # A user who sees only the namespace needs no service that runs.
        puller.scale(0)
        by_user = Pipeline(
            workspace,
            f"app {place} --timeout 30s",
            KUBECONFIG=str(viewer(control_plane, installation.namespace)),
        )
        assert by_user.end()[0] == 0
        assert "You may not list nodes" in by_user.output


def get(url: str) -> int:
    with http_session() as session:
        headers = {"Authorization": f"Bearer {SECRET}"}
        return session.get(url, headers=headers, timeout=TIMEOUT_SECONDS).status_code


def reasons(puller: Deployed, image: str) -> list[str]:
    """Return why nodes do not hold an image."""
    (found,) = (each for each in puller.status()["images"] if each["image"] == image)
    return [each.get("reason", "") for each in found["nodes"].values()]


def test_pipelines_stop_if_an_image_does_not_come(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    there, missing = reference("wait/there", "1.0.0"), reference("wait/missing", "1.0.0")
    registry.push_image("wait/there", "1.0.0", with_content(workspace, "there"))
    registry.forget_notifications()
    with deployed(installation, f"there={there};missing={missing}", **AT_ONCE) as puller:
        assert in_cluster(workspace, puller, "there").end()[0] == 0
        wait_until(lambda: all("not found" in each for each in reasons(puller, missing)), "reasons")
        late = in_cluster(workspace, puller, "missing --timeout 15s")
        other = in_cluster(workspace, puller, reference("wait/unknown", "1.0.0"))
        assert other.end()[0] == 1
        assert "no group has an entry of" in other.output
        code, seconds = late.end()
        assert (code, seconds < 15 + GRACE_SECONDS) == (3, True)
        last = late.output.splitlines()[-1]
        assert f"{missing}: 0/2 nodes hold it" in last
        assert "not found" in last
        nowhere = in_cluster(workspace, puller, "there --selector pool=gpu --timeout 2s")
        assert nowhere.end()[0] == 3
        assert "no node matches the selector pool=gpu" in nowhere.output
        assert get(f"{puller.url}/status/missing?wait=2") == 408
        assert get(f"{puller.url}/status/{reference('wait/unknown', '1.0.0')}?wait=60") == 409


def test_pipelines_do_not_wait_for_nodes_that_are_dead_or_cordoned(
    nodes: Nodes,
    registry: Registry,
    installation: Installation,
    workspace: Workspace,
    control_plane: ControlPlane,
) -> None:
    one, two, three = (reference("wait/death", f"1.{number}.0") for number in range(3))
    registry.push_image("wait/death", "1.0.0", with_content(workspace, "one"))
    registry.forget_notifications()
    # The service runs on another node than the one that dies, because it starts first.
    with deployed(installation, f"app={one}", **AT_ONCE) as puller, nodes.join() as third:
        puller.wait_until_held(one, *nodes.names)
        third.kill()
        registry.push_image("wait/death", "1.1.0", with_content(workspace, "two"))
        dead = in_cluster(workspace, puller, two)
        dead.prints("2/3 nodes hold it")
        assert dead.end()[0] == 0
        assert not third.is_ready()
        assert "2/2 nodes hold it" in dead.output

        third.start()
        assert in_cluster(workspace, puller, f"{two} --nodes 3").end()[0] == 0
        alone = f"{two} --selector kubernetes.io/hostname={third.name} --timeout 2s"
        assert in_cluster(workspace, puller, alone).end()[0] == 0
        cordon(control_plane, third.name)
        cordoned = in_cluster(workspace, puller, alone)
        assert cordoned.end()[0] == 3
        assert "counts; node-3: the node is cordoned" in cordoned.output
        third.kill()
        registry.push_image("wait/death", "1.2.0", with_content(workspace, "three"))
        others = in_cluster(workspace, puller, three)
        assert others.end()[0] == 0
        assert "2/2 nodes hold it" in others.output
        assert "/3 nodes hold it" not in others.output
