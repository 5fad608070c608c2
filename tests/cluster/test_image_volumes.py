"""Images held by volumes: one request for a push, and containers where the cluster can't."""

import pytest

from image_puller.config.entries import COMMON_CONTAINER, INSTALL_CONTAINER
from image_puller.core import holding
from image_puller.core.changes import CheckDaemonSet, HoldApart, NoteProven
from image_puller.core.decide import Outcome
from image_puller.simulation import SimulatedCluster
from tests.support.building import push
from tests.support.daemonset import (
    APP,
    AT_ONCE,
    BOTH,
    NEWER,
    NEWEST,
    OTHER,
    TRY_POD,
    WRITE,
    MakeReplica,
    drift,
    forbid_pods,
    refuse_pods,
)
from tests.support.installation import Installation, Json
from tests.support.replica import Time

VOLUMES = {"HOLD_BY": "volumes", "IMAGES": BOTH, **AT_ONCE}
CONTAINERS = VOLUMES | {"HOLD_BY": "containers"}
TRY_VOLUME = TRY_POD


def mounted(installation: Installation) -> dict[str, list[str]]:
    """Return the images that each container of the live template mounts."""
    spec = installation.template()["spec"]
    images = {
        volume["name"]: volume["image"]["reference"]
        for volume in spec.get("volumes", ())
        if "image" in volume
    }
    return {
        container["name"]: sorted(
            images[mount["name"]]
            for mount in container.get("volumeMounts", ())
            if mount["name"] in images
        )
        for container in spec["containers"]
    }


def test_one_container_mounts_all_images_of_a_new_daemonset(
    replica: MakeReplica, installation: Installation
) -> None:
    replica(**VOLUMES).ensure_exists()
    assert mounted(installation) == {COMMON_CONTAINER: [APP, OTHER]}
    (container,) = installation.template()["spec"]["containers"]
    assert container["command"] == ["/sleep", "720h"]
    policies = {each["image"]["pullPolicy"] for each in installation.template()["spec"]["volumes"]}
    assert policies == {"IfNotPresent"}


def test_a_moving_tag_stays_a_container(replica: MakeReplica, installation: Installation) -> None:
    images = f"app={APP};moving=quay.io/org/moving:latest"
    replica(HOLD_BY="volumes", IMAGES=images).ensure_exists()
    expected = {COMMON_CONTAINER: [APP], INSTALL_CONTAINER: [], "moving": []}
    assert mounted(installation) == expected


