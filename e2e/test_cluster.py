"""How the service reacts to refusals of the API server, and to changes by other clients."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from e2e.harness.deployed import let_see_nodes
from e2e.harness.installation import ACCOUNT, NAME, SECRET, STATE, Installation, deny_tag, reference
from e2e.harness.kubernetes_api import Json
from e2e.harness.sender import notification, post, post_once
from e2e.harness.service import Service
from e2e.harness.workspace import TIMEOUT_SECONDS, http_session, wait_until

MakeService = Callable[..., Service]

APP = reference("team/app", "1.0.0")
OTHER = reference("team/other", "1.0.0")
BOTH = f"app={APP};other={OTHER}"
AT_ONCE = {"ROLLOUT_MIN_INTERVAL_SECONDS": "0"}


def app(tag: str) -> str:
    return reference("team/app", tag)


def other(tag: str) -> str:
    return reference("team/other", tag)


def status(puller: Service) -> Json:
    with http_session() as session:
        answer = session.get(
            f"{puller.url}/status",
            headers={"Authorization": f"Bearer {SECRET}"},
            timeout=TIMEOUT_SECONDS,
        )
        answer.raise_for_status()
        found: Json = answer.json()
        return found


def change(installation: Installation, patch: Json) -> Json:
    return installation.control_plane.admin.patch(installation.path, patch)


def test_the_status_of_a_cluster_without_nodes_is_complete_and_has_no_problem(
    installation: Installation, make_service: MakeService
) -> None:
    admin = installation.control_plane.admin
    assert not admin.get("/api/v1/nodes")["items"], "tests with nodes come later"
    let_see_nodes(installation)
    environment = installation.environment(f"app={APP}", ASK_REGISTRIES="false")
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        installation.wait_for_images(APP)
        installation.settled()
        wait_until(lambda: status(puller)["daemonset"].get("rollout") == "complete", "complete")
        found = status(puller)
        assert found["nodes"] == {}
        assert [(each["held"], each["nodes"]) for each in found["images"]] == [(0, {})]
        assert found["problems"] == []


def test_a_refused_tag_is_reported_and_does_not_stop_the_others(
    installation: Installation, make_service: MakeService
) -> None:
    deny_tag(installation, "1.6.6")
    environment = installation.environment(BOTH, ROLLOUT_MIN_INTERVAL_SECONDS="2")
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        installation.wait_for_images(APP, OTHER)
        # Both wait for the end of the interval, so one template would have both.
        assert post(puller.url, notification("team/app", "1.6.6", "bad")) == 202
        assert post(puller.url, notification("team/other", "1.1.0", "good")) == 202
        installation.wait_for_images(APP, OTHER, other("1.1.0"))
        (refused,) = status(puller)["refused"]
        assert (refused["entry"], refused["tag"]) == ("app", "1.6.6")
        assert "1.6.6 is not allowed" in refused["reason"]
        installation.wait_for_warning("1.6.6 is not allowed")
        # A refused tag is tried again when it is pushed again, not with other tags.
        assert post(puller.url, notification("team/app", "1.1.0", "good")) == 202
        installation.wait_for_images(APP, app("1.1.0"), OTHER, other("1.1.0"))


def test_an_image_refused_at_creation_does_not_stop_the_others(
    installation: Installation, make_service: MakeService
) -> None:
    deny_tag(installation, "1.0.0")
    allowed = reference("team/allowed", "2.0.0")
    environment = installation.environment(f"app={APP};allowed={allowed}")
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        installation.wait_for_images(allowed)
        (refused,) = status(puller)["refused"]
        assert refused["entry"] == "app"
        assert "1.0.0 is not allowed" in refused["reason"]


def test_the_next_check_recreates_a_deleted_daemonset(
    installation: Installation, make_service: MakeService
) -> None:
    environment = installation.environment(f"app={APP}")
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        first = installation.wait_for_images(APP)
        installation.control_plane.admin.delete(installation.path)
        wait_until(lambda: installation.daemonset() is None, "the DaemonSet gone")
        trigger_check_with(puller, installation)
        again = installation.wait_for_images(APP)
    assert again["metadata"]["uid"] != first["metadata"]["uid"]


def test_the_next_push_recreates_a_deleted_daemonset(
    installation: Installation, make_service: MakeService
) -> None:
    environment = installation.environment(f"app={APP}")
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        installation.wait_for_images(APP)
        installation.control_plane.admin.delete(installation.path)
        wait_until(lambda: installation.daemonset() is None, "the DaemonSet gone")
        assert post(puller.url, notification("team/app", "1.1.0", "new")) == 202
        installation.wait_for_images(APP, app("1.1.0"))


def test_a_check_repairs_drift_and_keeps_tracked_tags(
    installation: Installation, make_service: MakeService
) -> None:
    environment = installation.environment(f"app={APP}", **AT_ONCE)
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        installation.wait_for_images(APP)
        assert post(puller.url, notification("team/app", "1.1.0", "new")) == 202
        installation.wait_for_images(APP, app("1.1.0"))
        container = {"name": "app", "image": "example.com/something/else:1"}
        spec = {"template": {"spec": {"containers": [container]}}}
        admin = installation.control_plane.admin
        admin.patch(installation.path, {"spec": spec})
        assert installation.images() == ["example.com/something/else:1"]
        trigger_check_with(puller, installation)
        installation.wait_for_images(APP, app("1.1.0"))


def test_canonical_forms_of_values_are_not_drift(
    installation: Installation, make_service: MakeService
) -> None:
    environment = installation.environment(f"app={APP}", CACHING_CPU_REQUEST=".05")
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        installation.wait_for_images(APP)
        before = installation.settled()
        resources = before["spec"]["template"]["spec"]["containers"][0]["resources"]
        assert resources["requests"]["cpu"] == "50m"
        writes = installation.patches()
        for _ in range(3):
            trigger_check_with(puller, installation)
        assert installation.patches() == writes
        assert installation.daemonset() == before


def test_a_new_configuration_that_a_quota_refuses_leaves_the_old_template(
    installation: Installation, make_service: MakeService
) -> None:
    environment = installation.environment(f"app={APP}")
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        before = installation.wait_for_images(APP)
        puller.terminate()
    quotas = f"/api/v1/namespaces/{installation.namespace}/resourcequotas"
    quota = {"metadata": {"name": "small"}, "spec": {"hard": {"limits.memory": "100Mi"}}}
    installation.control_plane.admin.post(quotas, quota)
    pods = f"/api/v1/namespaces/{installation.namespace}/pods"
    installation.control_plane.wait_until_refused(pods, greedy_pod(), message="exceeded quota")
    greedy = environment | {"CACHING_MEMORY_LIMIT": "200Mi"} | AT_ONCE
    with make_service(greedy, kubeconfig=installation.kubeconfig) as puller:
        wait_until(lambda: status(puller)["daemonset"].get("rollout") == "blocked", "blocked")
        assert any("exceeded quota" in problem for problem in status(puller)["problems"])
        live = installation.daemonset()
        assert live is not None
        assert live["spec"] == before["spec"]
        # A push does not end the block, and is not lost.
        assert post(puller.url, notification("team/app", "1.1.0", "new")) == 202
        assert installation.images() == [APP]
        installation.control_plane.admin.delete(f"{quotas}/small")

        def is_applied_by_a_check() -> bool:
            trigger_check_with(puller, installation)
            return len(installation.images()) == 2

        wait_until(is_applied_by_a_check, "the template applied once the quota is gone")


def test_pods_of_the_template_meet_the_restricted_pod_security_standard(
    installation: Installation, make_service: MakeService
) -> None:
    environment = installation.environment(f"app={APP}")
    with make_service(environment, kubeconfig=installation.kubeconfig):
        live = installation.wait_for_images(APP)
    admin = installation.control_plane.admin
    admin.patch(
        f"/api/v1/namespaces/{installation.namespace}",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
    )
    pods = f"/api/v1/namespaces/{installation.namespace}/pods"
    installation.control_plane.wait_until_refused(
        pods, greedy_pod(), message="violates PodSecurity"
    )
    template = live["spec"]["template"]
    pod = {"metadata": {"name": "probe"}, "spec": template["spec"]}
    admin.post(pods, pod, dryRun="All")


def test_a_daemonset_of_the_original_puller_is_replaced_once(
    installation: Installation, make_service: MakeService
) -> None:
    labels = {"test": "daemonset-test", "app.kubernetes.io/name": "image-puller"}
    original = make_daemonset(installation, labels)
    environment = installation.environment(f"app={APP}")
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        live = installation.wait_for_images(APP)
        assert live["metadata"]["uid"] != original["metadata"]["uid"]
        trigger_check_with(puller, installation)
        again = installation.daemonset()
        assert again is not None
        assert again["metadata"]["uid"] == live["metadata"]["uid"]


def test_a_foreign_daemonset_of_that_name_is_never_touched(
    installation: Installation, make_service: MakeService
) -> None:
    foreign = make_daemonset(installation, {"app": "somebody-elses"})
    environment = installation.environment(f"app={APP}")
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        answer = post_once(puller.url, notification("team/app", "1.1.0", "new"))
        assert answer.status_code == 503
        wait_until(lambda: "belongs to somebody else" in puller.log.read_text(), "the reason")
    live = installation.daemonset()
    assert live is not None
    assert live["metadata"]["uid"] == foreign["metadata"]["uid"]
    assert live["spec"] == foreign["spec"]


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 1}'])
def test_an_unreadable_state_is_rebuilt_from_images_without_restarting_pods(
    installation: Installation, make_service: MakeService, text: str
) -> None:
    environment = installation.environment(f"app={APP}", **AT_ONCE)
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        before = installation.wait_for_images(APP)
        change(installation, {"metadata": {"annotations": {STATE: text}}})
        assert post(puller.url, notification("team/app", "1.1.0", "new")) == 202
        live = installation.wait_for_images(APP, app("1.1.0"))
        assert live["metadata"]["generation"] == before["metadata"]["generation"] + 1
        installation.wait_for_warning("starting again from IMAGES")


def test_a_missing_state_is_written_again_without_restarting_pods(
    installation: Installation, make_service: MakeService
) -> None:
    environment = installation.environment(f"app={APP}", **AT_ONCE)
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        before = installation.wait_for_images(APP)
        change(installation, {"metadata": {"annotations": {STATE: None}}})
        trigger_check_with(puller, installation)
        live = installation.daemonset()
    assert live is not None
    assert live["metadata"]["generation"] == before["metadata"]["generation"]
    assert "app" in json.loads(live["metadata"]["annotations"][STATE])["entries"]


def test_a_state_with_a_newer_schema_is_never_overwritten(
    installation: Installation, make_service: MakeService
) -> None:
    environment = installation.environment(f"app={APP}")
    with make_service(environment, kubeconfig=installation.kubeconfig):
        installation.wait_for_images(APP)
    text = '{"schema":99,"anything":"else"}'
    change(installation, {"metadata": {"annotations": {STATE: text}}})
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        answer = post_once(puller.url, notification("team/app", "1.1.0", "new"))
        assert answer.status_code == 503
        with http_session() as session:
            assert session.get(f"{puller.url}/readyz", timeout=TIMEOUT_SECONDS).status_code == 503
    live = installation.daemonset()
    assert live is not None
    assert live["metadata"]["annotations"][STATE] == text


def test_deleting_the_deployment_deletes_the_daemonset(
    installation: Installation, make_service: MakeService
) -> None:
    admin = installation.control_plane.admin
    deployments = f"/apis/apps/v1/namespaces/{installation.namespace}/deployments"
    template = {
        "metadata": {"labels": {"app": NAME}},
        "spec": {
            "serviceAccountName": ACCOUNT,
            "containers": [{"name": "service", "image": "example.com/service:1"}],
        },
    }
    body = {
        "metadata": {"name": NAME},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": NAME}}, "template": template},
    }
    uid = admin.post(deployments, body)["metadata"]["uid"]
    environment = installation.environment(f"app={APP}")
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        live = installation.wait_for_images(APP)
        (owner,) = live["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Deployment", NAME, uid)
        assert puller.terminate() == 0
    admin.delete(f"{deployments}/{NAME}", propagationPolicy="Background")
    wait_until(lambda: installation.daemonset() is None, "the DaemonSet deleted")


def test_a_push_is_answered_503_while_the_api_server_is_down(
    installation: Installation, make_service: MakeService
) -> None:
    environment = installation.environment(f"app={APP}", **AT_ONCE)
    api_server = installation.control_plane.api_server
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        installation.wait_for_images(APP)
        api_server.stop()
        answer = post_once(puller.url, notification("team/app", "1.1.0", "new"))
        assert answer.status_code == 503
        api_server.start()
        assert post(puller.url, notification("team/app", "1.1.0", "new")) == 202
        installation.wait_for_images(APP, app("1.1.0"))


def make_daemonset(installation: Installation, labels: Mapping[str, str]) -> Json:
    container = {"name": "old", "image": "example.com/old:1"}
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    path = installation.path.rpartition("/")[0]
    return installation.control_plane.admin.post(path, {"metadata": {"name": NAME}, "spec": spec})


def greedy_pod() -> Json:
    limits = {"limits": {"memory": "1Gi"}}
    container = {"name": "probe", "image": "example.com/probe:1", "resources": limits}
    return {"metadata": {"name": "probe"}, "spec": {"containers": [container]}}


def trigger_check_with(puller: Service, installation: Installation) -> None:
    """Trigger a check by the shipped command, until the service accepts it and so has done it."""
    command = (
        str(Path(sys.executable).with_name("image-puller")),
        "trigger-check",
        "--url",
        puller.url,
        "--token-file",
        str(installation.secrets / "events"),
    )
    environment = {"PATH": os.environ["PATH"]}
    wait_until(
        lambda: (
            not subprocess.run(
                command, check=False, env=environment, timeout=TIMEOUT_SECONDS
            ).returncode
        ),
        "a check accepted",
    )
