"""What is decided reaches the DaemonSet: asserted on the wire of a simulated API server."""

import copy
import itertools
import json
import logging
from collections.abc import Callable

import pytest

from image_puller import limits
from image_puller.core.changes import CheckDaemonSet, EnsureExists
from image_puller.core.daemonset import ORIGINAL_SELECTOR, OWNER_LABEL, PULLED_AGAIN, STATE
from image_puller.core.decide import Outcome
from image_puller.errors import (
    ClusterUnavailableError,
    ForeignDaemonSetError,
    SupersededError,
)
from image_puller.simulation import SimulatedCluster
from tests.support.building import at, deletion, digest, push
from tests.support.installation import NAME, NAMESPACE, Installation, Json
from tests.support.replica import Replica, Time

AT_ONCE = {"ROLLOUT_MIN_INTERVAL_SECONDS": "0"}
APP = "quay.io/org/app:1.2.3"
NEWER = "quay.io/org/app:1.2.4"
OTHER = "quay.io/org/other:2.0.0"
BOTH = f"app={APP};other={OTHER}"
LATEST = "app=quay.io/org/app:latest"
LOOK = ["GET apis", "GET deployments", "GET daemonsets"]
DRY_RUN = "PATCH daemonsets dry run"
WRITE = "PATCH daemonsets"
LOOK_AT_STATE = "GET daemonsets metadata"

MakeReplica = Callable[..., Replica]


def forbid_pods(cluster: SimulatedCluster) -> None:
    who = "system:serviceaccount:k8s-image-puller:kubernetes-image-puller"
    cluster.deny(
        lambda _pod: True,
        f'User "{who}" cannot create resource "pods" in API group ""',
        status=403,
        resource="pods",
    )


def refuse_pods(cluster: SimulatedCluster, message: str) -> None:
    cluster.deny(lambda _pod: True, message, status=403, resource="pods")


def original(name: str = NAME) -> Json:
    return foreign(ORIGINAL_SELECTOR, name)


