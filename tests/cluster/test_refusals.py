"""Templates that the cluster refuses: the refused tag is isolated, or the template is blocked."""

from collections.abc import Callable

import pytest

from image_puller.core.changes import Proceed
from image_puller.core.decide import Outcome
from image_puller.errors import ClusterUnavailableError
from image_puller.simulation import SimulatedCluster
from tests.support.building import digest, push
from tests.support.daemonset import (
    APP,
    AT_ONCE,
    BOTH,
    CHECK_READS,
    NEWER,
    NEWEST,
    OTHER,
    READ_OWN_POD,
    TRY_POD,
    TRY_VOLUMES,
    WRITE,
    MakeReplica,
    commit_before,
    drift,
    forbid_pods,
    refuse_new_templates,
    refuse_pods,
)
from tests.support.installation import NAME, NAMESPACE, Installation, Json
from tests.support.replica import Replica

# A refused tag


@pytest.mark.parametrize("status", [422, 403])
def test_a_refused_tag_is_recorded_and_reported_and_the_others_go_on(
    replica: MakeReplica, installation: Installation, status: int
) -> None:
    puller = replica(IMAGES=BOTH, **AT_ONCE)
    puller.check()
    installation.refuse("1.2.4", status=status)
    outcomes = puller.commit(push("1.2.4", 1), push("2.1.0", 2, entry="other"))
    assert outcomes == (Outcome.REFUSED, Outcome.TRACKED)
    assert installation.images() == [APP, OTHER, "quay.io/org/other:2.1.0"]
    (refused,) = installation.state()["entries"]["app"]["refused"]
    assert (refused["tag"], refused["digest"]) == ("1.2.4", digest(1))
    assert "1.2.4 is not allowed here" in refused["reason"]
    ((reason, message),) = installation.reports()
    assert reason == "ImageRefused"
    assert message.startswith("app: the cluster refused 1.2.4: ")


