"""The observer: it reads the cluster for `/status` and for checks, and writes nothing."""

from collections.abc import Callable
from datetime import datetime

from image_puller.cluster.interface import Cluster
from image_puller.cluster.stored_state import text_of
from image_puller.config.configuration import Config
from image_puller.core import daemonset, decide, observation
from image_puller.core import state as states
from image_puller.core.daemonset import Manifest
from image_puller.core.nodes import Node
from image_puller.core.observation import Live, Observation
from image_puller.core.pods import Pod
from image_puller.core.state import State
from image_puller.errors import MissingError


class Observer:
    """Reads the DaemonSet, its pods and nodes. Methods may raise ClusterUnavailableError."""

    def __init__(self, config: Config, cluster: Cluster, *, now: Callable[[], datetime]) -> None:
        self._config = config
        self._cluster = cluster
        self._now = now

    def state(self) -> State:
        """Return the state, fitted to this configuration."""
        try:
            state = _state_of(self._cluster.read_metadata()) or State(configuration="")
        except MissingError:
            state = State(configuration="")
        state = states.until(state, self._now())
        configuration = daemonset.configuration_hash(self._config)
        if state.configuration == configuration:
            return state
        return decide.adopt(self._config, state, configuration)

    def observe(self) -> Observation:
        """Return what is true in the cluster now."""
        try:
            live = self._cluster.read()
        except MissingError:
            # Nodes lose the startup taint after a while also without a DaemonSet.
            taint = self._config.node_startup_taint
            nodes = None if taint is None else self._cluster.nodes()
            return observation.observe(self._config, Live(daemonset=None, state=None, nodes=nodes))
        pods, nodes = self._cluster.pods(), self._cluster.nodes()
        lacks_pods = _lacks_pods(live, pods, nodes)
        refusal = self._cluster.refusal(live["metadata"]["uid"]) if lacks_pods else None
        return observation.observe(
            self._config,
            Live(daemonset=live, state=_state_of(live), pods=pods, nodes=nodes, refusal=refusal),
        )


def _lacks_pods(live: Manifest, pods: tuple[Pod, ...], nodes: tuple[Node, ...] | None) -> bool:
    """Whether a node has no pod object at all, so that Events may say why."""
    if nodes is None:
        desired = (live.get("status") or {}).get("desiredNumberScheduled", 0)
        return bool(desired > len(pods))
    return not {node.name for node in nodes} <= {pod.node for pod in pods}


def _state_of(live: Manifest) -> State | None:
    try:
        return states.decode(text_of(live))
    except (states.UnreadableStateError, states.UnknownSchemaError):
        return None
