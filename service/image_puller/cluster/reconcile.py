"""The commit: whatever is decided reaches the DaemonSet in one request, or not at all.

A JSON Patch tests the state that the decision rests on, so any number of processes may run; a lost
race is decided again on what is there now. There is no other path to the cluster.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.core import daemonset, decide, rollout
from image_puller.core import state as states
from image_puller.core.changes import Change, Follow, Found, Refresh
from image_puller.core.daemonset import STATE, Manifest, Platform
from image_puller.core.decide import Outcome
from image_puller.core.state import State, UnknownSchemaError, UnreadableStateError
from image_puller.errors import (
    ClusterUnavailableError,
    ForeignDaemonSetError,
    LostRaceError,
    MissingError,
    RejectedError,
    SupersededError,
)
from image_puller.events.event import in_milliseconds

log = logging.getLogger(__name__)

Operation = Mapping[str, Any]
"""One operation of a JSON Patch (RFC 6902)."""


class Cluster(Protocol):
    """The API server, as far as the commit needs it: one DaemonSet, of known name and namespace.

    Every method may raise ClusterUnavailableError.
    """

    def read(self) -> Manifest:
        """The whole DaemonSet; raises MissingError."""

    def read_metadata(self) -> Manifest:
        """The DaemonSet with nothing but its metadata; raises MissingError."""

    def create(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """The DaemonSet as it was made; raises LostRaceError where one is there, RejectedError."""

    def patch(self, operations: Sequence[Operation], *, dry_run: bool = False) -> Manifest:
        """The DaemonSet as a JSON Patch made it; raises MissingError, RejectedError.

        A test that failed is a RejectedError too: the API server tells them apart by nothing safe.
        """

    def delete(self, uid: str) -> None:
        """Removes the DaemonSet of that uid, and no other; raises LostRaceError."""

    def admit_pod(self, template: Manifest) -> None:
        """Asks whether a pod of that template could be made now; raises RejectedError."""

    def platform(self) -> Platform:
        """What the DaemonSet depends on beside the configuration."""

    def report(self, reason: str, message: str) -> None:
        """Leaves a warning among the namespace's Events, if that is possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """The state annotation as it was last known to be: its text, and what that means."""

    text: str
    state: State


