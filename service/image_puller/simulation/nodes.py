"""What goes on in a cluster by itself: DaemonSet controller, garbage collector, kubelets."""

import heapq
import itertools
import threading
from collections.abc import Iterator, Sequence

from image_puller.simulation import scheduling
from image_puller.simulation.answers import Json, RefusedError
from image_puller.simulation.api import Api
from image_puller.simulation.clock import Clock, stamp
from image_puller.simulation.kubelet import Kubelet, Registries
from image_puller.simulation.pod_status import condition
from image_puller.simulation.resources import DAEMON_SETS, NODES, PODS, Resource, Target
from image_puller.simulation.store import Key


class Nodes:
    """All nodes of a cluster, and what places pods on them; time passes only in `advance`."""

    def __init__(self, api: Api, clock: Clock, registries: Registries) -> None:
        self._api, self._clock, self._registries = api, clock, registries
        self._kubelets: dict[str, Kubelet] = {}
        self._due: list[tuple[float, int, Key, str, Iterator[float]]] = []
        self._order = itertools.count()
        self._lock = threading.RLock()

    def join(self, name: str, labels: dict[str, str], taints: Sequence[Json]) -> None:
        """Register a node that is ready."""
        os_labels = {"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"}
        node = {
            "metadata": {
                "name": name,
                "labels": {**os_labels, "kubernetes.io/hostname": name, **labels},
            },
            "spec": {"taints": list(taints)} if taints else {},
            "status": {"conditions": [condition("Ready", is_true=True)]},
        }
        with self._lock:
            self._api.admit(Target(NODES, None, None), node)
            self._kubelets[name] = Kubelet(self._registries, self._clock)

    def leave(self, name: str) -> None:
        """Remove a node, and with it its pods."""
        with self._lock:
            del self._kubelets[name]
            self._api.store.remove(Key(NODES, "", name))

    def kill(self, name: str) -> None:
        """Let a node fall silent: its pods are not ready, and none of them can be replaced."""
        with self._lock:
            self._kubelets[name].alive = False
            self._set_ready(Key(NODES, "", name), is_ready=False)
            pods = self._pods_on(name)
            for pod in pods:
                self._set_ready(_key(PODS, pod), is_ready=False)
            dead = {pod["metadata"]["uid"] for pod in pods}
            self._due = [due for due in self._due if due[3] not in dead]
            heapq.heapify(self._due)

    def revive(self, name: str) -> None:
        """Let a dead node come back with its images; it starts its pods again."""
        with self._lock:
            self._kubelets[name].alive = True
            self._set_ready(Key(NODES, "", name), is_ready=True)
            for pod in self._pods_on(name):
                if scheduling.is_terminating(pod):
                    self._api.store.remove(_key(PODS, pod))
                else:
                    self._start(pod)

    def images(self, name: str) -> dict[str, str]:
        """Tell which images a node holds, each by its reference, and their digests."""
        return dict(self._kubelets[name].images)

    def next_due(self) -> float | None:
        """Tell when something happens next by itself; None if nothing is under way."""
        with self._lock:
            return self._due[0][0] if self._due else None

    def advance(self, until: float) -> None:
        """Let everything happen that happens until a moment, each at its time."""
        with self._lock:
            self._reconcile()
            while self._due and self._due[0][0] <= until:
                moment = self._due[0][0]
                self._clock.advance_to(moment)
                while self._due and self._due[0][0] == moment:
                    _, _, key, uid, life = heapq.heappop(self._due)
                    self._resume(key, uid, life)
                self._reconcile()
            self._clock.advance_to(until)

    def _resume(self, key: Key, uid: str, life: Iterator[float]) -> None:
        pod = self._api.store.find(key)
        if pod is None or pod["metadata"]["uid"] != uid:
            return
        seconds = next(life, None)
        if seconds is not None:
            due = self._clock() + seconds
            heapq.heappush(self._due, (due, next(self._order), key, uid, life))

    def _reconcile(self) -> None:
        self._collect_garbage()
        nodes = self._api.store.all(NODES)
        for daemon_set in self._api.store.all(DAEMON_SETS):
            uid = daemon_set["metadata"]["uid"]
            namespace = daemon_set["metadata"]["namespace"]
            plan = scheduling.plan(daemon_set, self._pods_of(namespace, uid), nodes)
            for pod in plan.surplus:
                self._stop(pod)
            # A node is free again once its pod is gone, so look again.
            plan = scheduling.plan(daemon_set, self._pods_of(namespace, uid), nodes)
            for node in plan.missing:
                self._create(daemon_set, node)
            status = scheduling.status(daemon_set, self._pods_of(namespace, uid), nodes)
            self._update(_key(DAEMON_SETS, daemon_set), status)

    def _collect_garbage(self) -> None:
        owners = [one["metadata"]["uid"] for one in self._api.store.all(DAEMON_SETS)]
        for pod in self._bound():
            is_owned = any(scheduling.is_owned(pod, uid) for uid in owners)
            if not is_owned or pod["spec"]["nodeName"] not in self._kubelets:
                self._stop(pod)

    def _create(self, daemon_set: Json, node: Json) -> None:
        target = Target(PODS, daemon_set["metadata"]["namespace"], None)
        try:
            pod = self._api.admit(target, scheduling.pod(daemon_set, node))
        except RefusedError:
            return  # tried again whenever something happens
        self._start(pod)

    def _start(self, pod: Json) -> None:
        key, kubelet = _key(PODS, pod), self._kubelets[pod["spec"]["nodeName"]]
        if kubelet.alive:
            life = kubelet.life(pod, lambda status: self._update(key, status))
            self._resume(key, pod["metadata"]["uid"], life)

    def _stop(self, pod: Json) -> None:
        key = _key(PODS, pod)
        kubelet = self._kubelets.get(pod["spec"]["nodeName"])
        if kubelet is None or kubelet.alive:
            self._api.store.remove(key)
        elif not scheduling.is_terminating(pod):
            moment = stamp(self._clock())
            metadata = {**pod["metadata"], "deletionTimestamp": moment}
            self._api.store.replace(key, {**pod, "metadata": metadata})

    def _update(self, key: Key, status: Json) -> None:
        with self._api.store.changed:
            live = self._api.store.find(key)
            if live is not None:
                self._api.store.replace(key, {**live, "status": status})

    def _set_ready(self, key: Key, *, is_ready: bool) -> None:
        live = self._api.store.get(key)
        others = [one for one in live["status"].get("conditions", []) if one["type"] != "Ready"]
        status = {**live["status"], "conditions": [*others, condition("Ready", is_ready)]}
        self._update(key, status)

    def _pods_on(self, node: str) -> list[Json]:
        return [pod for pod in self._bound() if pod["spec"]["nodeName"] == node]

    def _pods_of(self, namespace: str, uid: str) -> list[Json]:
        return [pod for pod in self._bound(namespace) if scheduling.is_owned(pod, uid)]

    def _bound(self, namespace: str | None = None) -> list[Json]:
        # Only the controller's pods: nobody schedules others here.
        return [pod for pod in self._api.store.all(PODS, namespace) if "nodeName" in pod["spec"]]


def _key(resource: Resource, item: Json) -> Key:
    return Key(resource, item["metadata"].get("namespace", ""), item["metadata"]["name"])
