"""What happens when the cluster refuses a template: find the reason, keep the rest, tell people."""

import logging
from collections.abc import Callable
from dataclasses import replace

from image_puller.cluster.interface import Cluster
from image_puller.config.configuration import Config
from image_puller.core import daemonset, isolation
from image_puller.core.daemonset import Manifest
from image_puller.core.state import Blocked, State
from image_puller.errors import RefusedByClusterError

log = logging.getLogger(__name__)


class Refusals:
    """Tries templates by dry run, and reports what was refused."""

    def __init__(self, config: Config, cluster: Cluster) -> None:
        self._config = config
        self._cluster = cluster

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
            if "exceeded quota" in str(error) and not self._asks_for_more(template):
                # The old pods free their quota before the new ones need it.
                return state
            return self.block(state, error)
        return state

    def block(self, state: State, refusal: RefusedByClusterError) -> State:
        """Return the state whose template is not tried again before the next check."""
        log.error("the cluster refused the template, so the old pods stay: %s", refusal)
        self._cluster.report("TemplateRefused", str(refusal))
        template = daemonset.template_hash(self._config, state)
        return replace(state, blocked=Blocked(template=template, reason=str(refusal)))

    def _asks_for_more(self, template: Manifest) -> bool:
        live = self._cluster.read()["spec"]["template"]
        return daemonset.asks_for_more(template, live)

    def _report(self, before: State, after: State) -> None:
        for name, entry in after.entries.items():
            known = before.entries[name].refused
            for refused in (each for each in entry.refused if each not in known):
                message = f"{name}: the cluster refused {refused.name}: {refused.reason}"
                log.warning("%s", message)
                self._cluster.report("ImageRefused", message)
        if after.blocked is not None:
            self._cluster.report("TemplateRefused", after.blocked.reason)
