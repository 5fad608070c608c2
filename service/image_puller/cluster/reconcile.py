"""The commit: it writes what was decided to the DaemonSet, in one request or not at all.

Every change of the DaemonSet goes through it. A lost race is decided again on the new state.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from image_puller import limits
from image_puller.cluster import repair
from image_puller.cluster.image_volumes import ImageVolumes
from image_puller.cluster.interface import Cluster
from image_puller.cluster.json_patch import Operation, put, test_value
from image_puller.cluster.ownership import require_ours
from image_puller.cluster.refusals import Refusals
from image_puller.cluster.stored_state import (
    OtherConfigurationError,
    StoredState,
    require_kept,
    text_of,
)
from image_puller.config.configuration import Config
from image_puller.core import daemonset, decide, holding, observation, rollout
from image_puller.core import state as states
from image_puller.core.changes import Change, CheckDaemonSet, RegistryAnswer, TrackTag
from image_puller.core.daemonset import Manifest, Platform
from image_puller.core.decide import Outcome
from image_puller.core.state import Seeding, State, UnreadableStateError
from image_puller.errors import (
    ClusterUnavailableError,
    LostRaceError,
    MissingError,
    RefusedByClusterError,
)

log = logging.getLogger(__name__)

_SELECTED = "/status/desiredNumberScheduled"
"""How many nodes the DaemonSet controller has found for the DaemonSet."""


class Reconciler:
    """Commits changes for one process. Not thread-safe: it has one writer."""

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        *,
        now: Callable[[], datetime],
        state_bytes: int = limits.STATE_BYTES,
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._now = now
        self._stored = StoredState(config, cluster, most_bytes=state_bytes)
        self._refusals = Refusals(config, cluster)
        self._volumes = ImageVolumes(config, cluster, now=now)
        self._platform = Platform()
        self._nodes = 0
        self._is_checked = False
        self._unreported = config.warnings
        self.conflicts = 0
        """How often another process wrote first."""

    @property
    def superseded(self) -> str | None:
        """Return why this process is superseded, or None."""
        return self._stored.superseded

    @property
    def writes(self) -> int:
        """Return how often this process has written the DaemonSet."""
        return self._stored.writes

    def commit(self, changes: Sequence[Change], *, flush: bool = False) -> tuple[Outcome, ...]:
        """Commit the changes, and return the outcome of each.

        The first commit checks the whole DaemonSet and takes charge, as does that of a superseded
        process once no younger one lives. `flush` applies a pending template at once. After the
        return nothing that was decided can get lost.
        Raises ClusterUnavailableError: the senders try again.
        """
        for _ in range(limits.ATTEMPTS):
            try:
                if self.superseded is not None:
                    self._is_checked = False
                    self._stored.require_no_rival()
                return self._with_refusals(changes, self._attempt(changes, flush=flush))
            except LostRaceError as lost:
                self.conflicts += 1
                log.debug("deciding again: %s", lost)
            except (MissingError, UnreadableStateError, OtherConfigurationError) as error:
                log.debug("checking the whole DaemonSet: %s", error)
                self._stored.last = None
                self._is_checked = False
            except ClusterUnavailableError:
                # The write may have been made although its answer was lost.
                self._stored.last = None
                raise
        raise ClusterUnavailableError(
            f"DaemonSet {self._config.daemonset_name}: other processes wrote first "
            f"{limits.ATTEMPTS} times in a row"
        )

    def seconds_until_due(self) -> float | None:
        """Return how long a pending template has to wait, or None if none is pending."""
        last = self._stored.last
        if last is None or not rollout.is_pending(self._config, last.state):
            return None
        now = self._now()
        wait = rollout.due(self._config, last.state, now) - now
        return max(wait.total_seconds(), 0.0)

    def _attempt(self, changes: Sequence[Change], *, flush: bool) -> tuple[Outcome, ...]:
        if not self._is_checked or any(isinstance(change, CheckDaemonSet) for change in changes):
            return self._check(changes, flush=flush)
        is_fresh = self._stored.last is None
        stored = self._stored.last or self._stored.read()
        known = states.until(stored.state, self._now())
        decided, outcomes = decide.apply(self._config, known, changes)
        is_unchanged = known is stored.state and (
            states.substance(decided) == states.substance(known)
        )
        if is_unchanged and not self._is_due(decided, flush=flush):
            if not is_fresh and self._stored.read().text != stored.text:
                raise LostRaceError("another process has written since")
            # The time of a known push stays in memory and is written with the next change. So an
            # older push that arrives late is known to be older.
            self._stored.remember(stored.text, decided)
            return outcomes
        self._write(stored.text, known, decided, flush=flush)
        return outcomes

    def _with_refusals(
        self, changes: Sequence[Change], outcomes: Sequence[Outcome]
    ) -> tuple[Outcome, ...]:
        """Return the outcomes, corrected for tags that the cluster refused in this commit."""
        if self._stored.last is None:
            return tuple(outcomes)
        self._refusals.settle(self._stored.last.state)
        entries = self._stored.last.state.entries
        return tuple(
            Outcome.REFUSED
            if isinstance(change, TrackTag | RegistryAnswer)
            and entries[change.entry].refuses(change.tag)
            else outcome
            for change, outcome in zip(changes, outcomes, strict=True)
        )

    # The check of the whole DaemonSet

    def _check(self, changes: Sequence[Change], *, flush: bool) -> tuple[Outcome, ...]:
        """Check the whole DaemonSet, commit the changes, and repair it."""
        self._is_checked = False
        self._report_warnings()
        self._learn_platform()
        try:
            live = require_ours(self._config, self._cluster, self._cluster.read())
            require_kept(live)
        except MissingError:
            return self._create(changes)
        self._keep_platform(live)
        self._nodes = (live.get("status") or {}).get("desiredNumberScheduled", 0)
        state = states.until(self._stored.take_charge(live), self._now())
        state = self._volumes.fitted(state, live, self._platform)
        unqueryable = _unqueryable(changes)
        state = rollout.pull_unqueryable(self._config, state, self._now(), unqueryable)
        self._refusals.settle(state)
        was_blocked = state.blocked is not None
        state = replace(state, blocked=None)
        decided, outcomes = decide.apply(self._config, state, changes)
        if self._may_empty(live, decided) and self._empty(live, decided):
            log.info(
                "DaemonSet %s: no node is selected, so pods of nodes that join are empty at first",
                self._config.daemonset_name,
            )
        elif rollout.is_pending(self._config, decided) or _bounds_differ(state, decided):
            self._write(text_of(live), state, decided, flush=flush)
        else:
            if was_blocked:  # since its creation: the live template's own pods were refused
                decided = self._refusals.try_pod(decided, self._template(decided))
            self._repair(live, decided)
        self._is_checked = True
        return outcomes

    def _create(self, changes: Sequence[Change]) -> tuple[Outcome, ...]:
        state = self._stored.state_for_creation()
        decided, outcomes = decide.apply(self._config, state, changes)
        decided = self._volumes.fitted(decided, None, self._platform)
        try:
            self._create_with(decided)
        except RefusedByClusterError as error:
            log.warning("the cluster refused the DaemonSet: %s", error)
            kept = self._refusals.isolate(
                decided, lambda candidate: self._create_with(candidate, dry_run=True)
            )
            try:
                self._create_with(kept)
            except RefusedByClusterError as still:
                raise ClusterUnavailableError(
                    f"DaemonSet {self._config.daemonset_name} can't be created: {still}"
                ) from still
        self._is_checked = True
        log.info("DaemonSet %s was created", self._config.daemonset_name)
        return outcomes

    def _create_with(self, decided: State, *, dry_run: bool = False) -> None:
        state = rollout.emptied(self._config, decided)
        state = rollout.advance(self._config, state, self._now())
        if not dry_run:  # it is created even if its pods are refused, because it keeps the state
            state = self._refusals.try_pod(state, self._template(decided))
            if state.blocked is not None:  # so every other template needs a trial too
                state = replace(state, containers=0)
        text = self._stored.encode(state)
        manifest = daemonset.manifest(self._config, state, self._platform, text)
        self._cluster.create(manifest, dry_run=dry_run)
        if not dry_run:
            self._stored.writes += 1
            self._stored.remember(text, state)

    def _repair(self, live: Manifest, state: State) -> None:
        """Write the state, and undo what somebody else has changed."""
        try:
            has_drifted = repair.has_drifted(self._cluster, live, self._everything(state))
        except RefusedByClusterError as error:
            self._stored.write(text_of(live), self._refusals.block(state, error))
            return
        if not has_drifted:
            self._stored.write(text_of(live), state)
            return
        log.warning(
            "DaemonSet %s was changed by somebody else: repairing it", self._config.daemonset_name
        )
        repaired = self._advanced(state)
        try:
            self._stored.replace(text_of(live), repaired, self._everything(repaired))
        except RefusedByClusterError as error:
            raise LostRaceError(f"the repair was refused: {error}") from error

    def _may_empty(self, live: Manifest, state: State) -> bool:
        """Whether the DaemonSet has images in its template, and seeds but no pod."""
        return (
            self._config.rollout_seed_nodes > 0
            and state.seeding is not Seeding.EMPTY
            and observation.selects_no_node(live)
            and not self._cluster.pods()
        )

    def _empty(self, live: Manifest, state: State) -> bool:
        """Let the pods of nodes that join hold nothing at first. Return whether that was written.

        It is not where a node is selected by now: its pod must not lose its images.
        """
        empty = self._advanced(rollout.emptied(self._config, state))
        operations = [test_value(_SELECTED, 0), *self._everything(empty)]
        try:
            self._stored.replace(text_of(live), empty, operations)
        except RefusedByClusterError as error:
            log.debug("the template keeps its images: %s", error)
            return False
        return True

    # Writes

    def _write(self, old: str | None, known: State, decided: State, *, flush: bool = False) -> None:
        """Write the state in place of `old`, which was `known`, and the template if it is due."""
        if _bounds_differ(known, decided):
            # On its own, because a template may still be refused, and this restarts no pod.
            bounded = replace(
                known, max_unavailable=decided.max_unavailable, seeding=decided.seeding
            )
            strategy = repair.strategy(self._config, decided)
            old = self._stored.write(old, bounded, [strategy]).text
            self._log_seeding(known, decided)
        is_due = self._is_due(decided, flush=flush)
        rolled = holding.joined(self._config, decided)
        if is_due and rollout.needs_trial(self._config, rolled):
            decided = self._refusals.try_pod(decided, self._template(rolled))
            is_due = rollout.is_pending(self._config, decided)
        if not is_due:
            self._stored.write(old, decided)
            return
        try:
            self._roll_out(old, decided)
        except RefusedByClusterError as error:
            self._isolate(old, decided, error)

    def _roll_out(self, old: str | None, decided: State) -> None:
        """Write the state and its template in one request."""
        joined = holding.joined(self._config, decided)
        state = self._advanced(joined)
        operations = [put("/spec/template", self._template(state))]
        if state.structure != decided.structure:
            operations += repair.structure(self._config, state, self._platform)
        elif _bounds_differ(state, decided):
            operations.append(repair.strategy(self._config, state))
        self._stored.replace(old, state, operations)
        log.debug("DaemonSet %s: the template was written", self._config.daemonset_name)
        self._log_seeding(decided, state)

    def _isolate(self, old: str | None, decided: State, refusal: RefusedByClusterError) -> None:
        """Keep the state of a refused template at once, then apply what the cluster admits."""
        log.warning("the cluster refused the template: %s", refusal)
        stored = self._stored.write(old, decided)
        kept = self._refusals.isolate(
            decided,
            lambda candidate: self._cluster.patch(
                [put("/spec/template", self._template(candidate))], dry_run=True
            ),
        )
        if not rollout.is_pending(self._config, kept):
            self._stored.write(stored.text, kept)
            return
        try:
            self._roll_out(stored.text, kept)
        except RefusedByClusterError as error:
            self._stored.write(stored.text, self._refusals.block(kept, error))

    def _advanced(self, state: State) -> State:
        """Return the state once its template is live."""
        return rollout.advance(self._config, state, self._now(), nodes=self._nodes)

    def _everything(self, state: State) -> list[Operation]:
        """Return the operations that set everything of ours but the annotation."""
        structure = repair.structure(self._config, state, self._platform)
        return [put("/spec/template", self._template(state)), *structure]

    def _log_seeding(self, known: State, state: State) -> None:
        """Log that other nodes wait for the seeds now, or do so no longer."""
        name = self._config.daemonset_name
        if state.seeding is Seeding.SEEDS:
            log.info(
                "DaemonSet %s: %d nodes change at once, until %d hold all images; the others wait",
                name,
                state.max_unavailable,
                self._config.rollout_seed_nodes,
            )
        elif known.seeding is Seeding.SEEDS:
            log.info("DaemonSet %s: the other nodes follow the seeds", name)

    def _template(self, state: State) -> Manifest:
        return daemonset.template(self._config, state, self._platform)

    def _is_due(self, state: State, *, flush: bool) -> bool:
        if not rollout.is_pending(self._config, state):
            return False
        now = self._now()
        return flush or now >= rollout.due(self._config, state, now)

    # The platform, and malformed entries

    def _report_warnings(self) -> None:
        """Report malformed entries as Events, once per process."""
        for warning in self._unreported:
            self._cluster.report("ImagesMalformed", warning)
        self._unreported = ()

    def _learn_platform(self) -> None:
        learned = self._cluster.platform()
        self._platform = Platform(
            openshift=self._platform.openshift if learned.openshift is None else learned.openshift,
            owner=learned.owner or self._platform.owner,
        )

    def _keep_platform(self, live: Manifest) -> None:
        """Take over the user of the live pods where the platform could not be asked."""
        if self._platform.openshift is None:
            security = live["spec"]["template"]["spec"].get("securityContext", {})
            self._platform = replace(self._platform, openshift="runAsUser" not in security)


def _bounds_differ(one: State, other: State) -> bool:
    return one.max_unavailable != other.max_unavailable


def _unqueryable(changes: Sequence[Change]) -> frozenset[tuple[str, str]]:
    checks = (change.unqueryable for change in changes if isinstance(change, CheckDaemonSet))
    return frozenset().union(*checks)
