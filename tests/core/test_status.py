"""The status: which node holds which image, from the pods of a simulated cluster."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from image_puller.config.entries import INSTALL_CONTAINER
from image_puller.core import state, status
from image_puller.core.daemonset import DIGESTS, STATE
from image_puller.core.status import Live
from image_puller.errors import MissingError
from image_puller.simulation import SimulatedCluster
from tests.support.building import configuration, digest, push
from tests.support.daemonset import APP, AT_ONCE, BOTH, NEWER, OTHER, MakeReplica
from tests.support.installation import NAME, NAMESPACE, Installation, Json
from tests.support.replica import Replica, Time
from tests.support.states import unverified_push

NODES = ("node-1", "node-2", "node-3")
OLD_POD = {"held": False, "reason": "the node's pod has an older template"}


def described(puller: Replica, *problems: str) -> Json:
    """Return the status of the live DaemonSet, which must be JSON."""
    try:
        daemonset = puller.cluster.read()
    except MissingError:
        live = Live(daemonset=None, state=None)
    else:
        text = daemonset["metadata"]["annotations"][STATE]
        live = Live(
            daemonset=daemonset,
            state=state.decode(text),
            pods=puller.cluster.pods(),
            nodes=puller.cluster.nodes(),
        )
    found = status.describe(puller.config, live, problems=problems)
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
    assert image(puller, APP)["nodes"] == {}
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
        },
        "images": [
            {
                "entry": "app",
                "image": APP,
                "container": "app",
                "digest": None,
                "held": 3,
                "nodes": everywhere({"held": True, "imageID": "unknown"}),
            }
        ],
        "nodes": everywhere(
            {"warm": True, "warmUpSeconds": found["nodes"]["node-1"]["warmUpSeconds"]}
        ),
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
    assert described(puller)["nodes"] == everywhere({"warm": True})
    cluster.advance()
    assert described(puller)["nodes"]["late"] == {"warm": False}
    cluster.advance(30)
    late = described(puller)["nodes"]["late"]
    assert late["warm"]
    assert 0 < late["warmUpSeconds"] <= 30
    now.advance(200)
    puller.commit(push("1.2.4", 1))
    cluster.advance(60)
    assert described(puller)["nodes"]["late"] == {"warm": True}


def test_a_service_that_may_not_list_nodes_knows_no_warm_up_time(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.advance(60)
    cluster.join("late")
    cluster.advance(60)
    cluster.fail(times=1, status=403, path="/api/v1/nodes")
    assert described(puller)["nodes"]["late"] == {"warm": True}


def test_an_image_is_not_held_before_its_container_runs(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.advance()
    assert image(puller, APP)["nodes"]["node-1"] == {"held": False, "reason": "waiting"}
    assert image(puller, APP)["held"] == 0


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
    assert image(puller, NEWER)["nodes"] == everywhere({"held": True, "imageID": image_id})


@pytest.mark.parametrize("image_id", ["", "sha256:abc", "quay.io/org/app@sha256:short"])
def test_an_image_id_without_a_digest_is_unknown(
    replica: MakeReplica, cluster: SimulatedCluster, image_id: str
) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1))
    cluster.settle()
    live = live_of(puller)
    for pod in live.pods:
        for each in pod["status"]["containerStatuses"]:
            each["imageID"] = image_id
    assert nodes_of(puller, live, NEWER)["node-1"] == {"held": True, "imageID": "unknown"}


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
    live = live_of(puller)
    for pod in live.pods:
        pod["metadata"]["annotations"].pop(DIGESTS)
        if annotation is not None:
            pod["metadata"]["annotations"][DIGESTS] = annotation
    assert nodes_of(puller, live, NEWER) == everywhere(OLD_POD)


EDITS: dict[str, Callable[[Json], Any]] = {
    "has no status yet": lambda pod: pod.pop("status"),
    "has no statuses of containers yet": lambda pod: pod["status"].pop("containerStatuses"),
    "has no container yet": lambda pod: pod["status"].update(
        containerStatuses=[
            {"name": name, "state": {"waiting": {"reason": "ContainerCreating"}}}
            for name in (INSTALL_CONTAINER, "app")
        ],
    ),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_pod_that_has_just_been_created_waits(
    replica: MakeReplica, cluster: SimulatedCluster, what: str
) -> None:
    live = first_pods(replica(**AT_ONCE), cluster)
    for pod in live.pods:
        EDITS[what](pod)
    found = nodes_of(replica(), live, APP)
    assert found == everywhere({"held": False, "reason": "waiting"})


def test_a_pod_that_the_kubelet_refused_has_its_message(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    live = first_pods(replica(**AT_ONCE), cluster)
    for pod in live.pods:
        pod["status"] = {"phase": "Failed", "reason": "OutOfmemory", "message": "no memory left"}
    found = nodes_of(replica(), live, APP)
    assert found["node-1"] == {"held": False, "reason": "no memory left"}


def test_a_container_that_ended_has_its_reason(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    live = first_pods(replica(**AT_ONCE), cluster)
    for pod in live.pods:
        _, container = pod["status"]["containerStatuses"]
        container["state"] = {"terminated": {"reason": "StartError", "message": "exec format"}}
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
    live = first_pods(replica(**AT_ONCE), cluster)
    edit(live.pods[0])
    assert len(nodes_of(replica(), live, APP)) == 2


def live_of(puller: Replica) -> Live:
    """Return the live DaemonSet and its pods."""
    daemonset = puller.cluster.read()
    text = daemonset["metadata"]["annotations"][STATE]
    return Live(daemonset=daemonset, state=state.decode(text), pods=puller.cluster.pods())


def first_pods(puller: Replica, cluster: SimulatedCluster) -> Live:
    """Create the DaemonSet, and return it with its running pods."""
    puller.check()
    cluster.settle()
    return live_of(puller)


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


def test_a_dead_node_keeps_the_rollout_in_progress(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.settle()
    cluster.kill("node-2")
    puller.commit(push("1.2.4", 1))
    cluster.settle()
    found = described(puller)
    assert found["daemonset"]["rollout"] == "in progress"
    assert image(puller, NEWER)["held"] == 2


def test_a_blocked_template_is_a_problem(replica: MakeReplica, cluster: SimulatedCluster) -> None:
    replica(**AT_ONCE).check()
    cluster.deny(lambda _pod: True, "violates PodSecurity", status=403, resource="pods")
    puller = replica(CACHING_MEMORY_LIMIT="30Mi", **AT_ONCE)
    puller.check()
    found = described(puller)
    assert found["daemonset"]["rollout"] == "blocked"
    (problem,) = found["problems"]
    assert problem.startswith("the cluster refuses new pods, so the pods that run stay: ")
    assert problem.endswith("violates PodSecurity")


def test_a_refused_tag_is_listed_with_its_reason(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(IMAGES=BOTH, **AT_ONCE)
    puller.check()
    installation.refuse("1.2.4")
    puller.commit(push("1.2.4", 1))
    (refused,) = described(puller)["refused"]
    assert (refused["entry"], refused["tag"], refused["digest"]) == ("app", "1.2.4", digest(1))
    assert "1.2.4 is not allowed here" in refused["reason"]


def test_an_unverified_push_is_listed_with_its_reason(replica: MakeReplica) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(unverified_push(seconds=5))
    found = described(puller)
    assert found["unverified"] == [
        {
            "entry": "app",
            "tag": "1.2.4",
            "digest": digest(1),
            "pushed": "2026-01-15T12:00:05+00:00",
            "reason": "unavailable",
        }
    ]
    assert [each["image"] for each in found["images"]] == [APP]


def test_a_missing_daemonset_is_a_problem(replica: MakeReplica) -> None:
    assert described(replica()) == {
        "daemonset": {"name": NAME, "namespace": NAMESPACE, "exists": False},
        "images": [],
        "nodes": {},
        "refused": [],
        "unverified": [],
        "problems": [f"DaemonSet {NAME} does not exist"],
    }


def test_a_state_that_can_not_be_read_is_a_problem(
    replica: MakeReplica, installation: Installation
) -> None:
    replica().check()
    live = Live(daemonset=installation.live(), state=None)
    found = status.describe(configuration(), live)
    assert found["problems"] == [f"DaemonSet {NAME} has no readable state annotation"]
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
    ],
)
def test_one_image_is_found_by_its_entry_or_reference(
    replica: MakeReplica, asked: str, found: list[str]
) -> None:
    images = f"app={APP};redis=redis:7.0.0;busy=quay.io/org/busybox"
    puller = replica(IMAGES=images, **AT_ONCE)
    puller.commit(push("1.2.4", 1))
    selected = status.select(described(puller), asked)
    assert selected is not None
    assert [each["image"] for each in selected["images"]] == found
    assert selected["daemonset"]["name"] == NAME


@pytest.mark.parametrize(
    "asked", ["", "App", "nothing", "quay.io/org/app:9", "@", "a b", "x" * 999]
)
def test_an_image_that_is_not_desired_is_not_found(replica: MakeReplica, asked: str) -> None:
    puller = replica()
    puller.check()
    assert status.select(described(puller), asked) is None


def test_refused_tags_of_other_entries_are_left_out(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(IMAGES=BOTH, **AT_ONCE)
    puller.check()
    installation.refuse("1.2.4")
    puller.commit(push("1.2.4", 1))
    app, other = (status.select(described(puller), name) for name in ("app", "other"))
    assert app is not None
    assert other is not None
    assert [each["tag"] for each in app["refused"]] == ["1.2.4"]
    assert other["refused"] == []
