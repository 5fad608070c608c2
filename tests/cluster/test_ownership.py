"""The ownership of the DaemonSet: ours, the original puller's, or somebody else's."""

import pytest

from image_puller.core.changes import CheckDaemonSet, EnsureExists
from image_puller.core.daemonset import ORIGINAL_SELECTOR, OWNER_LABEL
from image_puller.errors import ForeignDaemonSetError
from image_puller.simulation import SimulatedCluster
from tests.support.building import push
from tests.support.daemonset import APP, AT_ONCE, BOTH, NEWER, MakeReplica, delete
from tests.support.installation import NAME, NAMESPACE, Installation, Json


def daemonset_with(selector: Json) -> Json:
    """Return a DaemonSet of the configured name with another selector."""
    container = {"name": "old", "image": "example.com/old:1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": selector},
            "template": {"metadata": {"labels": selector}, "spec": {"containers": [container]}},
        },
    }


def test_the_original_pullers_daemonset_is_replaced_once(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    old = cluster.add(daemonset_with(ORIGINAL_SELECTOR))
    puller = replica()
    puller.check()
    live = installation.live()
    assert live["metadata"]["uid"] != old["metadata"]["uid"]
    assert installation.images() == [APP]
    puller.check()
    assert installation.live() == live
    assert [request for request in installation.written() if "DELETE" in request] == [
        "DELETE daemonsets"
    ]


def test_the_original_pullers_daemonset_may_be_replaced_by_another_process_first(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    cluster.add(daemonset_with(ORIGINAL_SELECTOR))
    puller, other = replica(**AT_ONCE), replica(**AT_ONCE)

    def replace_first() -> None:
        other.check()
        other.commit(push("1.2.4", 1))

    cluster.before("DELETE", replace_first)
    puller.check()
    assert installation.images() == [APP, NEWER]


@pytest.mark.parametrize(
    "selector",
    [
        {"app": "somebody-elses"},
        {**ORIGINAL_SELECTOR, "more": "x"},
        {"app.kubernetes.io/name": "image-puller"},
        {OWNER_LABEL: "another-installation"},
    ],
)
def test_a_foreign_daemonset_is_never_changed(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster, selector: Json
) -> None:
    cluster.add(daemonset_with(selector))
    before = installation.live()
    puller = replica()
    for changes in ([CheckDaemonSet()], [push("1.2.4", 1)], []):
        with pytest.raises(
            ForeignDaemonSetError, match=r"belongs to somebody else .*DAEMONSET_NAME"
        ):
            puller.commit(*changes, flush=True)
    assert installation.written() == []
    assert installation.live() == before


def test_a_foreign_daemonset_that_replaced_ours_is_not_changed(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica()
    puller.check()
    delete(puller, installation)
    before = cluster.add(daemonset_with({"app": "somebody-elses"}))
    for change in (EnsureExists(), push("1.2.4", 1)):
        with pytest.raises(ForeignDaemonSetError):
            puller.commit(change)
    assert installation.live() == before


def test_two_installations_in_one_namespace_do_not_share_a_daemonset(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    one, two = replica(), replica(DAEMONSET_NAME="second", IMAGES=BOTH)
    one.check()
    two.check()
    assert installation.images() == [APP]
    cluster.settle()
    assert len(one.cluster.pods()) == len(two.cluster.pods()) == 3
    assert cluster.daemonset("second", NAMESPACE) is not None
