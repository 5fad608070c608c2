"""Whether the cluster takes image volumes, which decides how images are held."""

import logging
from collections.abc import Callable
from datetime import datetime

from image_puller.cluster.interface import Cluster
from image_puller.config.configuration import Config, HoldBy
from image_puller.core import daemonset, holding, observation
from image_puller.core.daemonset import Manifest, Platform
from image_puller.core.node_state import ImageState
from image_puller.core.observation import Live
from image_puller.core.state import Holding, State
from image_puller.errors import RefusedByClusterError

log = logging.getLogger(__name__)

_DROPPED = (
    "the API server drops image volumes; they need Kubernetes 1.35 or later, or its feature gate "
    "ImageVolume"
)


class ImageVolumes:
    """Fits states to what the configuration wants and the cluster takes."""

    def __init__(self, config: Config, cluster: Cluster, *, now: Callable[[], datetime]) -> None:
        self._config = config
        self._cluster = cluster
        self._now = now
        self._reported: tuple[bool, str, bool] | None = None

    def fitted(self, state: State, live: Manifest | None, platform: Platform) -> State:
        """Return the state with the way in which images are held from now on.

        `live` is the whole DaemonSet, or None where it is missing.
        """
        if self._config.hold_by is HoldBy.CONTAINERS:
            return holding.by_containers(state)
        trial = daemonset.trial_manifest(self._config, platform)
        refusal = self._why_not(trial)
        failing = frozenset() if state.holding.by_volumes else self._failing(state, live)
        if self._config.hold_by is HoldBy.AUTO:
            found = holding.chosen(
                self._config,
                state,
                refusal
                or holding.why_not_on_nodes(trial["spec"]["template"], self._cluster.nodes()),
                self._now(),
                at_once=live is None or bool(refusal),
                failing=failing,
            )
        elif refusal:
            found = holding.by_containers(state, refusal)
        else:
            found = holding.by_volumes(self._config, state, failing)
        self._report(found.holding)
        return found

    def _why_not(self, trial: Manifest) -> str:
        """Return why the API server does not take image volumes, or "" where it does.

        A server without the feature drops the field from new objects, and says nothing.
        """
        try:
            answer = self._cluster.create(trial, dry_run=True)
        except RefusedByClusterError as error:
            return f"the cluster refuses image volumes: {error}"
        volumes = answer["spec"]["template"]["spec"].get("volumes") or ()
        return "" if any("image" in volume for volume in volumes) else _DROPPED

    def _failing(self, state: State, live: Manifest | None) -> frozenset[str]:
        """Return the images that fail on a node now."""
        if live is None:
            return frozenset()
        pods, nodes = self._cluster.pods(), self._cluster.nodes()
        seen = observation.observe(
            self._config, Live(daemonset=live, state=state, pods=pods, nodes=nodes)
        )
        return frozenset(
            image.image
            for image in seen.images
            for each in seen.states[image.container].values()
            if each.state is ImageState.FAILING
        )

    def _report(self, held: Holding) -> None:
        """Log how images are held, and why, when that changes."""
        known = held.by_volumes, held.reason, held.differs_since is not None
        if known == self._reported:
            return
        self._reported = known
        way = "volumes" if held.by_volumes else "containers"
        is_missed = self._config.hold_by is HoldBy.VOLUMES and not held.by_volumes
        level = logging.WARNING if is_missed else logging.INFO
        log.log(level, "images are held by %s%s", way, held.reason and f": {held.reason}")
        if held.differs_since is not None:
            since = f"{held.differs_since:%H:%M} UTC"
            log.info("that is not right any more since %s, and changes if it stays so", since)
