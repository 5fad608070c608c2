"""The Kubernetes API over the official client: what is asked, and what its answers mean."""

import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes.client import ApiClient

from image_puller.cluster.client import KubernetesCluster, connect
from image_puller.core import daemonset
from image_puller.core.daemonset import Platform
from image_puller.errors import (
    ClusterUnavailableError,
    LostRaceError,
    MissingError,
    RefusedByClusterError,
)
from image_puller.simulation import SimulatedCluster
from tests.support.building import configuration, state_of
from tests.support.installation import NAME, NAMESPACE, Installation, kubeconfig
from tests.support.replica import Replica
from tests.support.waiting import wait_until

CONFIG = configuration()
TEMPLATE = daemonset.template(CONFIG, state_of(CONFIG), Platform())
MANIFEST = daemonset.manifest(CONFIG, state_of(CONFIG), Platform(), "state")
NOTHING = [{"op": "test", "path": "/metadata/name", "value": NAME}]


@pytest.fixture
def puller(api: ApiClient) -> KubernetesCluster:
    return KubernetesCluster(api, CONFIG)


@pytest.fixture
def connected() -> Iterator[Callable[..., KubernetesCluster]]:
    """Connects as the service does, with this environment."""
    clients = []

    def make(**environ: str) -> KubernetesCluster:
        clients.append(connect(environ))
        return KubernetesCluster(clients[-1], CONFIG)

    yield make
    for client in clients:
        client.rest_client.close()


# Connecting


def test_a_kubeconfig_of_the_environment_leads_to_the_api_server(
    cluster: SimulatedCluster, connected: Callable[..., KubernetesCluster], tmp_path: Path
) -> None:
    connected(KUBECONFIG=str(kubeconfig(cluster, tmp_path))).create(MANIFEST)
    assert cluster.daemonset(NAME, NAMESPACE) is not None


def test_so_does_one_in_the_home_directory(
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
def test_a_kubeconfig_that_can_not_be_used_is_said(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "kubeconfig"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ClusterUnavailableError, match=r"run in a pod .* or set KUBECONFIG"):
        connect({"KUBECONFIG": str(file)})


def test_outside_a_pod_and_without_a_kubeconfig_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ClusterUnavailableError, match=r"run in a pod .* or set KUBECONFIG"):
        connect({"HOME": str(tmp_path)})


# What answers mean


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
def test_each_status_is_one_of_few_errors(
    puller: KubernetesCluster, cluster: SimulatedCluster, status: int, error: type[Exception]
) -> None:
    cluster.fail(status=status)
    with pytest.raises(error):
        puller.patch(NOTHING)
    assert len(cluster.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_left_to_the_sender(
    puller: KubernetesCluster, cluster: SimulatedCluster, status: int
) -> None:
    cluster.fail(status=status, retry_after=30)
    with pytest.raises(ClusterUnavailableError):
        puller.read()
    assert len(cluster.requests) == 1


def test_an_api_server_that_is_away_is_unavailable(
    connected: Callable[..., KubernetesCluster], tmp_path: Path
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}],
            "clusters": [
                {
                    "name": "c",
                    "cluster": {"server": f"http://127.0.0.1:{nobody.getsockname()[1]}"},
                }
            ],
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        puller = connected(KUBECONFIG=str(tmp_path / "kubeconfig"))
        with pytest.raises(ClusterUnavailableError, match="can't be reached"):
            puller.read()


def test_a_slow_api_server_is_unavailable(api: ApiClient, cluster: SimulatedCluster) -> None:
    puller = KubernetesCluster(api, configuration(), read_seconds=0.05)
    cluster.delay(10, times=1)
    with pytest.raises(ClusterUnavailableError, match="can't be reached"):
        puller.create(MANIFEST)
    wait_until(lambda: cluster.daemonset(NAME, NAMESPACE) is not None)  # it is created nevertheless