class Reconciler:
    """One process's hold on the DaemonSet. Not thread-safe: it has one writer."""

    def __init__(
        self, config: Config, cluster: Cluster, *, now: Callable[[], datetime] | None = None
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._now = now or (lambda: in_milliseconds(datetime.now(UTC)))
        self._configuration = daemonset.configuration_hash(config)
        self._platform = Platform()
        self._seen: _Seen | None = None
        self._claimed = False
        self._inspected = False
        self._faults = config.warnings
        self.superseded: str | None = None
        """Why this process has stepped back for good, once it has."""

    def commit(self, changes: Sequence[Change], *, flush: bool = False) -> tuple[Outcome, ...]:
        """Makes the DaemonSet what it should be after `changes`, and says what became of each.

        The first commit takes charge. `flush` applies a pending template whatever the spacing.
        When it returns, nothing that was decided can get lost any more. Raises
        ClusterUnavailableError (the senders try again).
        """
        for _ in range(limits.ATTEMPTS):
            if self.superseded is not None:
                raise SupersededError(self.superseded)
            try:
                return self._refusals(changes, self._attempt(changes, flush=flush))
            except LostRaceError as lost:
                log.debug("decided again: %s", lost)
            except MissingError:
                self._forget()
            except ClusterUnavailableError:
                # A write that got no answer may have been made.
                self._seen = None
                raise
        raise ClusterUnavailableError(
            f"DaemonSet {self._config.daemonset_name}: other writers were first "
            f"{limits.ATTEMPTS} times in a row"
        )

    def _refusals(
        self, changes: Sequence[Change], outcomes: Sequence[Outcome]
    ) -> tuple[Outcome, ...]:
        """The outcomes, corrected for tags that the cluster has refused on the way."""
        entries = self._seen.state.entries if self._seen else {}
        return tuple(
            Outcome.REFUSED
            if isinstance(change, Follow | Found) and entries[change.entry].refuses(change.tag)
            else outcome
            for change, outcome in zip(changes, outcomes, strict=True)
        )

    def seconds_until_due(self) -> float | None:
        """How long a pending template has to wait; None if none is pending."""
        if self._seen is None or not rollout.is_pending(self._config, self._seen.state):
            return None
        now = self._now()
        wait = rollout.due(self._config, self._seen.state, now) - now
        return max(wait.total_seconds(), 0.0)

    def _attempt(self, changes: Sequence[Change], *, flush: bool) -> tuple[Outcome, ...]:
        if not self._inspected or any(isinstance(change, Refresh) for change in changes):
            return self._inspect(changes, flush=flush)
        seen, fresh = (self._seen, False) if self._seen else (self._look(), True)
        decided, outcomes = decide.apply(self._config, seen.state, changes)
        unchanged = states.substance(decided) == states.substance(seen.state)
        if unchanged and not self._is_due(decided, flush=flush):
            if not fresh and self._look().text != seen.text:
                raise LostRaceError("another process has written since")
            # The time of a push that was there already is kept in memory, and goes out with the
            # next write: an older push that comes late is then known to be older.
            self._remember(seen.text, decided)
            return outcomes
        self._write(seen.text, decided, flush=flush)
        return outcomes

    def _inspect(self, changes: Sequence[Change], *, flush: bool) -> tuple[Outcome, ...]:
        """Start-up and the tick: looks at the whole object, and repairs it."""
        self._inspected = False
        self._say_faults()
        self._learn_platform()
        try:
            live = self._ours(self._cluster.read())
        except MissingError:
            return self._create(changes)
        self._keep_platform(live)
        text = live["metadata"].get("annotations", {}).get(STATE)
        state = self._take_charge(text)
        closed = _closed(changes)
        state = rollout.refreshed(self._config, state, self._now(), closed)
        state = replace(state, blocked=None)
        decided, outcomes = decide.apply(self._config, state, changes)
        if rollout.is_pending(self._config, decided):
            self._write(text, decided, flush=flush)
        else:
            self._repair(live, text, decided)
        self._inspected = True
        return outcomes

    def _take_charge(self, text: str | None) -> State:
        """The state under our configuration; raises SupersededError where another one rules."""
        try:
            state = self._decode(text)
        except UnreadableStateError as error:
            state = self._start_again(str(error))
        if state.configuration == self._configuration:
            self._claimed = True
            return state
        if self._claimed and state.configuration:
            raise self._step_back("another configuration is in charge of the DaemonSet")
        return decide.adopt(self._config, state, self._configuration)

    def _start_again(self, reason: str) -> State:
        log.error("%s: what was followed starts again from IMAGES", reason)
        self._cluster.report("StateUnreadable", f"{reason}: starting again from IMAGES")
        return State(configuration="")

    def _step_back(self, reason: str) -> SupersededError:
        self.superseded = (
            f"DaemonSet {self._config.daemonset_name}: {reason}; this process writes nothing more"
        )
        log.warning("%s", self.superseded)
        return SupersededError(self.superseded)

    def _look(self) -> _Seen:
        """The state as it stands now; raises SupersededError where another one rules."""
        live = self._ours(self._cluster.read_metadata())
        text = live["metadata"].get("annotations", {}).get(STATE)
        try:
            state = self._decode(text)
        except UnreadableStateError as error:
            self._forget()
            raise LostRaceError(str(error)) from error
        if state.configuration != self._configuration:
            raise self._step_back("another configuration is in charge of the DaemonSet")
        return self._remember(str(text), state)

    def _decode(self, text: str | None) -> State:
        """What the annotation holds; raises SupersededError where a newer release wrote it."""
        try:
            state = states.decode(text)
        except UnknownSchemaError as error:
            raise self._step_back(str(error)) from error
        names = {entry.name for entry in self._config.entries}
        if state.configuration == self._configuration and state.entries.keys() != names:
            raise UnreadableStateError("the state annotation's entries are not those of IMAGES")
        return state

    def _ours(self, live: Manifest) -> Manifest:
        """The DaemonSet if it is one of ours; an original puller's is removed, to be replaced."""
        name = self._config.daemonset_name
        labels = live["metadata"].get("labels", {})
        if labels.get(daemonset.OWNER_LABEL) == name:
            return live
        selector = live.get("spec", {}).get("selector")
        if selector is None:
            return self._ours(self._cluster.read())
        if selector.get("matchLabels", {}).get(daemonset.OWNER_LABEL) == name:
            return live
        if selector == {"matchLabels": daemonset.ORIGINAL_SELECTOR}:
            log.warning("DaemonSet %s is the original puller's: it is replaced", name)
            self._cluster.delete(live["metadata"]["uid"])
            raise MissingError(f"DaemonSet {name} was the original puller's")
        raise ForeignDaemonSetError(
            f"DaemonSet {name} in namespace {self._config.namespace} belongs to somebody else "
            f"(its selector is {selector}); delete it, or set DAEMONSET_NAME to another name"
        )

    def _create(self, changes: Sequence[Change]) -> tuple[Outcome, ...]:
        fresh = decide.adopt(self._config, State(configuration=""), self._configuration)
        decided, outcomes = decide.apply(self._config, fresh, changes)

        def make(state: State, *, dry_run: bool = False) -> State:
            state = rollout.advance(self._config, state, self._now())
            text = self._encode(state)
            manifest = daemonset.manifest(self._config, state, self._platform, text)
            self._cluster.create(manifest, dry_run=dry_run)
            if not dry_run:
                self._remember(text, state)
            return state

        try:
            make(decided)
        except RejectedError as error:
            log.warning("the DaemonSet was refused: %s", error)
            kept = rollout.isolate(
                self._config, decided, _admits(lambda state: make(state, dry_run=True))
            )
            self._say_refused(decided, kept)
            try:
                make(kept)
            except RejectedError as still:
                raise ClusterUnavailableError(
                    f"DaemonSet {self._config.daemonset_name} can't be made: {still}"
                ) from still
        self._inspected = True
        log.info("DaemonSet %s was made", self._config.daemonset_name)
        return outcomes

    def _write(self, text: str | None, decided: State, *, flush: bool = False) -> None:
        """Writes the state in place of `text`, and the template if it is due."""
        rolls = self._is_due(decided, flush=flush)
        if rolls and decided.structure != daemonset.structure_hash(self._config):
            decided = self._preflight(decided)
            rolls = rollout.is_pending(self._config, decided)
        if not rolls:
            self._write_state(text, decided)
            return
        try:
            self._patch(text, decided, rolls=True)
        except RejectedError as error:
            self._check_race(text, error)
            self._isolate(text, decided, error)

    def _write_state(self, text: str | None, state: State) -> _Seen:
        if (own := self._encode(state)) == text:
            return self._remember(own, state)
        try:
            return self._patch(text, state, rolls=False)
        except RejectedError as error:
            self._check_race(text, error)
            # Metadata alone restarts no pod: who refuses even that refuses this service.
            raise ClusterUnavailableError(
                f"DaemonSet {self._config.daemonset_name} can't be changed: {error}"
            ) from error

    def _check_race(self, text: str | None, refusal: RejectedError) -> None:
        """After a refusal: raises LostRaceError where the state is not the one decided on."""
        self._seen = None
        metadata = self._cluster.read_metadata()["metadata"]
        if metadata.get("annotations", {}).get(STATE) != text:
            raise LostRaceError("another process has written since") from refusal

    def _isolate(self, text: str | None, decided: State, refusal: RejectedError) -> None:
        """After a refused template: keeps the state at once, then finds what can be applied."""
        log.warning("the template was refused: %s", refusal)
        seen = self._write_state(text, decided)
        platform = self._platform

        def ask(state: State) -> None:
            template = daemonset.template(self._config, state, platform)
            self._cluster.patch([_put("/spec/template", template)], dry_run=True)

        kept = rollout.isolate(self._config, decided, _admits(ask))
        self._say_refused(decided, kept)
        if not rollout.is_pending(self._config, kept):
            self._write_state(seen.text, kept)
            return
        try:
            self._patch(seen.text, kept, rolls=True)
        except RejectedError as error:
            self._check_race(seen.text, error)
            self._write_state(seen.text, self._blocked(kept, error))

    def _patch(self, text: str | None, decided: State, *, rolls: bool) -> _Seen:
        state = rollout.advance(self._config, decided, self._now()) if rolls else decided
        own = self._encode(state)
        operations = [_test(text), _put(_annotation(STATE), own)]
        if rolls:
            operations.append(
                _put("/spec/template", daemonset.template(self._config, state, self._platform))
            )
            if state.structure != decided.structure:
                operations += self._structure()
        self._cluster.patch(operations)
        if rolls:
            log.info("DaemonSet %s: rollout started", self._config.daemonset_name)
        return self._remember(own, state)

    def _repair(self, live: Manifest, text: str | None, state: State) -> None:
        """Puts right what somebody else has changed, if the API server agrees that it differs."""
        template = daemonset.template(self._config, state, self._platform)
        operations = [_put("/spec/template", template), *self._structure()]
        try:
            repaired = self._cluster.patch(operations, dry_run=True)
        except RejectedError as error:
            self._write_state(text, self._blocked(state, error))
            return
        if _shape(repaired) == _shape(live):
            self._write_state(text, state)
            return
        if _shape(self._cluster.patch(operations, dry_run=True)) != _shape(repaired):
            log.warning(
                "admission changes the DaemonSet otherwise each time: drift is not repaired"
            )
            self._write_state(text, state)
            return
        log.warning("DaemonSet %s was changed by somebody: repaired", live["metadata"]["name"])
        state = rollout.advance(self._config, state, self._now())
        own = self._encode(state)
        try:
            self._cluster.patch([_test(text), _put(_annotation(STATE), own), *operations])
        except RejectedError as error:
            raise LostRaceError(f"the repair was refused: {error}") from error
        self._remember(own, state)

    def _structure(self) -> list[Operation]:
        """What beside the template belongs to us, and is put right with it."""
        operations = [_put("/spec/updateStrategy", daemonset.update_strategy(self._config))]
        operations += [
            _put(f"/metadata/labels/{_escaped(key)}", value)
            for key, value in daemonset.labels(self._config).items()
        ]
        operations += [
            _put(_annotation(key), value)
            for key, value in self._config.daemonset_annotations.items()
        ]
        owners = daemonset.owner_references(self._platform)
        operations += [_put("/metadata/ownerReferences", value) for value in owners.values()]
        return operations

    def _preflight(self, decided: State) -> State:
        """Tries one pod of the new template before all old ones go, for more than a new tag."""
        template = daemonset.template(self._config, decided, self._platform)
        try:
            self._cluster.admit_pod(template)
        except RejectedError as error:
            if "exceeded quota" in str(error) and not self._asks_for_more(template):
                # The rollout frees what the old pods hold before the new ones ask for it.
                return decided
            return self._blocked(decided, error)
        return decided

    def _blocked(self, state: State, refusal: RejectedError) -> State:
        """The state whose template is not tried again before the next look, and says why."""
        log.error("the template was refused: %s", refusal)
        self._cluster.report("TemplateRefused", str(refusal))
        template = daemonset.template_hash(self._config, state)
        return replace(state, blocked=states.Blocked(template=template, reason=str(refusal)))

    def _asks_for_more(self, template: Manifest) -> bool:
        live = self._cluster.read()["spec"]["template"]
        return daemonset.asks_for_more(template, live)

    def _is_due(self, state: State, *, flush: bool) -> bool:
        if not rollout.is_pending(self._config, state):
            return False
        now = self._now()
        return flush or now >= rollout.due(self._config, state, now)

    def _say_faults(self) -> None:
        """Faults of entries, once for each process."""
        for fault in self._faults:
            self._cluster.report("ImagesMalformed", fault)
        self._faults = ()

    def _learn_platform(self) -> None:
        learned = self._cluster.platform()
        self._platform = Platform(
            openshift=self._platform.openshift if learned.openshift is None else learned.openshift,
            owner=learned.owner or self._platform.owner,
        )

    def _keep_platform(self, live: Manifest) -> None:
        """Where the platform could not be asked, what the live pods run as stays."""
        if self._platform.openshift is None:
            security = live["spec"]["template"]["spec"].get("securityContext", {})
            self._platform = replace(self._platform, openshift="runAsUser" not in security)

    def _encode(self, state: State) -> str:
        text = states.encode(state)
        if not states.fits(text):
            text = states.encode(states.trimmed(state, self._config.keep_tags))
        if not states.fits(text):
            raise ClusterUnavailableError(
                f"the state of {len(state.entries)} entries needs more than "
                f"{limits.STATE_BYTES} bytes; set KEEP_TAGS lower, or split IMAGES"
            )
        return text

    def _say_refused(self, decided: State, kept: State) -> None:
        for name, followed in kept.entries.items():
            known = decided.entries[name].refused
            for refused in (each for each in followed.refused if each not in known):
                message = f"{name}: {refused.name} was refused by the cluster: {refused.reason}"
                log.warning("%s", message)
                self._cluster.report("ImageRefused", message)
        if kept.blocked is not None:
            self._cluster.report("TemplateRefused", kept.blocked.reason)

    def _remember(self, text: str, state: State) -> _Seen:
        self._seen = _Seen(text=text, state=state)
        self._claimed = True
        return self._seen

    def _forget(self) -> None:
        """Nothing is known of the DaemonSet any more: the next attempt looks at it whole."""
        self._seen = None
        self._inspected = False


def _closed(changes: Sequence[Change]) -> frozenset[tuple[str, str]]:
    looks = (change.closed for change in changes if isinstance(change, Refresh))
    return frozenset().union(*looks)


def _admits(ask: Callable[[State], object]) -> rollout.Admits:
    def admits(state: State) -> str | None:
        try:
            ask(state)
        except RejectedError as error:
            return str(error)
        return None

    return admits


def _shape(live: Manifest) -> Any:
    """What of a DaemonSet is ours to keep right."""
    metadata = live["metadata"]
    annotations = {k: v for k, v in metadata.get("annotations", {}).items() if k != STATE}
    return live["spec"], metadata.get("labels"), annotations, metadata.get("ownerReferences")


def _test(text: str | None) -> Operation:
    """The API server takes an annotation that is not there for null."""
    return {"op": "test", "path": _annotation(STATE), "value": text}


def _put(path: str, value: Any) -> Operation:
    """`add` replaces what is there, and adds what is not (RFC 6902, 4.1)."""
    return {"op": "add", "path": path, "value": value}


def _annotation(key: str) -> str:
    return f"/metadata/annotations/{_escaped(key)}"


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
