"""Commits, as the simulated API server gets them: requests, races, rollouts and failures."""

import json
import logging

import pytest

from image_puller import limits
from image_puller.core.changes import (
    CheckDaemonSet,
    EnsureExists,
    Proceed,
    SetMaxUnavailable,
    TrackTag,
)
from image_puller.core.daemonset import PULLED_AGAIN, STATE
from image_puller.core.decide import Outcome
from image_puller.errors import ClusterUnavailableError
from image_puller.simulation import SimulatedCluster
from tests.support.building import at, deletion, digest, push
from tests.support.daemonset import (
    APP,
    AT_ONCE,
    BOTH,
    CHECK,
    CHECK_READS,
    DRY_RUN,
    LATEST,
    NEWER,
    NEWEST,
    OTHER,
    READ_OWN_POD,
    READ_STATE,
    TRY_POD,
    TRY_VOLUMES,
    WRITE,
    MakeReplica,
    commit_before,
    delete,
    drift,
)
from tests.support.installation import NAME, NAMESPACE, Installation, Json
from tests.support.replica import Replica, Time

# The number of requests


def test_the_first_check_creates_the_daemonset(
    replica: MakeReplica, installation: Installation
) -> None:
    replica(IMAGES=BOTH).check()
    assert installation.sent() == [
        *CHECK_READS, READ_OWN_POD, *TRY_VOLUMES, TRY_POD, "POST daemonsets",
    ]  # fmt: skip
    assert installation.images() == [APP, OTHER]
    assert installation.state()["changed"] == "2026-01-15T12:00:00.000Z"


def test_a_push_costs_one_write(replica: MakeReplica, installation: Installation) -> None:
    """A pod is tried first, by dry run, while pushes add containers."""
    puller = replica(**AT_ONCE)
    puller.check()
    installation.sent()
    assert puller.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)
    assert installation.sent() == [TRY_POD, WRITE]
    assert installation.images() == [APP, NEWER]
    assert list(installation.digests().values()) == [digest(1)]
    puller.commit(push("1.2.5", 2))
    assert installation.sent() == [TRY_POD, WRITE]
    for number in range(3, 6):
        puller.commit(push(f"1.2.{number + 3}", number))
        assert installation.sent() == [WRITE]


def test_a_duplicate_push_costs_one_read_and_no_write(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1))
    before = installation.live()
    installation.sent()
    assert puller.commit(push("1.2.4", 1)) == (Outcome.UNCHANGED,)
    assert installation.sent() == [READ_STATE]
    assert installation.live() == before


def test_a_later_push_of_the_same_content_costs_no_write_but_outdates_older_pushes(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.3", 1, seconds=1))
    before = installation.live()
    installation.sent()
    assert puller.commit(push("1.2.3", 1, seconds=3)) == (Outcome.UNCHANGED,)
    assert puller.commit(push("1.2.3", 2, seconds=2)) == (Outcome.OLDER,)
    assert installation.sent() == [READ_STATE, READ_STATE]
    assert installation.live() == before


def test_a_node_that_joins_costs_one_read(replica: MakeReplica, installation: Installation) -> None:
    puller = replica()
    puller.check()
    installation.sent()
    puller.ensure_exists()
    assert installation.sent() == [READ_STATE]


def test_a_check_without_drift_costs_reads_and_dry_runs(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica()
    puller.check()
    before = installation.live()
    installation.sent()
    puller.check()
    assert installation.sent() == CHECK
    assert installation.live() == before


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("POD_LABELS", '{"team": "ci", "empty": ""}'),
        ("POD_ANNOTATIONS", '{"example.com/owner": "ci", "empty": ""}'),
        ("POD_SERVICE_ACCOUNT", "images"),
        ("RUNTIME_CLASS_NAME", "kata"),
        ("HOST_NETWORK", "true"),
        ("CACHING_CPU_LIMIT", "none"),
        ("CACHING_MEMORY_REQUEST", "none"),
    ],
)
def test_a_field_of_the_pods_can_be_set_and_unset_and_is_no_drift(
    variable: str, text: str, replica: MakeReplica, installation: Installation
) -> None:
    replica(**AT_ONCE).check()
    plain = installation.template()
    configured = replica(**{variable: text}, **AT_ONCE)
    configured.check()
    assert installation.template() != plain
    installation.sent()
    configured.check()
    assert installation.sent() == CHECK
    replica(**AT_ONCE).check()
    assert installation.template() == plain


