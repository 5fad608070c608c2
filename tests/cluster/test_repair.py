"""The repair: a check undoes what somebody else changed in the DaemonSet."""

import itertools
from collections.abc import Callable

import pytest

from image_puller.core.daemonset import OWNER_LABEL
from image_puller.simulation import SimulatedCluster
from tests.support.building import push
from tests.support.daemonset import (
    APP,
    AT_ONCE,
    NEWER,
    MakeReplica,
    commit_before,
    drift,
    refuse_new_templates,
)
from tests.support.installation import NAME, NAMESPACE, Installation, Json

EDITS: dict[str, Callable[[Json], object]] = {
    "an image": lambda live: live["spec"]["template"]["spec"]["containers"][0].update(image="x:1"),
    "a container": lambda live: live["spec"]["template"]["spec"]["containers"].append(
        {"name": "mine", "image": "x:1", "imagePullPolicy": "Always"}
    ),
    "the update strategy": lambda live: live["spec"].update(updateStrategy={"type": "OnDelete"}),
    "a label": lambda live: live["metadata"]["labels"].pop("app.kubernetes.io/managed-by"),
    "our label": lambda live: live["metadata"]["labels"].pop(OWNER_LABEL),
    "an annotation": lambda live: live["metadata"]["annotations"].update(team="red"),
    "the host's network": lambda live: live["spec"]["template"]["spec"].update(hostNetwork=True),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_check_repairs_what_somebody_else_changed(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster, what: str
) -> None:
    def edit(live: Json) -> None:
        EDITS[what](live)

    puller = replica(DAEMONSET_ANNOTATIONS='{"team":"blue"}', **AT_ONCE)
    puller.commit(push("1.2.4", 1))
    before = installation.live()
    cluster.change(NAME, NAMESPACE, edit)
    puller.check()
    after = installation.live()
    assert after["spec"] == before["spec"]
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert after["metadata"]["annotations"]["team"] == "blue"
    installation.sent()
    puller.check()
    assert installation.written() == []


def test_labels_and_annotations_of_others_stay(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica()
    puller.check()
    cluster.change(
        NAME, NAMESPACE, lambda live: live["metadata"]["annotations"].update({"theirs": "x"})
    )
    cluster.change(NAME, NAMESPACE, lambda live: live["metadata"]["labels"].update({"l": "x"}))
    before = installation.live()
    puller.check()
    assert installation.live() == before


def test_a_change_by_an_admission_webhook_is_no_drift(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    def inject(daemonset: Json) -> None:
        daemonset["spec"]["template"]["spec"]["dnsPolicy"] = "Default"

    cluster.mutate(inject)
    puller = replica()
    puller.check()
    before = installation.live()
    assert before["spec"]["template"]["spec"]["dnsPolicy"] == "Default"
    installation.sent()
    puller.check()
    assert installation.written() == []
    assert installation.live() == before


def test_a_webhook_whose_changes_differ_each_time_starts_no_rollout(
    replica: MakeReplica,
    installation: Installation,
    cluster: SimulatedCluster,
    caplog: pytest.LogCaptureFixture,
) -> None:
    times = itertools.count()

    def stamp(daemonset: Json) -> None:
        annotations = daemonset["spec"]["template"]["metadata"].setdefault("annotations", {})
        annotations["admitted"] = str(next(times))

    cluster.mutate(stamp)
    puller = replica()
    puller.check()
    before = installation.live()
    installation.sent()
    puller.check()
    assert installation.written() == []
    assert installation.live() == before
    assert "in another way each time" in caplog.text


def test_a_refused_repair_is_reported_and_changes_nothing_else(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    drift(cluster)
    drifted = installation.live()
    refuse_new_templates(cluster, drifted)
    puller.check()
    assert installation.live()["spec"] == drifted["spec"]
    assert "frozen" in installation.state()["blocked"]["reason"]
    assert [reason for reason, _ in installation.reports()] == ["TemplateRefused"]
    cluster.allow_everything()
    puller.check()
    assert installation.images() == [APP]
    assert installation.state()["blocked"] is None


def test_a_repair_that_is_refused_after_its_dry_run_blocks_the_template(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    drift(cluster)
    drifted = installation.live()

    def refuse_after_dry_runs(remaining: int) -> None:
        if remaining:
            cluster.before("PATCH", lambda: refuse_after_dry_runs(remaining - 1))
        else:
            refuse_new_templates(cluster, drifted)

    refuse_after_dry_runs(3)
    puller.check()
    assert installation.live()["spec"] == drifted["spec"]
    assert "frozen" in installation.state()["blocked"]["reason"]
    assert [reason for reason, _ in installation.reports()] == ["TemplateRefused"]


def test_a_repair_that_loses_a_race_is_decided_again(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    one, other = replica(**AT_ONCE), replica(**AT_ONCE)
    one.check()
    other.check()
    drift(cluster)
    # Two dry runs come before the repair itself.
    commit_before(cluster, other, push("1.2.4", 1), nth=3)
    one.check()
    assert installation.images() == [APP, NEWER]


def test_annotations_labels_and_update_strategy_change_with_the_structure(
    replica: MakeReplica, installation: Installation
) -> None:
    replica(**AT_ONCE).check()
    replica(
        ROLLOUT_MAX_UNAVAILABLE="2", DAEMONSET_ANNOTATIONS='{"example.com/a_b":"c"}', **AT_ONCE
    ).check()
    live = installation.live()
    assert live["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == 2
    assert live["metadata"]["annotations"]["example.com/a_b"] == "c"
