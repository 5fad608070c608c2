"""One DaemonSet of an API server, and the objects around it, such as its pods and the nodes."""

import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from image_puller import limits
from image_puller.cluster.api_server import (
    METADATA_LIST,
    METADATA_ONLY,
    ApiClient,
    ApiServer,
    items_of,
)
from image_puller.cluster.json_patch import Operation, test_value
from image_puller.config.configuration import Config
from image_puller.core import daemonset, nodes, pods, pulls
from image_puller.core.charge import Process
from image_puller.core.daemonset import Manifest, Owner, Platform
from image_puller.core.node_state import Refusal
from image_puller.core.nodes import Node
from image_puller.core.pods import Pod
from image_puller.core.pulls import Pulled
from image_puller.core.rights import Right
from image_puller.errors import (
    ClusterUnavailableError,
    ImagePullerError,
    LostRaceError,
    MissingError,
    RefusedByClusterError,
)
from image_puller.events.event import in_milliseconds

log = logging.getLogger(__name__)

_DRY_RUN = (("dryRun", "All"),)
_OPENSHIFT_GROUP = "route.openshift.io"
_NODES = "/api/v1/nodes"
_AUTHORIZATION = "authorization.k8s.io/v1"
_FAILED_TEST = "the server rejected our request"
"""The beginning of the API server's words about a JSON Patch whose `test` fails."""
_ENDED = ("Failed", "Succeeded")
_POD_NAME = re.compile(r'^pods "[^"]*" is forbidden: ')
_EPOCH = datetime.fromtimestamp(0, UTC)
_PULLS_TIMEOUT = (limits.CONNECT_SECONDS, limits.CONNECT_SECONDS)
"""Checks wait for these Events, and need them only for a metric."""
_ISSUER_TIMEOUT = (limits.KEYS_ANSWER_SECONDS / 4, limits.KEYS_ANSWER_SECONDS / 4)


