"""Where `status` and `wait` read the status: from a running service, or from the cluster itself."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from image_puller.cli import connection, service_client
from image_puller.cli.service_client import MissingImageError, ServiceError
from image_puller.core import status
from image_puller.core.label_selector import LabelSelector
from image_puller.core.reading import UnknownLabelsError
from image_puller.http.authentication import READ

Read = Callable[[], dict[str, Any]]


def reader(
    arguments: argparse.Namespace,
    environ: Mapping[str, str],
    *,
    image: str | None = None,
    selector: LabelSelector | None = None,
) -> Read:
    """Return a function that reads the status, of one image and of selected nodes if these are set.

    It raises ServiceError. Raises ConfigurationError for arguments that exclude each other.
    """
    if connection.is_to_cluster(arguments, environ, READ):
        return _from_cluster(arguments, environ, image, selector)
    service = connection.find(arguments, environ, READ)
    path = "" if image is None else f"/{quote(image, safe='/:@')}"
    query = "" if selector is None else f"?{urlencode({'selector': selector.text})}"
    url = f"{service.url}/status{path}{query}"

    def read() -> dict[str, Any]:
        answer = service_client.send("GET", url, READ, headers=service.headers)
        found = service_client.status_of(answer, url)
        if selector is not None and "selector" not in found:
            raise ServiceError(f"The service at {service.url} is too old for --selector.")
        return found

    return read


def _from_cluster(
    arguments: argparse.Namespace,
    environ: Mapping[str, str],
    image: str | None,
    selector: LabelSelector | None,
) -> Read:
    # This import takes a quarter of a second, which a running service makes needless.
    from image_puller.cli.cluster_status import ClusterReader  # noqa: PLC0415

    cluster = ClusterReader(environ, connection.place(arguments))

    def read() -> dict[str, Any]:
        try:
            found = cluster().of_nodes(selector)
        except UnknownLabelsError as error:
            raise ServiceError(f"Cannot read the cluster: {error}.") from error
        selected = found if image is None else status.select(found, image)
        if selected is None:
            raise MissingImageError(
                f"no image is called {image!r}. `image-puller status` shows all."
            )
        return selected

    return read
