"""The simulated nodes: how they run the pods of a DaemonSet while time passes."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from image_puller.simulation import SimulatedClock, SimulatedCluster
from image_puller.simulation.responses import ApiError
from tests.support.contract import container

Json = dict[str, Any]

NAMESPACE = "k8s-image-puller"
NGINX = "docker.io/library/nginx"
DIGEST = f"sha256:{'a' * 64}"
OTHER_DIGEST = f"sha256:{'b' * 64}"
INVALID_NAME = '"BAD": couldn\'t parse image name "BAD": invalid reference format'


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    with SimulatedCluster(nodes=3, clock=SimulatedClock(0.0)) as cluster:
        yield cluster


def daemon_set(*containers: Json, **pod: object) -> Json:
    labels = {"app": "puller"}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "puller"},
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": "100%"}},
            "template": {
                "metadata": {"labels": labels, "annotations": {"digests": "1"}},
                "spec": {"containers": list(containers), **pod},
            },
        },
    }


def change_image(cluster: SimulatedCluster, image: str) -> None:
    cluster.change(
        "puller",
        NAMESPACE,
        lambda item: item["spec"]["template"]["spec"]["containers"][0].update(image=image),
    )


def images(cluster: SimulatedCluster) -> list[str]:
    return [pod["spec"]["containers"][0]["image"] for pod in cluster.pods()]


def status(cluster: SimulatedCluster) -> Json:
    live = cluster.daemonset("puller", NAMESPACE)
    assert live
    found: Json = live["status"]
    return found


def pod_on(cluster: SimulatedCluster, node: str) -> Json:
    (pod,) = [pod for pod in cluster.pods() if pod["spec"]["nodeName"] == node]
    return pod


def waiting_state(cluster: SimulatedCluster, name: str, node: str = "node-1") -> Json:
    statuses = pod_on(cluster, node)["status"]["containerStatuses"]
    (found,) = [one["state"].get("waiting", {}) for one in statuses if one["name"] == name]
    reason: Json = found
    return reason


def nodes_of_pods(cluster: SimulatedCluster) -> list[str]:
    return sorted(pod["spec"]["nodeName"] for pod in cluster.pods())


# Rolling out


def test_each_node_gets_a_pod_of_the_template(cluster: SimulatedCluster) -> None:
    live = cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
    cluster.advance()
    pod = pod_on(cluster, "node-2")
    assert nodes_of_pods(cluster) == ["node-1", "node-2", "node-3"]
    assert pod["metadata"]["generateName"] == "puller-"
    assert pod["metadata"]["annotations"] == {"digests": "1"}
    labels = pod["metadata"]["labels"]
    assert (labels["app"], labels["pod-template-generation"]) == ("puller", "1")
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("DaemonSet", live["metadata"]["uid"])
    assert waiting_state(cluster, "a") == {"reason": "ContainerCreating"}
    assert status(cluster) == {
        "currentNumberScheduled": 3,
        "desiredNumberScheduled": 3,
        "numberMisscheduled": 0,
        "numberReady": 0,
        "numberUnavailable": 3,
        "observedGeneration": 1,
        "updatedNumberScheduled": 3,
    }


def test_status_change_changes_the_version_but_not_the_generation(
    cluster: SimulatedCluster,
) -> None:
    before = cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)["metadata"]
    cluster.settle()
    live = cluster.daemonset("puller", NAMESPACE)
    assert live
    assert int(live["metadata"]["resourceVersion"]) > int(before["resourceVersion"])
    assert live["metadata"]["generation"] == 1


def test_containers_start_one_after_another(cluster: SimulatedCluster) -> None:
    cluster.pull_seconds["nginx:1"] = 5.0
    cluster.pull_seconds[f"{NGINX}:2"] = 7.0
    cluster.add(daemon_set(container("a", "nginx:1"), container("b", "nginx:2")), NAMESPACE)
    cluster.advance(1.0)
    assert waiting_state(cluster, "a") == {"reason": "ContainerCreating"}
    cluster.advance(4.2)
    assert [waiting_state(cluster, name) for name in "ab"] == [{}, {"reason": "ContainerCreating"}]
    cluster.advance(7.0)
    pod = pod_on(cluster, "node-1")
    started = [one["state"]["running"]["startedAt"] for one in pod["status"]["containerStatuses"]]
    assert started == ["1970-01-01T00:00:05Z", "1970-01-01T00:00:12Z"]
    assert pod["status"]["phase"] == "Running"
    assert status(cluster)["numberAvailable"] == 3
    assert "numberUnavailable" not in status(cluster)


def test_command_in_a_volume_runs_after_a_hook_installed_it(cluster: SimulatedCluster) -> None:
    mounts = {"volumeMounts": [{"name": "kip", "mountPath": "/kip"}]}
    hook = {"postStart": {"exec": {"command": ["/sleep", "--install", "/kip/sleep"]}}}
    cluster.unpullable["kip:1"] = "not found"
    cluster.add(
        daemon_set(
            container("installer", "kip:1", lifecycle=hook, **mounts),
            container("a", "nginx:1", command=["/kip/sleep"], **mounts),
            volumes=[{"name": "kip"}],
        ),
        NAMESPACE,
    )
    cluster.advance(2.3)
    assert waiting_state(cluster, "a")["reason"] == "RunContainerError"
    assert waiting_state(cluster, "a")["message"].endswith(
        "/kip/sleep: no such file or directory: unknown"
    )
    cluster.advance(1.0)
    assert waiting_state(cluster, "a")["reason"] == "CrashLoopBackOff"
    del cluster.unpullable["kip:1"]
    cluster.settle()
    assert [waiting_state(cluster, name) for name in ("installer", "a")] == [{}, {}]


def test_new_template_replaces_all_pods_at_once(cluster: SimulatedCluster) -> None:
    cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
    cluster.settle()
    before = {pod["metadata"]["uid"] for pod in cluster.pods()}
    change_image(cluster, "nginx:2")
    cluster.advance()
    pods = cluster.pods()
    assert len(pods) == 3
    assert not before & {pod["metadata"]["uid"] for pod in pods}
    assert {pod["metadata"]["labels"]["pod-template-generation"] for pod in pods} == {"2"}
    assert status(cluster)["numberReady"] == 0


def test_max_unavailable_limits_how_many_pods_are_replaced_at_once(
    cluster: SimulatedCluster,
) -> None:
    manifest = daemon_set(container("a", "nginx:1"))
    manifest["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = 1
    cluster.add(manifest, NAMESPACE)
    cluster.settle()
    change_image(cluster, "nginx:2")
    cluster.advance()
    assert (status(cluster)["updatedNumberScheduled"], status(cluster)["numberReady"]) == (1, 2)
    cluster.settle()
    assert (status(cluster)["updatedNumberScheduled"], status(cluster)["numberReady"]) == (3, 3)


def test_pods_that_are_not_ready_are_replaced_despite_max_unavailable(
    cluster: SimulatedCluster,
) -> None:
    manifest = daemon_set(container("a", "nginx:1"))
    manifest["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = 1
    cluster.add(manifest, NAMESPACE)
    cluster.advance()
    change_image(cluster, "nginx:2")
    cluster.advance()
    assert status(cluster)["updatedNumberScheduled"] == 3


def test_pods_that_are_not_ready_count_against_max_unavailable(cluster: SimulatedCluster) -> None:
    manifest = daemon_set(container("a", "nginx:1"))
    manifest["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = 1
    cluster.add(manifest, NAMESPACE)
    cluster.settle()
    for image in ("nginx:2", "nginx:3"):
        change_image(cluster, image)
        cluster.advance()
        assert status(cluster)["updatedNumberScheduled"] == 1


def test_update_strategy_on_delete_replaces_no_pod(cluster: SimulatedCluster) -> None:
    manifest = daemon_set(container("a", "nginx:1"))
    manifest["spec"]["updateStrategy"] = {"type": "OnDelete"}
    cluster.add(manifest, NAMESPACE)
    cluster.settle()
    change_image(cluster, "nginx:2")
    cluster.advance()
    assert status(cluster).get("updatedNumberScheduled") is None
    assert status(cluster)["numberReady"] == 3


def test_pods_are_deleted_with_their_daemonset(cluster: SimulatedCluster) -> None:
    cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
    cluster.settle()
    cluster.delete("puller", NAMESPACE)
    cluster.advance()
    assert cluster.pods() == []


def test_rejected_pods_are_created_once_they_are_allowed(cluster: SimulatedCluster) -> None:
    cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
    cluster.deny(lambda _: True, "violates PodSecurity", status=403, resource="pods")
    cluster.advance()
    assert cluster.pods() == []
    assert status(cluster)["currentNumberScheduled"] == 0
    cluster.allow_everything()
    cluster.advance()
    assert len(cluster.pods()) == 3


def test_no_pod_is_replaced_while_one_is_refused(cluster: SimulatedCluster) -> None:
    """As with the real controller, which creates the missing pods first."""
    cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
    cluster.settle()
    cluster.deny(lambda _: True, "exceeded quota", status=403, resource="pods")
    cluster.join("late")
    change_image(cluster, "nginx:2")
    cluster.settle()
    assert images(cluster) == ["nginx:1"] * 3
    cluster.allow_everything()
    cluster.settle()
    assert images(cluster) == ["nginx:2"] * 4


def test_daemonset_can_be_deleted_while_its_pods_are_created(cluster: SimulatedCluster) -> None:
    def delete(_: Json) -> None:
        if cluster.daemonset("puller", NAMESPACE):
            cluster.delete("puller", NAMESPACE)

    cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
    cluster.mutate(delete, resource="pods")
    cluster.settle()
    assert cluster.pods() == []


def test_pod_without_an_owner_is_not_changed(cluster: SimulatedCluster) -> None:
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [container("c", "nginx")]}}
    cluster.add({"apiVersion": "v1", "kind": "Pod", **pod}, NAMESPACE)
    cluster.settle()
    assert [pod["status"]["phase"] for pod in cluster.pods(NAMESPACE)] == ["Pending"]


# Images


def test_each_image_has_its_own_digest(cluster: SimulatedCluster) -> None:
    cluster.add(daemon_set(container("a", "nginx:1"), container("b", "nginx:2")), NAMESPACE)
    cluster.settle()
    ids = {one["imageID"] for pod in cluster.pods() for one in pod["status"]["containerStatuses"]}
    assert len(ids) == 2
    assert all(one.startswith(f"{NGINX}@sha256:") for one in ids)


def test_pull_gets_the_digest_that_is_set(cluster: SimulatedCluster) -> None:
    cluster.images["nginx:1"] = DIGEST
    cluster.images[f"{NGINX}:2"] = OTHER_DIGEST
    pinned = f"nginx:3@{DIGEST}"
    images = ("nginx:1", "nginx:2", pinned)
    cluster.add(
        daemon_set(*(container(f"c{n}", image) for n, image in enumerate(images))), NAMESPACE
    )
    cluster.settle()
    statuses = pod_on(cluster, "node-1")["status"]["containerStatuses"]
    digests = [one["imageID"].removeprefix(f"{NGINX}@") for one in statuses]
    assert digests == [DIGEST, OTHER_DIGEST, DIGEST]
    assert cluster.images_on("node-1") == {
        f"{NGINX}:1": DIGEST,
        f"{NGINX}:2": OTHER_DIGEST,
        f"{NGINX}@{DIGEST}": DIGEST,
        f"{NGINX}@{OTHER_DIGEST}": OTHER_DIGEST,
    }


def test_mutated_tag_is_pulled_only_with_pull_policy_always(cluster: SimulatedCluster) -> None:
    images = container("a", "nginx:1"), container("b", "nginx:latest")
    cluster.images.update({"nginx:1": DIGEST, "nginx:latest": DIGEST})
    cluster.add(daemon_set(*images), NAMESPACE)
    cluster.settle()
    cluster.images.update({"nginx:1": OTHER_DIGEST, "nginx:latest": OTHER_DIGEST})
    cluster.change(
        "puller",
        NAMESPACE,
        lambda item: item["spec"]["template"]["metadata"]["annotations"].update(digests="2"),
    )
    cluster.settle()
    statuses = pod_on(cluster, "node-1")["status"]["containerStatuses"]
    assert [one["imageID"] for one in statuses] == [
        f"{NGINX}@{DIGEST}",
        f"{NGINX}@{OTHER_DIGEST}",
    ]


def test_image_on_the_node_takes_no_time_to_pull(cluster: SimulatedCluster) -> None:
    cluster.add(daemon_set(container("a", "nginx:1"), container("b", "nginx:latest")), NAMESPACE)
    cluster.settle()
    change_image(cluster, "nginx:latest")
    cluster.advance(0.5)
    assert status(cluster)["numberReady"] == 3


@pytest.mark.parametrize("name", ["nginx:1", f"{NGINX}:1"])
def test_unpullable_image_delays_no_other_image(cluster: SimulatedCluster, name: str) -> None:
    cluster.unpullable[name] = "not found"
    cluster.add(daemon_set(container("a", "nginx:1"), container("b", "nginx:2")), NAMESPACE)
    message = (
        "rpc error: code = NotFound desc = failed to pull and unpack image "
        f'"{NGINX}:1": failed to resolve reference "{NGINX}:1": not found'
    )
    cluster.advance(1.0)
    assert waiting_state(cluster, "a") == {"reason": "ErrImagePull", "message": message}
    cluster.advance(2.0)
    assert waiting_state(cluster, "a") == {
        "reason": "ImagePullBackOff",
        "message": f'Back-off pulling image "nginx:1": ErrImagePull: {message}',
    }
    assert waiting_state(cluster, "b") == {}
    assert status(cluster)["numberReady"] == 0


def test_failed_pull_is_tried_again(cluster: SimulatedCluster) -> None:
    cluster.unpullable["nginx:1"] = "not found"
    cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
    cluster.advance(100.0)
    cluster.unpullable.clear()
    cluster.settle()
    assert status(cluster)["numberReady"] == 3


def test_an_image_can_be_unpullable_on_one_node(cluster: SimulatedCluster) -> None:
    cluster.unpullable_on("node-2")["nginx:1"] = "no space left on device"
    cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
    cluster.advance(60.0)
    assert status(cluster)["numberReady"] == 2
    assert f"{NGINX}:1" not in cluster.images_on("node-2")


def test_settle_ends_although_an_image_is_unpullable(cluster: SimulatedCluster) -> None:
    cluster.unpullable["nginx:1"] = "not found"
    cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
    cluster.settle()
    assert waiting_state(cluster, "a")["reason"] in ("ErrImagePull", "ImagePullBackOff")


@pytest.mark.parametrize(
    ("image", "policy", "reason", "message"),
    [
        (
            "BAD",
            "Always",
            "InvalidImageName",
            f"Failed to apply default image tag {INVALID_NAME}",
        ),
        (
            "nginx:1",
            "Never",
            "ErrImageNeverPull",
            'Container image "nginx:1" is not present with pull policy of Never',
        ),
    ],
)
def test_invalid_name_and_pull_policy_never_are_reported_without_a_pull(
    cluster: SimulatedCluster, image: str, policy: str, reason: str, message: str
) -> None:
    cluster.add(daemon_set(container("a", image, imagePullPolicy=policy)), NAMESPACE)
    cluster.advance(20.0)
    assert waiting_state(cluster, "a") == {"reason": reason, "message": message}


# Nodes


def test_node_that_joins_gets_a_pod(cluster: SimulatedCluster) -> None:
    cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
    cluster.settle()
    cluster.join("node-4")
    cluster.advance()
    assert waiting_state(cluster, "a", "node-4") == {"reason": "ContainerCreating"}
    assert (status(cluster)["desiredNumberScheduled"], status(cluster)["numberReady"]) == (4, 3)


def test_pod_is_deleted_with_its_node(cluster: SimulatedCluster) -> None:
    cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
    cluster.advance()
    cluster.leave("node-3")
    cluster.settle()
    assert nodes_of_pods(cluster) == ["node-1", "node-2"]
    assert status(cluster)["desiredNumberScheduled"] == 2


def test_stopped_node_is_not_ready_and_keeps_its_pod(cluster: SimulatedCluster) -> None:
    cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
    cluster.settle()
    cluster.kill("node-1")
    before = pod_on(cluster, "node-1")["metadata"]["uid"]
    change_image(cluster, "nginx:2")
    cluster.settle()
    pod = pod_on(cluster, "node-1")
    assert pod["metadata"]["uid"] == before
    assert "deletionTimestamp" in pod["metadata"]
    assert (status(cluster)["desiredNumberScheduled"], status(cluster)["numberReady"]) == (3, 2)
    cluster.revive("node-1")
    cluster.settle()
    assert pod_on(cluster, "node-1")["metadata"]["uid"] != before
    assert status(cluster)["numberReady"] == 3


def test_node_that_stopped_during_a_pull_pulls_again(cluster: SimulatedCluster) -> None:
    cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
    cluster.advance(1.0)
    cluster.kill("node-1")
    cluster.settle()
    assert status(cluster)["numberReady"] == 2
    cluster.revive("node-1")
    cluster.settle()
    assert status(cluster)["numberReady"] == 3


def test_stopped_node_starts_no_pod(cluster: SimulatedCluster) -> None:
    cluster.kill("node-1")
    cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
    cluster.settle()
    assert pod_on(cluster, "node-1")["status"] == {"phase": "Pending"}
    cluster.delete("puller", NAMESPACE)
    cluster.settle()
    cluster.settle()
    assert nodes_of_pods(cluster) == ["node-1"]


def test_node_selector_limits_the_nodes(cluster: SimulatedCluster) -> None:
    cluster.join("windows", labels={"kubernetes.io/os": "windows"})
    selector = {"kubernetes.io/os": "linux"}
    cluster.add(daemon_set(container("a", "nginx:1"), nodeSelector=selector), NAMESPACE)
    cluster.settle()
    assert nodes_of_pods(cluster) == ["node-1", "node-2", "node-3"]


def test_pods_are_deleted_from_nodes_that_are_no_longer_selected(cluster: SimulatedCluster) -> None:
    cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
    cluster.settle()
    cluster.kill("node-1")
    cluster.change(
        "puller",
        NAMESPACE,
        lambda item: item["spec"]["template"]["spec"].update(nodeSelector={"no": "node"}),
    )
    cluster.advance()
    cluster.advance()
    assert nodes_of_pods(cluster) == ["node-1"]
    assert status(cluster)["desiredNumberScheduled"] == 0


@pytest.mark.parametrize(
    ("taint", "toleration", "fits"),
    [
        ({"key": "a", "effect": "NoSchedule"}, {}, False),
        ({"key": "a", "effect": "PreferNoSchedule"}, {}, True),
        ({"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}, {}, True),
        ({"key": "a", "effect": "NoSchedule"}, {"operator": "Exists"}, True),
        ({"key": "a", "effect": "NoSchedule"}, {"key": "a", "operator": "Exists"}, True),
        ({"key": "a", "effect": "NoSchedule"}, {"key": "b", "operator": "Exists"}, False),
        (
            {"key": "a", "effect": "NoExecute"},
            {"key": "a", "operator": "Exists", "effect": "NoSchedule"},
            False,
        ),
        ({"key": "a", "value": "1", "effect": "NoSchedule"}, {"key": "a", "value": "1"}, True),
        ({"key": "a", "value": "1", "effect": "NoSchedule"}, {"key": "a", "value": "2"}, False),
    ],
)
def test_pod_runs_on_a_tainted_node_only_if_it_tolerates_the_taint(
    cluster: SimulatedCluster, taint: Json, toleration: Json, *, fits: bool
) -> None:
    cluster.join("tainted", taints=[taint])
    tolerations = [toleration] if toleration else []
    cluster.add(daemon_set(container("a", "nginx:1"), tolerations=tolerations), NAMESPACE)
    cluster.advance()
    assert ("tainted" in nodes_of_pods(cluster)) is fits


def test_nodes_have_labels_and_a_creation_time(cluster: SimulatedCluster) -> None:
    (node, *_) = cluster.nodes()
    assert node["metadata"]["name"] == "node-1"
    assert node["metadata"]["creationTimestamp"] == "1970-01-01T00:00:00Z"
    assert node["metadata"]["labels"]["kubernetes.io/os"] == "linux"


def test_missing_objects_are_none_and_their_deletion_fails(cluster: SimulatedCluster) -> None:
    assert cluster.daemonset("puller", NAMESPACE) is None
    assert cluster.events() == []
    with pytest.raises(ApiError, match="not found"):
        cluster.delete("puller", NAMESPACE)


# Real time


def test_running_cluster_starts_pods_in_real_time() -> None:
    with SimulatedCluster(nodes=2, pull_seconds=0.01) as cluster:
        cluster.run()
        cluster.run()
        cluster.add(daemon_set(container("a", "nginx:1")), NAMESPACE)
        deadline = time.monotonic() + 5.0
        while status(cluster)["numberReady"] < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert status(cluster)["numberReady"] == 2


def test_nodes_of_a_cluster_with_only_images_pull_no_other_image() -> None:
    clock = SimulatedClock(0.0)
    with SimulatedCluster(nodes=1, clock=clock, only_images=True) as cluster:
        cluster.images[f"{NGINX}:1.0.0"] = DIGEST
        cluster.add(daemon_set(container("c", "nginx:1.0.0")), NAMESPACE)
        cluster.settle()
        assert cluster.images_on("node-1")[f"{NGINX}:1.0.0"] == DIGEST
        change_image(cluster, "nginx:1.0.1")
        cluster.advance(0.25)
        state = waiting_state(cluster, "c")
        assert state["reason"] == "ErrImagePull"
        assert state["message"].endswith(f"{NGINX}:1.0.1: not found")
        cluster.images[f"{NGINX}:1.0.1"] = OTHER_DIGEST
        cluster.settle()
        assert cluster.images_on("node-1")[f"{NGINX}:1.0.1"] == OTHER_DIGEST


# What goes wrong on nodes


def failures(cluster: SimulatedCluster) -> list[tuple[str, int]]:
    """Return the messages and counts of the Events about pods that can't be created."""
    events = cluster.events(NAMESPACE)
    return [(e["message"], e["count"]) for e in events if e["reason"] == "FailedCreate"]