class KubernetesCluster:
    """One DaemonSet of an API server, and the objects around it."""

    def __init__(
        self,
        api: ApiClient,
        config: Config,
        *,
        read_seconds: float = limits.READ_SECONDS,
        watch_seconds: int = limits.WATCH_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        host: str | None = None,
    ) -> None:
        self._api = api
        self._server = ApiServer(api, (limits.CONNECT_SECONDS, read_seconds))
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
        self._known_nodes: set[str] | None = None
        self._known_daemonsets: dict[str, str] | None = None
        self._path = f"{self._apps}/daemonsets/{config.daemonset_name}"

    def of_group(self, config: Config) -> "KubernetesCluster":
        """Return the same cluster for the DaemonSet of a group."""
        _, read_seconds = self._server.timeout
        return KubernetesCluster(
            self._api,
            config,
            read_seconds=read_seconds,
            watch_seconds=self._watch_seconds,
            now=self._now,
            host=self._host,
        )

    def version(self) -> str:
        """Return the version of the API server."""
        return str(self._server.request("GET", "/version").get("gitVersion"))

    def allows(self, right: Right) -> bool:
        """Whether the service has a right. Raises RefusedByClusterError."""
        where = {} if right.is_cluster_wide else {"namespace": self._config.namespace}
        review = {
            "apiVersion": _AUTHORIZATION,
            "kind": "SelfSubjectAccessReview",
            "spec": {
                "resourceAttributes": {
                    "verb": right.verb,
                    "group": right.group,
                    "resource": right.resource,
                    "name": right.name or "",
                    **where,
                }
            },
        }
        path = f"/apis/{_AUTHORIZATION}/selfsubjectaccessreviews"
        return bool(self._server.request("POST", path, body=review)["status"]["allowed"])

    def read(self) -> Manifest:
        """Return the whole DaemonSet. Raises MissingError."""
        return self._identified(self._server.request("GET", self._path))

    def read_metadata(self) -> Manifest:
        """Return the DaemonSet with its metadata only. Raises MissingError."""
        return self._identified(self._server.request("GET", self._path, accept=METADATA_ONLY))

    def create(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Create the DaemonSet. Raises LostRaceError if it exists, or RefusedByClusterError."""
        path = f"{self._apps}/daemonsets"
        try:
            live = self._server.request(
                "POST", path, body=manifest, query=_DRY_RUN if dry_run else ()
            )
            return live if dry_run else self._identified(live)
        except MissingError as error:
            raise ClusterUnavailableError(
                f"the DaemonSet can't be created: {error}; does its namespace exist?"
            ) from error

    def patch(self, operations: Sequence[Operation], *, dry_run: bool = False) -> Manifest:
        """Return the DaemonSet after a JSON Patch. Raises MissingError, RefusedByClusterError."""
        return self._server.request(
            "PATCH", self._path, body=list(operations), query=_DRY_RUN if dry_run else ()
        )

    def delete(self, uid: str) -> None:
        """Delete the DaemonSet with that uid, and no other. Raises LostRaceError."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        self._server.request("DELETE", self._path, body=options)

    def siblings(self) -> tuple[Manifest, ...]:
        """Return the metadata of the installation's DaemonSets. Raises RefusedByClusterError."""
        path, query = f"{self._apps}/daemonsets", (("labelSelector", self._own_labels),)
        return tuple(
            item
            for page in self._server.pages(path, query=query, accept=METADATA_LIST)
            for item in items_of(page)
        )

    def delete_sibling(self, name: str, uid: str) -> None:
        """Delete one of the installation's DaemonSets. Raises RefusedByClusterError."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        self._server.request("DELETE", f"{self._apps}/daemonsets/{name}", body=options)

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
            return self._server.request("POST", f"{self._core}/pods", body=pod, query=_DRY_RUN)
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
        for pod in self._server.items(f"{self._core}/pods", query=query):
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
            self._server.request("POST", f"{self._core}/events", body=event)
        except ImagePullerError as error:
            log.warning("no Event could be created: %s", error)

    def pods(self) -> tuple[Pod, ...]:
        """Return the DaemonSet's pods."""
        selector = ",".join(f"{k}={v}" for k, v in daemonset.selector(self._config).items())
        found = self._server.items(f"{self._core}/pods", query=(("labelSelector", selector),))
        return tuple(pods.of_manifest(pod) for pod in found)

    def refusal(self, uid: str) -> Refusal | None:
        """Return the latest failure to create a pod of the DaemonSet with that uid.

        Return None where there is none, or where the service may not list Events.
        """
        selector = f"involvedObject.uid={uid},reason=FailedCreate"
        try:
            events = list(
                self._server.items(f"{self._core}/events", query=(("fieldSelector", selector),))
            )
        except RefusedByClusterError as error:
            log.debug("Events can't be listed, so nobody knows why pods are missing: %s", error)
            return None
        return max(map(_refusal, events), key=_time_of, default=None)

    def pulls(self) -> tuple[Pulled, ...]:
        """Return pulls of the DaemonSet's pods that Events report: a bounded number of them.

        Return nothing where the service may not list Events.
        """
        query = (
            ("fieldSelector", "involvedObject.kind=Pod,reason=Pulled"),
            ("limit", str(limits.PULL_EVENTS)),
        )
        try:
            page = self._server.request(
                "GET", f"{self._core}/events", query=query, timeout=_PULLS_TIMEOUT
            )
        except RefusedByClusterError as error:
            log.debug("Events can't be listed, so nobody knows how long pulls take: %s", error)
            return ()
        found = (pulls.of_event(event) for event in items_of(page))
        is_ours = re.compile(rf"{re.escape(self._config.daemonset_name)}-[a-z0-9]+").fullmatch
        return tuple(each for each in found if each is not None and is_ours(each.pod))

    def pull_secrets(self) -> tuple[Manifest, ...]:
        """Return the Secrets that `IMAGE_PULL_SECRETS` names, without those that can't be read."""
        return tuple(
            secret
            for name in self._config.image_pull_secrets
            if (secret := self._readable_pull_secret(name)) is not None
        )

    def pull_secret(self, name: str) -> Manifest:
        """Return a Secret. Raises MissingError, RefusedByClusterError."""
        return self._server.request("GET", f"{self._core}/secrets/{name}")

    def _readable_pull_secret(self, name: str) -> Manifest | None:
        try:
            return self.pull_secret(name)
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
                nodes.of_manifest(node, wanted.__contains__) for node in self._server.items(_NODES)
            )
        except RefusedByClusterError as error:
            log.debug("nodes can't be listed: %s", error)
            return None

    def release_node(self, name: str, uid: str, index: int, taint: Manifest) -> bool:
        """Remove a taint of a node. Return False where somebody changed the node's taints.

        `index` is the place of the taint, which must be as it was seen. Raises
        RefusedByClusterError where the service may not change nodes.
        """
        path = f"/spec/taints/{index}"
        operations = [
            test_value("/metadata/uid", uid),
            test_value(path, taint),
            {"op": "remove", "path": path},
        ]
        try:
            self._server.request("PATCH", f"{_NODES}/{name}", body=operations, accept=METADATA_ONLY)
        except (MissingError, LostRaceError):
            return False
        except RefusedByClusterError as error:
            if _FAILED_TEST not in str(error):
                raise
            return False
        return True

    def joins(self) -> Iterator[str]:
        """Yield the names of nodes that join from now on. Raises RefusedByClusterError.

        After a watch ends the nodes are listed again, so that none is missed in between. That holds
        also for the next call, after a watch that failed.
        """
        while True:
            version, present = self._listed(_NODES, "uid", "name")
            known = self._known_nodes
            self._known_nodes = set(present)
            if known is not None:
                yield from (name for uid, name in present.items() if uid not in known)
            for kind, metadata in self._server.watch(_NODES, version, self._watch_seconds):
                if kind == "ADDED" and metadata["uid"] not in self._known_nodes:
                    self._known_nodes.add(metadata["uid"])
                    yield metadata["name"]

    def changed_daemonsets(self) -> Iterator[str]:
        """Yield the name of each DaemonSet of the installation that changes from now on.

        Its status changes with each pod that becomes ready. Raises RefusedByClusterError.
        After a watch ends the DaemonSets are listed again, so that no change is missed in between.
        That holds also for the next call, after a watch that failed.
        """
        path, query = f"{self._apps}/daemonsets", (("labelSelector", self._own_labels),)
        while True:
            version, present = self._listed(path, "name", "resourceVersion", query=query)
            known = self._known_daemonsets
            self._known_daemonsets = present
            if known is not None:
                yield from (name for name, each in present.items() if each != known.get(name))
            for _, metadata in self._server.watch(path, version, self._watch_seconds, query=query):
                present[metadata["name"]] = metadata["resourceVersion"]
                yield metadata["name"]

    def issuer(self) -> tuple[str, bytes]:
        """Return the issuer of service accounts' tokens, and its key set (JWKS).

        https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#service-account-issuer-discovery
        Every service account may read both (system:service-account-issuer-discovery).
        """
        how = {"accept": "application/json, */*", "timeout": _ISSUER_TIMEOUT}
        described = self._server.request("GET", "/.well-known/openid-configuration", **how)
        keys = self._server.request("GET", "/openid/v1/jwks", **how)
        return str(described.get("issuer")), json.dumps(keys).encode()

    @property
    def _own_labels(self) -> str:
        """Return the selector of the installation's DaemonSets."""
        labels = {**daemonset.MANAGED, daemonset.INSTALLATION_LABEL: self._config.installation}
        return ",".join(f"{key}={value}" for key, value in labels.items())

    def _listed(
        self, path: str, key: str, value: str, *, query: Sequence[tuple[str, str]] = ()
    ) -> tuple[str, dict[str, str]]:
        """Return the version to watch from, and one metadata field of each object by another."""
        version = ""
        found: dict[str, str] = {}
        for page in self._server.pages(path, query=query, accept=METADATA_LIST):
            version = page["metadata"]["resourceVersion"]
            found |= {item["metadata"][key]: item["metadata"][value] for item in items_of(page)}
        return version, found

    def _identified(self, live: Manifest) -> Manifest:
        """Return the DaemonSet, and keep its uid for Events."""
        self._uid = live["metadata"]["uid"]
        return live

    def _openshift(self) -> bool | None:
        try:
            groups = self._server.request("GET", "/apis")["groups"]
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
            uid = self._server.request("GET", path)["metadata"]["uid"]
        except ImagePullerError as error:
            log.warning(
                "%s %s can't become the DaemonSet's owner, so deleting it keeps the pods: %s",
                kind,
                name,
                error,
            )
            return None
        return Owner(api_version=group, kind=kind, name=name, uid=uid)


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
