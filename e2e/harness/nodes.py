"""Nodes that run pods: each is a real kubelet with its own containerd."""

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from time import time
from typing import Self

from e2e.harness.cgroups import Cgroup
from e2e.harness.containerd import Containerd
from e2e.harness.control_plane import ControlPlane
from e2e.harness.dns import dns
from e2e.harness.kube_proxy import kube_proxy
from e2e.harness.kubelet import COLLECTED, kubelet
from e2e.harness.kubernetes_api import ApiError, Json
from e2e.harness.oci_images import Image, sleep_image
from e2e.harness.processes import tail
from e2e.harness.workspace import Workspace, wait_until

MOST = 3  # e2e/run makes as many addresses
KEPT = 2  # these run from the first test that needs nodes to the last
PODS = "10.245.0.0/16"


class Node:
    """A node of the cluster, which tests can inspect and disturb."""

    def __init__(
        self,
        workspace: Workspace,
        control_plane: ControlPlane,
        *,
        number: int,
        pause: Image,
        kubelet_program: Path,
        containerd: Path,
        taint: str = "",
    ) -> None:
        self.name = f"node-{number}"
        self.address = f"10.246.0.{number}"  # on the loopback device, by e2e/run
        self._admin = control_plane.admin
        self._folder = workspace.folder(self.name)
        self._cgroup = Cgroup(f"/{workspace.state.name}/{self.name}")
        self.runtime = Containerd(
            workspace,
            self._folder,
            programs=containerd,
            name=self.name,
            pods=f"10.245.{number}.0/24",
            pause=pause,
        )
        make_kubelet = partial(
            kubelet,
            workspace,
            self._folder,
            program=kubelet_program,
            name=self.name,
            address=self.address,
            cgroup=self._cgroup.name,
            runtime=self.runtime.socket,
            kubeconfig=control_plane.kubeconfig(control_plane.admin_token),
        )
        self._kubelet = make_kubelet(taint=taint)
        self._collector = make_kubelet(collects_images=True)

    def start(self) -> None:
        """Start the node and wait until it is ready; it still has its old images."""
        # A dead node stays Ready for most of a minute, so only later heartbeats count. Their times
        # are whole seconds.
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
        """Kill the node with all that runs on it. The API server is not informed."""
        self._kubelet.kill()
        self.runtime.kill()
        self._cgroup.kill()

    def stop(self) -> None:
        """Remove the node from the cluster, with its pods; it can be dead already.

        After a start it is a new node that still has its images.
        """
        self._kubelet.stop()
        self.kill()
        unmount_below(self._folder)
        shutil.rmtree(self._folder / "kubelet", ignore_errors=True)
        self._forget()

    def is_ready(self) -> bool:
        """Return whether the node is Ready; a dead one stays so for most of a minute."""
        return any(condition["status"] == "True" for condition in _readiness(self._node()))

    def images(self) -> dict[str, str]:
        """Return the digests of the images in its runtime, by name.

        A pulled image has several names, not only the one with the tag.
        """
        return self.runtime.images()

    def blobs(self) -> set[str]:
        """Return the digests of all manifests, configs and layers in its runtime."""
        return self.runtime.blobs()

    def pull(self, name: str) -> None:
        """Pull an image, without a pod."""
        self.runtime.pull(name)

    def remove_image(self, name: str) -> None:
        """Remove an image with all its names, and the layers that no other image has."""
        self.runtime.remove_image(name)

    def collect_images(self) -> None:
        """Let the kubelet remove all images that no container runs or mounts; containers run on.

        Kubernetes 1.30 or later can do that. The kubelet restarts twice.
        """
        self._kubelet.stop()
        try:
            log = self._collector.log
            seen = log.stat().st_size
            self._collector.start()
            wait_until(lambda: COLLECTED in log.read_bytes()[seen:], f"a collection: {self.name}")
        finally:
            self._collector.kill()
            self._kubelet.start()

    def _is_up(self, heard: float) -> bool:
        node = self._node()
        return "taints" not in node["spec"] and any(
            condition["status"] == "True" and _seconds(condition["lastHeartbeatTime"]) > heard
            for condition in _readiness(node)
        )

    def _heartbeat(self) -> float:
        """Return the time of its last heartbeat; 0 if there was none."""
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
        """Delete the Node object and its pods; controllers would take a minute for that."""
        with suppress(ApiError):
            self._admin.delete(f"/api/v1/nodes/{self.name}")
        pods = self._admin.get("/api/v1/pods", fieldSelector=f"spec.nodeName={self.name}")
        for pod in pods["items"]:
            with suppress(ApiError):  # a controller was faster
                self._admin.delete(_path(pod), gracePeriodSeconds="0")


class Nodes:
    """The nodes of the cluster, with kube-proxy and DNS for their pods.

    Two nodes run for all tests; a third can join.
    """

    def __init__(
        self,
        workspace: Workspace,
        control_plane: ControlPlane,
        *,
        kubernetes: Path,
        containerd: Path,
        coredns: Path,
    ) -> None:
        self._workspace = workspace
        self._control_plane = control_plane
        self._kubelet_program = kubernetes / "kubelet"
        self._containerd = containerd
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
                minor=control_plane.minor,
            ),
            dns(workspace, program=coredns / "coredns", kubeconfig=kubeconfig),
        )

    def __enter__(self) -> Self:
        """Start all nodes at once, in a few seconds; stop all if one fails."""
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
    def join(self, *, taint: str = "") -> Iterator[Node]:
        """Let a third node join, without any pulled image; it leaves when the context ends.

        It registers with the taint, such as `key=value:NoSchedule`, if that is given.
        """
        node = self._add(taint)
        try:
            node.start()
            yield node
        finally:
            del self._nodes[node.name]
            node.stop()

    def _add(self, taint: str = "") -> Node:
        number = len(self._nodes) + 1
        if number > MOST:
            raise ValueError(f"there are addresses for {MOST} nodes")
        node = Node(
            self._workspace,
            self._control_plane,
            number=number,
            pause=self._pause,
            kubelet_program=self._kubelet_program,
            containerd=self._containerd,
            taint=taint,
        )
        self._nodes[node.name] = node
        return node

    def _kill(self) -> None:
        for each in (*self, *self._host):
            each.kill()


def unmount_below(folder: Path) -> None:
    """Unmount all file systems below a folder that no process uses."""
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
