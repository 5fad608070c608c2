"""The status: which node holds which image, from the pods of a simulated cluster."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from image_puller.cluster.observer import Observer
from image_puller.config.entries import INSTALL_CONTAINER
from image_puller.core import pods, problems, state, status
from image_puller.core.daemonset import DIGESTS, STATE
from image_puller.core.observation import Live, Observation
from image_puller.core.problems import Kind
from image_puller.simulation import SimulatedCluster
from tests.support.building import NOON, configuration, digest, push
from tests.support.daemonset import APP, AT_ONCE, BOTH, NEWER, OTHER, MakeReplica
from tests.support.installation import NAME, NAMESPACE, Installation, Json
from tests.support.replica import Replica, Time
from tests.support.states import unverified_push

NODES = ("node-1", "node-2", "node-3")
WARM = {"warm": True, "counts": True, "state": "warm"}
PINNED = f"quay.io/org/pinned@{digest(7)}"
OLD_POD = {"held": False, "state": "waiting", "reason": "the node's pod has an older template"}


@pytest.fixture
def replica(replica: MakeReplica) -> MakeReplica:
    """Return a function that creates replicas whose images are held by containers.

    `tests/controller/test_held_by_volumes.py` has the same for volumes.
    """
    return partial(replica, HOLD_BY="containers")


def observed(puller: Replica) -> Observation:
    """Return what is true in the cluster now."""
    return Observer(puller.config, puller.cluster, now=lambda: NOON).observe()


def described(puller: Replica, *messages: str) -> Json:
    """Return the status of the live DaemonSet, which must be JSON."""
    seen = observed(puller)
    of_process = problems.of_process(Kind.SUPERSEDED, messages)
    found = status.described(seen, (*of_process, *problems.find(seen)))
    json.dumps(found)
    return found


def everywhere(node: Json) -> Json:
    """Return the same for each node."""
    return dict.fromkeys(NODES, node)


def image(puller: Replica, name: str) -> Json:
    """Return the part of the status about one image."""
    images: list[Json] = described(puller)["images"]
    (found,) = (each for each in images if each["image"] == name)
    return found


def test_an_image_is_held_once_its_container_runs_on_every_node(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    assert described(puller)["daemonset"]["rollout"] == "in progress"
    assert image(puller, APP)["nodes"] == everywhere(
        {
            "held": False,
            "state": "no pod",
            "reason": "the DaemonSet controller has not created a pod yet",
        }
    )
    cluster.settle()
    found = described(puller)
    assert found == {
        "daemonset": {
            "name": NAME,
            "namespace": NAMESPACE,
            "exists": True,
            "desired": 3,
            "updated": 3,
            "ready": 3,
            "rollout": "complete",
            "changed": "2026-01-15T12:00:00+00:00",
            "holdBy": "containers",
            "requests": {"cpu": "100m", "memory": "20Mi"},
        },
        "images": [
            {
                "entry": "app",
                "image": APP,
                "container": "app",
                "holder": "app",
                "digest": None,
                "held": 3,
                "nodes": everywhere({"held": True, "state": "held", "imageID": "unknown"}),
            }
        ],
        "nodes": everywhere(
            {
                "warm": True,
                "counts": True,
                "state": "warm",
                "warmUpSeconds": found["nodes"]["node-1"]["warmUpSeconds"],
            }
        ),
        "quarantined": [],
        "refused": [],
        "unverified": [],
        "problems": [],
    }


def test_a_node_that_joined_since_the_last_rollout_has_a_warm_up_time(
    replica: MakeReplica, cluster: SimulatedCluster, now: Time
) -> None:
    now.now = datetime.fromtimestamp(int(cluster.clock()) + 1, UTC)
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.advance(60)
    cluster.join("late")
    late = described(puller)["nodes"].pop("late")
    assert (late["warm"], late["state"]) == (False, "no pod")
    assert described(puller)["nodes"] == everywhere(WARM) | {"late": late}
    cluster.advance()
    late = described(puller)["nodes"]["late"]
    assert (late["warm"], late["state"]) == (False, "not warm")
    cluster.advance(30)
    late = described(puller)["nodes"]["late"]
    assert late["warm"]
    assert 0 < late["warmUpSeconds"] <= 30
    now.advance(200)
    puller.commit(push("1.2.4", 1))
    cluster.advance(60)
    assert described(puller)["nodes"]["late"] == WARM


def test_a_service_that_may_not_list_nodes_knows_no_warm_up_time(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.advance(60)
    cluster.join("late")
    cluster.advance(60)
    cluster.fail(times=1, status=403, path="/api/v1/nodes")
    assert described(puller)["nodes"]["late"] == WARM


def test_an_image_is_not_held_before_its_container_runs(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.advance()
    found = image(puller, APP)["nodes"]["node-1"]
    assert (found["held"], found["state"]) == (False, "waiting")
    assert found["reason"].startswith("the node first pulls ")
    assert image(puller, APP)["held"] == 0
    cluster.advance(2.5)
    found = image(puller, APP)["nodes"]["node-1"]
    assert (found["held"], found["state"]) == (False, "pulling")
    assert found["reason"].startswith("since 20")


def test_an_image_that_can_not_be_pulled_has_its_reason_and_does_not_affect_others(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    cluster.unpullable[APP] = "not found"
    puller = replica(IMAGES=BOTH, **AT_ONCE)
    puller.check()
    cluster.advance(30)
    why = image(puller, APP)["nodes"]["node-2"]
    assert why["held"] is False
    assert why["reason"].startswith("ImagePullBackOff: ")
    assert "not found" in why["reason"]
    assert image(puller, OTHER)["held"] == 3
    assert described(puller)["daemonset"]["rollout"] == "in progress"


def test_a_sleep_image_that_can_not_be_pulled_is_the_reason_of_all_pulled_images(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(KIP_IMAGE="registry.example.com/sleep:1", IMAGES=BOTH, **AT_ONCE)
    cluster.unpullable["registry.example.com/sleep:1"] = "unauthorized"
    cluster.unpullable[OTHER] = "not found"
    puller.check()
    cluster.advance(30)
    reason = image(puller, APP)["nodes"]["node-1"]["reason"]
    assert reason.startswith("waiting for container install-sleep (KIP_IMAGE): ImagePullBackOff: ")
    assert "unauthorized" in reason
    own = image(puller, OTHER)["nodes"]["node-1"]["reason"]
    assert own.startswith("ImagePullBackOff: ")
    assert "not found" in own


@pytest.mark.parametrize(("pulled", "image_id"), [(1, "same"), (2, "other")])
def test_the_image_id_is_compared_with_the_pushed_digest(
    replica: MakeReplica, cluster: SimulatedCluster, pulled: int, image_id: str
) -> None:
    cluster.images[NEWER] = digest(pulled)
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1))
    cluster.settle()
    assert image(puller, NEWER)["digest"] == digest(1)
    assert image(puller, NEWER)["nodes"] == everywhere(
        {"held": True, "state": "held", "imageID": image_id}
    )


@pytest.mark.parametrize("image_id", ["", "sha256:abc", "quay.io/org/app@sha256:short"])
def test_an_image_id_without_a_digest_is_unknown(
    replica: MakeReplica, cluster: SimulatedCluster, image_id: str
) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1))
    cluster.settle()

    def edit(pod: Json) -> None:
        for each in pod["status"]["containerStatuses"]:
            each["imageID"] = image_id

    found = nodes_of(puller, edited(puller, cluster, edit), NEWER)
    assert found["node-1"] == {"held": True, "state": "held", "imageID": "unknown"}


def test_a_pod_of_an_older_template_does_not_hold_the_mutated_tag(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    latest = "quay.io/org/app:latest"
    puller = replica(IMAGES=f"app={latest}", **AT_ONCE)
    puller.commit(push("latest", 1, seconds=1))
    cluster.settle()
    assert image(puller, latest)["held"] == 3
    # The container of the same image still runs. Only the expected digest has changed.
    puller.commit(push("latest", 2, seconds=2))
    assert image(puller, latest)["nodes"] == everywhere(OLD_POD)
    assert described(puller)["daemonset"]["rollout"] == "in progress"
    cluster.settle()
    assert image(puller, latest)["held"] == 3


def test_a_pod_of_an_older_template_does_not_hold_a_new_image(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.settle()
    puller.commit(push("1.2.4", 1))
    assert image(puller, NEWER)["nodes"] == everywhere(OLD_POD)
    assert image(puller, APP)["held"] == 3


@pytest.mark.parametrize("annotation", [None, "{", "[]"])
def test_a_pod_with_a_missing_or_broken_annotation_holds_no_tracked_tag(
    replica: MakeReplica, cluster: SimulatedCluster, annotation: str | None
) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1))
    cluster.settle()

    def edit(pod: Json) -> None:
        pod["metadata"]["annotations"].pop(DIGESTS)
        if annotation is not None:
            pod["metadata"]["annotations"][DIGESTS] = annotation

    assert nodes_of(puller, edited(puller, cluster, edit), NEWER) == everywhere(OLD_POD)


def not_started(pod: Json) -> None:
    """Let no container of a pod have been created yet."""
    pod["status"]["containerStatuses"] = [
        {"name": name, "imageID": "", "state": {"waiting": {"reason": "ContainerCreating"}}}
        for name in (INSTALL_CONTAINER, "app")
    ]


def without_images(live: Live) -> Live:
    """Return the same with nodes that list no images."""
    return replace(live, nodes=[replace(node, images=frozenset()) for node in live.nodes or ()])


JUST_CREATED: dict[str, tuple[Callable[[Json], Any], str]] = {
    "has no status yet": (lambda pod: pod.pop("status"), "the kubelet has not started pod "),
    "has a null status": (lambda pod: pod.update(status=None), "the kubelet has not started pod "),
    "has no statuses of containers yet": (
        lambda pod: pod["status"].pop("containerStatuses"),
        "the node first pulls ",
    ),
    "has null statuses of containers": (
        lambda pod: pod["status"].update(containerStatuses=None),
        "the node first pulls ",
    ),
    "has no container yet": (not_started, "the node first pulls "),
}


@pytest.mark.parametrize("what", JUST_CREATED)
def test_a_pod_that_has_just_been_created_waits(
    replica: MakeReplica, cluster: SimulatedCluster, what: str
) -> None:
    edit, reason = JUST_CREATED[what]
    live = without_images(first_pods(replica(**AT_ONCE), cluster, edit))
    found = nodes_of(replica(), live, APP)["node-1"]
    assert (found["held"], found["state"]) == (False, "waiting")
    assert found["reason"].startswith(reason)


def test_a_pod_without_a_network_waits_for_it(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    def edit(pod: Json) -> None:
        not_started(pod)
        pod["status"]["conditions"].append({"type": "PodReadyToStartContainers", "status": "False"})

    live = without_images(first_pods(replica(**AT_ONCE), cluster, edit))
    assert nodes_of(replica(), live, APP)["node-1"] == {
        "held": False,
        "state": "waiting",
        "reason": "the kubelet has not prepared the pod's network and volumes yet",
    }


def test_a_container_whose_image_is_listed_is_about_to_start(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    live = first_pods(replica(**AT_ONCE), cluster, not_started)
    assert nodes_of(replica(), live, APP)["node-1"] == {
        "held": False,
        "state": "on node",
        "reason": "the container is about to start",
    }


def test_a_pod_that_the_kubelet_refused_has_its_message(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    failed = {"phase": "Failed", "reason": "OutOfmemory", "message": "no memory left"}
    live = first_pods(replica(**AT_ONCE), cluster, lambda pod: pod.update(status=failed))
    found = nodes_of(replica(), without_images(live), APP)["node-1"]
    assert (found["held"], found["state"]) == (False, "no pod")
    assert found["reason"].endswith(" failed: OutOfmemory: no memory left")


def test_a_container_that_ended_has_its_reason(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    def edit(pod: Json) -> None:
        _, container = pod["status"]["containerStatuses"]
        container["state"] = {"terminated": {"reason": "StartError", "message": "exec format"}}

    live = first_pods(replica(**AT_ONCE), cluster, edit)
    assert nodes_of(replica(), live, APP)["node-1"]["reason"] == "StartError: exec format"


@pytest.mark.parametrize(
    "edit",
    [
        lambda pod: pod["spec"].pop("nodeName"),
        lambda pod: pod["metadata"].update(deletionTimestamp="2026-01-15T12:00:00Z"),
    ],
)
def test_unscheduled_and_deleted_pods_do_not_count(
    replica: MakeReplica, cluster: SimulatedCluster, edit: Callable[[Json], Any]
) -> None:
    live = first_pods(replica(**AT_ONCE), cluster, edit, first=True)
    found = nodes_of(replica(), live, APP)
    assert [node["held"] for node in found.values()].count(True) == 2
    assert [node["state"] for node in found.values()].count("on node") == 1


def edited(
    puller: Replica, cluster: SimulatedCluster, edit: Callable[[Json], Any], *, first: bool = False
) -> Live:
    """Return the live DaemonSet, with pods that are edited: all of them, or the first one."""
    manifests = cluster.pods(NAMESPACE)
    for manifest in manifests[:1] if first else manifests:
        edit(manifest)
    daemonset = puller.cluster.read()
    return Live(
        daemonset=daemonset,
        state=state.decode(daemonset["metadata"]["annotations"][STATE]),
        pods=tuple(map(pods.of_manifest, manifests)),
        nodes=puller.cluster.nodes(),
    )


def first_pods(
    puller: Replica,
    cluster: SimulatedCluster,
    edit: Callable[[Json], Any],
    *,
    first: bool = False,
) -> Live:
    """Create the DaemonSet, and return it with its pods, which are edited once they run."""
    puller.check()
    cluster.settle()
    return edited(puller, cluster, edit, first=first)


def nodes_of(puller: Replica, live: Live, name: str) -> Json:
    """Return the nodes of one image."""
    images = status.describe(puller.config, live)["images"]
    (found,) = (each["nodes"] for each in images if each["image"] == name)
    return dict(found)


# The rollout


def test_a_template_that_waits_for_the_interval_is_pending(
    replica: MakeReplica, cluster: SimulatedCluster, now: Time
) -> None:
    puller = replica()
    puller.check()
    cluster.settle()
    puller.commit(push("1.2.4", 1))
    assert described(puller)["daemonset"]["rollout"] == "pending"
    now.advance(10)
    puller.commit()
    assert described(puller)["daemonset"]["rollout"] == "in progress"
    cluster.settle()
    assert described(puller)["daemonset"]["rollout"] == "complete"


def test_a_template_that_the_controller_has_not_observed_is_in_progress(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.settle()
    puller.commit(push("1.2.4", 1))  # the counts are still those of the old template
    assert described(puller)["daemonset"]["rollout"] == "in progress"


def test_a_rollout_ends_on_the_ready_nodes_although_another_is_dead(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.settle()
    cluster.kill("node-2")
    puller.commit(push("1.2.4", 1))
    cluster.settle()
    found = described(puller)
    assert (found["daemonset"]["desired"], found["daemonset"]["updated"]) == (3, 2)
    assert found["daemonset"]["rollout"] == "complete"
    assert image(puller, NEWER)["held"] == 2
    lost = image(puller, NEWER)["nodes"]["node-2"]
    assert lost["state"] == "no pod"
    assert "is terminating since" in lost["reason"]
    cluster.revive("node-2")
    cluster.advance()
    assert described(puller)["daemonset"]["rollout"] == "in progress"
    cluster.settle()
    assert described(puller)["daemonset"]["rollout"] == "complete"


def test_a_blocked_template_is_a_problem(replica: MakeReplica, cluster: SimulatedCluster) -> None:
    replica(**AT_ONCE).check()
    cluster.deny(lambda _pod: True, "violates PodSecurity", status=403, resource="pods")
    puller = replica(CACHING_MEMORY_LIMIT="30Mi", **AT_ONCE)
    puller.check()
    found = described(puller)
    assert found["daemonset"]["rollout"] == "blocked"
    (problem,) = found["problems"]
    assert problem.startswith("the cluster refuses new pods, so the pods that run stay: ")
    assert "violates PodSecurity; correct the quota, limit range or policy" in problem


def test_a_refused_tag_is_listed_with_its_reason(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(IMAGES=BOTH, **AT_ONCE)
    puller.check()
    installation.refuse("1.2.4")
    puller.commit(push("1.2.4", 1))
    (refused,) = described(puller)["refused"]
    assert (refused["entry"], refused["tag"], refused["digest"]) == ("app", "1.2.4", digest(1))
    assert refused["image"] == "quay.io/org/app:1.2.4"
    assert "1.2.4 is not allowed here" in refused["reason"]


def test_an_unverified_push_is_listed_with_its_reason(replica: MakeReplica) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(unverified_push(seconds=5))
    found = described(puller)
    assert found["unverified"] == [
        {
            "entry": "app",
            "image": "quay.io/org/app:1.2.4",
            "tag": "1.2.4",
            "digest": digest(1),
            "pushed": "2026-01-15T12:00:05+00:00",
            "reason": "unavailable",
        }
    ]
    assert [each["image"] for each in found["images"]] == [APP]


def test_a_missing_daemonset_is_a_problem(replica: MakeReplica) -> None:
    found = described(replica())
    (problem,) = found.pop("problems")
    assert problem.startswith(f"DaemonSet {NAME} does not exist; ")
    assert found == {
        "daemonset": {"name": NAME, "namespace": NAMESPACE, "exists": False},
        "images": [],
        "nodes": {},
        "quarantined": [],
        "refused": [],
        "unverified": [],
    }


def test_a_state_that_can_not_be_read_is_a_problem(
    replica: MakeReplica, installation: Installation
) -> None:
    replica().check()
    live = Live(daemonset=installation.live(), state=None)
    found = status.describe(configuration(), live)
    (problem,) = found["problems"]
    assert problem.startswith(f"DaemonSet {NAME} has no readable state annotation; ")
    assert found["images"] == []
    assert "changed" not in found["daemonset"]


@pytest.mark.parametrize(("mine", "live"), [(BOTH, f"app={APP}"), (f"app={APP}", BOTH)])
def test_a_state_of_another_configuration_can_be_described(
    replica: MakeReplica, cluster: SimulatedCluster, mine: str, live: str
) -> None:
    replica(IMAGES=live, **AT_ONCE).check()
    cluster.settle()
    found = described(replica(IMAGES=mine, **AT_ONCE), "another configuration is in charge")
    assert found["daemonset"]["rollout"] == "complete"
    assert [each["image"] for each in found["images"]] == [APP]
    assert found["problems"] == ["another configuration is in charge"]


def test_malformed_entries_are_problems(replica: MakeReplica) -> None:
    puller = replica(IMAGES=f"app={APP};bad")
    assert any("'bad'" in each for each in described(puller)["problems"])


# One image


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("app", [APP, NEWER]),
        (APP, [APP]),
        (NEWER, [NEWER]),
        ("redis", ["docker.io/library/redis:7.0.0"]),
        ("redis:7.0.0", ["docker.io/library/redis:7.0.0"]),
        ("docker.io/library/redis:7.0.0", ["docker.io/library/redis:7.0.0"]),
        ("index.docker.io/library/redis:7.0.0", ["docker.io/library/redis:7.0.0"]),
        ("busy", ["quay.io/org/busybox"]),
        ("quay.io/org/busybox", ["quay.io/org/busybox"]),
        ("quay.io/org/busybox:latest", ["quay.io/org/busybox"]),
        (PINNED, [PINNED]),
    ],
)
def test_one_image_is_found_by_its_entry_or_reference(
    replica: MakeReplica, asked: str, found: list[str]
) -> None:
    images = f"pinned={PINNED};app={APP};redis=redis:7.0.0;busy=quay.io/org/busybox"
    puller = replica(IMAGES=images, **AT_ONCE)
    puller.commit(push("1.2.4", 1))
    selected = status.select(status.of_groups({None: described(puller)}), asked)
    assert selected is not None
    assert [each["image"] for each in selected["images"]] == found
    assert selected["daemonset"]["name"] == NAME


@pytest.mark.parametrize(
    "asked", ["", "App", "nothing", "quay.io/org/app:9", "@", "a b", "x" * 999]
)
def test_an_image_that_is_not_desired_is_not_found(replica: MakeReplica, asked: str) -> None:
    puller = replica()
    puller.check()
    assert status.select(status.of_groups({None: described(puller)}), asked) is None


def test_refused_tags_of_other_entries_are_left_out(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(IMAGES=BOTH, **AT_ONCE)
    puller.check()
    installation.refuse("1.2.4")
    puller.commit(push("1.2.4", 1))
    app, other = (
        status.select(status.of_groups({None: described(puller)}), name)
        for name in ("app", "other")
    )
    assert app is not None
    assert other is not None
    assert [each["tag"] for each in app["refused"]] == ["1.2.4"]
    assert other["refused"] == []


# Nodes that hold nothing, each with its state


def required_affinity(term: Json) -> Json:
    """Return an affinity that requires a node of this term."""
    required = {"nodeSelectorTerms": [term]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def test_a_node_whose_install_container_does_not_run_has_a_warm_up_time(
    replica: MakeReplica, cluster: SimulatedCluster, now: Time
) -> None:
    now.now = datetime.fromtimestamp(int(cluster.clock()) - 1, UTC)
    puller = replica(**AT_ONCE)

    def edit(pod: Json) -> None:
        installer, _ = pod["status"]["containerStatuses"]
        installer["state"] = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}

    found = status.describe(puller.config, first_pods(puller, cluster, edit))
    assert found["nodes"]["node-1"]["state"] == "warm"
    assert found["nodes"]["node-1"]["warmUpSeconds"] >= 0
    (problem,) = found["problems"]
    assert problem.startswith("the sleep image ")
    assert "fails on 3 of 3 nodes (node-1, node-2, node-3)" in problem


def test_a_node_that_is_not_selected_is_listed(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    cluster.join("warm", labels={"pool": "apps"})
    puller = replica(NODE_SELECTOR='{"pool": "apps"}', **AT_ONCE)
    puller.check()
    cluster.settle()
    found = described(puller)
    why = "the node does not have the label pool=apps (NODE_SELECTOR)"
    assert found["nodes"]["warm"]["state"] == "warm"
    assert found["nodes"]["node-1"] == {
        "warm": False,
        "counts": False,
        "state": "not selected",
        "reason": why,
    }
    on_node = image(puller, APP)["nodes"]["node-1"]
    assert on_node == {"held": False, "state": "not selected", "reason": why}
    assert (found["daemonset"]["rollout"], found["problems"]) == ("complete", [])


def test_a_tainted_node_is_listed_with_its_taint(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    cluster.join("tainted", taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.settle()
    found = described(puller)
    why = "the node has the taint gpu=yes:NoSchedule, which TOLERATIONS does not tolerate"
    assert found["nodes"]["tainted"] == {
        "warm": False,
        "counts": False,
        "state": "no pod",
        "reason": why,
    }
    assert image(puller, APP)["nodes"]["tainted"]["state"] == "no pod"
    assert (found["daemonset"]["rollout"], found["problems"]) == ("complete", [])


@pytest.mark.parametrize("why", ["Too many pods", "Insufficient cpu"])
def test_a_full_node_is_listed_with_the_words_of_the_scheduler(
    replica: MakeReplica, cluster: SimulatedCluster, why: str
) -> None:
    cluster.fill("node-2", why)
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.settle()
    found = described(puller)
    assert found["nodes"]["node-2"]["state"] == "no pod"
    assert f"Unschedulable: 0/3 nodes are available: 1 {why}" in found["nodes"]["node-2"]["reason"]
    assert found["daemonset"]["rollout"] == "in progress"
    (problem,) = found["problems"]
    assert problem.startswith("1 of 3 nodes (node-2) have no pod: Unschedulable: ")
    assert "lower CACHING_CPU_REQUEST or CACHING_MEMORY_REQUEST" in problem
    cluster.free("node-2")
    cluster.settle()
    assert described(puller)["problems"] == []


def test_a_pod_that_the_scheduler_has_not_seen_waits_for_it(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    def edit(pod: Json) -> None:
        del pod["spec"]["nodeName"], pod["status"]["conditions"]

    live = without_images(first_pods(replica(**AT_ONCE), cluster, edit))
    found = nodes_of(replica(), live, APP)["node-1"]
    assert found["state"] == "no pod"
    assert found["reason"].endswith(" is not scheduled yet")


@pytest.mark.parametrize(
    "affinity",
    [
        None,
        {"nodeAffinity": None},
        required_affinity({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}),
        required_affinity({"matchFields": [{"key": "metadata.name", "values": None}]}),
        required_affinity({"matchFields": [{"key": "metadata.uid", "values": ["node-1"]}]}),
    ],
)
def test_a_pod_that_is_meant_for_no_node_is_left_out(
    replica: MakeReplica, cluster: SimulatedCluster, affinity: Json | None
) -> None:
    def edit(pod: Json) -> None:
        del pod["spec"]["nodeName"]
        pod["spec"]["affinity"] = affinity

    live = replace(first_pods(replica(**AT_ONCE), cluster, edit), nodes=None)
    assert nodes_of(replica(), live, APP) == {}


def test_a_terminating_pod_is_replaced_in_the_status_by_its_successor(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.settle()
    (old, *_) = cluster.pods(NAMESPACE)
    old["metadata"] |= {"name": "old", "deletionTimestamp": "2026-01-15T12:00:00Z"}
    live = edited(puller, cluster, lambda _pod: None)
    both = replace(live, pods=[*live.pods, pods.of_manifest(old)])
    assert nodes_of(puller, both, APP) == nodes_of(puller, live, APP)


def test_a_cluster_without_nodes_has_a_status(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    for node in NODES:
        cluster.leave(node)
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.settle()
    found = described(puller)
    assert (found["nodes"], found["problems"]) == ({}, [])
    assert image(puller, APP)["nodes"] == {}
    assert found["daemonset"]["rollout"] == "complete"


# Pods that the cluster refuses


def deny_pods(cluster: SimulatedCluster, message: str, *, but_on: str = "") -> None:
    """Refuse all pods but those for one node."""

    def applies(pod: Json) -> bool:
        return f'["{but_on}"]' not in json.dumps(pod["spec"]["affinity"])

    cluster.deny(applies, message, status=403, resource="pods")


def test_nodes_whose_pods_are_refused_have_the_reason(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    deny_pods(cluster, "exceeded quota: few-pods", but_on="node-2")
    cluster.settle()
    found = described(puller)
    refused = {
        "warm": False,
        "counts": True,
        "state": "no pod",
        "reason": "exceeded quota: few-pods",
    }
    assert (found["nodes"]["node-1"], found["nodes"]["node-3"]) == (refused, refused)
    assert found["nodes"]["node-2"]["state"] == "warm"
    assert found["problems"] == [
        (
            "2 of 3 nodes (node-1, node-3) have no pod, because the cluster refuses to create it: "
            "exceeded quota: few-pods; correct the quota, limit range or policy that refuses it: "
            "until then Kubernetes replaces no pod, so no node gets a new image"
        )
    ]
    cluster.allow_everything()
    cluster.settle()
    assert described(puller)["problems"] == []


def test_the_reason_is_known_although_nodes_can_not_be_listed(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    deny_pods(cluster, "violates PodSecurity", but_on="node-2")
    cluster.settle()
    cluster.fail(status=403, path="/api/v1/nodes")
    found = described(puller)
    assert list(found["nodes"]) == ["node-2"]
    (problem,) = found["problems"]
    assert problem.startswith("some nodes have no pod, because the cluster refuses to create it: ")


def test_a_service_that_may_not_list_events_lists_the_nodes_without_a_reason(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    deny_pods(cluster, "violates PodSecurity")
    cluster.settle()
    cluster.fail(status=403, path="/events")
    found = described(puller)
    assert found["nodes"] == everywhere(
        {
            "warm": False,
            "counts": True,
            "state": "no pod",
            "reason": "the DaemonSet controller has not created a pod yet",
        }
    )
    assert found["problems"] == []


def test_a_node_that_joined_after_a_refusal_does_not_have_its_reason(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    deny_pods(cluster, "exceeded quota: few-pods", but_on="node-2")
    cluster.settle()
    live = Observer(puller.config, puller.cluster, now=lambda: NOON).observe().live
    refusal = live.refusal
    assert refusal is not None
    assert refusal.time is not None
    later = [replace(n, created=refusal.time + timedelta(seconds=1)) for n in live.nodes or ()]
    found = status.describe(puller.config, replace(live, nodes=later))
    reason = "the DaemonSet controller has not created a pod yet"
    assert found["nodes"]["node-1"]["reason"] == reason
    untimed = replace(live, nodes=later, refusal=replace(refusal, time=None))
    found = status.describe(puller.config, untimed)
    assert found["nodes"]["node-1"]["reason"] == refusal.reason


# Containers that do not run


def test_a_container_that_crashes_has_the_reason_of_its_last_exit(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    cluster.crashing[APP] = ("OOMKilled", 137)
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.advance(60)
    found = image(puller, APP)["nodes"]["node-1"]
    assert (found["held"], found["state"]) == (False, "failing")
    assert found["reason"].startswith("CrashLoopBackOff: back-off 10s restarting ")
    assert found["reason"].endswith("; the last exit: OOMKilled (exit code 137)")
    (problem,) = described(puller)["problems"]
    assert problem.startswith(f"image {APP} of entry app fails on 3 of 3 nodes (node-1, ")
    assert problem.endswith("; raise CACHING_MEMORY_LIMIT")


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("exec: /kip/sleep: permission denied", "mount it without noexec"),
        ("exec format error", "kubectl describe pod"),
    ],
)
def test_a_container_that_can_not_start_has_the_message_of_its_last_exit(
    replica: MakeReplica, cluster: SimulatedCluster, message: str, advice: str
) -> None:
    def edit(pod: Json) -> None:
        last = {"reason": "StartError", "exitCode": 128, "message": message}
        pod["status"]["containerStatuses"][1] |= {
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}},
            "lastState": {"terminated": last},
        }

    puller = replica(**AT_ONCE)
    found = status.describe(puller.config, first_pods(puller, cluster, edit))
    assert found["images"][0]["nodes"]["node-1"]["reason"] == (
        f"CrashLoopBackOff: back-off 5m0s; the last exit: StartError (exit code 128): {message}"
    )
    (problem,) = found["problems"]
    assert advice in problem


def test_a_container_that_ended_without_a_reason_is_failing(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    def edit(pod: Json) -> None:
        pod["status"]["containerStatuses"][1]["state"] = {"terminated": {"exitCode": 1}}

    found = nodes_of(replica(), first_pods(replica(**AT_ONCE), cluster, edit), APP)["node-1"]
    assert (found["state"], found["reason"]) == ("failing", "ended (exit code 1)")


def test_more_nodes_than_three_are_not_all_named(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    cluster.join("node-4")
    cluster.unpullable[APP] = "not found"
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.advance(30)
    (problem,) = described(puller)["problems"]
    assert "4 of 4 nodes (node-1, node-2, node-3, …): " in problem
    assert "check its name, IMAGE_PULL_SECRETS and the network" in problem


# Images that an admission webhook rewrites


@pytest.mark.parametrize("resource", ["pods", "daemonsets"])
@pytest.mark.parametrize("suffix", ["", f"@{digest(7)}"])
def test_a_rewritten_image_is_held(
    replica: MakeReplica, cluster: SimulatedCluster, resource: str, suffix: str
) -> None:
    def rewrite(item: Json) -> None:
        pod = item if resource == "pods" else item["spec"]["template"]
        for container in pod["spec"]["containers"]:
            if not container["image"].startswith("mirror.example.com/"):
                container["image"] = f"mirror.example.com/{container['image']}{suffix}"

    cluster.mutate(rewrite, resource=resource)
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1))
    cluster.settle()
    assert [each["held"] for each in described(puller)["images"]] == [3, 3]
    assert described(puller)["daemonset"]["rollout"] == "complete"


@pytest.mark.parametrize(
    ("found", "is_held"),
    [
        ("mirror.example.com/cache/app:1.2.3", True),
        ("mirror.example.com/cache/app:1.2.2", False),
        ("mirror.example.com/cache/other:1.2.3", False),
        ("not an image", False),
    ],
)
def test_in_a_pod_of_an_older_template_the_tag_decides(
    replica: MakeReplica, cluster: SimulatedCluster, found: str, is_held: bool
) -> None:
    def edit(pod: Json) -> None:
        pod["metadata"]["labels"]["pod-template-generation"] = "0"
        pod["spec"]["containers"][1]["image"] = found

    live = first_pods(replica(**AT_ONCE), cluster, edit)
    assert nodes_of(replica(), live, APP)["node-1"]["held"] is is_held


def test_a_configured_digest_is_found_among_the_images_of_a_node(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    name = f"quay.io/org/app@{digest(4)}"
    cluster.images[name] = digest(4)
    puller = replica(IMAGES=f"app={name}", **AT_ONCE)
    live = first_pods(puller, cluster, not_started)
    assert nodes_of(puller, live, name)["node-1"]["state"] == "on node"


def test_a_node_that_is_not_ready_says_so(replica: MakeReplica, cluster: SimulatedCluster) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.settle()
    cluster.kill("node-2")
    found = described(puller)["nodes"]["node-2"]
    assert found["state"] == "warm"
    assert found["reason"] == "the node is not ready, so this is what it reported last"


def test_a_node_counts_unless_it_is_not_ready_or_cordoned(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.settle()
    cluster.kill("node-1")
    seen = observed(puller)
    cordoned = [replace(each, is_cordoned=each.name == "node-2") for each in seen.live.nodes or ()]
    nodes = status.describe(puller.config, replace(seen.live, nodes=cordoned))["nodes"]
    assert {name: each["counts"] for name, each in nodes.items()} == {
        "node-1": False,
        "node-2": False,
        "node-3": True,
    }
    assert (nodes["node-2"]["state"], nodes["node-2"]["reason"]) == ("warm", "the node is cordoned")
