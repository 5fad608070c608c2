"""The cluster as it stands, read when somebody wants to know: for `/status` and for the ticker."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from image_puller.config.configuration import Config
from image_puller.core import daemonset, decide, status
from image_puller.core import state as states
from image_puller.core.changes import RollAgain
from image_puller.core.daemonset import STATE, Manifest
from image_puller.core.state import State
from image_puller.core.status import Live
from image_puller.errors import MissingError
from image_puller.events.event import in_milliseconds


class Cluster(Protocol):
    """What is read; each method may raise ClusterUnavailableError."""

    def read(self) -> Manifest:
        """The whole DaemonSet; raises MissingError."""

    def read_metadata(self) -> Manifest:
        """The DaemonSet with nothing but its metadata; raises MissingError."""

    def pods(self) -> tuple[Manifest, ...]:
        """The DaemonSet's pods."""

    def nodes(self) -> tuple[Manifest, ...]:
        """The nodes; none where the service may not ask."""


class Observer:
    """Reads, and writes nothing. Each method may raise ClusterUnavailableError."""

    def __init__(self, config: Config, cluster: Cluster) -> None:
        self._config = config
        self._cluster = cluster

    def status(self, problems: Sequence[str]) -> dict[str, Any]:
        """The status as JSON, with problems that only the process knows."""
        return status.describe(self._config, self._live(), problems=problems)

    def state(self) -> State:
        """What is remembered, as this configuration has it."""
        try:
            remembered = _remembered(self._cluster.read_metadata()) or State(configuration="")
        except MissingError:
            remembered = State(configuration="")
        configuration = daemonset.configuration_hash(self._config)
        if remembered.configuration == configuration:
            return remembered
        return decide.adopt(self._config, remembered, configuration)

    def is_rolled_out(self) -> bool:
        """Whether every node runs what it should."""
        return status.is_rolled_out(self._config, self._live())

    def others(self) -> tuple[RollAgain, ...]:
        """The tags of which nodes have another content than they should."""
        now = in_milliseconds(datetime.now(UTC))
        return status.others(self._config, self._live(), time=now)

    def _live(self) -> Live:
        try:
            live = self._cluster.read()
        except MissingError:
            return Live(daemonset=None, state=None)
        return Live(
            daemonset=live,
            state=_remembered(live),
            pods=self._cluster.pods(),
            nodes=self._cluster.nodes(),
        )


def _remembered(live: Manifest) -> State | None:
    text = live["metadata"].get("annotations", {}).get(STATE)
    try:
        return states.decode(text)
    except (states.UnreadableStateError, states.UnknownSchemaError):
        return None
