"""The memory of the service in a large cluster: 2,000 nodes whose pods have 11 containers each."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from image_puller import limits
from image_puller.config.entries import INSTALL_CONTAINER
from image_puller.simulation import SimulatedCluster
from image_puller.simulation.server import Request, Response
from tests.support.installation import NAME, NAMESPACE, exists, kubeconfig
from tests.support.serving import running
from tests.support.waiting import wait_until

NODES = 2000
IMAGES = {f"image-{number}": f"quay.io/org/image-{number}:1.2.{number}" for number in range(10)}
REQUESTS = 10
MOST_BYTES = 240 * 1024 * 1024
"""It is below the limit of the manifests, 256Mi, although shared memory counts twice."""

Json = dict[str, Any]


def node(number: str) -> Json:
    """Return a node as large as real ones: with 50 images and with managed fields."""
    images = [f"registry.example.com/team-{each % 7}/service-{each}" for each in range(40)]
    names = [*images, *(image.rpartition(":")[0] for image in IMAGES.values())]
    return {
        "metadata": {
            "name": f"node-{number}",
            "uid": f"uid-of-node-{number}",
            "creationTimestamp": "2026-01-15T12:00:00Z",
            "labels": {f"label-{each}.example.com/key": f"value-{each}" for each in range(20)}
            | {"kubernetes.io/os": "linux"},
            "managedFields": [{"fieldsV1": {f"f:field-{each}": {} for each in range(150)}}],
        },
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "message": "kubelet is ready"}],
            "images": [
                {"names": [f"{name}@sha256:{each:064x}", f"{name}:1.0.{each}"], "sizeBytes": each}
                for each, name in enumerate(names)
            ],
        },
    }


def pod(daemonset: Json, number: str) -> Json:
    """Return the running pod of the DaemonSet on a node, with what the API server adds to it."""
    template = daemonset["spec"]["template"]
    generation = daemonset["metadata"]["annotations"]["deprecated.daemonset.template.generation"]
    statuses = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": f"{container['image'].rpartition(':')[0]}@sha256:{'0' * 60}{number}",
            "containerID": f"containerd://{'0' * 60}{number}",
            "ready": True,
            "state": {"running": {"startedAt": "2026-01-15T12:00:10Z"}},
            "lastState": {},
        }
        for container in template["spec"]["containers"]
    ]
    return {
        "metadata": {
            **template["metadata"],
            "name": f"kubernetes-image-puller-{number}",
            "uid": f"uid-of-pod-{number}",
            "labels": {**template["metadata"]["labels"], "pod-template-generation": generation},
            "managedFields": [{"fieldsV1": {f"f:field-{each}": {} for each in range(250)}}],
        },
        "spec": {**template["spec"], "nodeName": f"node-{number}"},
        "status": {
            "phase": "Running",
            "startTime": "2026-01-15T12:00:05Z",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": statuses,
        },
    }


def pages(kind: str, item: Json) -> list[str]:
    """Return the pages of a list of one object for each node, in which `NUMBER` is its number."""
    text, size = json.dumps(item), limits.PAGE_OBJECTS
    found = []
    for start in range(0, NODES, size):
        items = (text.replace("NUMBER", f"{number:04}") for number in range(start, start + size))
        more = {"continue": str(start + size)} if start + size < NODES else {}
        metadata = json.dumps({"resourceVersion": "1", **more})
        found.append(
            f'{{"kind": "{kind}List", "metadata": {metadata}, "items": [{",".join(items)}]}}'
        )
    return found


class ManyNodes:
    """An API server that answers lists of nodes and pods with pages, and counts lists of pods."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._others = cluster._server.serve
        self._lock = threading.Lock()
        self.pages = {"nodes": pages("Node", node("NUMBER"))}
        self.lists = 0
        cluster._server.serve = self.serve

    def serve(self, request: Request) -> Response:
        """Serve a request."""
        kind = request.path.rpartition("/")[2]
        is_whole = "as=Partial" not in request.headers["accept"]
        if request.method != "GET" or kind not in self.pages or not is_whole:
            return self._others(request)
        start = int(request.query.get("continue", "0"))
        with self._lock:
            self.lists += kind == "pods" and start == 0
        return Response(200, self.pages[kind][start // int(request.query["limit"])])


def most_bytes(pid: int) -> int:
    """Return the largest memory that the processes of the service have had: arbiter and worker.

    Memory that both share counts twice.
    """
    (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()
    lines = [
        line.split()
        for each in (str(pid), worker)
        for line in Path(f"/proc/{each}/status").read_text("utf-8").splitlines()
    ]
    own, of_worker = (int(line[1]) * 1024 for line in lines if line[0] == "VmHWM:")
    assert 0 < own < of_worker, "the worker holds the lists"
    return own + of_worker


def test_the_status_of_a_large_cluster_needs_little_memory(
    cluster: SimulatedCluster, tmp_path: Path
) -> None:
    environ = {
        "IMAGES": ";".join(f"{name}={image}" for name, image in IMAGES.items()),
        "KUBECONFIG": str(kubeconfig(cluster, tmp_path)),
        "WEBHOOK_SECRETS_DIR": str(tmp_path),
        "READ_AUTH": "none",
        "ASK_REGISTRIES": "false",
    }
    many = ManyNodes(cluster)
    with running(tmp_path, **environ) as (process, url):
        wait_until(lambda: exists(cluster))
        daemonset = cluster.daemonset(NAME, NAMESPACE)
        assert daemonset is not None
        many.pages["pods"] = pages("Pod", pod(daemonset, "NUMBER"))
        with ThreadPoolExecutor(REQUESTS) as threads:
            answers = list(
                threads.map(lambda _: requests.get(f"{url}/status", timeout=300), range(REQUESTS))
            )
        most = most_bytes(process.pid)
    found = answers[0].json()
    names = [container["container"] for container in found["images"]]
    assert names == list(IMAGES)
    assert INSTALL_CONTAINER not in names
    assert [image["held"] for image in found["images"]] == [NODES] * len(IMAGES)
    assert all(answer.status_code == 200 for answer in answers)
    # The check after the start may read as well, and a late request begins a second read.
    assert many.lists <= 3
    assert most < MOST_BYTES, f"{most / 1024 / 1024:.0f} MiB"