def test_a_single_refused_tag_leaves_the_live_template(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    before = installation.live()
    installation.refuse("1.2.4")
    assert puller.commit(push("1.2.4", 1)) == (Outcome.REFUSED,)
    assert installation.live()["metadata"]["generation"] == before["metadata"]["generation"]
    assert puller.reconciler.seconds_until_due() is None


def test_a_refused_tag_is_tried_again_only_when_it_is_pushed_again(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    installation.refuse("1.2.4")
    puller.commit(push("1.2.4", 1))
    cluster.allow_everything()
    puller.check()
    puller.commit(push("1.2.5", 2))
    assert installation.images() == [APP, NEWEST]
    assert len(installation.reports()) == 1
    assert puller.commit(push("1.2.4", 1, seconds=1)) == (Outcome.TRACKED,)
    assert installation.images() == [APP, NEWER, NEWEST]
    assert "refused" not in installation.state()["entries"]["app"]


def test_a_new_configuration_forgets_refused_tags(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    installation.refuse("1.2.4")
    puller.commit(push("1.2.4", 1))
    cluster.allow_everything()
    replica(KEEP_TAGS="3", **AT_ONCE).check()
    assert "refused" not in installation.state()["entries"]["app"]


def test_a_tag_that_is_refused_while_another_process_writes_is_isolated(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    one, other = replica(IMAGES=BOTH, **AT_ONCE), replica(IMAGES=BOTH, **AT_ONCE)
    one.check()
    other.check()
    installation.refuse("1.2.4")
    # The first patch has the refused template, the second the state alone.
    commit_before(cluster, other, push("2.1.0", 2, entry="other"), nth=2)
    assert one.commit(push("1.2.4", 1)) == (Outcome.REFUSED,)
    assert installation.images() == [APP, OTHER, "quay.io/org/other:2.1.0"]
    assert [refused["tag"] for refused in installation.state()["entries"]["app"]["refused"]] == [
        "1.2.4"
    ]


def test_an_isolation_whose_last_write_loses_a_race_is_decided_again(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    one, other = replica(IMAGES=BOTH, **AT_ONCE), replica(IMAGES=BOTH, **AT_ONCE)
    one.check()
    other.check()
    installation.refuse("1.2.4")
    # The refused template, the state, dry runs of the live template and of each tag, the rollout.
    commit_before(cluster, other, push("2.1.0", 2, entry="other"), nth=6)
    assert one.commit(push("1.2.4", 1), push("2.0.1", 3, entry="other"))[0] is Outcome.REFUSED
    assert installation.images() == [
        APP, OTHER, "quay.io/org/other:2.0.1", "quay.io/org/other:2.1.0",
    ]  # fmt: skip


# Refused at creation


def test_a_daemonset_is_created_without_a_refused_image(
    replica: MakeReplica, installation: Installation
) -> None:
    installation.refuse("org/app:1.2.3")
    puller = replica(IMAGES=BOTH)
    puller.check()
    assert installation.images() == [OTHER]
    (refused,) = installation.state()["entries"]["app"]["refused"]
    assert refused["tag"] == "1.2.3"
    puller.check()
    assert installation.images() == [OTHER]
    assert [reason for reason, _ in installation.reports()] == ["ImageRefused"]


def test_a_push_that_is_refused_at_creation_has_that_outcome(
    replica: MakeReplica, installation: Installation
) -> None:
    installation.refuse("1.2.4")
    assert replica().commit(push("1.2.4", 1)) == (Outcome.REFUSED,)
    assert installation.images() == [APP]


def test_no_daemonset_is_created_where_every_image_is_refused(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    installation.refuse("quay.io")
    with pytest.raises(ClusterUnavailableError, match="can't be created"):
        replica(IMAGES=BOTH).check()
    assert cluster.daemonset(NAME, NAMESPACE) is None


# A blocked template


def test_a_cluster_that_refuses_the_live_template_too_changes_nothing(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    before = installation.live()
    refuse_new_templates(cluster, before)
    cluster.deny(lambda daemonset: daemonset["spec"] == before["spec"], "not even this")
    with pytest.raises(ClusterUnavailableError, match=r"can't be changed: .* not even this"):
        puller.commit(push("1.2.4", 1))
    assert installation.live() == before


def test_a_blocked_template_is_tried_again_by_every_check(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    before = installation.live()
    drift(cluster)  # so that the template without the new tag is a change as well
    drifted = installation.live()
    refuse_new_templates(cluster, drifted)
    assert puller.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)
    assert installation.live()["spec"] == drifted["spec"]
    assert "frozen" in installation.state()["blocked"]["reason"]
    assert puller.reconciler.seconds_until_due() is None
    assert [reason for reason, _ in installation.reports()] == ["TemplateRefused"]
    puller.check()
    assert "frozen" in installation.state()["blocked"]["reason"]
    cluster.allow_everything()
    puller.check()
    assert installation.images() == [APP, NEWER]
    assert installation.state()["blocked"] is None
    assert before["metadata"]["uid"] == installation.live()["metadata"]["uid"]


@pytest.mark.parametrize("structure", [{}, {"CACHING_MEMORY_LIMIT": "30Mi"}])
def test_a_refused_annotation_blocks_the_whole_template(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster, structure: Json
) -> None:
    replica(**AT_ONCE).check()
    before = installation.live()
    cluster.deny(
        lambda daemonset: daemonset["metadata"]["annotations"].get("team") == "red", "not red"
    )
    puller = replica(DAEMONSET_ANNOTATIONS='{"team":"red"}', **structure, **AT_ONCE)
    puller.check()
    assert "not red" in installation.state()["blocked"]["reason"]
    assert [reason for reason, _ in installation.reports()] == ["TemplateRefused"]
    assert installation.live()["spec"] == before["spec"]
    cluster.allow_everything()
    puller.check()
    assert installation.live()["metadata"]["annotations"]["team"] == "red"
    assert installation.state()["blocked"] is None


# A new structure, which is tried with a pod


def test_a_new_structure_is_first_tried_with_one_pod(
    replica: MakeReplica, installation: Installation
) -> None:
    replica(**AT_ONCE).check()
    installation.sent()
    replica(CACHING_MEMORY_LIMIT="30Mi", **AT_ONCE).check()
    assert installation.sent() == [*CHECK_READS, READ_OWN_POD, *TRY_VOLUMES, TRY_POD, WRITE]
    *_, container = installation.template()["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == "30Mi"


def test_a_tag_that_replaces_another_is_not_tried_with_a_pod(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(KEEP_TAGS="1", **AT_ONCE)
    puller.check()
    puller.commit(push("1.2.4", 1))
    installation.sent()
    puller.commit(push("1.2.5", 2))
    assert installation.images() == [APP, NEWEST]
    assert installation.sent() == [WRITE]


def test_a_tag_that_adds_a_container_is_tried_with_one_pod(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    installation.sent()
    puller.commit(push("1.2.4", 1))
    assert installation.sent() == [TRY_POD, WRITE]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(
            "maximum memory usage per Pod is 40Mi, but limit is 62914560", id="LimitRange"
        ),
        pytest.param(
            "exceeded quota: small, requested: limits.memory=60Mi, used: limits.memory=120Mi, "
            "limited: limits.memory=120Mi",
            id="quota",
        ),
    ],
)
def test_a_push_that_the_pods_outgrow_empties_no_node(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster, message: str
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.advance(60)
    before = installation.live()["spec"]
    refuse_pods(cluster, message)
    assert puller.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)
    assert installation.live()["spec"] == before
    assert message in installation.state()["blocked"]["reason"]
    ((reason, told),) = installation.reports()
    assert (reason, message in told) == ("TemplateRefused", True)
    for _ in range(3):
        puller.check()
    assert len(installation.reports()) == 1  # the same reason is reported once
    assert installation.live()["spec"] == before
    cluster.allow_everything()
    puller.check()
    assert installation.images() == [APP, NEWER]


def test_pods_that_are_refused_at_first_are_reported_and_the_state_is_kept(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    refuse_pods(cluster, "you must provide labels: owner")
    puller = replica(**AT_ONCE)
    puller.check()
    assert installation.images() == [APP]
    assert "you must provide labels: owner" in installation.state()["blocked"]["reason"]
    assert [reason for reason, _ in installation.reports()] == ["TemplateRefused"]
    puller.check()
    assert installation.state()["blocked"] is not None
    assert [reason for reason, _ in installation.reports()] == ["TemplateRefused"]
    cluster.allow_everything()
    puller.check()
    assert installation.state()["blocked"] is None


def test_a_push_does_not_unblock_pods_that_were_refused_at_first(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    """The push changes a digest only, but no pod of the live template was admitted either."""
    refuse_pods(cluster, "you must provide labels: owner")
    puller = replica(**AT_ONCE)
    puller.check()
    assert puller.commit(push("1.2.3", 1)) == (Outcome.MUTATED,)
    assert "you must provide labels: owner" in installation.state()["blocked"]["reason"]
    puller.check()
    assert "you must provide labels: owner" in installation.state()["blocked"]["reason"]
    assert [reason for reason, _ in installation.reports()] == ["TemplateRefused"]
    newer = replica(ROLLOUT_MAX_UNAVAILABLE="3", **AT_ONCE)
    newer.check()
    assert "you must provide labels: owner" in installation.state()["blocked"]["reason"]
    cluster.allow_everything()
    newer.check()
    assert installation.state()["blocked"] is None


def test_the_tried_pod_has_a_valid_name_however_long_the_daemonsets_is(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    name = "a" * 62
    replica(DAEMONSET_NAME=name, **AT_ONCE).check()
    replica(DAEMONSET_NAME=name, CACHING_MEMORY_LIMIT="30Mi", **AT_ONCE).check()
    live = cluster.daemonset(name, NAMESPACE)
    assert live is not None
    assert live["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {
        "cpu": "200m", "memory": "30Mi",
    }  # fmt: skip


@pytest.mark.parametrize(
    "message",
    [
        'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false',
        "exceeded quota: small, requested: limits.memory=200Mi, limited: limits.memory=100Mi",
    ],
    ids=["Pod Security", "quota"],
)
def test_a_refused_pod_blocks_the_rollout_and_loses_no_push(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster, message: str
) -> None:
    replica(**AT_ONCE).check()
    before = installation.live()
    refuse_pods(cluster, message)
    puller = replica(CACHING_MEMORY_LIMIT="200Mi", **AT_ONCE)
    puller.check()
    assert installation.live()["spec"] == before["spec"]
    assert message in installation.state()["blocked"]["reason"]
    assert [reason for reason, _ in installation.reports()] == ["TemplateRefused"]
    assert puller.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)
    assert installation.live()["spec"] == before["spec"]
    cluster.allow_everything()
    puller.check()
    assert installation.images() == [APP, NEWER]
    assert installation.state()["blocked"] is None


def test_a_blocked_template_costs_the_next_check_no_write(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    replica(**AT_ONCE).check()
    refuse_pods(cluster, "violates PodSecurity")
    puller = replica(CACHING_MEMORY_LIMIT="200Mi", **AT_ONCE)
    puller.check()
    before = installation.live()
    installation.sent()
    puller.check()
    assert installation.written() == []
    assert installation.live() == before


def test_an_exceeded_quota_does_not_block_a_pod_that_asks_for_no_more(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    replica(**AT_ONCE).check()
    refuse_pods(cluster, "exceeded quota: small, requested: limits.memory=15Mi")
    replica(CACHING_MEMORY_LIMIT="15Mi", **AT_ONCE).check()
    *_, container = installation.template()["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == "15Mi"


def test_a_service_that_may_not_create_pods_rolls_out_and_warns(
    replica: MakeReplica,
    installation: Installation,
    cluster: SimulatedCluster,
    caplog: pytest.LogCaptureFixture,
) -> None:
    replica(**AT_ONCE).check()
    forbid_pods(cluster)
    replica(IMAGES=BOTH, **AT_ONCE).check()
    assert installation.images() == [APP, OTHER]
    assert "no pod can be tried before a rollout" in caplog.text


# Events about a blocked template


def refuse_all_pods(cluster: SimulatedCluster, _installation: Installation) -> None:
    refuse_pods(cluster, "not today")


def refuse_all_templates(cluster: SimulatedCluster, installation: Installation) -> None:
    refuse_new_templates(cluster, installation.live())


@pytest.mark.parametrize("refuse", [refuse_all_pods, refuse_all_templates])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_blocked_rollout_is_reported_once_however_often_it_is_checked(
    replica: MakeReplica,
    installation: Installation,
    cluster: SimulatedCluster,
    refuse: Callable[[SimulatedCluster, Installation], None],
    restarts: bool,
) -> None:
    replica(**AT_ONCE).check()
    refuse(cluster, installation)
    puller = replica(CACHING_MEMORY_LIMIT="30Mi", **AT_ONCE)
    for _ in range(100):
        puller.check()
        if restarts:
            puller = replica(CACHING_MEMORY_LIMIT="30Mi", **AT_ONCE)
    assert installation.state()["blocked"] is not None
    assert [reason for reason, _ in installation.reports()] == ["TemplateRefused"]
    cluster.allow_everything()
    puller.check()
    refuse(cluster, installation)
    puller = replica(CACHING_MEMORY_LIMIT="40Mi", **AT_ONCE)
    puller.check()
    assert [reason for reason, _ in installation.reports()] == ["TemplateRefused"] * 2


# A new DaemonSet with seeds, whose first pods hold nothing


def fill(puller: Replica, installation: Installation) -> tuple[Outcome, ...]:
    """Give the first pods their images, as the check does once they run."""
    return puller.commit(Proceed(installation.state()["template"]))


def test_the_pod_that_is_tried_at_the_creation_has_all_images(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    cluster.deny(
        lambda pod: any(each["image"] == APP for each in pod["spec"]["containers"]),
        "no app here",
        status=403,
        resource="pods",
    )
    puller = replica(ROLLOUT_SEED_NODES="1", HOLD_BY="containers", **AT_ONCE)
    puller.check()
    assert installation.images() == []
    assert "no app here" in installation.state()["blocked"]["reason"]
    puller.check()
    assert installation.state()["blocked"] is None
    assert fill(puller, installation) == (Outcome.PROCEEDED,)
    assert installation.images() == []
    assert "no app here" in installation.state()["blocked"]["reason"]
    cluster.allow_everything()
    puller.check()
    assert installation.images() == [APP]
    assert installation.state()["seeding"] == "seeds"


def test_a_refused_image_is_isolated_when_the_first_pods_get_their_images(
    replica: MakeReplica, installation: Installation
) -> None:
    installation.refuse("app:1.2.3")
    puller = replica(IMAGES=BOTH, ROLLOUT_SEED_NODES="1", **AT_ONCE)
    puller.check()
    assert fill(puller, installation) == (Outcome.PROCEEDED,)
    assert installation.images() == [OTHER]
    state = installation.state()
    assert state["entries"]["app"]["refused"][0]["tag"] == "1.2.3"
    assert (state["seeding"], state["maxUnavailable"]) == ("seeds", 1)


def test_a_write_that_fails_after_the_creation_is_made_again(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(ROLLOUT_SEED_NODES="1", **AT_ONCE)
    puller.check()
    cluster.fail(times=1, method="PATCH", path="/daemonsets")
    with pytest.raises(ClusterUnavailableError):
        fill(puller, installation)
    assert installation.images() == []
    assert installation.state()["seeding"] == "empty"
    assert fill(puller, installation) == (Outcome.PROCEEDED,)
    assert installation.images() == [APP]
