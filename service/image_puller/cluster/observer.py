"""The observer: it reads the cluster for `/status` and for checks, and writes nothing."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from image_puller.cluster.interface import Cluster
from image_puller.cluster.stored_state import text_of
from image_puller.config.configuration import Config
from image_puller.core import daemonset, decide, status
from image_puller.core import state as states
from image_puller.core.changes import PullAgain
from image_puller.core.daemonset import Manifest
from image_puller.core.state import State
from image_puller.core.status import Live
from image_puller.errors import MissingError


class Observer:
    """Reads the DaemonSet, its pods and nodes. Methods may raise ClusterUnavailableError."""

    def __init__(self, config: Config, cluster: Cluster, *, now: Callable[[], datetime]) -> None:
        self._config = config
        self._cluster = cluster
        self._now = now

    def status(self, problems: Sequence[str]) -> dict[str, Any]:
        """Return the status as JSON. `problems` are those that only the process knows."""
        return status.describe(self._config, self._live(), problems=problems)

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

    def is_rolled_out(self) -> bool:
        """Whether every selected node runs the current template."""
        return status.is_rolled_out(self._config, self._live())

    def wrong_contents(self) -> tuple[PullAgain, ...]:
        """Return a change for each mutated tag of which a node has other content."""
        return status.wrong_contents(self._config, self._live(), time=self._now())

    def _live(self) -> Live:
        try:
            live = self._cluster.read()
        except MissingError:
            return Live(daemonset=None, state=None)
        return Live(
            daemonset=live,
            state=_state_of(live),
            pods=self._cluster.pods(),
            nodes=self._cluster.nodes(),
        )


def _state_of(live: Manifest) -> State | None:
    try:
        return states.decode(text_of(live))
    except (states.UnreadableStateError, states.UnknownSchemaError):
        return None
