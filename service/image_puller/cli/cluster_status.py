"""The status as this machine reads it from the cluster, with the rights of a kubeconfig.

It needs no secret and no running service. It lacks the problems that only the service knows.
"""

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from image_puller.cli.connection import Place
from image_puller.cli.service_client import NoAnswerError, ServiceError
from image_puller.cluster import api_server, installed
from image_puller.cluster.client import KubernetesCluster
from image_puller.cluster.observer import Observer
from image_puller.cluster.stored_state import text_of
from image_puller.config.configuration import Config
from image_puller.core import problems, reading, state
from image_puller.core.observation import Observation
from image_puller.core.reading import Reading
from image_puller.errors import (
    ClusterUnavailableError,
    ConfigurationError,
    MissingError,
    RefusedByClusterError,
)


class ClusterReader:
    """Reads the status of an installation. Each call reads its configuration too."""

    def __init__(self, environ: Mapping[str, str], place: Place) -> None:
        # A connection that fails is reported by the error.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        try:
            own = api_server.namespace_of(environ, place.context)
            self._api = api_server.connect(environ, place.context)
        except ClusterUnavailableError as error:
            raise ServiceError(f"Cannot read the cluster: {error}.") from error
        self._server = api_server.ApiServer(self._api)
        self._namespace = place.namespace or own
        self._deployment = place.deployment
        self._is_told = False

    def __call__(self) -> Reading:
        """Return the status now. Raises ServiceError."""
        try:
            config = installed.configuration(self._server.get, self._namespace, self._deployment)
            seen = [self._observe(config, group) for group in config.all_groups]
        except MissingError as error:
            raise ServiceError(
                f"Cannot read the cluster: {error}. Use --namespace, --deployment or --context."
            ) from error
        except RefusedByClusterError as error:
            raise ServiceError(
                f"Cannot read the cluster: {error}. You need the ClusterRole view in namespace "
                f"{self._namespace}. Or use --url."
            ) from error
        except ConfigurationError as error:
            raise ServiceError(
                f"Deployment {self._deployment} in namespace {self._namespace} has a configuration "
                f"that this release of image-puller does not accept:\n{error}"
            ) from error
        except ClusterUnavailableError as error:
            raise NoAnswerError(
                f"Cannot read the cluster: {error}. Check --context, your login and the network."
            ) from error
        self._tell(seen)
        return reading.of((each, problems.find(each)) for each in seen)

    def _observe(self, config: Config, group: Config) -> Observation:
        cluster = KubernetesCluster(self._api, config).of_group(group)
        seen = Observer(group, cluster, now=lambda: datetime.now(UTC)).observe()
        live = seen.live
        if live.daemonset is not None and live.state is None:
            _require_known_schema(text_of(live.daemonset))
        return seen

    def _tell(self, seen: list[Observation]) -> None:
        """Say once what the status lacks."""
        blind = any(each.live.daemonset is not None and each.live.nodes is None for each in seen)
        if blind and not self._is_told:
            self._is_told = True
            print(
                "You may not list nodes, so nodes that are not ready or cordoned count too.",
                file=sys.stderr,
            )


def _require_known_schema(text: str | None) -> None:
    """Raise ServiceError if a newer release wrote the state. One that is broken is a problem."""
    try:
        state.decode(text)
    except state.UnknownSchemaError as error:
        raise ServiceError(
            "The service is of a newer release than this command. Update the command, or run it in "
            "the pod by kubectl exec."
        ) from error
    except state.UnreadableStateError:
        return
