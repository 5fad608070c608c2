"""Nodes that run pods: each a true kubelet with a containerd of its own."""

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from time import time
from typing import Self

from e2e.harness.cgroups import Cgroup
from e2e.harness.containerd import Containerd
from e2e.harness.control_plane import ControlPlane
from e2e.harness.dns import dns
from e2e.harness.kube_proxy import kube_proxy
from e2e.harness.kubelet import kubelet
from e2e.harness.kubernetes_api import ApiError, Json
from e2e.harness.oci_images import Image, sleep_image
from e2e.harness.processes import tail
from e2e.harness.workspace import Workspace, wait_until

MOST = 3  # as many addresses as e2e/run gives
KEPT = 2  # from the first test that needs nodes to the last
PODS = "10.245.0.0/16"


class Node:
    """A node of the cluster, which tests can look into and disturb."""

    def __init__(
        self,
        workspace: Workspace,
        control_plane: ControlPlane,
        *,
        number: int,
        pause: Image,
        kubelet_program: Path,
    ) -> None:
        self.name = f"node-{number}"
        self.address = f"10.246.0.{number}"  # on the loopback device, by e2e/run
        self._admin = control_plane.admin
        self._folder = workspace.folder(self.name)
        self._cgroup = Cgroup(f"/{workspace.state.name}/{self.name}")
        self.runtime = Containerd(
            workspace, self._folder, name=self.name, pods=f"10.245.{number}.0/24", pause=pause
        )
        self._kubelet = kubelet(
            workspace,
            self._folder,
            program=kubelet_program,
            name=self.name,
            address=self.address,
            cgroup=self._cgroup.name,
            runtime=self.runtime.socket,
            kubeconfig=control_plane.kubeconfig(control_plane.admin_token),
        )

    def start(self) -> None:
        """Start it and wait until pods can be scheduled to it; after an end, with its images."""
        # A node that died is Ready for most of a minute: only what it says from now on counts, and
        # it says when in whole seconds.
        heard = self._heartbeat()
        wait_until(lambda: int(time()) > heard, "another second")
        self._cgroup.make()
        self.runtime.start()
        self._kubelet.start()
        try:
            wait_until(lambda: self._is_up(heard), f"{self.name} ready")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{tail(self._kubelet.log)}") from None

    def kill(self) -> None:
        """Let it die, with all that runs on it; the API server isn't told."""
        self._kubelet.kill()
        self.runtime.kill()
        self._cgroup.kill()

    def stop(self) -> None:
        """Let it leave the cluster, with its pods; after a start it is a new node with its images.

        It may have died before.
        """
        self._kubelet.stop()
        self.kill()
        unmount_below(self._folder)
        shutil.rmtree(self._folder / "kubelet", ignore_errors=True)
        self._forget()

    def is_ready(self) -> bool:
        """Answer whether Kubernetes takes it for ready: one that died is, for most of a minute."""
        return any(condition["status"] == "True" for condition in _readiness(self._node()))

    def images(self) -> dict[str, str]:
        """Return the digests of its images by name, as its runtime has them.

        An image that was pulled has more names than that with the tag.
        """
        return self.runtime.images()

    def blobs(self) -> set[str]:
        """Return the digests of all manifests, configs and layers that it has."""
        return self.runtime.blobs()

    def pull(self, name: str) -> None:
        """Pull an image, without a pod."""
        self.runtime.pull(name)

    def remove_image(self, name: str) -> None:
        """Remove an image with all its names, and the layers that no other image has."""
        self.runtime.remove_image(name)

    def _is_up(self, heard: float) -> bool:
        node = self._node()
        return "taints" not in node["spec"] and any(
            condition["status"] == "True" and _seconds(condition["lastHeartbeatTime"]) > heard
            for condition in _readiness(node)
        )

    def _heartbeat(self) -> float:
        """Return when it last said how it is; 0 if it never did."""
        return max(
            (_seconds(each["lastHeartbeatTime"]) for each in _readiness(self._node())), default=0
        )

    def _node(self) -> Json:
        try:
            return self._admin.get(f"/api/v1/nodes/{self.name}")
        except ApiError as error:
            if error.code == 404:
                return {"spec": {}, "status": {}}
            raise

    def _forget(self) -> None:
        """Delete it from the API with its pods, for which controllers would take a minute."""
        with suppress(ApiError):
            self._admin.delete(f"/api/v1/nodes/{self.name}")
        pods = self._admin.get("/api/v1/pods", fieldSelector=f"spec.nodeName={self.name}")
        for pod in pods["items"]:
            with suppress(ApiError):  # somebody was first
                self._admin.delete(_path(pod), gracePeriodSeconds="0")


class Nodes:
    """The nodes of the cluster, with what their pods need: Services' addresses, and names.

    Two are there for all tests; one more can join.
    """

    def __init__(
        self, workspace: Workspace, control_plane: ControlPlane, *, kubernetes: Path, coredns: Path
    ) -> None:
        self._workspace = workspace
        self._control_plane = control_plane
        self._kubelet_program = kubernetes / "kubelet"
        self._pause = sleep_image(workspace)
        self._nodes: dict[str, Node] = {}
        for _ in range(KEPT):
            self._add()
        kubeconfig = control_plane.kubeconfig(control_plane.admin_token)
        self._host = (
            kube_proxy(
                workspace,
                program=kubernetes / "kube-proxy",
                node=self.names[0],
                pods=PODS,
                kubeconfig=kubeconfig,
            ),
            dns(workspace, program=coredns / "coredns", kubeconfig=kubeconfig),
        )

    def __enter__(self) -> Self:
        """Start all at once, in a few seconds; none is left if one fails."""
        with ExitStack() as started, ThreadPoolExecutor() as pool:
            started.callback(self._kill)
            for future in [pool.submit(each.start) for each in (*self._host, *self)]:
                future.result()
            started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._nodes.values()))

    def __getitem__(self, name: str) -> Node:
        """Return the node of this name."""
        return self._nodes[name]

    @property
    def names(self) -> list[str]:
        """The names of all nodes, in the order in which they joined."""
        return list(self._nodes)

    @contextmanager
    def join(self) -> Iterator[Node]:
        """Let one more node join, without images but its own; it leaves at the end, dead or not."""
        node = self._add()
        try:
            node.start()
            yield node
        finally:
            del self._nodes[node.name]
            node.stop()

    def _add(self) -> Node:
        number = len(self._nodes) + 1
        if number > MOST:
            raise ValueError(f"there are addresses for {MOST} nodes")
        node = Node(
            self._workspace,
            self._control_plane,
            number=number,
            pause=self._pause,
            kubelet_program=self._kubelet_program,
        )
        self._nodes[node.name] = node
        return node

    def _kill(self) -> None:
        for each in (*self, *self._host):
            each.kill()


def unmount_below(folder: Path) -> None:
    """Unmount all that is mounted below a folder, which nothing may use any more."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    inner_first = [path for path in reversed(mounted) if path.startswith(f"{folder}/")]
    if inner_first:
        subprocess.run(("umount", *inner_first), check=True)


def _readiness(node: Json) -> list[Json]:
    return [each for each in node["status"].get("conditions", ()) if each["type"] == "Ready"]


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _path(pod: Json) -> str:
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