def test_a_check_tries_no_volume_where_containers_hold_the_images(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(HOLD_BY="containers")
    puller.check()
    installation.sent()
    puller.check()
    assert installation.sent() == [*CHECK_READS, DRY_RUN]


def test_checks_of_one_commit_cost_as_much_as_one(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica()
    puller.check()
    installation.sent()
    assert puller.commit(*[CheckDaemonSet()] * 5) == (Outcome.CHECKED,) * 5
    assert installation.sent() == CHECK


def test_another_order_of_images_changes_nothing(
    replica: MakeReplica, installation: Installation
) -> None:
    one, other = BOTH.split(";")
    before = replica(IMAGES=f"{one};{other}", **AT_ONCE)
    before.commit(push("1.2.4", 1), push("2.1.0", 2, entry="other"))
    live = installation.live()
    installation.sent()
    after = replica(IMAGES=f"{other};{one}", **AT_ONCE)
    after.check()
    assert installation.sent() == [*CHECK_READS, READ_OWN_POD, *TRY_VOLUMES, DRY_RUN, WRITE]
    assert installation.live()["spec"] == live["spec"]
    assert after.commit(push("2.2.0", 3, entry="other")) == (Outcome.TRACKED,)
    assert before.commit(push("1.2.5", 4)) == (Outcome.TRACKED,)
    assert installation.images() == [
        APP, NEWER, NEWEST, OTHER, "quay.io/org/other:2.1.0", "quay.io/org/other:2.2.0",
    ]  # fmt: skip


def test_changes_of_one_commit_cost_one_write(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(IMAGES=BOTH, **AT_ONCE)
    puller.check()
    installation.sent()
    pushes = [push(f"1.2.{n}", n) for n in range(10)] + [push("2.1.0", 10, entry="other")]
    outcomes = puller.commit(*pushes, deletion("1.2.9", seconds=1))
    assert outcomes[-2:] == (Outcome.TRACKED, Outcome.UNTRACKED)
    assert installation.sent() == [TRY_POD, WRITE]
    assert installation.images() == [
        APP, "quay.io/org/app:1.2.7", "quay.io/org/app:1.2.8", OTHER, "quay.io/org/other:2.1.0",
    ]  # fmt: skip


# A missing DaemonSet


def test_the_first_push_creates_the_daemonset_with_its_tag(
    replica: MakeReplica, installation: Installation
) -> None:
    assert replica().commit(push("1.2.4", 1)) == (Outcome.TRACKED,)
    assert installation.written() == ["POST daemonsets"]
    assert installation.images() == [APP, NEWER]


def test_a_push_creates_a_deleted_daemonset_again_with_all_tags(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1))
    delete(puller, installation)
    assert puller.commit(push("1.2.5", 2)) == (Outcome.TRACKED,)
    assert installation.images() == [APP, NEWER, NEWEST]


@pytest.mark.parametrize("change", [push("1.2.5", 2), push("1.2.4", 1), CheckDaemonSet()])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_change_during_a_deletion_is_made_once_the_daemonset_is_created_again(
    replica: MakeReplica,
    installation: Installation,
    cluster: SimulatedCluster,
    change: TrackTag | CheckDaemonSet,
    is_known: bool,
) -> None:
    """A deletion in the foreground leaves the DaemonSet until its pods are gone."""
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1))

    cluster.delete(NAME, NAMESPACE, policy="Foreground")
    if not is_known:
        puller = replica(**AT_ONCE)
    with pytest.raises(ClusterUnavailableError, match="is being deleted"):
        puller.commit(change)
    cluster.delete(NAME, NAMESPACE)
    puller.commit(change)
    expected = {APP, NEWER} if is_known else {APP}
    if isinstance(change, TrackTag):
        expected.add(f"quay.io/org/app:{change.tag}")
    assert set(installation.images()) == expected


