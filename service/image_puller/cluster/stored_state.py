"""The state annotation: read from the DaemonSet, and replaced by compare-and-set.

Each write is one JSON Patch that tests the old annotation, so any number of processes may write.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from image_puller.cluster.interface import Cluster
from image_puller.cluster.json_patch import Operation, put_annotation, test_annotation
from image_puller.cluster.ownership import require_ours
from image_puller.config.configuration import Config
from image_puller.core import charge, daemonset, decide, selection
from image_puller.core import state as states
from image_puller.core.charge import Process
from image_puller.core.daemonset import STATE, Manifest
from image_puller.core.state import State, UnknownSchemaError, UnreadableStateError
from image_puller.errors import (
    ClusterUnavailableError,
    ImagePullerError,
    LostRaceError,
    MissingError,
    RefusedByClusterError,
    SupersededError,
)

log = logging.getLogger(__name__)


class OtherConfigurationError(ImagePullerError):
    """The state has another configuration, but no process that is younger than this one lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An annotation: its text, and the state that it holds."""

    text: str
    state: State


class StoredState:
    """The annotation as one process knows it. Not thread-safe: it has one writer."""

    def __init__(self, config: Config, cluster: Cluster, *, most_bytes: int) -> None:
        self._config = config
        self._cluster = cluster
        self._most_bytes = most_bytes
        self._configuration = daemonset.configuration_hash(config)
        self._last_known: State | None = None
        self._reported: str | None = None
        self.last: Stored | None = None
        """The annotation as this process last read or wrote it, or None where that is unknown."""
        self.superseded: str | None = None
        """Why this process is superseded, or None."""
        self.writes = 0
        """How often this process has written the DaemonSet."""

    def require_no_rival(self) -> None:
        """Raise SupersededError if this process is still superseded. It takes two small reads."""
        self.last = None
        with suppress(MissingError, UnreadableStateError, OtherConfigurationError):
            self.read()

    def take_charge(self, live: Manifest) -> State:
        """Return the state of a DaemonSet, fitted to this configuration.

        Raises SupersededError where it has another one, of a younger process that lives.
        """
        try:
            state = self._decode(text_of(live))
        except UnreadableStateError as error:
            state = self._start_again(str(error))
        processes = self._with_me(state)
        if state.configuration == self._configuration:
            return replace(state, processes=processes)
        return replace(self._adopted(state), processes=processes)

    def state_for_creation(self) -> State:
        """Return the state of a new DaemonSet: the last known one, which has no live template.

        Raises SupersededError where that is of another configuration, as `take_charge` does.
        """
        known = self._last_known or State(configuration="")
        entries = {name: replace(e, live_tags=None) for name, e in known.entries.items()}
        fresh = self._adopted(State(configuration="", entries=entries))
        return replace(fresh, processes=self._with_me(known))

    def _adopted(self, state: State) -> State:
        return decide.adopt(self._config, state, self._configuration)

    def _with_me(self, state: State) -> tuple[Process, ...]:
        """Return the processes of a state and this one, which is in charge from now on.

        Raises SupersededError if it can't be.
        """
        me = self._cluster.process()
        if state.configuration == self._configuration:
            processes = charge.joined(state.processes, me)
        else:
            self._require_youngest(state)
            processes = charge.taken(state.processes, me)
        self._note_charge()
        return processes

    def _require_youngest(self, state: State) -> None:
        """Raise SupersededError if a process lives that is younger than this one."""
        for rival in charge.rivals(state.processes, self._cluster.process()):
            if self._cluster.lives(rival):
                raise self._supersede(
                    f"another configuration is in charge of the DaemonSet, because {rival.name} "
                    "is newer; this process writes nothing "
                    + ("until it is restarted" if rival.outside else "until that pod is gone")
                )

    def _note_charge(self) -> None:
        if self.superseded is not None:
            self.superseded = None
            log.info("DaemonSet %s: this process is in charge again", self._config.daemonset_name)

    def read(self) -> Stored:
        """Return the annotation as it is now.

        Raises MissingError, UnreadableStateError, SupersededError, and OtherConfigurationError
        where this process may take charge.
        """
        live = require_ours(self._config, self._cluster, self._cluster.read_metadata())
        require_kept(live)
        text = text_of(live)
        state = self._decode(text)
        if state.configuration != self._configuration:
            self._require_youngest(state)
            raise OtherConfigurationError("the state has another configuration")
        self._note_charge()
        return self.remember(str(text), state)

    def write(self, old: str | None, state: State, operations: Sequence[Operation] = ()) -> Stored:
        """Replace the annotation `old`, with operations that restart no pod.

        Raises LostRaceError, and ClusterUnavailableError where the cluster refuses the change.
        """
        text = self.encode(state)
        if text == old:
            return self.remember(text, state)
        try:
            return self.replace(old, state, operations)
        except RefusedByClusterError as error:
            # This restarts no pod. A cluster that refuses it refuses this service.
            raise ClusterUnavailableError(
                f"DaemonSet {self._config.daemonset_name} can't be changed: {error}"
            ) from error

    def replace(
        self, old: str | None, state: State, operations: Sequence[Operation] = ()
    ) -> Stored:
        """Replace the annotation `old`, and make more changes, in one request or not at all.

        Raises LostRaceError where the annotation is no longer `old`, else RefusedByClusterError.
        """
        text = self.encode(state)
        patch = [test_annotation(STATE, old), put_annotation(STATE, text), *operations]
        try:
            live = self._cluster.patch(patch)
        except RefusedByClusterError as refusal:
            self._check_race(old, refusal)
            raise
        self.writes += 1
        stored = self.remember(text, state)
        require_kept(live)
        return stored

    def remember(self, text: str, state: State) -> Stored:
        """Keep what the annotation holds now."""
        self.last = Stored(text=text, state=state)
        self._last_known = state
        self._reported = None
        return self.last

    def encode(self, state: State) -> str:
        """Return the annotation's text, without reserves where it would be too long."""
        text = states.encode(state)
        if not self._fits(text):
            text = states.encode(selection.trimmed(state, self._config.keep_tags))
        if not self._fits(text):
            raise ClusterUnavailableError(
                f"the state of {len(state.entries)} entries needs more than "
                f"{self._most_bytes} bytes; set KEEP_TAGS lower, or split IMAGES"
            )
        return text

    def _fits(self, text: str) -> bool:
        return len(text.encode()) <= self._most_bytes

    def _check_race(self, old: str | None, refusal: RefusedByClusterError) -> None:
        """Raise LostRaceError if the annotation is no longer the one that was tested."""
        self.last = None
        if text_of(self._cluster.read_metadata()) != old:
            raise LostRaceError("another process has written since") from refusal

    def _decode(self, text: str | None) -> State:
        try:
            state = states.decode(text)
        except UnknownSchemaError as error:
            raise self._supersede(
                f"{error}; this process writes nothing until the annotation {STATE} is removed, "
                "or can be read again"
            ) from error
        names = {entry.name for entry in self._config.entries}
        if state.configuration == self._configuration and state.entries.keys() != names:
            raise UnreadableStateError("the state annotation's entries are not those of IMAGES")
        self._last_known = state
        return state

    def _start_again(self, reason: str) -> State:
        log.error("%s: starting again from IMAGES, without tracked tags", reason)
        if reason != self._reported:
            self._cluster.report("StateUnreadable", f"{reason}: starting again from IMAGES")
        self._reported = reason
        return State(configuration="")

    def _supersede(self, reason: str) -> SupersededError:
        message = f"DaemonSet {self._config.daemonset_name}: {reason}"
        if message != self.superseded:
            log.warning("%s", message)
        self.superseded = message
        return SupersededError(message)


def require_kept(live: Manifest) -> None:
    """Raise ClusterUnavailableError for a DaemonSet that is being deleted: its state goes too."""
    if "deletionTimestamp" in live["metadata"]:
        raise ClusterUnavailableError(
            f"DaemonSet {live['metadata']['name']} is being deleted; the change is made once it is "
            "created again"
        )


def text_of(live: Manifest) -> str | None:
    """Return the text of a DaemonSet's state annotation, or None where it has none."""
    text: str | None = live["metadata"].get("annotations", {}).get(STATE)
    return text
