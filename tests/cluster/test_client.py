"""The client of the Kubernetes API: its requests, and the meaning of the answers."""

import copy
import itertools
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiClient, Configuration
from kubernetes.config.incluster_config import InClusterConfigLoader

from image_puller import limits
from image_puller.cluster.api_server import connect
from image_puller.cluster.client import KubernetesCluster
from image_puller.core import daemonset
from image_puller.core.charge import Process
from image_puller.core.daemonset import Platform
from image_puller.core.node_state import Refusal
from image_puller.core.rights import Right
from image_puller.errors import (
    ClusterUnavailableError,
    LostRaceError,
    MissingError,
    RefusedByClusterError,
)
from image_puller.simulation import SimulatedCluster
from tests.support.building import at, configuration, state_of
from tests.support.daemonset import READ_OWN_POD, MakeReplica, end_pod, start_pod
from tests.support.installation import NAME, NAMESPACE, Installation, kubeconfig
from tests.support.pull_secrets import pull_secret
from tests.support.waiting import wait_until

CONFIG = configuration()
TEMPLATE = daemonset.template(CONFIG, state_of(CONFIG), Platform())
MANIFEST = daemonset.manifest(CONFIG, state_of(CONFIG), Platform(), "state")
NO_CHANGE = [{"op": "test", "path": "/metadata/name", "value": NAME}]


@pytest.fixture
def puller(api: ApiClient) -> KubernetesCluster:
    return KubernetesCluster(api, CONFIG)


@pytest.fixture
def connected() -> Iterator[Callable[..., KubernetesCluster]]:
    """Return clients that connect by these environment variables."""
    clients = []

    def make(**environ: str) -> KubernetesCluster:
        clients.append(connect(environ))
        return KubernetesCluster(clients[-1], CONFIG)

    yield make
    for client in clients:
        client.rest_client.close()


def kubeconfig_of(url: str, folder: Path) -> Path:
    """Write a kubeconfig for the API server at a URL."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
    }
    file = folder / "kubeconfig"
    file.write_text(json.dumps(config))
    return file


@contextmanager
def server_of(*answers: bytes) -> Iterator[str]:
    """Serve each connection one of these answers, and close it. Yield the server's URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


# Connecting


def test_a_kubeconfig_of_the_environment_is_used(
    cluster: SimulatedCluster, connected: Callable[..., KubernetesCluster], tmp_path: Path
) -> None:
    connected(KUBECONFIG=str(kubeconfig(cluster, tmp_path))).create(MANIFEST)
    assert cluster.daemonset(NAME, NAMESPACE) is not None


def test_a_kubeconfig_in_the_home_directory_is_used(
    cluster: SimulatedCluster, connected: Callable[..., KubernetesCluster], tmp_path: Path
) -> None:
    folder = tmp_path / ".kube"
    folder.mkdir()
    kubeconfig(cluster, folder).rename(folder / "config")
    connected(HOME=str(tmp_path)).create(MANIFEST)
    assert cluster.daemonset(NAME, NAMESPACE) is not None


def test_the_token_is_sent_with_every_request(
    connected: Callable[..., KubernetesCluster], tmp_path: Path
) -> None:
    with SimulatedCluster(nodes=0, token="right") as cluster:
        puller = connected(KUBECONFIG=str(kubeconfig(cluster, tmp_path)))
        puller.create(MANIFEST)
        puller.read()
        assert {request.status for request in cluster.requests} == {200, 201}


@pytest.mark.parametrize("text", [None, "", "- no: [kubeconfig", "{}", "\x00"])
def test_an_unusable_kubeconfig_is_an_error_that_names_the_remedy(
    tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / "kubeconfig"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ClusterUnavailableError, match=r"run in a pod .* or set KUBECONFIG"):
        connect({"KUBECONFIG": str(file)})


