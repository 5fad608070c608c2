"""Handles templates that the cluster refuses: isolates the refused tags, or blocks the template."""

import logging
from collections.abc import Callable
from dataclasses import replace

from image_puller.cluster.interface import Cluster
from image_puller.config.configuration import Config
from image_puller.core import daemonset, isolation, quota
from image_puller.core.daemonset import Manifest
from image_puller.core.state import Blocked, State
from image_puller.errors import MissingError, RefusedByClusterError

log = logging.getLogger(__name__)


class Refusals:
    """Tries templates by dry run, and reports what was refused."""

    def __init__(self, config: Config, cluster: Cluster) -> None:
        self._config = config
        self._cluster = cluster
        self._reported: str | None = None

    def isolate(self, state: State, dry_run: Callable[[State], object]) -> State:
        """Return the most of a refused state that the cluster admits, and report the rest.

        `dry_run` tries the template of a state, and raises RefusedByClusterError.
        """

        def admits(candidate: State) -> str | None:
            try:
                dry_run(candidate)
            except RefusedByClusterError as error:
                return str(error)
            return None

        kept = isolation.isolate(self._config, state, admits)
        self._report(state, kept)
        return kept

    def try_pod(self, state: State, template: Manifest) -> State:
        """Try a pod of a template before it replaces all. Return the state, blocked if refused."""
        try:
            self._cluster.admit_pod(template)
        except RefusedByClusterError as error:
            if not self._has_room(error, template):
                return self.block(state, error)
        return state

    def block(self, state: State, refusal: RefusedByClusterError) -> State:
        """Return the state with its template blocked until the next check; report a new reason."""
        reason = str(refusal)
        if reason != self._reported:
            log.error("the cluster refuses new pods, so the pods that run stay: %s", reason)
            self._cluster.report("TemplateRefused", reason)
        self._reported = reason
        template = daemonset.template_hash(self._config, state)
        return replace(state, blocked=Blocked(template=template, reason=reason))

    def settle(self, state: State) -> None:
        """Note the state as it is stored. The reason that it has was reported."""
        self._reported = None if state.blocked is None else state.blocked.reason

    def _has_room(self, refusal: RefusedByClusterError, template: Manifest) -> bool:
        """Whether the old pods free the quota that the new ones need."""
        if "exceeded quota" not in str(refusal):
            return False
        try:
            return quota.has_room(str(refusal), self._cluster.read(), template)
        except MissingError:
            return False

    def _report(self, before: State, after: State) -> None:
        for name, entry in after.entries.items():
            known = before.entries[name].refused
            for refused in (each for each in entry.refused if each not in known):
                message = f"{name}: the cluster refused {refused.name}: {refused.reason}"
                log.warning("%s", message)
                self._cluster.report("ImageRefused", message)
        if after.blocked is not None and after.blocked.reason != self._reported:
            self._reported = after.blocked.reason
            self._cluster.report("TemplateRefused", after.blocked.reason)
