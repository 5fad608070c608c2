"""The state annotation: compare-and-set, the process in charge, broken and too large states."""

import json

import pytest

from image_puller.core.changes import CheckDaemonSet, EnsureExists, TrackTag
from image_puller.core.daemonset import STATE
from image_puller.core.decide import Outcome
from image_puller.errors import ClusterUnavailableError, SupersededError
from image_puller.simulation import SimulatedCluster
from tests.support.building import digest, push
from tests.support.daemonset import (
    APP,
    AT_ONCE,
    BOTH,
    LATEST,
    NEWER,
    NEWEST,
    OTHER,
    READ_STATE,
    MakeReplica,
    commit_before,
    delete,
    forbid_pods,
)
from tests.support.installation import Installation

# Compare-and-set


def test_a_commit_is_a_compare_and_set_of_state_and_template(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    before = installation.live()["metadata"]["annotations"][STATE]
    cluster.requests.clear()
    puller.commit(push("1.2.4", 1))
    _, request = cluster.requests  # a pod is tried first
    test, state, template = request.json
    path = "/metadata/annotations/image-puller.io~1state"
    assert request.content_type == "application/json-patch+json"
    assert test == {"op": "test", "path": path, "value": before}
    assert (state["path"], template["path"]) == (path, "/spec/template")
    assert "resourceVersion" not in request.body.decode()


def test_already_there_is_never_answered_from_memory(
    replica: MakeReplica, installation: Installation
) -> None:
    here, there = replica(IMAGES=LATEST, **AT_ONCE), replica(IMAGES=LATEST, **AT_ONCE)
    here.commit(push("latest", 1, seconds=1))
    there.commit(push("latest", 2, seconds=2))
    installation.sent()
    # By the state in memory, this push would be unchanged.
    assert here.commit(push("latest", 1, seconds=1)) == (Outcome.OLDER,)
    assert installation.sent() == [READ_STATE, READ_STATE]
    assert installation.digests() == {"app": digest(2)}


def test_a_push_whose_state_the_cluster_refuses_is_not_answered_with_success(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica()
    puller.check()
    cluster.deny(lambda _daemonset: True, "nothing at all")
    with pytest.raises(ClusterUnavailableError, match=r"can't be changed: .* nothing at all"):
        puller.commit(push("1.2.4", 1))
    cluster.allow_everything()
    assert puller.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)


# The process in charge


def test_a_new_process_takes_charge_and_keeps_tracked_tags(
    replica: MakeReplica, installation: Installation
) -> None:
    replica(**AT_ONCE).commit(push("1.2.4", 1))
    replica(IMAGES=BOTH, **AT_ONCE).check()
    assert installation.images() == [APP, NEWER, OTHER]


def test_a_superseded_process_writes_nothing_while_the_newer_one_lives(
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
    assert installation.sent() == [READ_STATE] * 3
    assert installation.live() == before
    new.commit(push("1.2.4", 1))
    assert installation.images() == [APP, NEWER, OTHER]


@pytest.mark.parametrize("change", [CheckDaemonSet(), EnsureExists(), push("1.2.3", None)])
def test_a_superseded_process_finds_that_out_by_any_change(
    replica: MakeReplica,
    installation: Installation,
    change: CheckDaemonSet | EnsureExists | TrackTag,
) -> None:
    old, new = replica(**AT_ONCE), replica(IMAGES=BOTH, **AT_ONCE)
    old.check()
    new.check()
    before = installation.live()
    with pytest.raises(SupersededError):
        old.commit(change)
    assert installation.live() == before


def test_a_process_is_superseded_by_a_daemonset_that_was_created_again(
    replica: MakeReplica, installation: Installation
) -> None:
    old, new = replica(**AT_ONCE), replica(IMAGES=BOTH, **AT_ONCE)
    old.check()
    delete(old, installation)
    new.check()
    with pytest.raises(SupersededError):
        old.commit(push("1.2.4", 1))
    assert installation.images() == [APP, OTHER]


def test_a_new_process_that_loses_a_race_to_the_old_one_still_takes_charge(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    old, new = replica(**AT_ONCE), replica(IMAGES=BOTH, **AT_ONCE)
    old.check()
    forbid_pods(cluster)
    commit_before(cluster, old, push("1.2.4", 1))
    new.check()
    assert installation.images() == [APP, NEWER, OTHER]


def test_a_new_process_whose_first_write_fails_still_takes_charge(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    replica(**AT_ONCE).check()
    new = replica(IMAGES=BOTH, **AT_ONCE)
    cluster.fail(method="PATCH")
    with pytest.raises(ClusterUnavailableError):
        new.check()
    new.check()
    assert installation.images() == [APP, OTHER]


def test_a_process_that_was_in_charge_but_never_wrote_can_be_superseded(
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


def test_two_processes_of_one_configuration_share_the_daemonset(
    replica: MakeReplica, installation: Installation
) -> None:
    public, local = replica(PORT="8081", **AT_ONCE), replica(EVENT_AUTH="none", **AT_ONCE)
    public.check()
    local.check()
    public.commit(push("1.2.4", 1))
    local.commit(push("1.2.5", 2))
    public.check()
    assert installation.images() == [APP, NEWER, NEWEST]


@pytest.mark.parametrize("first_check", [True, False])
def test_a_state_of_an_unknown_schema_is_never_reset(
    replica: MakeReplica, installation: Installation, first_check: bool
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    installation.annotate('{"schema":99,"anything":"else"}')
    before = installation.live()
    asked = replica(**AT_ONCE) if first_check else puller
    with pytest.raises(SupersededError, match="schema 99; this release reads 3"):
        asked.commit(push("1.2.4", 1))
    assert installation.live() == before


# A missing or broken state


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", '{"schema": 1}'])
@pytest.mark.parametrize("restarted", [True, False])
def test_a_missing_or_broken_state_is_written_again_without_a_rollout(
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


def test_a_broken_state_that_can_not_be_written_again_is_reported_once(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    installation.annotate("{")
    cluster.fail(method="PATCH", times=20)
    for _ in range(20):
        with pytest.raises(ClusterUnavailableError):
            puller.check()
    puller.check()
    assert [reason for reason, _ in installation.reports()] == ["StateUnreadable"]
    installation.annotate("{")
    puller.check()
    assert [reason for reason, _ in installation.reports()] == ["StateUnreadable"] * 2


def test_a_push_that_finds_a_broken_state_is_committed(
    replica: MakeReplica, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1))
    installation.annotate("{")
    assert puller.commit(push("1.2.5", 2)) == (Outcome.TRACKED,)
    assert installation.images() == [APP, NEWEST]
    assert "starting again from IMAGES, without tracked tags" in caplog.text


def test_a_state_without_its_entries_counts_as_broken(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    installation.annotate(json.dumps(installation.state() | {"entries": {}}))
    assert puller.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)
    assert installation.images() == [APP, NEWER]


# A state that is too large


def test_a_state_that_is_too_large_loses_its_reserves(
    replica: MakeReplica, installation: Installation
) -> None:
    first = replica(KEEP_TAGS="1", **AT_ONCE)
    first.commit(*[push(f"1.2.{n}", n) for n in range(4, 8)])
    size = len(installation.live()["metadata"]["annotations"][STATE])
    puller = replica(state_bytes=size, KEEP_TAGS="1", **AT_ONCE)
    puller.commit(push("1.2.8", 8))
    assert [tag["tag"] for tag in installation.state()["entries"]["app"]["tags"]] == ["1.2.8"]
    assert installation.images() == [APP, "quay.io/org/app:1.2.8"]


def test_a_state_that_is_too_large_without_reserves_is_not_written(
    replica: MakeReplica, installation: Installation
) -> None:
    replica(**AT_ONCE).check()
    size = len(installation.live()["metadata"]["annotations"][STATE])
    puller = replica(state_bytes=size + 100, **AT_ONCE)  # one more process, but no tag
    puller.check()
    before = installation.live()
    installation.sent()
    with pytest.raises(ClusterUnavailableError, match="set KEEP_TAGS lower, or split IMAGES"):
        puller.commit(push("1.2.4", 1))
    assert installation.written() == []
    assert installation.live() == before