def test_a_new_tag_joins_the_common_container_only_with_a_later_push(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(KEEP_TAGS="1", **VOLUMES)
    puller.ensure_exists()
    puller.commit(push("1.2.4", 1))
    common, (own, *more) = [APP, OTHER], [*installation.digests()]
    assert (mounted(installation), more) == ({COMMON_CONTAINER: common, own: [NEWER]}, [])
    before = installation.live()["metadata"]["generation"]
    assert puller.commit(NoteProven(NEWER)) == (Outcome.PROVEN,)
    puller.check()
    assert installation.live()["metadata"]["generation"] == before
    puller.commit(push("2.0.1", 2, entry="other"))
    containers = mounted(installation)
    assert containers.pop(COMMON_CONTAINER) == [APP, NEWER, OTHER]
    assert list(containers.values()) == [["quay.io/org/other:2.0.1"]]


def test_a_push_that_replaces_a_proven_tag_costs_one_request(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(KEEP_TAGS="1", **VOLUMES)
    puller.ensure_exists()
    puller.commit(push("1.2.4", 1))
    assert installation.sent()[-2:] == [TRY_POD, WRITE]  # a container more
    puller.commit(NoteProven(NEWER))
    installation.sent()
    puller.commit(push("1.2.5", 2))
    assert installation.sent() == [WRITE]
    containers = mounted(installation)
    assert containers.pop(COMMON_CONTAINER) == [APP, OTHER]
    assert list(containers.values()) == [[NEWEST]]


def test_a_failing_image_leaves_the_common_container_until_it_is_proven(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(**VOLUMES)
    puller.ensure_exists()
    assert puller.commit(HoldApart(OTHER)) == (Outcome.HELD_APART,)
    assert mounted(installation) == {COMMON_CONTAINER: [APP], "other": [OTHER]}
    puller.commit(push("1.2.4", 1))
    assert mounted(installation)["other"] == [OTHER]
    puller.commit(NoteProven(OTHER), push("1.2.5", 2))
    assert mounted(installation)[COMMON_CONTAINER] == [APP, OTHER]


def test_an_image_that_fails_after_it_was_proven_does_not_join(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(**VOLUMES)
    puller.ensure_exists()
    puller.commit(push("1.2.4", 1))
    puller.commit(NoteProven(NEWER))
    puller.commit(HoldApart(NEWER))
    puller.commit(push("1.2.5", 2))
    assert mounted(installation)[COMMON_CONTAINER] == [APP, OTHER]


def test_a_server_that_drops_image_volumes_gets_containers(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    cluster.drop_image_volumes()
    replica(**VOLUMES).ensure_exists()
    assert installation.images() == [APP, OTHER]
    assert not installation.state()["holding"]["byVolumes"]
    assert "drops image volumes" in installation.state()["holding"]["reason"]


def test_a_policy_that_refuses_image_volumes_gets_containers(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    def has_image_volume(daemonset: Json) -> bool:
        return any("image" in v for v in daemonset["spec"]["template"]["spec"].get("volumes", ()))

    cluster.deny(has_image_volume, "volumes of this type are not allowed")
    replica(**VOLUMES).ensure_exists()
    assert installation.images() == [APP, OTHER]
    assert "volumes of this type are not allowed" in installation.state()["holding"]["reason"]


def test_a_policy_on_pods_that_refuses_image_volumes_gets_containers(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    def has_image_volume(pod: Json) -> bool:
        return any("image" in volume for volume in pod["spec"].get("volumes", ()))

    cluster.deny(has_image_volume, "volumes of this type are not allowed", resource="pods")
    replica(**VOLUMES).ensure_exists()
    assert installation.images() == [APP, OTHER]
    assert "volumes of this type are not allowed" in installation.state()["holding"]["reason"]


@pytest.mark.parametrize("drops", [False, True])
def test_a_full_quota_does_not_hide_whether_the_server_keeps_image_volumes(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation, *, drops: bool
) -> None:
    replica(**CONTAINERS).ensure_exists()
    if drops:
        cluster.drop_image_volumes()
    refuse_pods(cluster, "exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3")
    replica(**VOLUMES).ensure_exists()
    assert ("held-images" in mounted(installation)) is not drops


def test_a_cluster_in_which_nothing_can_be_tried_gets_containers(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    replica(**CONTAINERS).ensure_exists()
    full = "exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3"
    refuse_pods(cluster, full)
    cluster.deny(lambda each: "generateName" in each["metadata"], full, status=403)
    replica(**VOLUMES).ensure_exists()
    assert installation.images() == [APP, OTHER]
    assert "no image volume could be tried" in installation.state()["holding"]["reason"]


LABEL = "you must provide labels: owner"


def require_label(cluster: SimulatedCluster, resource: str) -> None:
    """Refuse every new pod, or every new DaemonSet, as a policy does that needs a label."""

    def is_new(each: Json) -> bool:
        return resource == "pods" or "generateName" in each["metadata"]

    cluster.deny(is_new, LABEL, status=403, resource=resource)


@pytest.mark.parametrize("resources", [("pods",), ("pods", "daemonsets")], ids=" and ".join)
@pytest.mark.parametrize("hold_by", ["volumes", "auto"])
def test_a_policy_that_has_nothing_against_image_volumes_leaves_them(
    replica: MakeReplica,
    cluster: SimulatedCluster,
    installation: Installation,
    hold_by: str,
    resources: tuple[str, ...],
) -> None:
    replica(**VOLUMES | {"HOLD_BY": hold_by}).ensure_exists()
    for resource in resources:
        require_label(cluster, resource)
    replica(**VOLUMES | {"HOLD_BY": hold_by}, POD_LABELS='{"team": "ci"}').commit(CheckDaemonSet())
    state = installation.state()
    assert state["holding"]["byVolumes"]
    assert state["holding"]["common"] == [APP, OTHER]
    assert LABEL in state["blocked"]["reason"]


def test_a_policy_that_has_nothing_against_image_volumes_does_not_decide_the_first_choice(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    refuse_pods(cluster, LABEL)
    replica(**AUTO).ensure_exists()
    assert mounted(installation) == {COMMON_CONTAINER: [APP, OTHER]}


def test_auto_leaves_containers_without_a_choice_while_nothing_can_be_tried(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    replica(**CONTAINERS).ensure_exists()
    for resource in ("pods", "daemonsets"):
        require_label(cluster, resource)
    puller = replica(**AUTO)
    puller.commit(CheckDaemonSet())
    assert installation.state()["holding"] == {"byVolumes": False, "reason": ""}
    cluster.allow_everything()
    puller.check()
    assert mounted(installation) == {COMMON_CONTAINER: [APP, OTHER]}


def test_a_service_that_may_not_try_pods_sees_whether_the_server_keeps_image_volumes(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    forbid_pods(cluster)
    replica(**VOLUMES).ensure_exists()
    assert mounted(installation) == {COMMON_CONTAINER: [APP, OTHER]}


def test_a_daemonset_without_an_admitted_image_is_created_with_the_install_container(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    cluster.deny(lambda daemonset: "quay.io/org" in str(daemonset["spec"]), "not allowed here")
    replica(**VOLUMES).ensure_exists()
    assert mounted(installation) == {INSTALL_CONTAINER: []}


def test_a_server_that_begins_to_keep_image_volumes_or_to_drop_them_is_followed(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    cluster.drop_image_volumes()
    puller = replica(**VOLUMES)
    puller.ensure_exists()
    cluster.keep_image_volumes()
    puller.check()
    assert mounted(installation) == {COMMON_CONTAINER: [APP, OTHER]}
    cluster.drop_image_volumes()
    puller.check()
    assert mounted(installation) == {INSTALL_CONTAINER: [], "app": [], "other": []}


def test_moving_from_containers_to_volumes_and_back_pulls_nothing_again(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    replica(**CONTAINERS).ensure_exists()
    cluster.settle()
    cluster.unpullable.update(dict.fromkeys((APP, OTHER), "not found"))
    for hold_by, containers in (("volumes", 1), ("containers", 3)):
        replica(IMAGES=BOTH, HOLD_BY=hold_by, **AT_ONCE).ensure_exists()
        cluster.settle()
        assert len(installation.template()["spec"]["containers"]) == containers
        assert installation.live()["status"]["numberReady"] == 3


def test_an_image_that_fails_when_volumes_begin_has_a_container_of_its_own(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    cluster.unpullable[OTHER] = "not found"
    replica(**CONTAINERS).ensure_exists()
    cluster.advance(60)
    replica(**VOLUMES).ensure_exists()
    assert mounted(installation) == {COMMON_CONTAINER: [APP], "other": [OTHER]}


def test_volumes_that_somebody_else_changed_are_repaired(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    puller = replica(**VOLUMES)
    puller.ensure_exists()
    before = installation.template()
    drift(cluster)
    puller.check()
    assert installation.template() == before


def test_a_check_that_finds_everything_in_order_writes_nothing(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(**VOLUMES)
    puller.ensure_exists()
    installation.sent()
    puller.check()
    sent = installation.sent()
    assert TRY_VOLUME in sent
    assert WRITE not in sent


def test_a_tag_that_the_cluster_refuses_leaves_the_others(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    puller = replica(**VOLUMES)
    puller.ensure_exists()
    cluster.deny(lambda daemonset: NEWER in str(daemonset["spec"]), "not allowed here")
    outcomes = puller.commit(push("1.2.4", 1), push("2.0.1", 2, entry="other"))
    assert outcomes == (Outcome.REFUSED, Outcome.TRACKED)
    containers = mounted(installation)
    assert containers.pop(COMMON_CONTAINER) == [APP, OTHER]
    assert list(containers.values()) == [["quay.io/org/other:2.0.1"]]


# The choice of `auto`


AUTO = VOLUMES | {"HOLD_BY": "auto"}
OLD_RUNTIME = "containerd://1.7.27"


def by_volumes(installation: Installation) -> bool:
    """Whether the live template holds images by volumes."""
    return COMMON_CONTAINER in mounted(installation)


def test_auto_begins_with_volumes_where_all_nodes_can_mount_them(
    replica: MakeReplica, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    replica(**AUTO).ensure_exists()
    assert by_volumes(installation)
    assert f"images are held by volumes: {holding.CAN}" in caplog.messages


def test_auto_begins_with_containers_where_a_node_can_not(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    cluster.join("old", runtime=OLD_RUNTIME)
    replica(**AUTO).ensure_exists()
    assert not by_volumes(installation)
    assert installation.state()["holding"]["reason"] == (
        "1 of 4 nodes can't mount images by their versions, such as old with "
        "containerd://1.7.27 and kubelet v1.37.2"
    )


def test_auto_ignores_nodes_that_are_not_selected(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    cluster.join("old", runtime=OLD_RUNTIME, labels={"kubernetes.io/os": "windows"})
    taint = {"key": "dedicated", "effect": "NoSchedule"}
    cluster.join("tainted", runtime=OLD_RUNTIME, taints=[taint])
    replica(**AUTO).ensure_exists()
    assert by_volumes(installation)


def test_auto_uses_containers_where_nodes_can_not_be_listed(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    cluster.fail(status=403, path="/api/v1/nodes", times=1)
    replica(**AUTO).ensure_exists()
    assert not by_volumes(installation)
    assert "may not list nodes" in installation.state()["holding"]["reason"]


def test_auto_follows_a_node_of_another_runtime_only_after_a_quarter_of_an_hour(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation, now: Time
) -> None:
    puller = replica(**AUTO)
    puller.ensure_exists()
    cluster.join("old", runtime=OLD_RUNTIME)
    for _ in range(2):
        puller.check()
        assert by_volumes(installation)
        assert installation.state()["holding"]["differsSince"] == "2026-01-15T12:00:00.000Z"
        now.advance(500)
    puller.check()
    assert not by_volumes(installation)


def test_auto_replaces_no_pod_for_a_node_that_joins_for_a_minute(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation, now: Time
) -> None:
    puller = replica(**AUTO)
    puller.ensure_exists()
    before = installation.live()["metadata"]["generation"]
    for _ in range(5):
        cluster.join("old", runtime=OLD_RUNTIME)
        puller.check()
        now.advance(600)
        cluster.leave("old")
        puller.check()
        now.advance(600)
    assert installation.live()["metadata"]["generation"] == before
    assert "differsSince" not in installation.state()["holding"]


def test_auto_moves_to_volumes_once_the_last_old_node_is_gone(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation, now: Time
) -> None:
    cluster.join("old", runtime=OLD_RUNTIME)
    puller = replica(**AUTO)
    puller.ensure_exists()
    cluster.leave("old")
    puller.check()
    assert not by_volumes(installation)
    now.advance(1000)
    puller.check()
    assert by_volumes(installation)


def test_auto_uses_containers_at_once_where_the_server_drops_volumes(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    puller = replica(**AUTO)
    puller.ensure_exists()
    cluster.drop_image_volumes()
    puller.check()
    assert not by_volumes(installation)
    assert "drops image volumes" in installation.state()["holding"]["reason"]


def test_auto_chooses_at_once_where_the_configuration_chose_before(
    replica: MakeReplica, installation: Installation
) -> None:
    replica(**CONTAINERS).ensure_exists()
    replica(**AUTO).ensure_exists()
    assert by_volumes(installation)
