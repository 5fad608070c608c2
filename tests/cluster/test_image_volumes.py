"""Images held by volumes: one request for a push, and containers where the cluster can't."""

from image_puller.config.entries import COMMON_CONTAINER, INSTALL_CONTAINER
from image_puller.core.changes import HoldApart, NoteProven
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
)
from tests.support.installation import Installation, Json

VOLUMES = {"HOLD_BY": "volumes", "IMAGES": BOTH, **AT_ONCE}
TRY_VOLUME = "POST daemonsets dry run"


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
    replica(IMAGES=BOTH, **AT_ONCE).ensure_exists()
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
    replica(IMAGES=BOTH, **AT_ONCE).ensure_exists()
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