def test_rejected_pod_is_reported_by_an_event_that_is_counted(cluster: SimulatedCluster) -> None:
    cluster.deny(lambda _pod: True, "no pods today", resource="pods")
    cluster.add(daemon_set(container("app", "quay.io/org/app:1")), NAMESPACE)
    cluster.advance()
    ((message, count),) = failures(cluster)
    assert message.startswith('Error creating: pods "puller-')
    assert message.endswith("no pods today")
    assert count == 1
    cluster.advance(5)
    cluster.advance()
    ((_, count),) = failures(cluster)
    assert count == 2


def test_pod_for_a_full_node_is_pending_until_there_is_room(cluster: SimulatedCluster) -> None:
    cluster.fill("node-2")
    cluster.add(daemon_set(container("app", "quay.io/org/app:1")), NAMESPACE)
    cluster.settle()
    (pod,) = (pod for pod in cluster.pods() if "nodeName" not in pod["spec"])
    (scheduled,) = pod["status"]["conditions"]
    assert (pod["status"]["phase"], scheduled["reason"]) == ("Pending", "Unschedulable")
    assert scheduled["message"] == (
        "0/3 nodes are available: 1 Too many pods, 2 node(s) didn't satisfy plugin(s) "
        "[NodeAffinity]."
    )
    affinity = pod["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchFields"][0]["values"] == ["node-2"]
    cluster.free("node-2")
    cluster.settle()
    assert len([pod for pod in cluster.pods() if "nodeName" in pod["spec"]]) == 3


