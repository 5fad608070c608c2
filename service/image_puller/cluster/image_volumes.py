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
_UNTRIED = "no image volume could be tried, because the cluster refuses pods without one too"


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
        is_auto = self._config.hold_by is HoldBy.AUTO
        trial = daemonset.trial_manifest(self._config, platform, mounts=True)
        refusal = self._why_not(trial, platform)
        if refusal is None and live is not None and (is_auto or state.holding.by_volumes):
            return state  # a later check can try
        if refusal is None:
            refusal = _UNTRIED
        if is_auto:
            template = trial["spec"]["template"]
            found = holding.chosen(
                self._config,
                state,
                refusal or holding.why_not_on_nodes(template, self._cluster.nodes()),
                self._now(),
                at_once=live is None or bool(refusal),
            )
        elif refusal:
            found = holding.by_containers(state, refusal)
        else:
            found = holding.by_volumes(self._config, state)
        if live is not None and found.holding.by_volumes and not state.holding.by_volumes:
            for image in self._failing(state, live):
                found = holding.with_apart(found, image)
        self._report(found.holding)
        return found

    def _why_not(self, trial: Manifest, platform: Platform) -> str | None:
        """Return why the cluster does not take image volumes, or "" where it does.

        A server without the feature drops the field from new objects, and says nothing. Policies
        look at pods, at DaemonSets, or at both. What is refused without an image volume too, for
        example by a full quota, says nothing about volumes. Return None where that is all.
        """
        is_kept = False
        for tried in (self._tried_pod, self._tried_daemonset):
            try:
                spec = tried(trial)
            except RefusedByClusterError as error:
                if self._is_refused(tried, platform):
                    continue
                return f"the cluster refuses image volumes: {error}"
            if spec is not None:
                is_kept = any("image" in volume for volume in spec.get("volumes") or ())
                if not is_kept:
                    return _DROPPED
        return "" if is_kept else None

    def _is_refused(self, tried: Callable[[Manifest], Manifest | None], platform: Platform) -> bool:
        """Whether the cluster refuses the trial without an image volume too."""
        try:
            tried(daemonset.trial_manifest(self._config, platform, mounts=False))
        except RefusedByClusterError:
            return True
        return False

    def _tried_pod(self, trial: Manifest) -> Manifest | None:
        pod = self._cluster.admit_pod(trial["spec"]["template"])
        return None if pod is None else pod["spec"]

    def _tried_daemonset(self, trial: Manifest) -> Manifest:
        spec: Manifest = self._cluster.create(trial, dry_run=True)["spec"]["template"]["spec"]
        return spec

    def _failing(self, state: State, live: Manifest) -> frozenset[str]:
        """Return the images that fail on a node now."""
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
