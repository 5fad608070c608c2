"""Whether the cluster takes image volumes, which decides how images are held."""

import logging

from image_puller.cluster.interface import Cluster
from image_puller.config.configuration import Config, HoldBy
from image_puller.core import daemonset, holding, observation
from image_puller.core.daemonset import Manifest, Platform
from image_puller.core.node_state import ImageState
from image_puller.core.observation import Live
from image_puller.core.state import State
from image_puller.errors import RefusedByClusterError

log = logging.getLogger(__name__)

_DROPPED = (
    "the API server drops image volumes; they need Kubernetes 1.35 or later, or its feature gate "
    "ImageVolume"
)


class ImageVolumes:
    """Fits states to what the configuration wants and the cluster takes."""

    def __init__(self, config: Config, cluster: Cluster) -> None:
        self._config = config
        self._cluster = cluster
        self._reported: str | None = None

    def fitted(self, state: State, live: Manifest | None, platform: Platform) -> State:
        """Return the state with the way in which images are held from now on.

        `live` is the whole DaemonSet, or None where it is missing.
        """
        if self._config.hold_by is HoldBy.CONTAINERS:
            return holding.by_containers(state)
        reason = self._why_not(platform)
        self._report(reason)
        if reason:
            return holding.by_containers(state, reason)
        if state.holding.by_volumes or live is None:
            return holding.by_volumes(self._config, state)
        return holding.by_volumes(self._config, state, self._failing(state, live))

    def _why_not(self, platform: Platform) -> str:
        """Return why the cluster can't hold images by volumes, or "" where it can.

        A server without the feature drops the field from new objects, and says nothing.
        """
        trial = daemonset.trial_manifest(self._config, platform)
        try:
            answer = self._cluster.create(trial, dry_run=True)
        except RefusedByClusterError as error:
            return f"the cluster refuses image volumes: {error}"
        volumes = answer["spec"]["template"]["spec"].get("volumes") or ()
        return "" if any("image" in volume for volume in volumes) else _DROPPED

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

    def _report(self, reason: str) -> None:
        if reason == self._reported:
            return
        if reason:
            log.warning("images are held by containers: %s", reason)
        else:
            log.info("images are held by volumes")
        self._reported = reason
