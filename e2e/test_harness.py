"""The control plane and the registry of the harness behave as other tests assume."""

import json
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import kubernetes
import pytest
import requests

from e2e.harness.control_plane import ControlPlane
from e2e.harness.kubernetes_api import ApiError, Json, KubernetesApi
from e2e.harness.oci_images import INDEX, MANIFEST
from e2e.harness.processes import Process, StartError, command_of
from e2e.harness.registry import HOST, Registry, Webhook
from e2e.harness.sink import Sink
from e2e.harness.workspace import ADDRESS, TIMEOUT_SECONDS, Workspace, wait_until

SECRET = "Bearer a secret"

MakeRegistry = Callable[..., Registry]


def test_the_api_server_has_an_address_that_pods_can_reach(control_plane: ControlPlane) -> None:
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
    # After a restart the API server publishes it some seconds later.
    (endpoint,) = wait_until(
        lambda: control_plane.admin.get(path)["endpoints"], "the API server's address"
    )
    assert endpoint["addresses"] == [ADDRESS]


def test_no_route_leads_out_of_the_namespace() -> None:
    _, *routes = Path("/proc/net/route").read_text().splitlines()
    assert {route.split()[0] for route in routes} == {"v0"}  # both ends are in here


def test_there_is_a_route_to_cluster_addresses() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("10.1.0.1", 53))  # sends nothing, but needs a route
        assert probe.getsockname()[0] == ADDRESS


def test_a_token_without_a_role_is_refused(control_plane: ControlPlane, namespace: str) -> None:
    client = control_plane.client(control_plane.token_for(namespace, "default"))
    with pytest.raises(ApiError) as refusal:
        client.get(f"/api/v1/namespaces/{namespace}/configmaps")
    assert refusal.value.code == 403
    assert f"system:serviceaccount:{namespace}:default" in str(refusal.value)


def test_a_role_allows_only_what_it_names(control_plane: ControlPlane, namespace: str) -> None:
    allow_reading_config_maps(control_plane.admin, namespace)
    client = control_plane.client(control_plane.token_for(namespace, "default"))
    wait_until(lambda: may_read(client, f"{namespace}/configmaps"), "the role in force")
    assert not may_read(client, f"{namespace}/secrets")
    assert not may_read(client, "default/configmaps")


def test_the_kubernetes_client_can_use_a_kubeconfig(control_plane: ControlPlane) -> None:
    kubeconfig = control_plane.kubeconfig(control_plane.admin_token)
    with kubernetes.config.new_client_from_config(str(kubeconfig)) as client:
        assert kubernetes.client.VersionApi(client).get_code().minor == str(control_plane.minor)


def test_controllers_create_pods_and_the_scheduler_sees_them(
    control_plane: ControlPlane, namespace: str
) -> None:
    admin = control_plane.admin
    admin.post(f"/apis/apps/v1/namespaces/{namespace}/replicasets", replica_set())

    def conditions() -> list[Json]:
        pods = admin.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
        return [condition for pod in pods for condition in pod["status"].get("conditions", ())]

    (condition,) = wait_until(conditions, "a pod that the scheduler has seen")
    assert condition["reason"] == "Unschedulable"


def test_requests_are_counted_by_verb_resource_and_dry_run(
    control_plane: ControlPlane, namespace: str
) -> None:
    # Secrets, because controllers create none.
    wet = {"verb": "POST", "resource": "secrets", "dry_run": ""}
    dry = wet | {"dry_run": "All"}

    def counts() -> tuple[float, float]:
        name = "apiserver_request_total"
        return control_plane.metric(name, **wet), control_plane.metric(name, **dry)

    wet_before, dry_before = counts()
    path, secret = f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "counted"}}
    control_plane.admin.post(path, secret, dryRun="All")
    control_plane.admin.post(path, secret, dryRun="All")
    control_plane.admin.post(path, secret)
    assert counts() == (wet_before + 1, dry_before + 2)


def test_an_unknown_metric_is_zero(control_plane: ControlPlane) -> None:
    assert control_plane.metric("apiserver_request_total", resource="unheard-of") == 0


def test_a_policy_is_enforced_after_waiting_for_it(
    control_plane: ControlPlane, namespace: str
) -> None:
    admin, message = control_plane.admin, "not under this name"
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    with policy(admin, namespace, "object.metadata.name != 'refused'", message):
        refusal = control_plane.wait_until_refused(path, config_map("refused"), message=message)
        assert refusal.code == 422
        with pytest.raises(ApiError, match=message):
            admin.post(path, config_map("refused"))
        admin.post(path, config_map("accepted"))


