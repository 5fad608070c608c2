"""A Kubernetes cluster in memory: an API server on a real socket, and nodes that pull images."""

import copy
import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Self

from image_puller.simulation import faults
from image_puller.simulation.api import Api
from image_puller.simulation.clock import SimulatedClock, timestamp
from image_puller.simulation.faults import Faults
from image_puller.simulation.kubelet import SimulatedRegistries
from image_puller.simulation.nodes import Nodes
from image_puller.simulation.resources import DAEMON_SETS, EVENTS, NODES, PODS, Target, of_kind
from image_puller.simulation.responses import Json
from image_puller.simulation.routes import Routes
from image_puller.simulation.server import Request, Server
from image_puller.simulation.store import Key

_LONGEST_SETTLING_SECONDS = 3600.0
_RESOURCES = {resource.plural: resource for resource in (DAEMON_SETS, PODS)}


class SimulatedCluster:
    """A cluster with an API server at `url`, to be used in a `with` statement. Thread-safe.

    Its time passes only in `advance` and `settle`, until `run` makes it real time.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        token: str | None = None,
        clock: SimulatedClock | None = None,
        namespaces: Collection[str] | None = None,
        pull_seconds: float = 2.0,
        only_images: bool = False,
    ) -> None:
        """Return a cluster. With `only_images`, nodes can pull only what is in `images`."""
        self.clock = clock or SimulatedClock.from_real_time()
        self.token = token
        self._registries = SimulatedRegistries(
            default_pull_seconds=pull_seconds, only_digests=only_images
        )
        self._api = Api(now=lambda: timestamp(self.clock()), namespaces=namespaces)
        self._nodes = Nodes(self._api, self.clock, self._registries)
        self._faults = Faults()
        self._routes = Routes(self._api, self._faults, token)
        for number in range(1, nodes + 1):
            self.join(f"node-{number}")
        self._server = Server(self._routes.serve)
        self._driver: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, and stop all threads."""
        self._faults.closing.set()
        with self._api.store.changed:
            self._api.store.changed.notify_all()
        self._server.close()
        if self._driver:
            self._driver.join()

    @property
    def url(self) -> str:
        """The URL of the API server."""
        return self._server.url

    def kubeconfig(self, namespace: str = "default") -> Json:
        """Return a kubeconfig for this cluster."""
        user = {"token": self.token} if self.token else {}
        context = {"cluster": "simulated", "user": "simulated", "namespace": namespace}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "simulated", "cluster": {"server": self.url}}],
            "users": [{"name": "simulated", "user": user}],
            "contexts": [{"name": "simulated", "context": context}],
            "current-context": "simulated",
        }

    # Time

    def advance(self, seconds: float = 0.0) -> None:
        """Let some seconds pass. With 0, only what is due now happens."""
        self._nodes.advance(self.clock() + seconds)

    def settle(self) -> None:
        """Let time pass until every container runs, for an hour at most."""
        self.advance()
        deadline = self.clock() + _LONGEST_SETTLING_SECONDS
        while (due := self._nodes.next_due()) is not None and due <= deadline:
            self._nodes.advance(due)

    def run(self) -> None:
        """Let time pass in real time from now on."""
        if self._driver is None:
            self.clock.run()
            self._driver = threading.Thread(target=self._drive, name="simulated nodes")
            self._driver.start()

    def _drive(self) -> None:
        store = self._api.store
        while not self._faults.closing.is_set():
            seen = store.version
            self.advance()
            due = self._nodes.next_due()
            timeout = None if due is None else max(0.0, due - self.clock())
            store.wait(seen, timeout, self._faults.closing)

    # Objects

    def daemonset(self, name: str, namespace: str) -> Json | None:
        """Return a DaemonSet, or None if it does not exist."""
        return copy.deepcopy(self._api.store.find(Key(DAEMON_SETS, namespace, name)))

    def pods(self, namespace: str | None = None) -> list[Json]:
        """Return the pods of a namespace, or of all namespaces."""
        return copy.deepcopy(self._api.store.all(PODS, namespace))

    def nodes(self) -> list[Json]:
        """Return the nodes."""
        return copy.deepcopy(self._api.store.all(NODES))

    def events(self, namespace: str | None = None) -> list[Json]:
        """Return the Events of a namespace, or of all namespaces."""
        return copy.deepcopy(self._api.store.all(EVENTS, namespace))

    def add(self, manifest: Json, namespace: str = "") -> Json:
        """Create an object as another client, and return it. Its API group is added to `/apis`."""
        resource = of_kind(manifest["kind"], manifest["apiVersion"])
        where = manifest["metadata"].get("namespace", namespace)
        if resource.group and resource.group not in self.groups:
            self.groups.append(resource.group)
        return copy.deepcopy(self._api.admit(Target(resource, where, None), manifest))

    def change(self, name: str, namespace: str, edit: Callable[[Json], None]) -> None:
        """Change a DaemonSet as another client."""
        self._api.edit(Target(DAEMON_SETS, namespace, name), edit)

    def delete(
        self,
        name: str,
        namespace: str,
        *,
        policy: str = "Background",
        resource: str = "daemonsets",
    ) -> None:
        """Delete a DaemonSet or a pod as another client."""
        options = json.dumps({"propagationPolicy": policy}).encode()
        self._api.delete(Target(_RESOURCES[resource], namespace, name), options)

    @property
    def groups(self) -> list[str]:
        """The API groups that `/apis` lists. Callers may change the list."""
        return self._routes.groups

    @property
    def documents(self) -> dict[str, Json]:
        """Other documents that the server has, by path. Callers may change them."""
        return self._routes.documents

    def drop_image_volumes(self) -> None:
        """Drop image volumes from new objects from now on, as an older server does."""
        self._api.keeps_image_volumes = False

    def keep_image_volumes(self) -> None:
        """Keep image volumes, as at first."""
        self._api.keeps_image_volumes = True

    # Nodes and images

    @property
    def images(self) -> dict[str, str]:
        """The digests of images, by name. Callers may change them.

        Other images have a digest derived from their name, or do not exist (`only_images`).
        """
        return self._registries.digests

    @property
    def unpullable(self) -> dict[str, str]:
        """The errors of images that can't be pulled, by image name. Callers may change them."""
        return self._registries.unpullable

    @property
    def crashing(self) -> dict[str, tuple[str, int]]:
        """The reasons and exit codes of containers that end at once, by image name.

        Callers may change them.
        """
        return self._registries.crashing

    @property
    def pull_seconds(self) -> dict[str, float]:
        """The seconds that pulls take, by image name. Callers may change them."""
        return self._registries.pull_seconds

    def join(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Json] = (),
        runtime: str = "containerd://2.4.2",
    ) -> None:
        """Add a ready node."""
        self._nodes.join(name, dict(labels or {}), taints, runtime)

    def leave(self, name: str) -> None:
        """Remove a node, and its pods."""
        self._nodes.leave(name)

    def kill(self, name: str) -> None:
        """Stop a node. It becomes not ready."""
        self._nodes.kill(name)

    def revive(self, name: str) -> None:
        """Start a stopped node again."""
        self._nodes.revive(name)

    def fill(self, name: str, why: str = "Too many pods") -> None:
        """Let a node have no room for new pods. They stay pending, for this reason."""
        self._nodes.fill(name, why)

    def free(self, name: str) -> None:
        """Let a node have room again. Pods that wait for it start."""
        self._nodes.free(name)

    def unpullable_on(self, node: str) -> dict[str, str]:
        """Return the errors of images that only this node can't pull. Callers may change them."""
        return self._nodes.unpullable(node)

    def images_on(self, node: str) -> dict[str, str]:
        """Return the digests of the images on a node, by image name."""
        return self._nodes.images(node)

    # Faults

    @property
    def requests(self) -> list[Request]:
        """All requests so far, oldest first, each with the status of its response."""
        return self._routes.requests

    def deny(
        self,
        applies: Callable[[Json], bool],
        message: str,
        *,
        status: int = 422,
        resource: str = "daemonsets",
    ) -> None:
        """Reject the objects to which `applies` returns true.

        Status 422 rejects as a ValidatingAdmissionPolicy does. Status 403 rejects DaemonSets as a
        webhook does, and pods as Pod Security or a quota does.
        """
        self._api.admission.deny(_RESOURCES[resource], applies, message, status)

    def mutate(self, change: Callable[[Json], None], *, resource: str = "daemonsets") -> None:
        """Add a mutating webhook, which changes objects in place."""
        self._api.admission.mutate(_RESOURCES[resource], change)

    def allow_everything(self) -> None:
        """Remove all rules that `deny` and `mutate` added."""
        self._api.admission.clear()

    def forbid(self, verb: str, plural: str) -> None:
        """Take a right away from all clients, such as `create` on `pods`, as without a Role."""
        self._routes.access.forbidden.add((verb, plural))

    def before(
        self, method: str, callback: Callable[[], None], *, path: str = "", times: int = 1
    ) -> None:
        """Call a function before requests are served, as often as `times`.

        So a test can let another client write first.
        """
        self._faults.before(callback, method, path=path, times=times)

    def fail(
        self,
        *,
        times: int = 1,
        status: int = 503,
        retry_after: int | None = None,
        method: str | None = None,
        path: str = "",
    ) -> None:
        """Respond to requests with an error, and don't serve them."""

        def fail() -> None:
            raise faults.failure(status, retry_after)

        self._faults.before(fail, method, path=path, times=times)

    def delay(
        self, seconds: float, *, times: int = 1, method: str | None = None, path: str = ""
    ) -> None:
        """Serve requests, and send the responses some seconds of real time later."""
        self._faults.after(lambda: self._faults.wait(seconds), method, path=path, times=times)

    def hang_up(
        self, *, times: int = 1, method: str | None = None, path: str = "", served: bool = False
    ) -> None:
        """Close the connection without a response. A `served` request takes effect."""
        add = self._faults.after if served else self._faults.before
        add(faults.hang_up, method, path=path, times=times)
