"""Requests to the API server, by the official client. No other module imports that client.

Objects stay plain JSON, because the client's models drop fields that they do not know.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import urllib3
import yaml
from kubernetes import client
from kubernetes import config as client_config

from image_puller import limits
from image_puller.cluster import kubeconfig
from image_puller.core.daemonset import Manifest
from image_puller.errors import (
    ClusterUnavailableError,
    LostRaceError,
    MissingError,
    RefusedByClusterError,
)

ApiClient = client.ApiClient
METADATA_ONLY = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
_JSON = "application/json"
_JSON_PATCH = "application/json-patch+json"
_CHANGES = ("ADDED", "MODIFIED", "DELETED")
_REJECTIONS = (400, 403, 413, 422)
_NOT_FOUND = 404
_CONFLICT = 409


def connect(environ: Mapping[str, str], context: str | None = None) -> client.ApiClient:
    """Return a client for a kubeconfig, else for the pod's service account.

    `context` is one of the kubeconfig, or None for its current one. Raises ClusterUnavailableError
    where none of them can be used.
    """
    configuration = client.Configuration()
    file = kubeconfig.file_of(environ)
    try:
        if file:
            client_config.load_kube_config(
                file, context=context, client_configuration=configuration
            )
        else:
            client_config.load_incluster_config(client_configuration=configuration)
    except (client_config.ConfigException, yaml.YAMLError, OSError) as error:
        raise ClusterUnavailableError(
            f"no API server is configured: {error}; "
            "run in a pod with a service account, or set KUBECONFIG"
        ) from error
    return _client(configuration)


def namespace_of(environ: Mapping[str, str], context: str | None) -> str:
    """Return the namespace of a context of the kubeconfig, or None for its current one.

    Raises ClusterUnavailableError.
    """
    file = kubeconfig.file_of(environ)
    try:
        contexts, current = client_config.list_kube_config_contexts(file)
    except (client_config.ConfigException, yaml.YAMLError, OSError) as error:
        raise ClusterUnavailableError(f"the kubeconfig can't be read: {error}") from error
    for each in contexts if context is not None else [current]:
        if context in (None, each["name"]):
            return str(each["context"].get("namespace") or "default")
    raise ClusterUnavailableError(
        f"the kubeconfig has no context {context!r}; `kubectl config get-contexts` lists them"
    )


def _client(configuration: client.Configuration) -> client.ApiClient:
    # Only a request that never reached the server is sent again: a lost answer may hide a write.
    configuration.retries = urllib3.Retry(connect=1, read=0, redirect=0, status=0, other=0)
    return client.ApiClient(configuration)


class ApiServer:
    """Sends requests to an API server. `timeout` is for connecting, and for reading."""

    def __init__(
        self,
        api: client.ApiClient,
        timeout: tuple[float, float] = (limits.CONNECT_SECONDS, limits.READ_SECONDS),
    ) -> None:
        self._api = api
        self.timeout = timeout

    def get(self, path: str) -> Manifest:
        """Return an object. Raises MissingError, RefusedByClusterError."""
        return self.request("GET", path)

    def request(self, method: str, path: str, **how: Any) -> Manifest:
        """Return the object of a successful response, as `send` gets it."""
        response = self.send(method, path, **how)
        try:
            return _object(response.read())
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(error) from error

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Sequence[tuple[str, str]] = (),
        accept: str = _JSON,
        timeout: tuple[float, float] | None = None,
    ) -> Any:
        """Return a successful response, its body unread. Raises the error of any other status."""
        content_type = _JSON_PATCH if method == "PATCH" else _JSON
        try:
            request = self._api.param_serialize(
                method,
                path,
                query_params=list(query),
                header_params={"Accept": accept, "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            )
        except (OSError, client_config.ConfigException) as error:
            # The client reads the token of the service account again each minute.
            raise ClusterUnavailableError(
                f"the token of the service account can't be read: {error}"
            ) from error
        try:
            response = self._api.call_api(*request, _request_timeout=timeout or self.timeout)
            if response.status in range(200, 300):
                return response
            text = response.read()
        except (urllib3.exceptions.HTTPError, client.ApiException) as error:
            raise _unreachable(error) from error
        raise _failure(response.status, text)

    def items(self, path: str, *, query: Sequence[tuple[str, str]] = ()) -> Iterator[Manifest]:
        """Yield the objects of a list. Only one page of them is in memory."""
        for page in self.pages(path, query=query):
            yield from items_of(page)

    def pages(
        self, path: str, *, query: Sequence[tuple[str, str]] = (), accept: str = _JSON
    ) -> Iterator[Manifest]:
        """Yield the pages of a list."""
        token: str | None = ""
        while token is not None:
            bounds = (
                ("limit", str(limits.PAGE_OBJECTS)),
                *((("continue", token),) if token else ()),
            )
            page = self.request("GET", path, query=(*query, *bounds), accept=accept)
            yield page
            token = page["metadata"].get("continue") or None

    def watch(
        self, path: str, version: str, seconds: int, *, query: Sequence[tuple[str, str]] = ()
    ) -> Iterator[tuple[str, Manifest]]:
        """Yield the kind of each change after a version, and the metadata of its object.

        The server ends the watch after so many seconds.
        """
        query = (
            *query,
            ("watch", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", str(seconds)),
        )
        connect, read = self.timeout
        timeout = (connect, seconds + read)
        response = self.send("GET", path, query=query, accept=METADATA_ONLY, timeout=timeout)
        try:
            for line in response.response:
                event = _object(line)
                if event["type"] in _CHANGES:
                    yield event["type"], event["object"]["metadata"]
        except urllib3.exceptions.HTTPError as error:
            raise ClusterUnavailableError(f"the watch of {path} was cut: {error}") from error
        finally:
            response.response.close()


def _unreachable(error: Exception) -> ClusterUnavailableError:
    return ClusterUnavailableError(f"the API server can't be reached: {error}")


def _object(text: bytes) -> Manifest:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ClusterUnavailableError(f"the API server's answer is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ClusterUnavailableError("the API server's answer is not a JSON object")
    return value


def items_of(page: Manifest) -> Sequence[Manifest]:
    """Return the objects of a list. The API server writes an empty one as null."""
    return page.get("items") or ()


def _failure(status: int, text: bytes) -> Exception:
    """Return the error of a response, with the message of its Status object."""
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, LookupError, TypeError):
        message = text.decode(errors="replace")
    message = message[: limits.REASON_CHARACTERS]
    if status == _NOT_FOUND:
        return MissingError(message)
    if status == _CONFLICT:
        return LostRaceError(message)
    if status in _REJECTIONS:
        return RefusedByClusterError(message)
    return ClusterUnavailableError(f"the API server answered {status}: {message}")
