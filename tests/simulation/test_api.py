"""The simulated API server beyond the contract: its faults, its records and its watches."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from kubernetes import client

from image_puller.simulation import SimulatedClock, SimulatedCluster
from image_puller.simulation.access import REVIEWS
from image_puller.simulation.store import HISTORY_LENGTH
from tests.support.contract import (
    JSON_PATCH,
    METADATA_ONLY,
    STATE,
    Api,
    container,
    daemon_set,
    operation,
)

NAMESPACE = "k8s-image-puller"
COLLECTION = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets"
PATH = f"{COLLECTION}/puller"
SET = [operation("test", STATE, "1"), operation("replace", STATE, "2")]


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    with SimulatedCluster(nodes=1) as cluster:
        yield cluster


@pytest.fixture
def api(cluster: SimulatedCluster) -> Iterator[Api]:
    with Api(url=cluster.url, token="", namespace=NAMESPACE) as api:
        yield api


@pytest.fixture
def puller(cluster: SimulatedCluster) -> None:
    cluster.add(daemon_set("puller"), NAMESPACE)


def state_of(cluster: SimulatedCluster) -> str:
    live = cluster.daemonset("puller", NAMESPACE)
    assert live
    return str(live["metadata"]["annotations"]["example.com/state"])


# Clients


def test_kubernetes_client_can_use_the_server(cluster: SimulatedCluster) -> None:
    with client.ApiClient(client.Configuration(host=cluster.url)) as connection:
        apps: Any = client.AppsV1Api(connection)  # its types don't accept plain JSON
        core: Any = client.CoreV1Api(connection)
        apps.create_namespaced_daemon_set(NAMESPACE, daemon_set("puller"))
        changed = apps.patch_namespaced_daemon_set("puller", NAMESPACE, SET)
        nodes = core.list_node().items
        with pytest.raises(client.ApiException) as caught:
            apps.patch_namespaced_daemon_set("puller", NAMESPACE, SET)
    assert changed.metadata.annotations["example.com/state"] == "2"
    assert [node.metadata.name for node in nodes] == ["node-1"]
    assert caught.value.status == 422


def test_kubeconfig_has_url_and_token() -> None:
    with SimulatedCluster(nodes=0, token="right") as cluster:
        (entry,), (user,) = cluster.kubeconfig()["clusters"], cluster.kubeconfig()["users"]
        with Api(url=entry["cluster"]["server"], namespace="", **user["user"]) as api:
            assert api.send("GET", "/readyz").text == "ok"


def test_kubeconfig_without_a_token_has_an_empty_user(cluster: SimulatedCluster) -> None:
    assert cluster.kubeconfig()["users"] == [{"name": "simulated", "user": {}}]


def test_request_without_the_token_is_unauthorized() -> None:
    with (
        SimulatedCluster(nodes=0, token="right") as cluster,
        Api(url=cluster.url, token="", namespace="") as api,
    ):
        assert api.send("GET", "/apis").status_code == 401


def test_each_request_is_recorded(cluster: SimulatedCluster, api: Api, puller: None) -> None:
    headers = {"User-Agent": "agent", "Content-Type": f"{JSON_PATCH}; charset=utf-8"}
    api.send("PATCH", PATH, SET, query={"dryRun": "All"}, headers=headers)
    api.send("GET", f"{PATH}-none")
    patch, get = cluster.requests
    assert (patch.method, patch.path, patch.query) == ("PATCH", PATH, {"dryRun": "All"})
    assert (patch.user_agent, patch.content_type) == ("agent", JSON_PATCH)
    assert (patch.dry_run, patch.json, patch.status) == (True, SET, 200)
    assert (get.method, get.dry_run, get.status) == ("GET", False, 404)


def test_close_ends_kept_alive_connections(cluster: SimulatedCluster, api: Api) -> None:
    threads = set(threading.enumerate())
    api.send("GET", "/readyz")
    assert set(threading.enumerate()) - threads
    cluster.close()
    assert not set(threading.enumerate()) - threads
    with pytest.raises(requests.ConnectionError):
        api.send("GET", "/readyz")


def test_close_ends_a_watch(cluster: SimulatedCluster, api: Api) -> None:
    with api.send("GET", "/api/v1/nodes", query={"watch": "true"}, stream=True) as response:
        lines = response.iter_lines()
        assert b'"ADDED"' in next(lines)
        cluster.close()
        # The last chunk may be lost.
        with contextlib.suppress(requests.exceptions.ChunkedEncodingError):
            assert list(lines) == []


# Watching


def test_watch_reports_a_node_that_joins(cluster: SimulatedCluster, api: Api) -> None:
    version = api.send("GET", "/api/v1/nodes").json()["metadata"]["resourceVersion"]
    timer = threading.Timer(0.01, cluster.join, ["node-2"])
    timer.start()
    (change,) = api.watched("/api/v1/nodes", {"resourceVersion": version}, until="ADDED")
    timer.join()
    assert change["object"]["metadata"]["name"] == "node-2"


def test_watch_from_an_empty_list_reports_all_writes_and_watch_from_0_what_exists() -> None:
    with SimulatedCluster(nodes=0) as cluster, Api(url=cluster.url, token="", namespace="") as api:
        listed = api.send("GET", "/api/v1/nodes").json()["metadata"]["resourceVersion"]
        for name in ("deleted", "existing"):
            cluster.join(name)
        cluster.leave("deleted")

        def first_from(version: str) -> Any:
            changes = api.watched("/api/v1/nodes", {"resourceVersion": version}, until="ADDED")
            return next(changes)["object"]["metadata"]["name"]

        assert first_from(listed) == "deleted"
        assert first_from("0") == first_from("") == "existing"


def test_watch_of_nodes_does_not_report_a_write_of_a_daemonset(
    cluster: SimulatedCluster, api: Api, puller: None
) -> None:
    query = {"watch": "true", "timeoutSeconds": "0.05", "resourceVersion": "2"}
    assert api.send("GET", "/api/v1/nodes", query=query).text == ""


def test_watch_from_a_version_that_is_too_old_gets_an_error(
    cluster: SimulatedCluster, api: Api, puller: None
) -> None:
    def count(item: dict[str, Any]) -> None:
        number = int(item["metadata"]["annotations"].get("count", 0))
        item["metadata"]["annotations"]["count"] = str(number + 1)

    for _ in range(HISTORY_LENGTH + 1):
        cluster.change("puller", NAMESPACE, count)
    (change,) = api.watched("/api/v1/nodes", {"resourceVersion": "1"}, until="ERROR")
    assert (change["object"]["code"], change["object"]["reason"]) == (410, "Expired")


# Selecting


@pytest.mark.parametrize(
    ("selector", "count"),
    [
        ("app=puller", 1),
        ("app==puller", 1),
        ("app", 1),
        ("app=other", 0),
        ("app!=other", 1),
        ("app!=puller", 0),
        ("none", 0),
        ("app=puller,none=1", 0),
        ("", 1),
    ],
)
def test_label_selector_selects_pods(
    cluster: SimulatedCluster, api: Api, selector: str, count: int
) -> None:
    manifest = daemon_set("puller")
    del manifest["spec"]["template"]["spec"]["nodeSelector"]
    cluster.add(manifest, NAMESPACE)
    cluster.advance()
    response = api.send("GET", api.core("pods"), query={"labelSelector": selector})
    assert len(response.json()["items"]) == count


def test_field_selector_selects_pods_by_node(cluster: SimulatedCluster, api: Api) -> None:
    response = api.send("GET", api.core("pods"), query={"fieldSelector": "spec.nodeName==node-1"})
    assert response.json()["items"] == []


def test_field_selector_leaves_out_pods_of_a_phase(cluster: SimulatedCluster, api: Api) -> None:
    manifest = daemon_set("puller")
    del manifest["spec"]["template"]["spec"]["nodeSelector"]
    cluster.add(manifest, NAMESPACE)
    cluster.advance()
    (phase,) = {pod["status"]["phase"] for pod in cluster.pods(NAMESPACE)}
    for operator, count in (("=", 1), ("!=", 0)):
        query = {"fieldSelector": f"status.phase{operator}{phase},metadata.name!=x"}
        response = api.send("GET", api.core("pods"), query=query)
        assert len(response.json()["items"]) == count


def test_invalid_label_selector_is_a_bad_request(cluster: SimulatedCluster, api: Api) -> None:
    response = api.send("GET", api.core("pods"), query={"labelSelector": "a=b=c"})
    assert (response.status_code, response.json()["reason"]) == (400, "BadRequest")


# Defaults


def test_volumes_get_their_defaults(cluster: SimulatedCluster) -> None:
    manifest = daemon_set("puller")
    manifest["spec"]["template"]["spec"]["volumes"] += [
        {"name": "empty"},
        {"name": "secret", "secret": {"secretName": "a"}},
        {"name": "config", "configMap": {"name": "a"}},
    ]
    live = cluster.add(manifest, NAMESPACE)
    assert live["spec"]["template"]["spec"]["volumes"][1:] == [
        {"name": "empty", "emptyDir": {}},
        {"name": "secret", "secret": {"secretName": "a", "defaultMode": 420}},
        {"name": "config", "configMap": {"name": "a", "defaultMode": 420}},
    ]


def test_service_account_name_is_copied_to_the_deprecated_field(cluster: SimulatedCluster) -> None:
    manifest = daemon_set("puller")
    manifest["spec"]["template"]["spec"]["serviceAccountName"] = "a"
    live = cluster.add(manifest, NAMESPACE)
    assert live["spec"]["template"]["spec"]["serviceAccount"] == "a"


def test_update_strategy_on_delete_has_no_defaults(cluster: SimulatedCluster) -> None:
    manifest = daemon_set("puller")
    manifest["spec"]["updateStrategy"] = {"type": "OnDelete"}
    assert cluster.add(manifest, NAMESPACE)["spec"]["updateStrategy"] == {"type": "OnDelete"}


# Platforms


def test_owner_objects_can_be_read_but_not_deleted(cluster: SimulatedCluster, api: Api) -> None:
    for kind, version in (("Deployment", "apps/v1"), ("Service", "serving.knative.dev/v1")):
        cluster.add({"kind": kind, "apiVersion": version, "metadata": {"name": "a"}}, NAMESPACE)
    services = f"/apis/serving.knative.dev/v1/namespaces/{NAMESPACE}/services/a"
    assert api.send("GET", f"{api.apps('deployments')}/a").json()["metadata"]["uid"]
    assert api.send("GET", services).json()["metadata"]["uid"]
    assert api.send("DELETE", services).status_code == 405


def test_knative_group_is_unknown_without_knative(cluster: SimulatedCluster, api: Api) -> None:
    services = f"/apis/serving.knative.dev/v1/namespaces/{NAMESPACE}/services/a"
    assert api.send("GET", services).text == "404 page not found\n"


def test_caller_can_add_api_groups_and_documents(cluster: SimulatedCluster, api: Api) -> None:
    cluster.groups.append("route.openshift.io")
    cluster.documents["/openid/v1/jwks"] = {"keys": []}
    groups = [group["name"] for group in api.send("GET", "/apis").json()["groups"]]
    assert groups == ["apps", "route.openshift.io"]
    assert api.send("GET", "/openid/v1/jwks").json() == {"keys": []}


def test_patch_removes_a_taint_of_a_node(cluster: SimulatedCluster, api: Api) -> None:
    cluster.join("new", taints=[{"key": "cold", "effect": "NoSchedule"}])
    response = api.send("PATCH", "/api/v1/nodes/new", [operation("remove", "/spec/taints/0")])
    assert response.status_code == 200
    assert "taints" not in next(
        node["spec"] for node in cluster.nodes() if node["metadata"]["name"] == "new"
    )


def test_partial_metadata_of_a_node_has_no_annotations(cluster: SimulatedCluster, api: Api) -> None:
    response = api.send("GET", "/api/v1/nodes/node-1", headers={"Accept": METADATA_ONLY})
    assert "annotations" not in response.json()["metadata"]


# Admission


def spec_contains(text: str) -> Callable[[dict[str, Any]], bool]:
    return lambda item: text in str(item["spec"])


def test_admission_policy_rejects_a_patch(
    cluster: SimulatedCluster, api: Api, puller: None
) -> None:
    cluster.deny(spec_contains("forbidden"), "not an allowed image")
    path = "/spec/template/spec/containers/0/image"
    response = api.send("PATCH", PATH, [operation("replace", path, "forbidden:1")])
    denial = (
        "ValidatingAdmissionPolicy 'simulated-policy' with binding 'simulated-binding' denied "
        "request: not an allowed image"
    )
    status = response.json()
    assert (response.status_code, status["reason"]) == (422, "Invalid")
    assert status["message"] == f'daemonsets.apps "puller" is forbidden: {denial}'
    assert status["details"] == {
        "name": "puller",
        "group": "apps",
        "kind": "daemonsets",
        "causes": [{"message": denial}],
    }
    assert api.send("PATCH", PATH, SET).status_code == 200


def test_admission_policy_rejects_each_write_until_it_is_removed(
    cluster: SimulatedCluster, api: Api, puller: None
) -> None:
    cluster.deny(spec_contains("nginx"), "no nginx")
    assert api.send("PATCH", PATH, []).status_code == 422
    assert api.send("POST", COLLECTION, daemon_set("other")).status_code == 422
    cluster.allow_everything()
    assert api.send("PATCH", PATH, []).status_code == 200


def test_validating_webhook_rejects_without_details(cluster: SimulatedCluster, api: Api) -> None:
    cluster.deny(lambda _: True, "not today", status=403)
    status = api.send("POST", COLLECTION, daemon_set("puller")).json()
    assert (status["code"], status["reason"]) == (403, "Forbidden")
    message = 'admission webhook "simulated.image-puller.io" denied the request: not today'
    assert status["message"] == message
    assert "details" not in status


def test_quota_rejects_pods_but_no_daemonsets(
    cluster: SimulatedCluster, api: Api, puller: None
) -> None:
    cluster.deny(lambda _: True, "exceeded quota: q", status=403, resource="pods")
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [container("c", "nginx")]}}
    status = api.send("POST", api.core("pods"), pod, query={"dryRun": "All"}).json()
    assert status["message"] == 'pods "a" is forbidden: exceeded quota: q'
    assert status["details"] == {"name": "a", "kind": "pods"}
    assert api.send("PATCH", PATH, SET).status_code == 200


def test_mutating_webhook_for_pods_does_not_change_a_daemonset(cluster: SimulatedCluster) -> None:
    cluster.mutate(lambda item: item["metadata"].update(labels={"a": "b"}), resource="pods")
    assert "labels" not in cluster.add(daemon_set("puller"), NAMESPACE)["metadata"]


def test_mutating_webhook_adds_a_container_to_each_template(
    cluster: SimulatedCluster, api: Api
) -> None:
    def inject(item: dict[str, Any]) -> None:
        containers = item["spec"]["template"]["spec"]["containers"]
        if all(one["name"] != "sidecar" for one in containers):
            containers.append(container("sidecar", "sidecar:1"))

    cluster.mutate(inject)
    api.send("POST", COLLECTION, daemon_set("puller"))
    before = cluster.daemonset("puller", NAMESPACE)
    template = daemon_set("puller")["spec"]["template"]
    api.send("PATCH", PATH, [operation("replace", "/spec/template", template)])
    assert before
    assert len(before["spec"]["template"]["spec"]["containers"]) == 3
    assert cluster.daemonset("puller", NAMESPACE) == before


# Faults


def test_fail_responds_with_the_status_as_often_as_asked(
    cluster: SimulatedCluster, api: Api
) -> None:
    cluster.fail(times=2, status=503, retry_after=7)
    responses = [api.send("GET", "/version") for _ in range(3)]
    assert [response.status_code for response in responses] == [503, 503, 200]
    assert responses[0].headers["Retry-After"] == "7"
    assert responses[0].json()["reason"] == "ServiceUnavailable"


def test_too_many_requests_is_plain_text(cluster: SimulatedCluster, api: Api) -> None:
    cluster.fail(status=429)
    response = api.send("GET", "/version")
    assert response.text == "Too many requests, please try again later.\n"
    assert response.headers["Retry-After"] == "1"


def test_fail_can_be_limited_to_a_method_and_a_path(
    cluster: SimulatedCluster, api: Api, puller: None
) -> None:
    cluster.fail(status=500, method="PATCH", path="/daemonsets/")
    assert api.send("GET", PATH).status_code == 200
    assert api.send("PATCH", "/api/v1/nodes/node-1", []).status_code == 200
    assert api.send("PATCH", PATH, SET).status_code == 500
    assert state_of(cluster) == "1"


def test_before_lets_another_client_write_first(
    cluster: SimulatedCluster, api: Api, puller: None
) -> None:
    def write() -> None:
        cluster.change(
            "puller",
            NAMESPACE,
            lambda item: item["metadata"]["annotations"].update({"example.com/state": "9"}),
        )

    cluster.before("PATCH", write)
    assert api.send("PATCH", PATH, SET).status_code == 422
    assert state_of(cluster) == "9"


def test_hang_up_before_serving_changes_nothing(
    cluster: SimulatedCluster, api: Api, puller: None
) -> None:
    cluster.hang_up(method="PATCH")
    with pytest.raises(requests.ConnectionError):
        api.send("PATCH", PATH, SET)
    assert state_of(cluster) == "1"
    assert cluster.requests[-1].status == 0


def test_hang_up_after_serving_keeps_the_change(
    cluster: SimulatedCluster, api: Api, puller: None
) -> None:
    cluster.hang_up(method="PATCH", served=True)
    with pytest.raises(requests.ConnectionError):
        api.send("PATCH", PATH, SET)
    assert state_of(cluster) == "2"


def test_delay_sends_the_response_later(cluster: SimulatedCluster, api: Api) -> None:
    cluster.delay(0.05)
    start = time.monotonic()
    api.send("GET", "/version")
    assert time.monotonic() - start >= 0.05


def test_close_does_not_wait_for_a_delayed_response(cluster: SimulatedCluster, api: Api) -> None:
    cluster.delay(60)

    def send() -> None:
        with contextlib.suppress(requests.ConnectionError):
            api.send("GET", "/version")

    sender, received = threading.Thread(target=send), threading.Event()
    cluster.before("GET", received.set)
    sender.start()
    received.wait()
    cluster.close()
    sender.join(timeout=5.0)
    assert not sender.is_alive()


def test_bug_of_the_simulation_is_printed(
    cluster: SimulatedCluster, api: Api, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    cluster.before("GET", fail)
    with pytest.raises(requests.ConnectionError):
        api.send("GET", "/version")
    assert "a bug" in capfd.readouterr().err


# Time


def test_clock_is_advanced_and_never_goes_back() -> None:
    clock = SimulatedClock(100.0)
    clock.advance_to(160.0)
    clock.advance_to(130.0)
    assert clock() == 160.0


def test_running_clock_shows_real_time() -> None:
    clock = SimulatedClock(100.0)
    clock.run()
    clock.run()
    clock.advance_to(1000.0)
    assert 100.0 <= clock() < 101.0


# Rights


def review(verb: str, resource: str, group: str = "") -> dict[str, Any]:
    attributes = {"verb": verb, "group": group, "resource": resource, "namespace": NAMESPACE}
    return {"spec": {"resourceAttributes": attributes}}


def test_a_right_that_was_taken_away_is_denied_and_refused(
    cluster: SimulatedCluster, api: Api
) -> None:
    cluster.forbid("create", "pods")
    cluster.forbid("watch", "nodes")
    for verb, resource, allowed in (
        ("create", "pods", False),
        ("list", "pods", True),
        ("watch", "nodes", False),
        ("list", "nodes", True),
    ):
        answer = api.send("POST", REVIEWS, review(verb, resource))
        assert (answer.status_code, answer.json()["status"]) == (201, {"allowed": allowed})
    refused = api.send("POST", api.core("pods"), {"metadata": {"name": "a"}})
    assert refused.status_code == 403
    assert refused.json()["message"] == (
        'pods is forbidden: User "simulated" cannot create resource "pods" in API group "" in the '
        f'namespace "{NAMESPACE}"'
    )
    watch = api.send("GET", "/api/v1/nodes", query={"watch": "true"})
    assert watch.json()["message"].endswith('in API group "" at the cluster scope')
    assert api.send("GET", "/api/v1/nodes").status_code == 200


@pytest.mark.parametrize("verb", ["get", "patch", "delete"])
def test_a_refused_request_names_its_object(
    cluster: SimulatedCluster, api: Api, puller: None, verb: str
) -> None:
    cluster.forbid(verb, "daemonsets")
    message = api.send(verb.upper(), PATH, SET if verb == "patch" else None).json()["message"]
    assert message.startswith('daemonsets.apps "puller" is forbidden: User "simulated" cannot')