def test_pending_pod_is_deleted_with_its_daemonset() -> None:
    with SimulatedCluster(nodes=1) as cluster:
        cluster.fill("node-1", "Insufficient cpu")
        cluster.add(daemon_set(container("app", "quay.io/org/app:1")), NAMESPACE)
        cluster.advance()
        (pod,) = cluster.pods()
        assert pod["status"]["conditions"][0]["message"] == (
            "0/1 nodes are available: 1 Insufficient cpu."
        )
        cluster.delete("puller", NAMESPACE)
        cluster.advance()
        assert cluster.pods() == []


def test_container_that_ends_is_started_again_later(cluster: SimulatedCluster) -> None:
    image = "quay.io/org/app:1"
    cluster.crashing[image] = ("OOMKilled", 137)
    cluster.add(daemon_set(container("app", image)), NAMESPACE)
    cluster.advance(60)
    status = cluster.pods()[0]["status"]["containerStatuses"][0]
    assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert status["lastState"]["terminated"]["exitCode"] == 137
    assert status["restartCount"] > 1
    del cluster.crashing[image]
    cluster.settle()
    assert "running" in cluster.pods()[0]["status"]["containerStatuses"][0]["state"]


def test_node_lists_its_images_by_digest_and_by_tag(cluster: SimulatedCluster) -> None:
    image, digest = "quay.io/org/app:1", f"sha256:{1:064x}"
    cluster.images[image] = digest
    cluster.add(daemon_set(container("app", image)), NAMESPACE)
    cluster.settle()
    images = cluster.nodes()[0]["status"]["images"]
    assert images == [{"names": [f"quay.io/org/app@{digest}", image]}]