def test_objects_survive_a_restart_of_the_api_server(
    control_plane: ControlPlane, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = control_plane.admin.post(path, config_map("kept"))
    token = control_plane.token_for(namespace, "default")
    control_plane.api_server.stop()
    with pytest.raises(requests.ConnectionError):
        control_plane.admin.get(path)
    control_plane.api_server.start()
    assert control_plane.admin.get(f"{path}/kept") == made
    assert not may_read(control_plane.client(token), f"{namespace}/configmaps")  # by 403, not 401


def test_a_program_that_ends_at_once_is_reported_with_its_log(workspace: Workspace) -> None:
    process = program(workspace, "print('no such flag'); raise SystemExit(3)")
    with pytest.raises(StartError, match=r"ended with 3\nno such flag"):
        process.start()


def test_a_program_can_be_stopped_and_started_again(workspace: Workspace) -> None:
    process = program(workspace, "import signal; print('hello', flush=True); signal.pause()")
    process.is_ready = lambda: "hello" in process.log.read_text()
    process.start()
    assert process.stop() == -15
    assert not process.is_running()
    process.start()
    process.kill()
    assert not process.is_running()


def test_another_run_can_adopt_and_restart_a_program(workspace: Workspace) -> None:
    first, second = same_program_twice(workspace)
    first.start()
    second.adopt()
    assert second.is_running()
    assert second.stop() is None
    assert first.stop() == -15
    second.start()
    first.adopt()
    second.kill()
    assert not first.is_running()


def test_a_program_that_has_ended_can_not_be_adopted(workspace: Workspace) -> None:
    first, second = same_program_twice(workspace)
    first.start()
    first.kill()
    with pytest.raises(StartError, match="program does not run any more"):
        second.adopt()


def test_a_program_with_another_command_can_not_be_adopted(workspace: Workspace) -> None:
    first, second = same_program_twice(workspace)
    first.start()
    second.command = (*second.command, "--new-flag")
    with pytest.raises(StartError, match=r"program runs as .*, but now it is .* --new-flag"):
        second.adopt()
    first.kill()


def test_the_digest_of_a_push_depends_on_its_content_alone(make_registry: MakeRegistry) -> None:
    with make_registry() as registry:
        digest = registry.push("team/app", "1.0.0", "one")
        assert registry.digest("team/app", "1.0.0") == digest
        assert registry.push("team/app", "latest", "one") == digest
        assert registry.push("team/app", "latest", "two") != digest
        assert registry.digest("team/app", "1.0.0") == digest
        assert registry.digest("team/app", "unheard-of") is None


def test_the_registry_answers_at_both_addresses(make_registry: MakeRegistry) -> None:
    with make_registry() as registry:
        registry.push("team/app", "1.0.0", "one")
        for host in (HOST, "127.0.0.1:5000"):
            url = f"http://{host}/v2/team/app/tags/list"
            tags = requests.get(url, timeout=TIMEOUT_SECONDS).json()["tags"]
            assert tags == ["1.0.0"]


def test_deleting_a_manifest_deletes_its_tags(make_registry: MakeRegistry) -> None:
    with make_registry() as registry:
        registry.delete("team/app", registry.push("team/app", "1.0.0", "one"))
        assert registry.digest("team/app", "1.0.0") is None


def test_a_push_is_notified_with_the_webhooks_secret(
    make_registry: MakeRegistry, sink: Sink
) -> None:
    with make_registry([webhook(sink)]) as registry:
        digest = registry.push("team/app", "1.0.0", "one")
        (target,) = wait_until(lambda: manifests_announced(sink), "the push at the webhook")
    assert (target["repository"], target["tag"], target["digest"]) == ("team/app", "1.0.0", digest)
    assert {request.path for request in sink.received} == {"/webhooks/distribution"}
    assert {request.headers["authorization"] for request in sink.received} == {SECRET}


def test_an_index_is_notified_after_its_untagged_children(
    make_registry: MakeRegistry, sink: Sink
) -> None:
    with make_registry([webhook(sink)]) as registry:
        digest = registry.push_index("team/app", "1.0.0", "one")
        wait_until(lambda: len(manifests_announced(sink)) == 3, "three manifests at the webhook")
    *children, index = manifests_announced(sink)
    assert not any("tag" in child for child in children)
    assert (index["mediaType"], index["tag"], index["digest"]) == (INDEX, "1.0.0", digest)


def test_two_webhooks_are_notified_of_the_same_push(
    make_registry: MakeRegistry, sink: Sink
) -> None:
    with Sink() as other, make_registry([webhook(sink), webhook(other)]) as registry:
        registry.push("team/app", "1.0.0", "one")
        wait_until(lambda: manifests_announced(sink), "the push at the first webhook")
        wait_until(lambda: manifests_announced(other), "the push at the second webhook")


def test_a_rejected_notification_is_sent_again(make_registry: MakeRegistry, sink: Sink) -> None:
    sink.status = 503
    with make_registry([webhook(sink)]) as registry:
        registry.push("team/app", "1.0.0", "one")
        wait_until(lambda: len(sink.received) >= 3, "the refused request again")
        assert manifests_announced(sink) == []  # the first event blocks all others
        sink.status = 202
        wait_until(lambda: manifests_announced(sink), "the push at the webhook")


def test_images_survive_a_restart_of_the_registry(make_registry: MakeRegistry) -> None:
    with make_registry() as registry:
        digest = registry.push("team/app", "1.0.0", "one")
        registry.stop()
        with pytest.raises(requests.ConnectionError):
            registry.digest("team/app", "1.0.0")
        registry.start()
        assert registry.digest("team/app", "1.0.0") == digest


def allow_reading_config_maps(admin: KubernetesApi, namespace: str) -> None:
    """Let the default service account read ConfigMaps of its own namespace."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}
    admin.post(f"{rbac}/roles", {"metadata": {"name": "reader"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
    }
    admin.post(f"{rbac}/rolebindings", binding)


def may_read(client: KubernetesApi, resource: str) -> bool:
    """Return whether the client may list `namespace/resource`."""
    try:
        client.get(f"/api/v1/namespaces/{resource}")
    except ApiError as error:
        if error.code == 403:
            return False
        raise
    return True


@contextmanager
def policy(admin: KubernetesApi, namespace: str, expression: str, message: str) -> Iterator[None]:
    """Refuse ConfigMaps of a namespace, with this message, unless the expression is true."""
    policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    bindings = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
    config_maps = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
    spec = {
        "matchConstraints": {"resourceRules": [config_maps | {"operations": ["CREATE"]}]},
        "validations": [{"expression": expression, "message": message}],
    }
    admin.post(policies, {"metadata": {"name": namespace}, "spec": spec})
    only_here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    binding = {
        "policyName": namespace,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": only_here},
    }
    admin.post(bindings, {"metadata": {"name": namespace}, "spec": binding})
    try:
        yield
    finally:
        admin.delete(f"{bindings}/{namespace}")
        admin.delete(f"{policies}/{namespace}")


def config_map(name: str) -> Json:
    """Return the manifest of an empty ConfigMap."""
    return {"metadata": {"name": name}}


def replica_set() -> Json:
    """Return the manifest of a ReplicaSet with one pod."""
    labels = {"app": "waiting"}
    container = {"name": "app", "image": f"{HOST}/team/app:1.0.0"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": "waiting"}, "spec": spec}


def program(workspace: Workspace, code: str) -> Process:
    """Return a program that runs a line of Python, and never gets ready."""
    return Process(
        name="program",
        command=(sys.executable, "-c", code),
        environment=workspace.environment(),
        log=workspace.log("program"),
        is_ready=lambda: False,
    )


def same_program_twice(workspace: Workspace) -> tuple[Process, Process]:
    """Return a program that waits, as two runs would make it."""
    pid_file = workspace.folder("adopted") / "pid"
    first = program(workspace, "import signal; signal.pause()")
    first.pid_file = pid_file
    # For a moment after its start a process has no command line.
    first.is_ready = lambda: bool(command_of(int(pid_file.read_text())))
    return first, replace(first)


def webhook(sink: Sink) -> Webhook:
    """Return the sink as a webhook, with the path and the secret of the service."""
    return Webhook(url=f"{sink.url}/webhooks/distribution", authorization=SECRET)


def manifests_announced(sink: Sink) -> list[Json]:
    """Return the targets of notifications about pushed manifests, without those about blobs."""
    events = [event for request in list(sink.received) for event in events_in(request.body)]
    return [
        event["target"]
        for event in events
        if event["action"] == "push" and event["target"].get("mediaType") in (MANIFEST, INDEX)
    ]


def events_in(body: bytes) -> list[Json]:
    """Return the events in a notification of the registry."""
    events: list[Json] = json.loads(body)["events"]
    return events
