"""A Kubernetes cluster in memory: an API server on a real socket, and nodes that take time."""

import copy
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Self

from image_puller.simulation import faults
from image_puller.simulation.answers import Json
from image_puller.simulation.api import Api
from image_puller.simulation.clock import Clock, stamp
from image_puller.simulation.faults import Faults
from image_puller.simulation.kubelet import Registries
from image_puller.simulation.nodes import Nodes
from image_puller.simulation.resources import DAEMON_SETS, EVENTS, NODES, PODS, Target, of_kind
from image_puller.simulation.routes import Routes
from image_puller.simulation.server import Request, Server
from image_puller.simulation.store import Key

_LONGEST_SETTLING_SECONDS = 3600.0
_RESOURCES = {resource.plural: resource for resource in (DAEMON_SETS, PODS)}


class SimulatedCluster:
    """`with SimulatedCluster(nodes=3) as cluster:` then talk to `cluster.url`.

    Time stands still but for `advance` and `settle`; `run` lets it go on with the real one.
    Everything may be asked and told from any thread.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        token: str | None = None,
        clock: Clock | None = None,
        namespaces: Collection[str] | None = None,
        pull_seconds: float = 2.0,
    ) -> None:
        self.clock = clock or Clock.now()
        self.token = token
        self._registries = Registries(default_pull_seconds=pull_seconds)
        self._api = Api(now=lambda: stamp(self.clock()), namespaces=namespaces)
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
        """Hang up on all clients, and end every thread."""
        self._faults.closing.set()
        with self._api.store.changed:
            self._api.store.changed.notify_all()
        self._server.close()
        if self._driver:
            self._driver.join()

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return self._server.url

    def kubeconfig(self, namespace: str = "default") -> Json:
        """Give a kubeconfig that leads here."""
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
        """Let everything happen that happens within some seconds; with 0 what is due now."""
        self._nodes.advance(self.clock() + seconds)

    def settle(self) -> None:
        """Let time pass until every container runs, or for an hour if one never does."""
        self.advance()
        deadline = self.clock() + _LONGEST_SETTLING_SECONDS
        while (due := self._nodes.next_due()) is not None and due <= deadline:
            self._nodes.advance(due)

    def run(self) -> None:
        """From here on let time pass by itself."""
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

    # What is in the cluster

    def daemonset(self, name: str, namespace: str) -> Json | None:
        """Give a DaemonSet as it is now, None if there is none."""
        return copy.deepcopy(self._api.store.find(Key(DAEMON_SETS, namespace, name)))

    def pods(self, namespace: str | None = None) -> list[Json]:
        """Give the pods of a namespace, or all."""
        return copy.deepcopy(self._api.store.all(PODS, namespace))

    def nodes(self) -> list[Json]:
        """Give the nodes."""
        return copy.deepcopy(self._api.store.all(NODES))

    def events(self, namespace: str | None = None) -> list[Json]:
        """Give the Events of a namespace, or all."""
        return copy.deepcopy(self._api.store.all(EVENTS, namespace))

    def add(self, manifest: Json, namespace: str = "") -> Json:
        """Put an object there as if somebody else had: a Deployment, a Knative Service."""
        resource = of_kind(manifest["kind"], manifest["apiVersion"])
        where = manifest["metadata"].get("namespace", namespace)
        if resource.group and resource.group not in self.groups:
            self.groups.append(resource.group)
        return copy.deepcopy(self._api.admit(Target(resource, where, None), manifest))

    def change(self, name: str, namespace: str, edit: Callable[[Json], None]) -> None:
        """Change a DaemonSet in place as if somebody else had."""
        self._api.edit(Target(DAEMON_SETS, namespace, name), edit)

    def delete(self, name: str, namespace: str) -> None:
        """Delete a DaemonSet as if somebody else had."""
        self._api.delete(Target(DAEMON_SETS, namespace, name), b"")

    @property
    def groups(self) -> list[str]:
        """The API groups that `/apis` tells; may be changed."""
        return self._routes.groups

    @property
    def documents(self) -> dict[str, Json]:
        """What else is served, by its path; may be changed."""
        return self._routes.documents

    # Nodes and images

    @property
    def images(self) -> dict[str, str]:
        """The digests that pulls get, by image; may be changed. Others have one of their own."""
        return self._registries.digests

    @property
    def unpullable(self) -> dict[str, str]:
        """Images that can't be pulled, and why; may be changed."""
        return self._registries.unpullable

    @property
    def pull_seconds(self) -> dict[str, float]:
        """How long pulls take, by image; may be changed."""
        return self._registries.pull_seconds

    def join(
        self, name: str, *, labels: Mapping[str, str] | None = None, taints: Sequence[Json] = ()
    ) -> None:
        """Register a node."""
        self._nodes.join(name, dict(labels or {}), taints)

    def leave(self, name: str) -> None:
        """Remove a node for good."""
        self._nodes.leave(name)

    def kill(self, name: str) -> None:
        """Let a node fall silent."""
        self._nodes.kill(name)

    def revive(self, name: str) -> None:
        """Let a silent node come back."""
        self._nodes.revive(name)

    def images_on(self, node: str) -> dict[str, str]:
        """Tell which images a node holds: digests by reference."""
        return self._nodes.images(node)

    # What goes wrong

    @property
    def requests(self) -> list[Request]:
        """All requests so far, oldest first, each with the status of its answer."""
        return self._routes.requests

    def deny(
        self,
        applies: Callable[[Json], bool],
        message: str,
        *,
        status: int = 422,
        resource: str = "daemonsets",
    ) -> None:
        """Refuse objects: with 422 as a ValidatingAdmissionPolicy does; with 403 DaemonSets as a
        webhook does, and pods as Pod Security or a quota does.
        """
        self._api.admission.deny(_RESOURCES[resource], applies, message, status)

    def mutate(self, change: Callable[[Json], None], *, resource: str = "daemonsets") -> None:
        """Let a webhook change objects in place on their way in."""
        self._api.admission.mutate(_RESOURCES[resource], change)

    def allow_everything(self) -> None:
        """Take back all that `deny` and `mutate` said."""
        self._api.admission.clear()

    def before(
        self, method: str, callback: Callable[[], None], *, path: str = "", times: int = 1
    ) -> None:
        """Call back before requests of a method are served: somebody else may be faster."""
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
        """Answer requests with an error instead of serving them."""

        def act() -> None:
            raise faults.failure(status, retry_after)

        self._faults.before(act, method, path=path, times=times)

    def delay(
        self, seconds: float, *, times: int = 1, method: str | None = None, path: str = ""
    ) -> None:
        """Serve requests at once, and answer them late (in real time)."""
        self._faults.after(lambda: self._faults.wait(seconds), method, path=path, times=times)

    def hang_up(
        self, *, times: int = 1, method: str | None = None, path: str = "", served: bool = False
    ) -> None:
        """Close the connection instead of answering; what was `served` is done all the same."""
        strike = self._faults.after if served else self._faults.before
        strike(faults.hang_up, method, path=path, times=times)