@pytest.mark.parametrize("change", [EnsureExists(), CheckDaemonSet(), push("1.2.4", 1)])
def test_any_change_creates_a_deleted_daemonset_again(
    replica: MakeReplica,
    installation: Installation,
    change: EnsureExists | CheckDaemonSet | TrackTag,
) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1))
    delete(puller, installation)
    puller.commit(change)
    assert APP in installation.images()


def test_a_daemonset_that_is_deleted_after_a_refused_write_is_created_again(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    installation.refuse("1.2.4")
    cluster.before("GET", lambda: delete(puller, installation), path=NAME)
    assert puller.commit(push("1.2.4", 1)) == (Outcome.REFUSED,)
    assert installation.images() == [APP]


def test_two_processes_that_create_the_daemonset_at_once_lose_no_push(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    one, other = replica(**AT_ONCE), replica(**AT_ONCE)
    commit_before(cluster, other, push("1.2.4", 1), method="POST")
    assert one.commit(push("1.2.5", 2)) == (Outcome.TRACKED,)
    assert installation.images() == [APP, NEWER, NEWEST]


@pytest.mark.parametrize(
    ("hold_by", "last_sent"),
    [("containers", "POST daemonsets"), ("auto", "POST daemonsets dry run")],
)
def test_a_missing_namespace_is_named_in_the_error(
    replica: MakeReplica, installation: Installation, hold_by: str, last_sent: str
) -> None:
    puller = replica(NAMESPACE="nowhere", HOLD_BY=hold_by)
    with pytest.raises(ClusterUnavailableError, match='namespaces "nowhere" not found'):
        puller.check()
    assert installation.sent()[-1] == last_sent


# Races


def test_a_lost_race_is_decided_again_on_the_new_state(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    one, other = replica(**AT_ONCE), replica(**AT_ONCE)
    one.check()
    other.check()
    installation.sent()
    commit_before(cluster, other, push("1.2.4", 1))
    assert one.commit(push("1.2.5", 2)) == (Outcome.TRACKED,)
    # Both try a pod. The other's write, the lost write, the read that shows why, the new state.
    race = [TRY_POD, TRY_POD, WRITE, WRITE, READ_STATE, READ_STATE]
    assert installation.sent() == [*race, TRY_POD, WRITE]
    assert installation.images() == [APP, NEWER, NEWEST]


def test_a_commit_is_tried_again_after_several_lost_races(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    one, other = replica(**AT_ONCE), replica(**AT_ONCE)
    one.check()
    other.check()
    installation.sent()
    numbers = iter(range(4, 4 + limits.ATTEMPTS - 1))

    def commit_first() -> None:
        number = next(numbers, None)
        if number is not None:
            other.commit(push(f"1.2.{number}", number))
            cluster.before("PATCH", commit_first)

    cluster.before("PATCH", commit_first)
    assert one.commit(push("1.2.3", 3)) == (Outcome.MUTATED,)
    assert next(numbers, None) is None
    assert installation.written() == [WRITE] * (2 * limits.ATTEMPTS - 1)
    assert installation.digests()["app"] == digest(3)


def test_a_commit_that_always_loses_fails(replica: MakeReplica, cluster: SimulatedCluster) -> None:
    puller = replica(**AT_ONCE)
    puller.check()

    def write_first() -> None:
        def edit(daemonset: Json) -> None:
            annotations = daemonset["metadata"]["annotations"]
            state = json.loads(annotations[STATE])
            state["pulledAgainAt"] = at(len(cluster.requests)).isoformat()
            annotations[STATE] = json.dumps(state)

        cluster.change(NAME, NAMESPACE, edit)

    cluster.before("PATCH", write_first, times=100)
    with pytest.raises(ClusterUnavailableError, match="8 times in a row"):
        puller.commit(push("1.2.4", 1))


def test_a_tag_that_another_replica_mutated_can_be_mutated_back(
    replica: MakeReplica, installation: Installation
) -> None:
    here, there = replica(IMAGES=LATEST, **AT_ONCE), replica(IMAGES=LATEST, **AT_ONCE)
    here.check()
    there.check()
    for puller, number, seconds in ((here, 1, 1), (there, 2, 2), (here, 1, 3)):
        assert puller.commit(push("latest", number, seconds=seconds)) == (Outcome.MUTATED,)
        assert installation.digests() == {"app": digest(number)}


# The interval between rollouts


def test_changes_during_the_interval_are_rolled_out_together(
    replica: MakeReplica, installation: Installation, now: Time
) -> None:
    puller = replica()
    puller.check()
    installation.sent()
    for number in (4, 5):
        now.advance(2)
        assert puller.commit(push(f"1.2.{number}", number)) == (Outcome.TRACKED,)
        assert installation.images() == [APP]
        assert installation.state()["entries"]["app"]["tags"][0]["tag"] == f"1.2.{number}"
    assert puller.reconciler.seconds_until_due() == 6
    now.advance(5.999)
    puller.commit()
    assert installation.images() == [APP]
    now.advance(0.001)
    puller.commit()
    assert installation.images() == [APP, NEWER, NEWEST]
    assert installation.written() == [WRITE, WRITE, WRITE]
    assert puller.reconciler.seconds_until_due() is None


def test_the_first_change_after_the_interval_is_rolled_out_at_once(
    replica: MakeReplica, installation: Installation, now: Time
) -> None:
    puller = replica()
    puller.check()
    now.advance(10)
    puller.commit(push("1.2.4", 1))
    assert installation.images() == [APP, NEWER]


def test_replicas_share_the_interval(
    replica: MakeReplica, installation: Installation, now: Time
) -> None:
    one, other = replica(), replica()
    one.check()
    other.check()
    now.advance(10)
    one.commit(push("1.2.4", 1))
    now.advance(9)
    other.commit(push("1.2.5", 2))
    assert installation.images() == [APP, NEWER]
    now.advance(1)
    one.commit(push("1.2.6", 3))
    assert installation.images() == [APP, NEWEST, "quay.io/org/app:1.2.6"]


def test_a_flush_applies_a_pending_template_at_once(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica()
    puller.check()
    puller.commit(push("1.2.4", 1))
    installation.sent()
    puller.commit(flush=True)
    assert installation.sent() == [TRY_POD, WRITE]
    assert installation.images() == [APP, NEWER]


def test_a_flush_without_a_pending_template_writes_nothing(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica()
    puller.check()
    installation.sent()
    puller.commit(flush=True)
    assert installation.written() == []


def test_the_next_process_applies_a_template_that_a_killed_one_left_pending(
    replica: MakeReplica, installation: Installation, now: Time
) -> None:
    killed = replica()
    killed.check()
    killed.commit(push("1.2.4", 1))
    puller = replica()
    puller.check()
    assert installation.images() == [APP]
    assert puller.reconciler.seconds_until_due() == 10
    now.advance(10)
    puller.commit()
    assert installation.images() == [APP, NEWER]


def test_nothing_is_due_before_the_first_commit(replica: MakeReplica) -> None:
    assert replica().reconciler.seconds_until_due() is None


# Unqueryable mutable tags


def test_an_unqueryable_mutable_tag_is_pulled_again_once_per_interval(
    replica: MakeReplica, installation: Installation, now: Time
) -> None:
    puller = replica(IMAGES=LATEST, CACHING_INTERVAL_HOURS="0.5")
    check = CheckDaemonSet(unqueryable=frozenset({("app", "latest")}))
    puller.check()
    now.advance(1799)
    puller.commit(check)
    assert PULLED_AGAIN not in installation.template()["metadata"]["annotations"]
    generation = installation.live()["metadata"]["generation"]
    now.advance(1)
    puller.check()
    assert PULLED_AGAIN not in installation.template()["metadata"]["annotations"]
    puller.commit(check)
    assert PULLED_AGAIN in installation.template()["metadata"]["annotations"]
    now.advance(600)
    puller.commit(check)
    assert installation.live()["metadata"]["generation"] == generation + 1


# The platform


def add_deployment(cluster: SimulatedCluster) -> str:
    """Add the service's Deployment, and return its uid."""
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
    }
    return str(cluster.add(manifest)["metadata"]["uid"])


def test_the_daemonset_is_owned_by_the_deployment(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    uid = add_deployment(cluster)
    replica().check()
    (owner,) = installation.live()["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME, "uid": uid}


def test_a_check_sets_an_owner_that_was_created_later(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica()
    puller.check()
    assert "ownerReferences" not in installation.live()["metadata"]
    uid = add_deployment(cluster)
    puller.check()
    assert installation.live()["metadata"]["ownerReferences"][0]["uid"] == uid


def test_on_knative_the_daemonset_is_owned_by_the_service(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    manifest = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
    }
    uid = cluster.add(manifest)["metadata"]["uid"]
    replica(K_SERVICE=NAME).check()
    (owner,) = installation.live()["metadata"]["ownerReferences"]
    assert (owner["apiVersion"], owner["uid"]) == ("serving.knative.dev/v1", uid)


def test_the_template_names_no_user_on_openshift(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    cluster.groups.append("route.openshift.io")
    replica().check()
    assert "runAsUser" not in installation.template()["spec"]["securityContext"]


@pytest.mark.parametrize("group", [[], ["route.openshift.io"]], ids=["Kubernetes", "OpenShift"])
def test_an_unknown_platform_leaves_owner_and_user_as_they_are(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster, group: list[str]
) -> None:
    cluster.groups.extend(group)
    uid = add_deployment(cluster)
    replica(**AT_ONCE).check()
    before = installation.live()
    cluster.fail(path="/apis", method="GET", status=503, times=2)  # discovery, and the Deployment
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1), CheckDaemonSet())
    after = installation.live()
    security = "securityContext"
    assert (
        after["spec"]["template"]["spec"][security] == before["spec"]["template"]["spec"][security]
    )
    assert after["metadata"]["ownerReferences"][0]["uid"] == uid
    assert installation.images() == [APP, NEWER]


def test_a_platform_that_was_known_once_stays_known(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    cluster.groups.append("route.openshift.io")
    puller = replica()
    puller.check()
    delete(puller, installation)
    cluster.fail(path="/apis", method="GET", times=2)
    puller.check()
    assert "runAsUser" not in installation.template()["spec"]["securityContext"]


# An unavailable API server


@pytest.mark.parametrize("status", [429, 500, 503, 504])
@pytest.mark.parametrize("method", ["PATCH", "GET"])
def test_a_push_that_failed_is_committed_when_it_is_sent_again(
    replica: MakeReplica,
    installation: Installation,
    cluster: SimulatedCluster,
    status: int,
    method: str,
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    pushed = push("1.2.4", 1) if method == "PATCH" else push("1.2.3", None)
    cluster.fail(status=status, method=method, retry_after=1)
    if method == "GET":
        puller.commit(push("1.2.3", None))
    with pytest.raises(ClusterUnavailableError, match=str(status)):
        puller.commit(pushed)
    puller.commit(push("1.2.4", 1))
    assert installation.images() == [APP, NEWER]


@pytest.mark.parametrize("served", [True, False])
def test_a_write_whose_answer_is_lost_is_not_sent_again_by_the_client(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster, served: bool
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    installation.sent()
    cluster.hang_up(method="PATCH", served=served)
    with pytest.raises(ClusterUnavailableError):
        puller.commit(push("1.2.4", 1))
    assert installation.sent() == [TRY_POD, WRITE]
    outcomes = puller.commit(push("1.2.4", 1))
    assert outcomes == ((Outcome.UNCHANGED if served else Outcome.TRACKED),)
    assert installation.images() == [APP, NEWER]


def test_a_pending_template_is_applied_after_a_failed_write(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster, now: Time
) -> None:
    puller = replica()
    puller.check()
    puller.commit(push("1.2.4", 1))
    now.advance(10)
    cluster.fail(method="PATCH")
    with pytest.raises(ClusterUnavailableError):
        puller.commit()
    puller.commit()
    assert installation.images() == [APP, NEWER]


def test_an_api_server_that_refuses_the_service_account_fails_the_commit(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    cluster.token = None
    puller = replica()
    puller.check()
    cluster.fail(status=401, method="PATCH")
    with pytest.raises(ClusterUnavailableError, match="401"):
        puller.commit(push("1.2.4", 1))


# Reports and logs


def test_malformed_entries_are_reported_once_per_process(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(IMAGES=f"app={APP};bad", **AT_ONCE)
    puller.check()
    puller.check()
    (warning,) = puller.config.warnings
    assert installation.reports() == [("ImagesMalformed", warning)]


def test_creation_and_rollouts_are_logged(
    replica: MakeReplica, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    puller = replica(**AT_ONCE)
    puller.check()
    puller.commit(push("1.2.4", 1))
    assert f"DaemonSet {NAME} was created" in caplog.text
    assert f"DaemonSet {NAME}: the template was written" in caplog.text


# A clock that was wrong for a while

YEAR = 365 * 24 * 3600


@pytest.mark.parametrize("is_new_process", [True, False])
def test_pushes_count_after_a_clock_was_ahead(
    replica: MakeReplica, installation: Installation, now: Time, is_new_process: bool
) -> None:
    puller = replica(IMAGES=LATEST, **AT_ONCE)
    now.advance(YEAR)
    puller.commit(push("latest", 1, seconds=YEAR))
    now.advance(-YEAR)
    puller = replica(IMAGES=LATEST, **AT_ONCE) if is_new_process else puller
    assert puller.commit(push("latest", 2, seconds=-5)) == (Outcome.IN_DOUBT,)
    assert installation.digests() == {"app": digest(2)}
    assert puller.commit(push("latest", 3, seconds=-1)) == (Outcome.MUTATED,)


def test_a_time_in_the_future_is_corrected_in_the_state_once(
    replica: MakeReplica, installation: Installation, now: Time
) -> None:
    now.advance(YEAR)
    replica(IMAGES=LATEST, **AT_ONCE).commit(push("latest", 1, seconds=YEAR))
    now.advance(-YEAR)
    puller = replica(IMAGES=LATEST, **AT_ONCE)
    puller.check()
    state = installation.state()
    assert state["changed"] == "2026-01-15T12:00:00.000Z"
    assert state["entries"]["app"]["tags"][0]["time"] == "2026-01-15T12:00:00.000Z"
    installation.sent()
    puller.check()
    assert installation.written() == []


def test_unqueryable_tags_are_pulled_again_after_a_clock_was_ahead(
    replica: MakeReplica, installation: Installation, now: Time
) -> None:
    now.advance(YEAR)
    replica(IMAGES=LATEST, **AT_ONCE).check()
    now.advance(-YEAR)
    puller = replica(IMAGES=LATEST, **AT_ONCE)
    puller.check()
    before = installation.template()
    now.advance(2 * 3600)
    puller.commit(CheckDaemonSet(frozenset({("app", "latest")})))
    assert installation.template() != before


# The bound of nodes that change at once


def bound(installation: Installation) -> object:
    return installation.live()["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"]


def test_another_bound_of_nodes_costs_one_write_and_restarts_no_pod(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(ROLLOUT_MAX_UNAVAILABLE="1", **AT_ONCE)
    puller.check()
    cluster.advance(60)
    before = [pod["metadata"]["uid"] for pod in cluster.pods()]
    for nodes, expected in ((2, 2), (3, 3), (None, 1)):
        installation.sent()
        assert puller.commit(SetMaxUnavailable(nodes)) == (Outcome.BOUND_CHANGED,)
        assert installation.written() == [WRITE]
        assert bound(installation) == expected
        assert installation.state()["maxUnavailable"] == nodes
        installation.sent()
        puller.check()
        assert installation.written() == []
    cluster.advance(60)
    assert [pod["metadata"]["uid"] for pod in cluster.pods()] == before


def test_a_raised_bound_stays_through_pushes_processes_and_repairs(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(ROLLOUT_MAX_UNAVAILABLE="1", **AT_ONCE)
    puller.check()
    puller.commit(SetMaxUnavailable(2), push("1.2.4", 1))
    assert installation.images() == [APP, NEWER]
    puller = replica(ROLLOUT_MAX_UNAVAILABLE="1", **AT_ONCE)
    assert puller.commit(SetMaxUnavailable(4)) == (Outcome.BOUND_CHANGED,)  # its first commit
    assert bound(installation) == 4
    drift(cluster)
    puller.check()
    assert installation.images() == [APP, NEWER]
    assert bound(installation) == 4
    puller = replica(ROLLOUT_MAX_UNAVAILABLE="1", KEEP_TAGS="3", **AT_ONCE)
    puller.check()
    assert bound(installation) == 4


def test_another_configured_bound_replaces_a_raised_one(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(ROLLOUT_MAX_UNAVAILABLE="1", **AT_ONCE)
    puller.commit(push("1.2.4", 1))
    puller.commit(SetMaxUnavailable(4))
    puller = replica(ROLLOUT_MAX_UNAVAILABLE="2", **AT_ONCE)
    puller.check()
    assert bound(installation) == 2
    assert installation.state()["maxUnavailable"] is None


def test_a_new_daemonset_has_the_configured_bound(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(ROLLOUT_MAX_UNAVAILABLE="1", **AT_ONCE)
    puller.check()
    puller.commit(SetMaxUnavailable(2))
    delete(puller, installation)
    puller.check()
    assert bound(installation) == 1
    assert installation.state()["maxUnavailable"] is None


# Seeds


def test_without_seeds_requests_manifests_and_hashes_are_the_same(
    replica: MakeReplica, installation: Installation
) -> None:
    off = replica(ROLLOUT_SEED_NODES="0", HOLD_BY="containers", **AT_ONCE)
    off.check()
    created, configured = installation.live(), installation.state()["configuration"]
    assert installation.images() == [APP]
    assert "seeding" not in installation.state()
    installation.sent()
    unset = replica(HOLD_BY="containers", **AT_ONCE)
    unset.check()
    assert installation.sent() == [*CHECK_READS, READ_OWN_POD, DRY_RUN, WRITE]
    assert installation.live()["spec"] == created["spec"]
    assert installation.state()["configuration"] == configured
    unset.commit(push("1.2.4", 1))
    assert installation.sent() == [TRY_POD, WRITE]
    assert bound(installation) == "100%"


def test_each_step_of_a_rollout_with_seeds_costs_one_write(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(ROLLOUT_SEED_NODES="2", **AT_ONCE)
    puller.check()
    assert installation.written() == ["POST daemonsets"]
    assert bound(installation) == "100%"
    cluster.advance(60)
    for change in (Proceed(installation.state()["template"]), push("1.2.4", 1)):
        puller.commit(change)
        assert installation.written() == [WRITE]
        assert bound(installation) == installation.state()["maxUnavailable"] == 2
        cluster.advance(60)
        before = [pod["metadata"]["uid"] for pod in cluster.pods()]
        template = installation.template()
        puller.commit(Proceed(installation.state()["template"]))
        assert installation.written() == [WRITE]
        assert bound(installation) == "100%"
        assert installation.template() == template
        assert "seeding" not in installation.state()
        cluster.advance()
        assert len({pod["metadata"]["uid"] for pod in cluster.pods()} & {*before}) >= 2
        cluster.advance(60)
    puller.check()
    assert installation.written() == []
    assert installation.images() == [APP, NEWER]


# Seeds while no node is selected


NODES = ("node-1", "node-2", "node-3")


def filled(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster, **more: str
) -> Replica:
    """Return a process whose images are on the nodes, and no part of a rollout is left."""
    puller = replica(HOLD_BY="containers", **AT_ONCE, **more)
    puller.check()
    for _ in range(2):
        cluster.advance(60)
        puller.commit(Proceed(installation.state()["template"]))
    cluster.advance(60)
    assert installation.images() == [APP]
    assert "seeding" not in installation.state()
    installation.sent()
    return puller


def leave(cluster: SimulatedCluster, *nodes: str) -> None:
    for node in nodes:
        cluster.leave(node)
    cluster.advance(1)


def test_while_no_node_is_selected_one_write_takes_the_images_from_the_template(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = filled(replica, installation, cluster, ROLLOUT_SEED_NODES="2")
    puller.commit(push("1.2.4", 1))
    leave(cluster, *NODES)
    installation.sent()
    puller.check()
    assert installation.written() == [WRITE]
    assert installation.images() == []
    state = installation.state()
    assert (state["seeding"], state["maxUnavailable"], bound(installation)) == (
        "empty", None, "100%",
    )  # fmt: skip
    puller.commit(push("1.2.5", 2))
    installation.sent()
    cluster.advance(1)
    puller.check()
    assert installation.written() == []
    assert installation.images() == []
    assert puller.commit(Proceed(installation.state()["template"])) == (Outcome.PROCEEDED,)
    assert installation.images() == [APP, NEWER, NEWEST]
    assert (installation.state()["seeding"], bound(installation)) == ("seeds", 2)


@pytest.mark.parametrize(
    ("seeds", "left"), [("2", NODES[:2]), ("0", NODES)], ids=["a node is left", "without seeds"]
)
def test_the_template_keeps_its_images_where_a_node_is_left_and_without_seeds(
    replica: MakeReplica,
    installation: Installation,
    cluster: SimulatedCluster,
    seeds: str,
    left: tuple[str, ...],
) -> None:
    puller = filled(replica, installation, cluster, ROLLOUT_SEED_NODES=seeds)
    leave(cluster, *left)
    installation.sent()
    puller.check()
    assert installation.written() == []
    assert installation.images() == [APP]


def test_the_template_keeps_its_images_until_the_controller_has_seen_it(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = filled(replica, installation, cluster, ROLLOUT_SEED_NODES="2")
    leave(cluster, *NODES)
    puller.commit(push("1.2.4", 1))
    puller.check()
    assert installation.images() == [APP, NEWER]
    cluster.advance(1)
    puller.check()
    assert installation.images() == []


def test_the_template_keeps_its_images_where_a_pod_is_there_although_the_status_has_none(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = filled(replica, installation, cluster, ROLLOUT_SEED_NODES="2")
    (pod, *_) = cluster.pods(NAMESPACE)
    leave(cluster, *NODES)
    metadata = {name: pod["metadata"][name] for name in ("labels", "ownerReferences")}
    left = {"metadata": {"name": "left", "namespace": NAMESPACE, **metadata}, "spec": pod["spec"]}
    cluster.add({"apiVersion": "v1", "kind": "Pod", **left})
    puller.check()
    assert installation.images() == [APP]
    cluster.delete("left", NAMESPACE, resource="pods")
    puller.check()
    assert installation.images() == []


def test_a_node_that_joins_right_before_the_write_gets_its_images(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = filled(replica, installation, cluster, ROLLOUT_SEED_NODES="2")
    leave(cluster, *NODES)

    def join() -> None:
        cluster.join("node-4")
        cluster.advance(1)

    cluster.before("PATCH", join)
    puller.check()
    assert installation.images() == [APP]
    assert "seeding" not in installation.state()
    puller.commit(push("1.2.4", 1))
    assert installation.images() == [APP, NEWER]


def test_a_template_without_images_that_the_cluster_refuses_changes_nothing(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = filled(replica, installation, cluster, ROLLOUT_SEED_NODES="2")
    leave(cluster, *NODES)
    cluster.deny(
        lambda found: len(found["spec"]["template"]["spec"]["containers"]) == 1, "no images"
    )
    puller.check()
    assert installation.images() == [APP]
    assert installation.state()["blocked"] is None
    assert puller.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)