def foreign(labels: Json, name: str = NAME) -> Json:
    container = {"name": "old", "image": "example.com/old:1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


# How many requests


def test_the_first_check_makes_the_daemonset(
    replica: MakeReplica, installation: Installation
) -> None:
    replica(IMAGES=BOTH).check()
    assert installation.sent() == [*LOOK, "POST daemonsets"]
    assert installation.images() == [APP, OTHER]
    assert installation.state()["changed"] == "2026-01-15T12:00:00.000Z"


def test_a_push_that_changes_something_is_one_request(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    installation.sent()
    assert puller.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)
    assert installation.sent() == [WRITE]
    assert installation.images() == [APP, NEWER]
    assert list(installation.digests().values()) == [digest(1)]
    for number in range(2, 5):
        puller.commit(push(f"1.2.{number + 3}", number))
        assert installation.sent() == [WRITE]


def test_that_request_is_a_compare_and_set_of_state_and_template(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    before = installation.live()["metadata"]["annotations"][STATE]
    cluster.requests.clear()
    puller.commit(push("1.2.4", 1))
    (request,) = cluster.requests
    test, state, template = request.json
    path = "/metadata/annotations/image-puller.io~1state"
    assert request.content_type == "application/json-patch+json"
    assert test == {"op": "test", "path": path, "value": before}
    assert (state["path"], template["path"]) == (path, "/spec/template")
    assert "resourceVersion" not in request.body.decode()


def test_what_is_already_there_costs_one_read_and_no_write(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1))
    before = installation.live()
    installation.sent()
    assert puller.commit(push("1.2.4", 1)) == (Outcome.UNCHANGED,)
    assert installation.sent() == [LOOK_AT_STATE]
    assert installation.live() == before


def test_the_same_content_pushed_later_costs_no_write_and_is_not_undone_by_a_late_older_push(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.3", 1, seconds=1))
    before = installation.live()
    installation.sent()
    assert puller.commit(push("1.2.3", 1, seconds=3)) == (Outcome.UNCHANGED,)
    assert puller.commit(push("1.2.3", 2, seconds=2)) == (Outcome.OLDER,)
    assert installation.sent() == [LOOK_AT_STATE, LOOK_AT_STATE]
    assert installation.live() == before


def test_a_node_that_joins_costs_one_read(replica: MakeReplica, installation: Installation) -> None:
    puller = replica()
    puller.check()
    installation.sent()
    puller.ensure_exists()
    assert installation.sent() == [LOOK_AT_STATE]


def test_a_tick_without_drift_costs_reads_and_one_dry_run(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica()
    puller.check()
    before = installation.live()
    installation.sent()
    puller.check()
    assert installation.sent() == [*LOOK, DRY_RUN]
    assert installation.live() == before


def test_ticks_that_arrive_together_are_one(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica()
    puller.check()
    installation.sent()
    assert puller.commit(*[CheckDaemonSet()] * 5) == (Outcome.CHECKED,) * 5
    assert installation.sent() == [*LOOK, DRY_RUN]


def test_what_arrives_together_is_one_write(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(IMAGES=BOTH, **AT_ONCE)
    puller.check()
    installation.sent()
    pushes = [push(f"1.2.{n}", n) for n in range(10)] + [push("2.1.0", 10, entry="other")]
    outcomes = puller.commit(*pushes, deletion("1.2.9"))
    assert outcomes[-2:] == (Outcome.TRACKED, Outcome.UNTRACKED)
    assert installation.sent() == [WRITE]
    assert installation.images() == [
        APP, "quay.io/org/app:1.2.7", "quay.io/org/app:1.2.8", OTHER, "quay.io/org/other:2.1.0",
    ]  # fmt: skip


# Where nothing is yet


def test_the_first_push_makes_the_daemonset_and_is_in_it(
    replica: MakeReplica, installation: Installation
) -> None:
    assert replica().commit(push("1.2.4", 1)) == (Outcome.TRACKED,)
    assert installation.written() == ["POST daemonsets"]
    assert installation.images() == [APP, NEWER]


def test_a_deleted_daemonset_is_made_again_with_what_was_just_pushed(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1))
    delete(puller, installation)
    assert puller.commit(push("1.2.5", 2)) == (Outcome.TRACKED,)
    assert installation.images() == [APP, "quay.io/org/app:1.2.5"]


@pytest.mark.parametrize("change", [EnsureExists(), CheckDaemonSet(), push("1.2.4", 1)])
def test_whatever_comes_makes_a_deleted_daemonset_again(
    replica: MakeReplica, installation: Installation, change: EnsureExists | CheckDaemonSet
) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1))
    delete(puller, installation)
    puller.commit(change)
    assert APP in installation.images()


def test_a_daemonset_that_is_deleted_between_a_refused_write_and_the_next_look_is_made_again(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    installation.refuse("1.2.4")
    cluster.before("GET", lambda: delete(puller, installation), path=NAME)
    assert puller.commit(push("1.2.4", 1)) == (Outcome.REFUSED,)
    assert installation.images() == [APP]


def test_two_that_make_it_at_once_end_with_one_daemonset_and_both_pushes(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    one, other = replica(**AT_ONCE), replica(**AT_ONCE)
    cluster.before("POST", lambda: other.commit(push("1.2.4", 1)))
    assert one.commit(push("1.2.5", 2)) == (Outcome.TRACKED,)
    assert installation.images() == [APP, NEWER, "quay.io/org/app:1.2.5"]


def test_a_namespace_that_is_not_there_is_said(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(NAMESPACE="nowhere")
    with pytest.raises(ClusterUnavailableError, match='namespaces "nowhere" not found'):
        puller.check()
    assert installation.written() == ["POST daemonsets"]


def delete(puller: Replica, installation: Installation) -> None:
    puller.cluster.delete(installation.live()["metadata"]["uid"])


# Races


def test_a_lost_race_is_decided_again_on_what_is_there(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    one, other = replica(**AT_ONCE), replica(**AT_ONCE)
    one.check()
    other.check()
    installation.sent()
    cluster.before("PATCH", lambda: other.commit(push("1.2.4", 1)))
    assert one.commit(push("1.2.5", 2)) == (Outcome.TRACKED,)
    # The other's write, the lost one, what tells that it is lost, the new state, the new write.
    assert installation.sent() == [WRITE, WRITE, LOOK_AT_STATE, LOOK_AT_STATE, WRITE]
    assert installation.images() == [APP, NEWER, "quay.io/org/app:1.2.5"]


def test_a_race_may_be_lost_several_times(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    one, other = replica(**AT_ONCE), replica(**AT_ONCE)
    one.check()
    other.check()
    rivals = iter(range(4, 4 + limits.ATTEMPTS - 1))

    def be_faster() -> None:
        number = next(rivals, None)
        if number is not None:
            cluster.before("PATCH", be_faster)
            cluster.before("PATCH", lambda: None)  # the rival's own is not hurried
            other.commit(push(f"1.2.{number}", number))

    cluster.before("PATCH", be_faster)
    assert one.commit(push("1.2.3", 3)) == (Outcome.MUTATED,)
    assert next(rivals, None) is None
    assert installation.digests()["app"] == digest(3)


def test_who_always_loses_tells_its_sender_to_come_again(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()

    def be_faster() -> None:
        def edit(daemonset: Json) -> None:
            annotations = daemonset["metadata"]["annotations"]
            state = json.loads(annotations[STATE])
            state["pulledAgainAt"] = at(len(cluster.requests)).isoformat()
            annotations[STATE] = json.dumps(state)

        cluster.change(NAME, NAMESPACE, edit)

    cluster.before("PATCH", be_faster, times=100)
    with pytest.raises(ClusterUnavailableError, match="8 times in a row"):
        puller.commit(push("1.2.4", 1))


def test_a_tag_that_moved_away_through_another_replica_comes_back(
    replica: MakeReplica, installation: Installation
) -> None:
    here, there = replica(IMAGES=LATEST, **AT_ONCE), replica(IMAGES=LATEST, **AT_ONCE)
    here.check()
    there.check()
    for puller, number, seconds in ((here, 1, 1), (there, 2, 2), (here, 1, 3)):
        assert puller.commit(push("latest", number, seconds=seconds)) == (Outcome.MUTATED,)
        assert installation.digests() == {"app": digest(number)}


def test_already_there_is_not_believed_from_memory(
    replica: MakeReplica, installation: Installation
) -> None:
    here, there = replica(IMAGES=LATEST, **AT_ONCE), replica(IMAGES=LATEST, **AT_ONCE)
    here.commit(push("latest", 1, seconds=1))
    there.commit(push("latest", 2, seconds=2))
    installation.sent()
    # Here it looks as if nothing were to do: the push is the one remembered.
    assert here.commit(push("latest", 1, seconds=1)) == (Outcome.OLDER,)
    assert installation.sent() == [LOOK_AT_STATE, LOOK_AT_STATE]
    assert installation.digests() == {"app": digest(2)}


def test_a_race_that_is_lost_while_a_refused_template_is_taken_apart_is_decided_again(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    one, other = replica(IMAGES=BOTH, **AT_ONCE), replica(IMAGES=BOTH, **AT_ONCE)
    one.check()
    other.check()
    installation.refuse("1.2.4")
    # The refused template, then the state alone: the other comes between the two.
    cluster.before("PATCH", lambda: None)
    cluster.before("GET", lambda: other_writes_after_the_look(other, cluster), path=NAME)
    assert one.commit(push("1.2.4", 1)) == (Outcome.REFUSED,)
    assert installation.images() == [APP, OTHER, "quay.io/org/other:2.1.0"]
    assert [refused["tag"] for refused in installation.state()["entries"]["app"]["refused"]] == [
        "1.2.4"
    ]


def other_writes_after_the_look(other: Replica, cluster: SimulatedCluster) -> None:
    cluster.before("PATCH", lambda: other.commit(push("2.1.0", 2, entry="other")))


def test_a_race_that_is_lost_by_the_last_write_of_an_isolation_is_decided_again(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    one, other = replica(IMAGES=BOTH, **AT_ONCE), replica(IMAGES=BOTH, **AT_ONCE)
    one.check()
    other.check()
    installation.refuse("1.2.4")

    def be_faster_after(writes: int) -> None:
        if writes:
            cluster.before("PATCH", lambda: be_faster_after(writes - 1))
        else:
            other.commit(push("2.1.0", 2, entry="other"))

    # Refused, the state, two dry runs of the old template with each change, then the last.
    be_faster_after(5)
    assert one.commit(push("1.2.4", 1), push("2.0.1", 3, entry="other"))[0] is Outcome.REFUSED
    assert installation.images() == [
        APP, OTHER, "quay.io/org/other:2.0.1", "quay.io/org/other:2.1.0",
    ]  # fmt: skip


def test_a_race_that_is_lost_by_a_repair_is_decided_again(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    one, other = replica(**AT_ONCE), replica(**AT_ONCE)
    one.check()
    other.check()
    drift(cluster)
    cluster.before("PATCH", lambda: None)  # the dry run
    cluster.before("PATCH", lambda: cluster.before("PATCH", lambda: other.commit(push("1.2.4", 1))))
    one.check()
    assert installation.images() == [APP, NEWER]


# Whose configuration it is


def test_a_new_process_takes_over_with_its_own_configuration_and_what_was_followed(
    replica: MakeReplica, installation: Installation
) -> None:
    replica(**AT_ONCE).commit(push("1.2.4", 1))
    replica(IMAGES=BOTH, **AT_ONCE).check()
    assert installation.images() == [APP, NEWER, OTHER]


def test_the_process_before_it_steps_back_for_good(
    replica: MakeReplica, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = replica(**AT_ONCE), replica(IMAGES=BOTH, **AT_ONCE)
    old.check()
    new.check()
    before = installation.live()
    with pytest.raises(SupersededError, match="another configuration is in charge"):
        old.commit(push("1.2.4", 1))
    assert "another configuration is in charge" in str(old.reconciler.superseded)
    installation.sent()
    for changes in ([push("1.2.4", 1)], [CheckDaemonSet()], []):
        with pytest.raises(SupersededError):
            old.commit(*changes, flush=True)
    assert installation.sent() == []
    assert installation.live() == before
    new.commit(push("1.2.4", 1))
    assert installation.images() == [APP, NEWER, OTHER]


@pytest.mark.parametrize("change", [CheckDaemonSet(), EnsureExists(), push("1.2.3", None)])
def test_it_steps_back_whatever_it_is_asked(
    replica: MakeReplica, installation: Installation, change: CheckDaemonSet | EnsureExists
) -> None:
    old, new = replica(**AT_ONCE), replica(IMAGES=BOTH, **AT_ONCE)
    old.check()
    new.check()
    before = installation.live()
    with pytest.raises(SupersededError):
        old.commit(change)
    assert installation.live() == before


def test_it_steps_back_also_from_a_daemonset_that_was_made_anew(
    replica: MakeReplica, installation: Installation
) -> None:
    old, new = replica(**AT_ONCE), replica(IMAGES=BOTH, **AT_ONCE)
    old.check()
    delete(old, installation)
    new.check()
    with pytest.raises(SupersededError):
        old.commit(push("1.2.4", 1))
    assert installation.images() == [APP, OTHER]


def test_a_new_process_that_loses_a_race_to_the_old_one_still_takes_over(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    old, new = replica(**AT_ONCE), replica(IMAGES=BOTH, **AT_ONCE)
    old.check()
    forbid_pods(cluster)
    cluster.before("PATCH", lambda: old.commit(push("1.2.4", 1)))
    new.check()
    assert installation.images() == [APP, NEWER, OTHER]


def test_a_new_process_whose_first_write_fails_still_takes_over(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    replica(**AT_ONCE).check()
    new = replica(IMAGES=BOTH, **AT_ONCE)
    cluster.fail(method="PATCH")
    with pytest.raises(ClusterUnavailableError):
        new.check()
    new.check()
    assert installation.images() == [APP, OTHER]


def test_a_process_that_was_in_charge_at_its_first_check_steps_back_though_it_wrote_nothing(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    replica(**AT_ONCE).check()
    again, new = replica(**AT_ONCE), replica(IMAGES=BOTH, **AT_ONCE)
    cluster.fail(method="PATCH")
    with pytest.raises(ClusterUnavailableError):
        again.check()
    new.check()
    with pytest.raises(SupersededError):
        again.check()


def test_two_processes_of_the_same_configuration_share_the_daemonset(
    replica: MakeReplica, installation: Installation
) -> None:
    public, local = replica(PORT="8081", **AT_ONCE), replica(EVENT_AUTH="none", **AT_ONCE)
    public.check()
    local.check()
    public.commit(push("1.2.4", 1))
    local.commit(push("1.2.5", 2))
    public.check()
    assert installation.images() == [APP, NEWER, "quay.io/org/app:1.2.5"]


@pytest.mark.parametrize("first_check", [True, False])
def test_a_schema_that_is_not_known_is_never_reset(
    replica: MakeReplica, installation: Installation, first_check: bool
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    installation.annotate('{"schema":99,"anything":"else"}')
    before = installation.live()
    asked = replica(**AT_ONCE) if first_check else puller
    with pytest.raises(SupersededError, match="schema 99; this release reads 2"):
        asked.commit(push("1.2.4", 1))
    assert installation.live() == before


# A state that is gone or broken


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", '{"schema": 1}'])
@pytest.mark.parametrize("restarted", [True, False])
def test_a_state_that_is_gone_or_broken_is_written_again_and_right_pods_stay(
    replica: MakeReplica, installation: Installation, text: str | None, restarted: bool
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    before = installation.live()
    installation.annotate(text)
    asked = replica(**AT_ONCE) if restarted else puller
    asked.check()
    assert installation.live()["metadata"]["generation"] == before["metadata"]["generation"]
    assert list(installation.state()["entries"]) == ["app"]
    (report,) = installation.reports()
    assert report[0] == "StateUnreadable"
    assert "starting again from IMAGES" in report[1]


def test_a_push_meets_a_broken_state_and_is_not_lost(
    replica: MakeReplica, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1))
    installation.annotate("{")
    assert puller.commit(push("1.2.5", 2)) == (Outcome.TRACKED,)
    assert installation.images() == [APP, "quay.io/org/app:1.2.5"]
    assert "starting again from IMAGES, without tracked tags" in caplog.text


def test_a_state_without_its_entries_counts_as_broken(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    installation.annotate(json.dumps(installation.state() | {"entries": {}}))
    assert puller.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)
    assert installation.images() == [APP, NEWER]


# Spacing


def test_template_changes_are_apart_and_what_comes_between_goes_together(
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
    assert installation.images() == [APP, NEWER, "quay.io/org/app:1.2.5"]
    assert installation.written() == [WRITE, WRITE, WRITE]
    assert puller.reconciler.seconds_until_due() is None


def test_the_first_change_after_the_window_goes_out_at_once(
    replica: MakeReplica, installation: Installation, now: Time
) -> None:
    puller = replica()
    puller.check()
    now.advance(10)
    puller.commit(push("1.2.4", 1))
    assert installation.images() == [APP, NEWER]


def test_replicas_share_the_spacing(
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
    assert installation.images() == [APP, "quay.io/org/app:1.2.5", "quay.io/org/app:1.2.6"]


def test_a_flush_applies_what_is_pending_whatever_the_spacing(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica()
    puller.check()
    puller.commit(push("1.2.4", 1))
    installation.sent()
    puller.commit(flush=True)
    assert installation.sent() == [WRITE]
    assert installation.images() == [APP, NEWER]


def test_a_flush_with_nothing_pending_writes_nothing(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica()
    puller.check()
    installation.sent()
    puller.commit(flush=True)
    assert installation.written() == []


def test_what_a_dead_process_left_pending_is_applied_by_the_next(
    replica: MakeReplica, installation: Installation, now: Time
) -> None:
    dead = replica()
    dead.check()
    dead.commit(push("1.2.4", 1))
    heir = replica()
    heir.check()
    assert installation.images() == [APP]
    assert heir.reconciler.seconds_until_due() == 10
    now.advance(10)
    heir.commit()
    assert installation.images() == [APP, NEWER]


def test_nothing_is_due_before_anything_is_known(replica: MakeReplica) -> None:
    assert replica().reconciler.seconds_until_due() is None


# Moving tags that nobody can be asked about


def test_a_moving_tag_is_rolled_once_per_caching_interval(
    replica: MakeReplica, installation: Installation, now: Time
) -> None:
    puller = replica(IMAGES=LATEST, CACHING_INTERVAL_HOURS="0.5")
    look = CheckDaemonSet(unqueryable=frozenset({("app", "latest")}))
    puller.check()
    now.advance(1799)
    puller.commit(look)
    assert PULLED_AGAIN not in installation.template()["metadata"]["annotations"]
    generation = installation.live()["metadata"]["generation"]
    now.advance(1)
    puller.check()
    assert PULLED_AGAIN not in installation.template()["metadata"]["annotations"]
    puller.commit(look)
    assert PULLED_AGAIN in installation.template()["metadata"]["annotations"]
    now.advance(600)
    puller.commit(look)
    assert installation.live()["metadata"]["generation"] == generation + 1


# A refused template


@pytest.mark.parametrize("status", [422, 403])
def test_a_refused_tag_is_marked_and_reported_and_stops_no_other(
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


def test_a_lone_refused_tag_leaves_the_template_and_keeps_the_mark(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    before = installation.live()
    installation.refuse("1.2.4")
    assert puller.commit(push("1.2.4", 1)) == (Outcome.REFUSED,)
    assert installation.live()["metadata"]["generation"] == before["metadata"]["generation"]
    assert puller.reconciler.seconds_until_due() is None


def test_a_refused_tag_is_tried_again_when_it_is_pushed_again_and_not_before(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    installation.refuse("1.2.4")
    puller.commit(push("1.2.4", 1))
    cluster.allow_everything()
    puller.check()
    puller.commit(push("1.2.5", 2))
    assert installation.images() == [APP, "quay.io/org/app:1.2.5"]
    assert len(installation.reports()) == 1
    assert puller.commit(push("1.2.4", 1, seconds=1)) == (Outcome.TRACKED,)
    assert installation.images() == [APP, NEWER, "quay.io/org/app:1.2.5"]
    assert "refused" not in installation.state()["entries"]["app"]


def test_a_refused_tag_is_tried_again_under_another_configuration(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    installation.refuse("1.2.4")
    puller.commit(push("1.2.4", 1))
    cluster.allow_everything()
    replica(KEEP_TAGS="3", **AT_ONCE).check()
    assert "refused" not in installation.state()["entries"]["app"]


def test_an_image_that_is_refused_at_creation_leaves_the_others_cached(
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


def test_a_push_that_is_refused_at_creation_is_told_so(
    replica: MakeReplica, installation: Installation
) -> None:
    installation.refuse("1.2.4")
    assert replica().commit(push("1.2.4", 1)) == (Outcome.REFUSED,)
    assert installation.images() == [APP]


def test_where_every_image_is_refused_there_is_no_daemonset_and_senders_come_again(
    replica: MakeReplica, cluster: SimulatedCluster, installation: Installation
) -> None:
    installation.refuse("quay.io")
    with pytest.raises(ClusterUnavailableError, match="can't be created"):
        replica(IMAGES=BOTH).check()
    assert cluster.daemonset(NAME, NAMESPACE) is None


def test_a_refusal_that_no_tag_is_to_blame_for_blocks_the_template_and_keeps_the_state(
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


def test_a_withdrawn_template_that_is_refused_as_well_blocks_and_is_tried_by_every_tick(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    before = installation.live()
    drift(cluster)  # so that the withdrawn template is a change as well
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
def test_a_refusal_of_what_is_beside_the_template_blocks_it_all(
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


def test_a_state_that_is_refused_is_not_answered_with_success(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica()
    puller.check()
    cluster.deny(lambda _daemonset: True, "nothing at all")
    with pytest.raises(ClusterUnavailableError, match=r"can't be changed: .* nothing at all"):
        puller.commit(push("1.2.4", 1))
    cluster.allow_everything()
    assert puller.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)


def refuse_new_templates(cluster: SimulatedCluster, live: Json) -> None:
    template = copy.deepcopy(live["spec"]["template"])
    cluster.deny(lambda daemonset: daemonset["spec"]["template"] != template, "frozen")


# A change of anything but tags


def test_a_change_of_structure_is_first_tried_with_one_pod(
    replica: MakeReplica, installation: Installation
) -> None:
    replica(**AT_ONCE).check()
    installation.sent()
    replica(CACHING_MEMORY_LIMIT="30Mi", **AT_ONCE).check()
    assert installation.sent() == [*LOOK, "POST pods dry run", WRITE]
    _, container = installation.template()["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == "30Mi"


def test_a_new_tag_is_not_tried_with_a_pod(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    puller.commit(push("1.2.4", 1))
    assert not any("pods" in request for request in installation.sent())


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
)
def test_pods_that_would_be_refused_block_the_rollout_and_lose_no_push(
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


def test_what_is_blocked_costs_no_write_by_the_next_tick(
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


def test_a_quota_does_not_count_where_the_new_pod_asks_for_no_more(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    replica(**AT_ONCE).check()
    refuse_pods(cluster, "exceeded quota: small, requested: limits.memory=15Mi")
    replica(CACHING_MEMORY_LIMIT="15Mi", **AT_ONCE).check()
    _, container = installation.template()["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == "15Mi"


def test_who_may_not_create_pods_rolls_without_the_trial_and_says_so(
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


def test_annotations_labels_and_update_strategy_change_with_the_structure(
    replica: MakeReplica, installation: Installation
) -> None:
    replica(**AT_ONCE).check()
    replica(
        ROLLOUT_MAX_UNAVAILABLE="2", DAEMONSET_ANNOTATIONS='{"example.com/a~b":"c"}', **AT_ONCE
    ).check()
    live = installation.live()
    assert live["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == 2
    assert live["metadata"]["annotations"]["example.com/a~b"] == "c"


# Drift


def drift(cluster: SimulatedCluster) -> None:
    def edit(daemonset: Json) -> None:
        container = daemonset["spec"]["template"]["spec"]["containers"][0]
        container["image"] = "example.com/something/else:1"

    cluster.change(NAME, NAMESPACE, edit)


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
def test_what_somebody_changed_is_repaired_by_a_tick(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster, what: str
) -> None:
    puller = replica(DAEMONSET_ANNOTATIONS='{"team":"blue"}', **AT_ONCE)
    puller.commit(push("1.2.4", 1))
    before = installation.live()
    cluster.change(NAME, NAMESPACE, EDITS[what])
    puller.check()
    after = installation.live()
    assert after["spec"] == before["spec"]
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert after["metadata"]["annotations"]["team"] == "blue"
    installation.sent()
    puller.check()
    assert installation.written() == []


def test_what_others_added_beside_ours_stays(
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


def test_what_an_admission_webhook_changes_is_no_drift(
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


def test_what_an_admission_webhook_changes_otherwise_each_time_is_left_alone(
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


def test_a_repair_that_would_be_refused_is_reported_and_changes_nothing_else(
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


# Whose DaemonSet it is


def test_the_original_pullers_daemonset_is_replaced_once(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    old = cluster.add(original())
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


def test_it_is_not_deleted_where_somebody_has_replaced_it_meanwhile(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    cluster.add(original())
    puller, other = replica(**AT_ONCE), replica(**AT_ONCE)
    cluster.before("DELETE", lambda: (other.check(), other.commit(push("1.2.4", 1))))
    puller.check()
    assert installation.images() == [APP, NEWER]


@pytest.mark.parametrize(
    "labels",
    [
        {"app": "somebody-elses"},
        {**ORIGINAL_SELECTOR, "more": "x"},
        {"app.kubernetes.io/name": "image-puller"},
        {OWNER_LABEL: "another-installation"},
    ],
)
def test_a_foreign_daemonset_is_never_touched(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster, labels: Json
) -> None:
    cluster.add(foreign(labels))
    before = installation.live()
    puller = replica()
    for changes in ([CheckDaemonSet()], [push("1.2.4", 1)], []):
        with pytest.raises(
            ForeignDaemonSetError, match=r"belongs to somebody else .*DAEMONSET_NAME"
        ):
            puller.commit(*changes, flush=True)
    assert installation.written() == []
    assert installation.live() == before


def test_a_foreign_daemonset_in_place_of_ours_is_not_touched_either(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica()
    puller.check()
    delete(puller, installation)
    before = cluster.add(foreign({"app": "somebody-elses"}))
    for change in (EnsureExists(), push("1.2.4", 1)):
        with pytest.raises(ForeignDaemonSetError):
            puller.commit(change)
    assert installation.live() == before


def test_two_installations_do_not_meet(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    one, two = replica(), replica(DAEMONSET_NAME="second", IMAGES=BOTH)
    one.check()
    two.check()
    assert installation.images() == [APP]
    cluster.settle()
    assert len(one.cluster.pods()) == len(two.cluster.pods()) == 3
    assert cluster.daemonset("second", NAMESPACE) is not None


# The platform


def test_the_daemonset_is_owned_by_the_deployment(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    uid = add_deployment(cluster)
    replica().check()
    (owner,) = installation.live()["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME, "uid": uid}


def test_an_owner_that_appears_later_is_set_by_a_tick(
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


def test_openshift_assigns_the_user(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    cluster.groups.append("route.openshift.io")
    replica().check()
    assert "runAsUser" not in installation.template()["spec"]["securityContext"]


@pytest.mark.parametrize("group", [[], ["route.openshift.io"]])
def test_a_platform_that_can_not_be_asked_leaves_what_the_live_object_has(
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


def add_deployment(cluster: SimulatedCluster) -> str:
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
    }
    return str(cluster.add(manifest)["metadata"]["uid"])


# An API server in trouble


@pytest.mark.parametrize("status", [429, 500, 503, 504])
@pytest.mark.parametrize("method", ["PATCH", "GET"])
def test_an_api_server_in_trouble_is_said_and_the_push_goes_in_later(
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
def test_a_connection_that_ends_without_an_answer_loses_no_push_and_doubles_none(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster, served: bool
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    installation.sent()
    cluster.hang_up(method="PATCH", served=served)
    with pytest.raises(ClusterUnavailableError):
        puller.commit(push("1.2.4", 1))
    assert installation.sent() == [WRITE]  # it is not sent again behind our back
    outcomes = puller.commit(push("1.2.4", 1))
    assert outcomes == ((Outcome.UNCHANGED if served else Outcome.TRACKED),)
    assert installation.images() == [APP, NEWER]


def test_what_is_pending_is_still_known_after_a_failure(
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


def test_an_api_server_that_refuses_our_account_is_said_in_its_words(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    cluster.token = None
    puller = replica()
    puller.check()
    cluster.fail(status=401, method="PATCH")
    with pytest.raises(ClusterUnavailableError, match="401"):
        puller.commit(push("1.2.4", 1))


# A state that grows too large


def test_a_state_that_grows_too_large_loses_its_reserves(
    replica: MakeReplica, installation: Installation
) -> None:
    first = replica(KEEP_TAGS="1", **AT_ONCE)
    first.commit(*[push(f"1.2.{n}", n) for n in range(4, 8)])
    size = len(installation.live()["metadata"]["annotations"][STATE])
    puller = replica(state_bytes=size, KEEP_TAGS="1", **AT_ONCE)
    puller.commit(push("1.2.8", 8))
    assert [tag["tag"] for tag in installation.state()["entries"]["app"]["tags"]] == ["1.2.8"]
    assert installation.images() == [APP, "quay.io/org/app:1.2.8"]


def test_a_state_that_is_too_large_in_any_case_is_not_written(
    replica: MakeReplica, installation: Installation
) -> None:
    replica(**AT_ONCE).check()
    before = installation.live()
    size = len(installation.live()["metadata"]["annotations"][STATE])
    puller = replica(state_bytes=size, **AT_ONCE)
    puller.check()
    installation.sent()
    with pytest.raises(ClusterUnavailableError, match="set KEEP_TAGS lower, or split IMAGES"):
        puller.commit(push("1.2.4", 1))
    assert installation.sent() == []
    assert installation.live() == before


def test_a_template_is_logged_when_it_goes_out(
    replica: MakeReplica, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    puller = replica(**AT_ONCE)
    puller.check()
    puller.commit(push("1.2.4", 1))
    assert f"DaemonSet {NAME} was created" in caplog.text
    assert f"DaemonSet {NAME}: rollout started" in caplog.text
