"""The nodes, and the controllers of a cluster: DaemonSet controller and garbage collector."""

import hashlib
import heapq
import itertools
import re
import threading
from collections.abc import Iterator, Sequence

from image_puller.simulation import daemonset_controller
from image_puller.simulation.api import Api
from image_puller.simulation.clock import SimulatedClock, timestamp
from image_puller.simulation.kubelet import Kubelet, SimulatedRegistries
from image_puller.simulation.pod_status import condition
from image_puller.simulation.resources import DAEMON_SETS, EVENTS, NODES, PODS, Resource, Target
from image_puller.simulation.responses import ApiError, Json
from image_puller.simulation.store import Key


class Nodes:
    """The nodes of a cluster, and the controllers that create and delete pods on them.

    Time passes only in `advance`.
    """

    def __init__(self, api: Api, clock: SimulatedClock, registries: SimulatedRegistries) -> None:
        self._api, self._clock, self._registries = api, clock, registries
        self._kubelets: dict[str, Kubelet] = {}
        self._due: list[tuple[float, int, Key, str, Iterator[float]]] = []
        self._order = itertools.count()
        self._full: dict[str, str] = {}
        self._lock = threading.RLock()

    def join(self, name: str, labels: dict[str, str], taints: Sequence[Json], runtime: str) -> None:
        """Add a ready node."""
        os_labels = {"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"}
        node = {
            "metadata": {
                "name": name,
                "labels": {**os_labels, "kubernetes.io/hostname": name, **labels},
            },
            "spec": {"taints": list(taints)} if taints else {},
            "status": {
                "conditions": [condition("Ready", is_true=True)],
                "nodeInfo": {
                    "architecture": "amd64",
                    "bootID": "",
                    "containerRuntimeVersion": runtime,
                    "kernelVersion": "",
                    "kubeProxyVersion": "",
                    "kubeletVersion": "v1.37.2",
                    "machineID": "",
                    "operatingSystem": "linux",
                    "osImage": "",
                    "systemUUID": "",
                },
            },
        }
        with self._lock:
            self._api.admit(Target(NODES, None, None), node)
            self._kubelets[name] = Kubelet(self._registries, self._clock)

    def leave(self, name: str) -> None:
        """Remove a node. The garbage collector deletes its pods."""
        with self._lock:
            del self._kubelets[name]
            self._api.store.remove(Key(NODES, "", name))

    def kill(self, name: str) -> None:
        """Stop a node: its pods are not ready, and the controller can't replace them."""
        with self._lock:
            self._kubelets[name].alive = False
            self._set_ready(Key(NODES, "", name), is_ready=False)
            pods = self._pods_on(name)
            for pod in pods:
                self._set_ready(_key(PODS, pod), is_ready=False)
            stopped = {pod["metadata"]["uid"] for pod in pods}
            self._due = [due for due in self._due if due[3] not in stopped]
            heapq.heapify(self._due)

    def revive(self, name: str) -> None:
        """Start a stopped node again. It has its images, and starts its pods again."""
        with self._lock:
            self._kubelets[name].alive = True
            self._set_ready(Key(NODES, "", name), is_ready=True)
            for pod in self._pods_on(name):
                if daemonset_controller.is_terminating(pod):
                    self._api.store.remove(_key(PODS, pod))
                else:
                    self._start(pod)

    def fill(self, name: str, why: str) -> None:
        """Let a node have no room for new pods. They stay pending, for this reason."""
        with self._lock:
            self._full[name] = why

    def free(self, name: str) -> None:
        """Let a node have room again. The scheduler binds the pods that wait for it."""
        with self._lock:
            del self._full[name]
            for pod in self._bound():
                if "nodeName" not in pod["spec"] and daemonset_controller.node_of(pod) == name:
                    self._schedule(pod)

    def unpullable(self, name: str) -> dict[str, str]:
        """Return the errors of images that only this node can't pull. Callers may change them."""
        return self._kubelets[name].unpullable

    def images(self, name: str) -> dict[str, str]:
        """Return the digests of the images on a node, by image name."""
        return dict(self._kubelets[name].images)

    def next_due(self) -> float | None:
        """Return the time of the next step of a pod, or None if no pod has one."""
        with self._lock:
            return self._due[0][0] if self._due else None

    def advance(self, until: float) -> None:
        """Let time pass until a point in time. Each step of a pod happens at its own time."""
        with self._lock:
            self._reconcile()
            while self._due and self._due[0][0] <= until:
                time = self._due[0][0]
                self._clock.advance_to(time)
                while self._due and self._due[0][0] == time:
                    _, _, key, uid, steps = heapq.heappop(self._due)
                    self._resume(key, uid, steps)
                self._reconcile()
            self._clock.advance_to(until)

    def _resume(self, key: Key, uid: str, steps: Iterator[float]) -> None:
        pod = self._api.store.find(key)
        if pod is None or pod["metadata"]["uid"] != uid:
            return
        seconds = next(steps, None)
        if seconds is not None:
            due = self._clock() + seconds
            heapq.heappush(self._due, (due, next(self._order), key, uid, steps))
        self._report_images(pod["spec"]["nodeName"])

    def _reconcile(self) -> None:
        self._collect_garbage()
        nodes = self._api.store.all(NODES)
        for daemon_set in self._api.store.all(DAEMON_SETS):
            uid = daemon_set["metadata"]["uid"]
            namespace = daemon_set["metadata"]["namespace"]
            plan = daemonset_controller.plan(daemon_set, self._pods_of(namespace, uid), nodes)
            for pod in plan.misplaced:
                self._stop(pod)
            created = [self._create(daemon_set, node) for node in plan.missing]
            # The real controller replaces no pod while one is refused.
            if all(created):
                plan = daemonset_controller.plan(daemon_set, self._pods_of(namespace, uid), nodes)
                for pod in plan.outdated:
                    self._stop(pod)
                # The nodes of deleted pods lack a pod now, so plan again.
                plan = daemonset_controller.plan(daemon_set, self._pods_of(namespace, uid), nodes)
                for node in plan.missing:
                    self._create(daemon_set, node)
            status = daemonset_controller.status(daemon_set, self._pods_of(namespace, uid), nodes)
            self._update(_key(DAEMON_SETS, daemon_set), status)

    def _collect_garbage(self) -> None:
        owners = [one["metadata"]["uid"] for one in self._api.store.all(DAEMON_SETS)]
        for pod in self._bound():
            is_owned = any(daemonset_controller.is_owned(pod, uid) for uid in owners)
            if not is_owned or daemonset_controller.node_of(pod) not in self._kubelets:
                self._stop(pod)

    def _create(self, daemon_set: Json, node: Json) -> bool:
        """Create a pod for a node. Return False if it is refused."""
        target = Target(PODS, daemon_set["metadata"]["namespace"], None)
        try:
            pod = self._api.admit(target, daemonset_controller.pod(daemon_set, node))
        except ApiError as error:
            self._report_failure(daemon_set, f"Error creating: {error}")
            return False  # each reconciliation tries again
        self._schedule(pod)
        return True

    def _report_failure(self, daemon_set: Json, message: str) -> None:
        """Report as an Event why a pod can't be created.

        One Event counts messages that differ only in the pod's random name.
        """
        metadata, now = daemon_set["metadata"], timestamp(self._clock())
        similar = re.sub(f"{metadata['name']}-[a-z0-9]+", "", message)
        digest = hashlib.sha256(f"{metadata['uid']}{similar}".encode()).hexdigest()[:16]
        key = Key(EVENTS, metadata["namespace"], f"{metadata['name']}.{digest}")
        live = self._api.store.find(key)
        if live is not None:
            if live["lastTimestamp"] != now:
                later = {"count": live["count"] + 1, "lastTimestamp": now}
                self._api.store.replace(key, {**live, **later})
            return
        event = {
            "metadata": {"name": key.name},
            "involvedObject": {
                "apiVersion": daemon_set["apiVersion"],
                "kind": daemon_set["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "reason": "FailedCreate",
            "message": message,
            "type": "Warning",
            "source": {"component": "daemonset-controller"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._api.admit(Target(EVENTS, metadata["namespace"], None), event)

    def _schedule(self, pod: Json) -> None:
        """Bind a pod to its node, if that has room, and start it."""
        key, name = _key(PODS, pod), daemonset_controller.node_of(pod)
        if name in self._full:
            self._update(key, self._unschedulable(self._full[name]))
            return
        bound = {**pod, "spec": {**pod["spec"], "nodeName": name}}
        self._start(self._api.store.replace(key, bound))

    def _unschedulable(self, why: str) -> Json:
        """Return the status of a pod that the scheduler can't bind."""
        count = len(self._kubelets)
        message = f"0/{count} nodes are available: 1 {why}"
        if count > 1:
            message += f", {count - 1} node(s) didn't satisfy plugin(s) [NodeAffinity]"
        scheduled = {
            **condition("PodScheduled", is_true=False),
            "reason": "Unschedulable",
            "message": f"{message}.",
        }
        return {"phase": "Pending", "conditions": [scheduled]}

    def _start(self, pod: Json) -> None:
        key, kubelet = _key(PODS, pod), self._kubelets[pod["spec"]["nodeName"]]
        if kubelet.alive:
            steps = kubelet.run_pod(
                pod,
                lambda status: self._update(key, status),
                lambda message: self._report_pull(pod, message),
            )
            self._resume(key, pod["metadata"]["uid"], steps)

    def _report_pull(self, pod: Json, message: str) -> None:
        """Report a pull as an Event of the pod, as a kubelet does."""
        metadata, now = pod["metadata"], timestamp(self._clock())
        event = {
            "metadata": {"generateName": f"{metadata['name']}."},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "reason": "Pulled",
            "message": message,
            "type": "Normal",
            "source": {"component": "kubelet", "host": pod["spec"]["nodeName"]},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._api.admit(Target(EVENTS, metadata["namespace"], None), event)

    def _stop(self, pod: Json) -> None:
        key = _key(PODS, pod)
        kubelet = self._kubelets.get(pod["spec"].get("nodeName", ""))
        if kubelet is None or kubelet.alive:
            self._api.store.remove(key)
        elif not daemonset_controller.is_terminating(pod):
            now = timestamp(self._clock())
            metadata = {**pod["metadata"], "deletionTimestamp": now}
            self._api.store.replace(key, {**pod, "metadata": metadata})

    def _update(self, key: Key, status: Json) -> None:
        with self._api.store.changed:
            live = self._api.store.find(key)
            if live is not None:
                self._api.store.replace(key, {**live, "status": status})

    def _report_images(self, name: str) -> None:
        """Report in a node's status which images it has, as its kubelet does."""
        with self._api.store.changed:
            live = self._api.store.get(Key(NODES, "", name))
            images = self._kubelets[name].reported_images()
            self._update(Key(NODES, "", name), {**live["status"], "images": images})

    def _set_ready(self, key: Key, *, is_ready: bool) -> None:
        live = self._api.store.get(key)
        others = [one for one in live["status"].get("conditions", []) if one["type"] != "Ready"]
        status = {**live["status"], "conditions": [*others, condition("Ready", is_ready)]}
        self._update(key, status)

    def _pods_on(self, node: str) -> list[Json]:
        return [pod for pod in self._bound() if pod["spec"].get("nodeName") == node]

    def _pods_of(self, namespace: str, uid: str) -> list[Json]:
        return [pod for pod in self._bound(namespace) if daemonset_controller.is_owned(pod, uid)]

    def _bound(self, namespace: str | None = None) -> list[Json]:
        # Only the controller's pods have a node. The simulation schedules no other pods.
        pods = self._api.store.all(PODS, namespace)
        return [pod for pod in pods if daemonset_controller.node_of(pod) is not None]


def _key(resource: Resource, item: Json) -> Key:
    return Key(resource, item["metadata"].get("namespace", ""), item["metadata"]["name"])