def test_an_answer_that_is_not_json_is_unavailable(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/{NAME}"
    cluster.documents[path] = "<html>a proxy</html>"
    with pytest.raises(ClusterUnavailableError, match="not JSON"):
        puller.read()


def test_a_refusal_that_is_no_status_object_is_told_as_it_is(api: ApiClient) -> None:
    puller = KubernetesCluster(api, configuration(K_SERVICE="x"))
    # Without Knative there is not even its group: the answer is a line of text.
    assert puller.platform() == Platform(openshift=False, owner=None)


# Nodes


def once_watched(cluster: SimulatedCluster, act: Callable[[], None]) -> None:
    """Act in another thread, as soon as nodes are watched."""

    def wait() -> None:
        wait_until(lambda: any("watch" in request.query for request in cluster.requests))
        act()

    threading.Thread(target=wait).start()


def test_a_node_that_joins_is_told_once_and_those_that_were_there_are_not(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    joins = puller.joins()
    once_watched(cluster, lambda: cluster.join("node-4"))
    assert next(joins) == "node-4"
    cluster.join("node-5")
    assert next(joins) == "node-5"


def test_a_node_that_joins_between_two_watches_is_not_missed(
    api: ApiClient, cluster: SimulatedCluster
) -> None:
    puller = KubernetesCluster(api, configuration(), watch_seconds=0)
    lists = itertools.count()

    def join_late() -> None:
        if next(lists) == 2:  # the first list, its watch, then
            cluster.join("node-4")

    cluster.before("GET", join_late, path="/api/v1/nodes", times=10)
    assert next(puller.joins()) == "node-4"


def test_nodes_that_may_not_be_seen_are_said_so(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    cluster.fail(times=2, status=403, path="/api/v1/nodes")
    assert puller.nodes() == ()
    with pytest.raises(RefusedByClusterError):
        next(puller.joins())


def test_a_watch_that_breaks_off_is_unavailable(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    joins = puller.joins()
    once_watched(cluster, cluster.close)
    with pytest.raises(ClusterUnavailableError):
        next(joins)


# The DaemonSet


def test_it_is_made_read_and_changed(puller: KubernetesCluster, installation: Installation) -> None:
    made = puller.create(MANIFEST)
    assert puller.read() == made == installation.live()
    changed = puller.patch([{"op": "add", "path": "/metadata/labels/a", "value": "b"}])
    assert changed["metadata"]["labels"]["a"] == "b"
    assert changed == installation.live()


def test_metadata_alone_has_no_spec(puller: KubernetesCluster) -> None:
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


def test_it_is_deleted_by_its_uid_only(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    uid = puller.create(MANIFEST)["metadata"]["uid"]
    with pytest.raises(LostRaceError):
        puller.delete("another")
    puller.delete(uid)
    assert cluster.daemonset(NAME, NAMESPACE) is None
    assert cluster.requests[-1].json["propagationPolicy"] == "Background"


@pytest.mark.parametrize("act", ["read", "read_metadata", "patch", "delete"])
def test_one_that_is_not_there_is_missing(puller: KubernetesCluster, act: str) -> None:
    arguments = {"patch": (NOTHING,), "delete": ("uid",)}.get(act, ())
    with pytest.raises(MissingError):
        getattr(puller, act)(*arguments)


def test_one_that_is_there_already_is_a_lost_race(puller: KubernetesCluster) -> None:
    puller.create(MANIFEST)
    with pytest.raises(LostRaceError):
        puller.create(MANIFEST)


def test_its_pods_are_those_of_its_selector(
    replica: Callable[..., Replica], cluster: SimulatedCluster
) -> None:
    one, two = replica(), replica(DAEMONSET_NAME="second")
    one.check()
    two.check()
    cluster.settle()
    names = [pod["metadata"]["name"] for pod in one.cluster.pods()]
    assert len(names) == 3
    assert all(name.startswith(NAME) for name in names)


# What is round it


def test_a_pod_is_tried_and_not_made(puller: KubernetesCluster, cluster: SimulatedCluster) -> None:
    puller.admit_pod(TEMPLATE)
    (request,) = cluster.requests
    assert request.dry_run
    assert request.json["spec"] == TEMPLATE["spec"]
    assert request.json["metadata"]["labels"] == TEMPLATE["metadata"]["labels"]
    assert cluster.pods() == []


def test_a_pod_that_is_refused_is_rejected(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    cluster.deny(lambda _pod: True, "violates PodSecurity", status=403, resource="pods")
    with pytest.raises(RefusedByClusterError, match="violates PodSecurity"):
        puller.admit_pod(TEMPLATE)


def test_an_event_says_what_is_wrong_and_with_what(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    puller.report("Reason", "long" * 1000)
    (event,) = cluster.events(NAMESPACE)
    assert event["type"] == "Warning"
    assert event["reason"] == "Reason"
    assert len(event["message"]) == 1024
    involved = event["involvedObject"]
    assert (involved["kind"], involved["name"]) == ("DaemonSet", NAME)


@pytest.mark.parametrize("status", [403, 404, 409, 500])
def test_an_event_that_can_not_be_left_is_only_logged(
    puller: KubernetesCluster,
    cluster: SimulatedCluster,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    cluster.fail(status=status, path="/events")
    puller.report("Reason", "message")
    assert "no Event could be created" in caplog.text


def test_the_platform_is_openshift_where_its_routes_are(
    puller: KubernetesCluster, cluster: SimulatedCluster
) -> None:
    assert puller.platform().openshift is False
    cluster.groups.append("route.openshift.io")
    assert puller.platform().openshift is True


@pytest.mark.parametrize("status", [403, 404, 409, 500])
def test_what_can_not_be_asked_is_not_known(
    puller: KubernetesCluster, cluster: SimulatedCluster, status: int
) -> None:
    cluster.fail(status=status, times=2)
    assert puller.platform() == Platform(openshift=None, owner=None)
