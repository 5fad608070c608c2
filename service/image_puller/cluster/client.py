"""The Kubernetes API, by the official client. No other module imports that client.

Objects stay plain JSON, because the client's models drop fields that they do not know.
"""

import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client
from kubernetes import config as client_config

from image_puller import limits
from image_puller.cluster.json_patch import Operation
from image_puller.config.configuration import Config
from image_puller.core import daemonset, nodes, pods
from image_puller.core.charge import Process
from image_puller.core.daemonset import Manifest, Owner, Platform
from image_puller.core.node_state import Refusal
from image_puller.core.nodes import Node
from image_puller.core.pods import Pod
from image_puller.errors import (
    ClusterUnavailableError,
    ImagePullerError,
    LostRaceError,
    MissingError,
    RefusedByClusterError,
)
from image_puller.events.event import in_milliseconds

log = logging.getLogger(__name__)

_JSON = "application/json"
_JSON_PATCH = "application/json-patch+json"
_DRY_RUN = (("dryRun", "All"),)
_METADATA_ONLY = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
_REJECTIONS = (400, 403, 413, 422)
_NOT_FOUND = 404
_CONFLICT = 409
_OPENSHIFT_GROUP = "route.openshift.io"
_NODES = "/api/v1/nodes"
_ENDED = ("Failed", "Succeeded")
_POD_NAME = re.compile(r'^pods "[^"]*" is forbidden: ')
_EPOCH = datetime.fromtimestamp(0, UTC)
_ISSUER_TIMEOUT = (limits.KEYS_ANSWER_SECONDS / 4, limits.KEYS_ANSWER_SECONDS / 4)


def connect(environ: Mapping[str, str]) -> client.ApiClient:
    """Return a client for `$KUBECONFIG`, else `~/.kube/config`, else the pod's service account.

    Raises ClusterUnavailableError where none of them can be used.
    """
    configuration = client.Configuration()
    home = Path(environ.get("HOME", "/")) / ".kube" / "config"
    kubeconfig = environ.get("KUBECONFIG") or (str(home) if home.is_file() else None)
    try:
        if kubeconfig:
            client_config.load_kube_config(kubeconfig, client_configuration=configuration)
        else:
            client_config.load_incluster_config(client_configuration=configuration)
    except (client_config.ConfigException, yaml.YAMLError, OSError) as error:
        raise ClusterUnavailableError(
            f"no API server is configured: {error}; "
            "run in a pod with a service account, or set KUBECONFIG"
        ) from error
    return _client(configuration)


def _client(configuration: client.Configuration) -> client.ApiClient:
    # Only a request that never reached the server is sent again: a lost answer may hide a write.
    configuration.retries = urllib3.Retry(connect=1, read=0, redirect=0, status=0, other=0)
    return client.ApiClient(configuration)