def test_without_pod_and_kubeconfig_the_error_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ClusterUnavailableError, match=r"run in a pod .* or set KUBECONFIG"):
        connect({"HOME": str(tmp_path)})


# The meaning of answers


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RefusedByClusterError),
        (401, ClusterUnavailableError),
        (403, RefusedByClusterError),
        (404, MissingError),
        (408, ClusterUnavailableError),
        (409, LostRaceError),
        (413, RefusedByClusterError),
        (422, RefusedByClusterError),
        (429, ClusterUnavailableError),
        (500, ClusterUnavailableError),
        (503, ClusterUnavailableError),
        (504, ClusterUnavailableError),
    ],
)
def test_each_http_status_has_its_error(
    puller: KubernetesCluster, cluster: SimulatedCluster, status: int, error: type[Exception]
) -> None:
    cluster.fail(status=status)
    with pytest.raises(error):
        puller.patch(NO_CHANGE)
    assert len(cluster.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_the_client_does_not_retry_by_retry_after(
    puller: KubernetesCluster, cluster: SimulatedCluster, status: int
) -> None:
    cluster.fail(status=status, retry_after=30)
    with pytest.raises(ClusterUnavailableError):
        puller.read()
    assert len(cluster.requests) == 1


def test_an_api_server_that_does_not_listen_is_unavailable(
    connected: Callable[..., KubernetesCluster], tmp_path: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        file = kubeconfig_of(f"http://127.0.0.1:{closed.getsockname()[1]}", tmp_path)
        with pytest.raises(ClusterUnavailableError, match="can't be reached"):
            connected(KUBECONFIG=str(file)).read()


def test_a_slow_api_server_is_unavailable(api: ApiClient, cluster: SimulatedCluster) -> None:
    puller = KubernetesCluster(api, configuration(), read_seconds=0.05)
    cluster.delay(10, times=1)
    with pytest.raises(ClusterUnavailableError, match="can't be reached"):
        puller.create(MANIFEST)
    wait_until(lambda: cluster.daemonset(NAME, NAMESPACE) is not None)  # the write was made


def test_an_answer_that_is_not_json_is_unavailable(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/{NAME}"
    page: Any = "<html>a proxy</html>"
    cluster.documents[path] = page
    with pytest.raises(ClusterUnavailableError, match="not JSON"):
        puller.read()


def test_an_answer_whose_body_is_cut_is_unavailable(
    connected: Callable[..., KubernetesCluster], tmp_path: Path
) -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{"
    with server_of(cut) as url:
        puller = connected(KUBECONFIG=str(kubeconfig_of(url, tmp_path)))
        with pytest.raises(ClusterUnavailableError, match="can't be reached"):
            puller.read()


def test_an_error_that_is_no_status_object_is_logged_as_text(
    api: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    puller = KubernetesCluster(api, configuration(K_SERVICE="x"))
    # Without Knative its API group is missing, so the answer is a line of text.
    assert puller.platform() == Platform(openshift=False, owner=None)
    assert "can't become the DaemonSet's owner" in caplog.text
    assert "404 page not found" in caplog.text


# Nodes


def during_watch(cluster: SimulatedCluster, act: Callable[[], None]) -> None:
    """Act in another thread, as soon as nodes are watched."""

    def wait() -> None:
        wait_until(lambda: any("watch" in request.query for request in cluster.requests))
        act()

    threading.Thread(target=wait).start()


def test_each_node_that_joins_is_reported_once(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    joins = puller.joins()
    during_watch(cluster, lambda: cluster.join("node-4"))
    assert next(joins) == "node-4"
    cluster.join("node-5")
    assert next(joins) == "node-5"


def test_a_node_that_leaves_is_not_reported(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    def act() -> None:
        cluster.leave("node-1")
        cluster.join("node-4")

    joins = puller.joins()
    during_watch(cluster, act)
    assert next(joins) == "node-4"


def test_a_node_that_joins_between_two_watches_is_not_missed(
    api: ApiClient, cluster: SimulatedCluster
) -> None:
    puller = KubernetesCluster(api, configuration(), watch_seconds=0)
    lists = itertools.count()

    def join_late() -> None:
        if next(lists) == 2:  # after the first list and its watch
            cluster.join("node-4")

    cluster.before("GET", join_late, path="/api/v1/nodes", times=10)
    assert next(puller.joins()) == "node-4"


def test_a_node_that_joins_after_a_watch_was_cut_is_reported_by_the_next(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    joins = puller.joins()
    during_watch(cluster, lambda: cluster.join("node-4"))
    assert next(joins) == "node-4"
    del joins
    cluster.join("node-5")
    assert next(puller.joins()) == "node-5"


# The watch of the DaemonSets


def annotate(cluster: SimulatedCluster, name: str, value: str) -> None:
    cluster.change(
        name, NAMESPACE, lambda daemonset: daemonset["metadata"]["annotations"].update(a=value)
    )


def test_each_change_of_a_daemonset_is_reported(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    puller.create(MANIFEST)
    cluster.requests.clear()
    changed = puller.changed_daemonsets()
    during_watch(cluster, lambda: annotate(cluster, NAME, "1"))
    assert next(changed) == NAME
    annotate(cluster, NAME, "2")
    assert next(changed) == NAME
    cluster.delete(NAME, NAMESPACE)
    assert next(changed) == NAME


def test_only_daemonsets_of_the_installation_are_watched(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    other = copy.deepcopy(MANIFEST)
    other["metadata"] |= {"name": "other", "labels": {}}
    cluster.add(other, NAMESPACE)
    puller.create(MANIFEST)
    cluster.requests.clear()

    def act() -> None:
        annotate(cluster, "other", "1")
        annotate(cluster, NAME, "1")

    changed = puller.changed_daemonsets()
    during_watch(cluster, act)
    assert next(changed) == NAME


def test_a_change_of_a_daemonset_between_two_watches_is_not_missed(
    api: ApiClient, cluster: SimulatedCluster
) -> None:
    puller = KubernetesCluster(api, configuration(), watch_seconds=0)
    puller.create(MANIFEST)
    lists = itertools.count()

    def change_late() -> None:
        if next(lists) == 2:  # after the first list and its watch
            annotate(cluster, NAME, "1")

    cluster.before("GET", change_late, path="/daemonsets", times=10)
    assert next(puller.changed_daemonsets()) == NAME


def test_a_change_of_a_daemonset_after_a_watch_was_cut_is_reported_by_the_next(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    puller.create(MANIFEST)
    cluster.requests.clear()
    changed = puller.changed_daemonsets()
    during_watch(cluster, lambda: annotate(cluster, NAME, "1"))
    assert next(changed) == NAME
    del changed
    annotate(cluster, NAME, "2")
    assert next(puller.changed_daemonsets()) == NAME


def test_daemonsets_that_the_service_may_not_watch_are_an_error(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    cluster.fail(times=1, status=403, path="/daemonsets")
    with pytest.raises(RefusedByClusterError):
        next(puller.changed_daemonsets())


def test_nodes_that_the_service_may_not_list_are_empty_or_an_error(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    cluster.fail(times=2, status=403, path="/api/v1/nodes")
    assert puller.nodes() is None
    with pytest.raises(RefusedByClusterError):
        next(puller.joins())


def test_a_cluster_without_nodes_has_none_until_the_first_joins(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    for node in ("node-1", "node-2", "node-3"):
        cluster.leave(node)
    assert puller.nodes() == ()
    joins = puller.joins()
    during_watch(cluster, lambda: cluster.join("node-4"))
    assert next(joins) == "node-4"


@pytest.mark.parametrize("items", [b"null", b"[]"])
@pytest.mark.parametrize("kind", ["pods", "nodes"])
def test_an_empty_list_may_be_null(
    connected: Callable[..., KubernetesCluster], tmp_path: Path, kind: str, items: bytes
) -> None:
    with server_of(HEAD + b'\r\n{"metadata": {}, "items": %b}' % items) as url:
        puller = connected(KUBECONFIG=str(kubeconfig_of(url, tmp_path)))
        assert getattr(puller, kind)() == ()


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"'])
def test_an_answer_that_is_no_object_is_unavailable(
    connected: Callable[..., KubernetesCluster], tmp_path: Path, body: bytes
) -> None:
    with server_of(HEAD + b"\r\n" + body) as url:
        puller = connected(KUBECONFIG=str(kubeconfig_of(url, tmp_path)))
        with pytest.raises(ClusterUnavailableError, match="is not a JSON object"):
            puller.pods()


def test_lists_are_read_in_pages(puller: KubernetesCluster, cluster: SimulatedCluster) -> None:
    for number in range(limits.PAGE_OBJECTS):
        cluster.join(f"more-{number}")
    nodes = puller.nodes()
    assert nodes is not None
    assert len({node.name for node in nodes}) == limits.PAGE_OBJECTS + 3
    assert [request.query["limit"] for request in cluster.requests] == ["100", "100"]


def test_a_watch_of_an_api_server_that_stops_is_unavailable(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    joins = puller.joins()
    during_watch(cluster, cluster.close)
    with pytest.raises(ClusterUnavailableError):
        next(joins)


HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
NO_NODES = HEAD + b'\r\n{"metadata": {"resourceVersion": "1"}, "items": []}'


def test_a_node_whose_addition_is_sent_twice_is_reported_once(
    connected: Callable[..., KubernetesCluster], tmp_path: Path
) -> None:
    events = b"".join(
        b'{"type": "ADDED", "object": {"metadata": {"uid": "%b", "name": "node-%b"}}}\n' % (n, n)
        for n in (b"1", b"1", b"2")
    )
    with server_of(NO_NODES, HEAD + b"\r\n" + events) as url:
        joins = connected(KUBECONFIG=str(kubeconfig_of(url, tmp_path))).joins()
        assert [next(joins), next(joins)] == ["node-1", "node-2"]


def test_a_watch_that_is_cut_is_unavailable(
    connected: Callable[..., KubernetesCluster], tmp_path: Path
) -> None:
    cut = HEAD + b"Transfer-Encoding: chunked\r\n\r\n99\r\n{"
    with server_of(NO_NODES, cut) as url:
        puller = connected(KUBECONFIG=str(kubeconfig_of(url, tmp_path)))
        with pytest.raises(ClusterUnavailableError, match="the watch of /api/v1/nodes was cut"):
            next(puller.joins())


# The DaemonSet


def test_a_daemonset_is_created_read_and_patched(
    puller: KubernetesCluster, installation: Installation
) -> None:
    created = puller.create(MANIFEST)
    assert puller.read() == created == installation.live()
    changed = puller.patch([{"op": "add", "path": "/metadata/labels/a", "value": "b"}])
    assert changed["metadata"]["labels"]["a"] == "b"
    assert changed == installation.live()


def test_metadata_has_no_spec(puller: KubernetesCluster) -> None:
    puller.create(MANIFEST)
    metadata = puller.read_metadata()
    assert metadata["metadata"]["name"] == NAME
    assert "spec" not in metadata


def test_a_dry_run_changes_nothing(
    puller: KubernetesCluster, cluster: SimulatedCluster, installation: Installation
) -> None:
    puller.create(MANIFEST, dry_run=True)
    assert cluster.daemonset(NAME, NAMESPACE) is None
    puller.create(MANIFEST)
    before = installation.live()
    operations = [{"op": "add", "path": "/metadata/labels/a", "value": "b"}]
    assert puller.patch(operations, dry_run=True)["metadata"]["labels"]["a"] == "b"
    assert installation.live() == before


def test_a_daemonset_is_deleted_by_its_uid_only(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    uid = puller.create(MANIFEST)["metadata"]["uid"]
    with pytest.raises(LostRaceError):
        puller.delete("another")
    puller.delete(uid)
    assert cluster.daemonset(NAME, NAMESPACE) is None
    assert cluster.requests[-1].json["propagationPolicy"] == "Background"


@pytest.mark.parametrize("act", ["read", "read_metadata", "patch", "delete"])
def test_a_daemonset_that_does_not_exist_is_missing(puller: KubernetesCluster, act: str) -> None:
    arguments = {"patch": (NO_CHANGE,), "delete": ("uid",)}.get(act, ())
    with pytest.raises(MissingError):
        getattr(puller, act)(*arguments)


def test_creating_an_existing_daemonset_is_a_lost_race(puller: KubernetesCluster) -> None:
    puller.create(MANIFEST)
    with pytest.raises(LostRaceError):
        puller.create(MANIFEST)


def test_pods_are_those_of_the_selector(replica: MakeReplica, cluster: SimulatedCluster) -> None:
    one, two = replica(), replica(DAEMONSET_NAME="second")
    one.check()
    two.check()
    cluster.settle()
    names = [pod.name for pod in one.cluster.pods()]
    assert len(names) == 3
    assert all(name.startswith(NAME) for name in names)


# Rights

LIST_PODS = Right(verb="list", group="", resource="pods")
LIST_NODES = Right(verb="list", group="", resource="nodes", is_cluster_wide=True)
GET_SECRET = Right(verb="get", group="", resource="secrets", name="mine")


def test_rights_are_asked_for_in_the_namespace_or_in_the_cluster(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    cluster.forbid("list", "nodes")
    assert [puller.allows(each) for each in (LIST_PODS, LIST_NODES, GET_SECRET)] == [
        True,
        False,
        True,
    ]
    pods, nodes, secret = (each.json["spec"]["resourceAttributes"] for each in cluster.requests)
    assert pods["namespace"] == secret["namespace"] == NAMESPACE
    assert "namespace" not in nodes
    assert (pods["name"], secret["name"]) == ("", "mine")


def test_the_version_is_that_of_the_server(puller: KubernetesCluster) -> None:
    assert puller.version() == "v1.34.4"


# Pods, Events and the platform


def test_a_pod_is_tried_by_dry_run(puller: KubernetesCluster, cluster: SimulatedCluster) -> None:
    puller.admit_pod(TEMPLATE)
    (request,) = cluster.requests
    assert request.dry_run
    assert request.json["spec"] == TEMPLATE["spec"]
    assert request.json["metadata"]["labels"] == TEMPLATE["metadata"]["labels"]
    assert cluster.pods() == []


def test_a_refused_pod_is_an_error(puller: KubernetesCluster, cluster: SimulatedCluster) -> None:
    cluster.deny(lambda _pod: True, "violates PodSecurity", status=403, resource="pods")
    with pytest.raises(RefusedByClusterError, match="violates PodSecurity"):
        puller.admit_pod(TEMPLATE)


STARTUP = {"key": "image-puller.io/startup", "value": "a", "effect": "NoSchedule"}
DEDICATED = {"key": "dedicated", "effect": "NoSchedule"}


def taints_of(cluster: SimulatedCluster, name: str) -> list[dict[str, str]]:
    """Return the taints of a node."""
    (node,) = (each for each in cluster.nodes() if each["metadata"]["name"] == name)
    taints: list[dict[str, str]] = node["spec"].get("taints", [])
    return taints


def test_one_taint_of_a_node_is_removed(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    cluster.join("late", taints=[DEDICATED, STARTUP])
    (node,) = (each for each in puller.nodes() or () if each.name == "late")
    assert puller.release_node("late", node.uid, 1, node.taints[1])
    assert taints_of(cluster, "late") == [DEDICATED]


@pytest.mark.parametrize(
    ("index", "taint"),
    [
        (0, STARTUP),
        (2, STARTUP),
        (1, STARTUP | {"value": "b"}),
        (1, {"key": "image-puller.io/startup", "effect": "NoSchedule"}),
        (1, STARTUP | {"timeAdded": "2026-01-15T12:00:00Z"}),
    ],
)
def test_a_taint_that_has_changed_stays(
    puller: KubernetesCluster, cluster: SimulatedCluster, index: int, taint: dict[str, str]
) -> None:
    cluster.join("late", taints=[DEDICATED, STARTUP])
    (node,) = (each for each in puller.nodes() or () if each.name == "late")
    assert not puller.release_node("late", node.uid, index, taint)
    assert taints_of(cluster, "late") == [DEDICATED, STARTUP]


def test_the_taint_of_another_node_of_the_same_name_stays(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    cluster.join("late", taints=[STARTUP])
    assert not puller.release_node("late", "uid of an old node", 0, STARTUP)
    assert taints_of(cluster, "late") == [STARTUP]
    assert not puller.release_node("gone", "uid", 0, STARTUP)


def test_a_node_that_may_not_be_changed_is_an_error(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    cluster.join("late", taints=[STARTUP])
    cluster.forbid("patch", "nodes")
    with pytest.raises(RefusedByClusterError, match="cannot patch resource"):
        puller.release_node("late", "uid", 0, STARTUP)


def test_a_report_is_an_event_about_the_daemonset(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    puller.report("Reason", "long" * 1000)
    (event,) = cluster.events(NAMESPACE)
    assert event["type"] == "Warning"
    assert event["reason"] == "Reason"
    assert len(event["message"]) == 1024
    involved = event["involvedObject"]
    assert (involved["kind"], involved["name"]) == ("DaemonSet", NAME)
    assert "uid" not in involved


def test_an_event_has_what_kubectl_describe_shows(
    api: ApiClient, cluster: SimulatedCluster
) -> None:
    puller = KubernetesCluster(api, CONFIG, now=lambda: at(60))
    uid = puller.create(MANIFEST)["metadata"]["uid"]
    puller.create({**MANIFEST, "metadata": {**MANIFEST["metadata"], "name": "x"}}, dry_run=True)
    puller.report("Solved", "message", is_warning=False)
    (event,) = cluster.events(NAMESPACE)
    assert event["involvedObject"]["uid"] == uid
    assert (event["firstTimestamp"], event["lastTimestamp"]) == ("2026-01-15T12:01:00Z",) * 2
    assert (event["type"], event["count"]) == ("Normal", 1)


def failure(message: str, **times: Any) -> dict[str, Any]:
    """Return an Event of the DaemonSet controller about the DaemonSet `uid`."""
    return {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {"name": str(uuid.uuid4()), "namespace": NAMESPACE},
        "involvedObject": {"uid": "uid", "namespace": NAMESPACE},
        "reason": "FailedCreate",
        "message": message,
        **times,
    }


def test_the_latest_refusal_of_a_pod_is_read_from_the_events(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    assert puller.refusal("uid") is None
    series = {"count": 2, "lastObservedTime": "2026-01-15T12:00:05.000000Z"}
    forbidden = 'pods "kubernetes-image-puller-x2b7q" is forbidden'
    for event in (
        failure("Error creating: none", lastTimestamp=None),
        failure("Error creating: old", lastTimestamp="2026-01-15T12:00:00Z"),
        failure(
            f"(combined from similar events): Error creating: {forbidden}: exceeded quota: few",
            lastTimestamp="2026-01-15T12:00:01Z",
            series=series,
        ),
        failure("Error creating: first", firstTimestamp="2026-01-15T12:00:04Z"),
        {**failure("other", lastTimestamp="2026-01-15T13:00:00Z"), "reason": "SuccessfulCreate"},
        {
            **failure("other", lastTimestamp="2026-01-15T13:00:00Z"),
            "involvedObject": {"uid": "another", "namespace": NAMESPACE},
        },
    ):
        cluster.add(event, NAMESPACE)
    assert puller.refusal("uid") == Refusal(reason="exceeded quota: few", time=at(5))


def test_a_refusal_without_a_message_is_one(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    event = {key: value for key, value in failure("").items() if key != "message"}
    cluster.add(event, NAMESPACE)
    assert puller.refusal("uid") == Refusal(reason="the Event gives no reason")


def test_events_that_the_service_may_not_list_give_no_refusal(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    cluster.fail(status=403, path="/events")
    assert puller.refusal("uid") is None


def test_pulls_of_the_own_pods_are_read_from_the_events_at_once(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    message = 'Successfully pulled image "quay.io/org/app:1.2.4" in 1.5s'
    pods = (f"{NAME}-x2b7q", f"{NAME}-gpu-x2b7q", "another-x2b7q")
    for pod in pods:
        for text in (message, 'Container image "quay.io/org/app:1.2.4" already present'):
            about = {"kind": "Pod", "name": pod, "namespace": NAMESPACE}
            event = failure(text, lastTimestamp="2026-01-15T12:00:00Z")
            cluster.add({**event, "involvedObject": about, "reason": "Pulled"}, NAMESPACE)
    before = len(cluster.requests)
    (pull,) = puller.pulls()
    assert (pull.pod, pull.image, pull.seconds) == (pods[0], "quay.io/org/app:1.2.4", 1.5)
    assert len(cluster.requests) == before + 1
    assert cluster.requests[-1].query["limit"] == "1000"
    cluster.fail(status=403, path="/events")
    assert puller.pulls() == ()


@pytest.mark.parametrize("status", [403, 404, 409, 500])
def test_an_event_that_can_not_be_created_is_only_logged(
    puller: KubernetesCluster,
    cluster: SimulatedCluster,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    cluster.fail(status=status, path="/events")
    puller.report("Reason", "message")
    assert "no Event could be created" in caplog.text


def test_a_cluster_with_openshift_routes_is_openshift(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    assert puller.platform().openshift is False
    cluster.groups.append("route.openshift.io")
    assert puller.platform().openshift is True


@pytest.mark.parametrize("status", [403, 404, 409, 500])
def test_a_platform_that_can_not_be_read_is_unknown(
    puller: KubernetesCluster, cluster: SimulatedCluster, status: int
) -> None:
    cluster.fail(status=status, times=2)
    assert puller.platform() == Platform(openshift=None, owner=None)


def test_the_issuer_of_service_accounts_is_read_with_its_keys(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    keys = {"keys": [{"kid": "1"}]}
    cluster.documents["/.well-known/openid-configuration"] = {"issuer": "https://cluster"}
    cluster.documents["/openid/v1/jwks"] = keys
    issuer, text = puller.issuer()
    assert issuer == "https://cluster"
    assert json.loads(text) == keys


# Pull secrets


def test_pull_secrets_are_read_and_a_missing_one_is_logged(
    api: ApiClient, cluster: SimulatedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.add(pull_secret("mine", "me"), NAMESPACE)
    puller = KubernetesCluster(api, configuration(IMAGE_PULL_SECRETS="missing;mine"))
    assert [secret["metadata"]["name"] for secret in puller.pull_secrets()] == ["mine"]
    assert "pull secret missing can't be read" in caplog.text


# The process itself


def test_a_process_is_its_pod(api: ApiClient, cluster: SimulatedCluster) -> None:
    start_pod(cluster, "mine")
    (pod,) = cluster.pods(NAMESPACE)
    mine = KubernetesCluster(api, CONFIG, host="mine").process()
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    assert mine == Process(name="mine", since=created)
    assert KubernetesCluster(api, CONFIG, host="mine").process() == mine


def test_a_process_asks_only_once_which_pod_it_is(
    api: ApiClient, cluster: SimulatedCluster, installation: Installation
) -> None:
    start_pod(cluster, "mine")
    puller = KubernetesCluster(api, CONFIG, host="mine")
    cluster.fail(method="GET")
    with pytest.raises(ClusterUnavailableError):
        puller.process()
    installation.sent()
    assert puller.process() == puller.process()
    assert installation.sent() == [READ_OWN_POD]


def test_processes_outside_the_cluster_differ_and_are_ordered_by_their_start(
    api: ApiClient,
) -> None:
    first, last = (KubernetesCluster(api, CONFIG, now=lambda: at(0)) for _ in range(2))
    assert last.process().is_younger_than(first.process())
    assert first.process().outside
    assert first.process() == first.process()
    assert first.lives(last.process())


def test_a_process_that_may_not_read_its_pod_says_what_to_do_and_asks_again(
    api: ApiClient, cluster: SimulatedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    start_pod(cluster, "mine")
    puller = KubernetesCluster(api, CONFIG, host="mine")
    cluster.fail(method="GET", path="/pods", status=403)
    assert puller.process().outside
    assert "its Role needs the verb list on pods" in caplog.text
    assert not puller.process().outside


def test_a_process_lives_as_long_as_its_pod(
    puller: KubernetesCluster, api: ApiClient, cluster: SimulatedCluster
) -> None:
    start_pod(cluster, "other")
    other = KubernetesCluster(api, CONFIG, host="other").process()
    assert puller.lives(other)
    cluster.fail(method="GET", path="/pods", status=403)
    assert puller.lives(other)
    end_pod(cluster, "other")
    assert not puller.lives(other)
    start_pod(cluster, "other")  # another pod of that name
    assert not puller.lives(other)


@pytest.mark.parametrize(
    ("phase", "deleted", "lives"),
    [
        ("Pending", None, True),
        ("Running", None, True),
        ("Succeeded", None, False),
        ("Failed", None, False),
        ("Running", -limits.DELETION_SECONDS, True),
        ("Running", -limits.DELETION_SECONDS - 1, False),
        ("Running", 30, True),
    ],
)
def test_a_pod_that_has_ended_is_no_process_although_it_is_still_listed(
    tmp_path: Path, phase: str, deleted: float | None, lives: bool
) -> None:
    metadata = {"name": "other", "creationTimestamp": "2026-01-15T12:00:00Z"}
    if deleted is not None:
        metadata["deletionTimestamp"] = f"{at(3600 + deleted):%Y-%m-%dT%H:%M:%SZ}"
    body = json.dumps(
        {"metadata": {}, "items": [{"metadata": metadata, "status": {"phase": phase}}]}
    )
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    with (
        server_of(answer.encode()) as url,
        connect({"KUBECONFIG": str(kubeconfig_of(url, tmp_path))}) as api,
    ):
        puller = KubernetesCluster(api, CONFIG, now=lambda: at(3600))
        assert puller.lives(Process(name="other", since=at(0))) is lives


def test_a_token_of_the_service_account_that_can_not_be_read_is_an_unavailable_cluster(
    tmp_path: Path, cluster: SimulatedCluster
) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    (tmp_path / "ca.crt").write_text("none")
    _, host, port = cluster.url.replace("//", "").split(":")
    loader = InClusterConfigLoader(
        token_filename=str(token),
        cert_filename=str(tmp_path / "ca.crt"),
        environ={"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port},
    )
    loaded = Configuration()
    loader.load_and_set(loaded)
    loaded.ssl_ca_cert = None
    loader.token_expires_at = datetime.fromtimestamp(0)  # noqa: DTZ006 - as the client does
    token.unlink()
    with ApiClient(loaded) as api, pytest.raises(ClusterUnavailableError, match="token of the"):
        KubernetesCluster(api, CONFIG).read()