class _Requests:
    """Requests to an API server, and errors that say what went wrong."""

    def __init__(self, api: client.ApiClient, *, read_seconds: float = limits.READ_SECONDS) -> None:
        self._api = api
        self._timeout = (limits.CONNECT_SECONDS, read_seconds)

    def _list(self, path: str, *, query: Sequence[tuple[str, str]] = ()) -> Iterator[Manifest]:
        """Yield the objects of a list. Only one page of them is in memory."""
        for page in self._pages(path, query=query):
            yield from _items(page)

    def _pages(
        self, path: str, *, query: Sequence[tuple[str, str]] = (), accept: str = _JSON
    ) -> Iterator[Manifest]:
        """Yield the pages of a list."""
        token: str | None = ""
        while token is not None:
            bounds = (
                ("limit", str(limits.PAGE_OBJECTS)),
                *((("continue", token),) if token else ()),
            )
            page = self._request("GET", path, query=(*query, *bounds), accept=accept)
            yield page
            token = page["metadata"].get("continue") or None

    def _request(self, method: str, path: str, **how: Any) -> Manifest:
        response = self._send(method, path, **how)
        try:
            return _object(response.read())
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(error) from error

    def _send(
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
            response = self._api.call_api(*request, _request_timeout=timeout or self._timeout)
            if response.status in range(200, 300):
                return response
            text = response.read()
        except (urllib3.exceptions.HTTPError, client.ApiException) as error:
            raise _unreachable(error) from error
        raise _failure(response.status, text)


class KubernetesCluster(_Requests):
    """One DaemonSet of an API server, and the objects around it."""

    def __init__(
        self,
        api: client.ApiClient,
        config: Config,
        *,
        read_seconds: float = limits.READ_SECONDS,
        watch_seconds: int = limits.WATCH_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        host: str | None = None,
    ) -> None:
        super().__init__(api, read_seconds=read_seconds)
        self._watch_seconds = watch_seconds
        self._now = now
        self._host = host or socket.gethostname()  # in a pod, the pod's name
        self._outside = Process(
            name=f"{self._host}-{time.monotonic_ns():x}", since=in_milliseconds(now()), outside=True
        )
        self._process: Process | None = None
        self._core = f"/api/v1/namespaces/{config.namespace}"
        self._apps = f"/apis/apps/v1/namespaces/{config.namespace}"
        self._config = config
        self._uid: str | None = None
        self._path = f"{self._apps}/daemonsets/{config.daemonset_name}"

    def of_group(self, config: Config) -> "KubernetesCluster":
        """Return the same cluster for the DaemonSet of a group."""
        _, read_seconds = self._timeout
        return KubernetesCluster(
            self._api,
            config,
            read_seconds=read_seconds,
            watch_seconds=self._watch_seconds,
            now=self._now,
            host=self._host,
        )

    def read(self) -> Manifest:
        """Return the whole DaemonSet. Raises MissingError."""
        return self._identified(self._request("GET", self._path))

    def read_metadata(self) -> Manifest:
        """Return the DaemonSet with its metadata only. Raises MissingError."""
        return self._identified(self._request("GET", self._path, accept=_METADATA_ONLY))

    def create(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Create the DaemonSet. Raises LostRaceError if it exists, or RefusedByClusterError."""
        path = f"{self._apps}/daemonsets"
        try:
            live = self._request("POST", path, body=manifest, query=_DRY_RUN if dry_run else ())
            return live if dry_run else self._identified(live)
        except MissingError as error:
            raise ClusterUnavailableError(
                f"the DaemonSet can't be created: {error}; does its namespace exist?"
            ) from error

    def patch(self, operations: Sequence[Operation], *, dry_run: bool = False) -> Manifest:
        """Return the DaemonSet after a JSON Patch. Raises MissingError, RefusedByClusterError."""
        return self._request(
            "PATCH", self._path, body=list(operations), query=_DRY_RUN if dry_run else ()
        )

    def delete(self, uid: str) -> None:
        """Delete the DaemonSet with that uid, and no other. Raises LostRaceError."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        self._request("DELETE", self._path, body=options)

    def siblings(self) -> tuple[Manifest, ...]:
        """Return the metadata of the installation's DaemonSets. Raises RefusedByClusterError."""
        labels = {**daemonset.MANAGED, daemonset.INSTALLATION_LABEL: self._config.installation}
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        path, query = f"{self._apps}/daemonsets", (("labelSelector", selector),)
        return tuple(
            item
            for page in self._pages(path, query=query, accept=_METADATA_LIST)
            for item in _items(page)
        )

    def delete_sibling(self, name: str, uid: str) -> None:
        """Delete one of the installation's DaemonSets. Raises RefusedByClusterError."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        self._request("DELETE", f"{self._apps}/daemonsets/{name}", body=options)

    def admit_pod(self, template: Manifest) -> Manifest | None:
        """Try a pod of the template by dry run, and return it. Raises RefusedByClusterError.

        Where the service may not create pods, the pod counts as admitted, and is None.
        """
        name = f"{self._config.daemonset_name}-admission"
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": name},
            "spec": template["spec"],
        }
        try:
            return self._request("POST", f"{self._core}/pods", body=pod, query=_DRY_RUN)
        except MissingError:
            log.debug("the namespace is missing, which the creation of the DaemonSet reports")
        except RefusedByClusterError as error:
            if "cannot create resource" not in str(error):
                raise
            log.warning(
                "no pod can be tried before a rollout: %s; see deploy/kubernetes/rbac.yaml", error
            )
        return None

    def platform(self) -> Platform:
        """Return whether this is OpenShift, and the DaemonSet's owner; None where unknown."""
        return Platform(openshift=self._openshift(), owner=self._owner())

    def process(self) -> Process:
        """Return this process: its pod, or where there is none the process itself.

        Processes outside the cluster have a name of their own each, in the order of their start.
        """
        if self._process is None:
            try:
                self._process = self._pod(self._host) or self._outside
            except RefusedByClusterError as error:
                # It is asked again, because the right may come later, as in an installation.
                log.warning(
                    "the service can't read its own pod, so it gives way to processes that can: "
                    "%s; its Role needs the verb list on pods",
                    error,
                )
                return self._outside
        return self._process

    def lives(self, process: Process) -> bool:
        """Whether a process may still run, as its pod is there and has not ended.

        Nobody can see whether a process outside the cluster runs, so it counts as running.
        """
        try:
            return process.outside or self._pod(process.name) == process
        except RefusedByClusterError as error:
            log.debug("pod %s can't be read: %s", process.name, error)
            return True

    def _pod(self, name: str) -> Process | None:
        """Return the process of a pod, or None where it is gone or has ended.

        This is a list, because the service may list pods anyway, and so needs no other right.
        """
        query = (("fieldSelector", f"metadata.name={name}"),)
        for pod in self._list(f"{self._core}/pods", query=query):
            if not self._has_ended(pod):
                created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
                return Process(name=name, since=created)
        return None

    def _has_ended(self, pod: Manifest) -> bool:
        """Whether a pod that is listed runs no more. A lost node never confirms a deletion."""
        due = pod["metadata"].get("deletionTimestamp")
        if due is not None:
            overdue = self._now() - datetime.fromisoformat(due)
            if overdue > timedelta(seconds=limits.DELETION_SECONDS):
                return True
        return (pod.get("status") or {}).get("phase") in _ENDED

    def report(self, reason: str, message: str, *, is_warning: bool = True) -> None:
        """Create an Event about the DaemonSet, if that is possible.

        `kubectl describe` finds an Event by the uid of its object, and sorts by its times.
        """
        time = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        name = self._config.daemonset_name
        identity = {} if self._uid is None else {"uid": self._uid}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{name}."},
            "type": "Warning" if is_warning else "Normal",
            "reason": reason,
            "message": message[:1024],
            "source": {"component": "image-puller"},
            "reportingComponent": "image-puller",
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
            "involvedObject": {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "name": name,
                "namespace": self._config.namespace,
                **identity,
            },
        }
        try:
            self._request("POST", f"{self._core}/events", body=event)
        except ImagePullerError as error:
            log.warning("no Event could be created: %s", error)

    def pods(self) -> tuple[Pod, ...]:
        """Return the DaemonSet's pods."""
        selector = ",".join(f"{k}={v}" for k, v in daemonset.selector(self._config).items())
        found = self._list(f"{self._core}/pods", query=(("labelSelector", selector),))
        return tuple(pods.of_manifest(pod) for pod in found)

    def refusal(self, uid: str) -> Refusal | None:
        """Return the latest failure to create a pod of the DaemonSet with that uid.

        Return None where there is none, or where the service may not list Events.
        """
        selector = f"involvedObject.uid={uid},reason=FailedCreate"
        try:
            events = list(self._list(f"{self._core}/events", query=(("fieldSelector", selector),)))
        except RefusedByClusterError as error:
            log.debug("Events can't be listed, so nobody knows why pods are missing: %s", error)
            return None
        return max(map(_refusal, events), key=_time_of, default=None)

    def pull_secrets(self) -> tuple[Manifest, ...]:
        """Return the Secrets that `IMAGE_PULL_SECRETS` names, without those that can't be read."""
        return tuple(
            secret
            for name in self._config.image_pull_secrets
            if (secret := self._pull_secret(name)) is not None
        )

    def _pull_secret(self, name: str) -> Manifest | None:
        try:
            return self._request("GET", f"{self._core}/secrets/{name}")
        except (MissingError, RefusedByClusterError) as error:
            log.warning(
                "pull secret %s can't be read, so registries are asked without it: %s; "
                "the service's Role needs the verb get on that Secret",
                name,
                error,
            )
            return None

    def nodes(self) -> tuple[Node, ...] | None:
        """Return the nodes, or None where the service may not list them."""
        wanted = {entry.reference.name for entry in self._config.entries}
        try:
            return tuple(
                nodes.of_manifest(node, wanted.__contains__) for node in self._list(_NODES)
            )
        except RefusedByClusterError as error:
            log.debug("nodes can't be listed: %s", error)
            return None

    def joins(self) -> Iterator[str]:
        """Yield the names of nodes that join from now on. Raises RefusedByClusterError.

        After a watch ends the nodes are listed again, so that none is missed in between.
        """
        known: set[str] | None = None
        while True:
            present: dict[str, str] = {}
            version = ""
            for page in self._pages(_NODES, accept=_METADATA_LIST):
                version = page["metadata"]["resourceVersion"]
                present |= {
                    node["metadata"]["uid"]: node["metadata"]["name"] for node in _items(page)
                }
            yield from (name for uid, name in present.items() if uid not in (known or present))
            known = set(present)
            for metadata in self._watch(_NODES, version):
                if metadata["uid"] not in known:
                    known.add(metadata["uid"])
                    yield metadata["name"]

    def issuer(self) -> tuple[str, bytes]:
        """Return the issuer of service accounts' tokens, and its key set (JWKS).

        https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#service-account-issuer-discovery
        Every service account may read both (system:service-account-issuer-discovery).
        """
        how = {"accept": "application/json, */*", "timeout": _ISSUER_TIMEOUT}
        described = self._request("GET", "/.well-known/openid-configuration", **how)
        keys = self._request("GET", "/openid/v1/jwks", **how)
        return str(described.get("issuer")), json.dumps(keys).encode()

    def _watch(self, path: str, version: str) -> Iterator[Manifest]:
        """Yield the metadata of objects added after a version, until the server ends the watch."""
        query = (
            ("watch", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", str(self._watch_seconds)),
        )
        connect, read = self._timeout
        timeout = (connect, self._watch_seconds + read)
        response = self._send("GET", path, query=query, accept=_METADATA_ONLY, timeout=timeout)
        try:
            for line in response.response:
                event = _object(line)
                if event["type"] == "ADDED":
                    yield event["object"]["metadata"]
        except urllib3.exceptions.HTTPError as error:
            raise ClusterUnavailableError(f"the watch of {path} was cut: {error}") from error
        finally:
            response.response.close()

    def _identified(self, live: Manifest) -> Manifest:
        """Return the DaemonSet, and keep its uid for Events."""
        self._uid = live["metadata"]["uid"]
        return live

    def _openshift(self) -> bool | None:
        try:
            groups = self._request("GET", "/apis")["groups"]
        except ImagePullerError as error:
            log.warning("it is unknown whether this is OpenShift: %s", error)
            return None
        return any(group["name"] == _OPENSHIFT_GROUP for group in groups)

    def _owner(self) -> Owner | None:
        """Return the Deployment, or on Knative the Service, with the name `DEPLOYMENT_NAME`."""
        name = self._config.deployment_name
        kind, group, path = ("Deployment", "apps/v1", f"{self._apps}/deployments/{name}")
        if self._config.knative_service is not None:
            group = "serving.knative.dev/v1"
            kind, path = (
                "Service",
                f"/apis/{group}/namespaces/{self._config.namespace}/services/{name}",
            )
        try:
            uid = self._request("GET", path)["metadata"]["uid"]
        except ImagePullerError as error:
            log.warning(
                "%s %s can't become the DaemonSet's owner, so deleting it keeps the pods: %s",
                kind,
                name,
                error,
            )
            return None
        return Owner(api_version=group, kind=kind, name=name, uid=uid)


class Survey(_Requests):
    """Reads what runs in a cluster, of whichever namespaces. It changes nothing."""

    def pods(self, namespace: str | None) -> Iterator[Manifest]:
        """Yield the pods of a namespace, or of all, that have not ended.

        Raises RefusedByClusterError.
        """
        path = "/api/v1/pods" if namespace is None else f"/api/v1/namespaces/{namespace}/pods"
        # Without the selector, those of all Jobs would be sent too.
        living = ",".join(f"status.phase!={phase}" for phase in _ENDED)
        return self._list(path, query=(("fieldSelector", living),))

    def nodes(self) -> Iterator[Manifest]:
        """Yield the nodes. Raises RefusedByClusterError."""
        return self._list(_NODES)


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


def _items(page: Manifest) -> Sequence[Manifest]:
    """Return the objects of a list. The API server writes an empty one as null."""
    return page.get("items") or ()


def _refusal(event: Manifest) -> Refusal:
    """Return the failure that an Event of the DaemonSet controller reports."""
    times = (event.get("series") or {}).get("lastObservedTime"), event.get("lastTimestamp")
    text = next(filter(None, (*times, event.get("eventTime"), event.get("firstTimestamp"))), None)
    reason = _POD_NAME.sub("", str(event.get("message") or "").rpartition("Error creating: ")[2])
    return Refusal(
        reason=reason[: limits.REASON_CHARACTERS] or "the Event gives no reason",
        time=None if text is None else datetime.fromisoformat(text),
    )


def _time_of(refusal: Refusal) -> datetime:
    return refusal.time or _EPOCH


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
