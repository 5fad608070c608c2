"""The observer: the state and the status, as they are read from the cluster."""

import pytest

from image_puller.cluster.observer import Observer
from image_puller.core import daemonset, decide, follow_up, problems
from image_puller.core.changes import PullAgain
from image_puller.core.state import State
from image_puller.simulation import SimulatedCluster
from tests.support.building import at, digest, push
from tests.support.daemonset import AT_ONCE, BOTH, LATEST, READ_STATE, MakeReplica
from tests.support.installation import NAME, Installation
from tests.support.replica import Replica


def observer_of(puller: Replica) -> Observer:
    return Observer(puller.config, puller.cluster, now=lambda: at(60))


def new_state(puller: Replica) -> State:
    """Return the state of a DaemonSet that is about to be created."""
    hash_ = daemonset.configuration_hash(puller.config)
    return decide.adopt(puller.config, State(configuration=""), hash_)


def wrong_contents_of(puller: Replica) -> tuple[PullAgain, ...]:
    """Return what a process would pull again now."""
    observer = observer_of(puller)
    return follow_up.wrong_contents(observer.observe(), time=at(60))


def test_the_state_is_read_from_the_annotation(
    replica: MakeReplica, installation: Installation
) -> None:
    puller = replica(**AT_ONCE)
    puller.commit(push("1.2.4", 1))
    installation.sent()
    state = observer_of(puller).state()
    assert installation.sent() == [READ_STATE]
    assert [tag.name for tag in state.entries["app"].tags] == ["1.2.4"]


def test_the_state_of_another_configuration_is_fitted_to_this_one(
    replica: MakeReplica, installation: Installation
) -> None:
    replica(**AT_ONCE).commit(push("1.2.4", 1))
    before = installation.live()
    puller = replica(IMAGES=BOTH, **AT_ONCE)
    state = observer_of(puller).state()
    assert state.configuration == daemonset.configuration_hash(puller.config)
    assert list(state.entries) == ["app", "other"]
    assert [tag.name for tag in state.entries["app"].tags] == ["1.2.4"]
    assert installation.live() == before


def test_the_state_of_a_missing_daemonset_is_new(replica: MakeReplica) -> None:
    puller = replica()
    assert observer_of(puller).state() == new_state(puller)


@pytest.mark.parametrize("text", [None, "{", '{"schema": 99}'])
def test_an_unreadable_state_counts_as_new(
    replica: MakeReplica, installation: Installation, text: str | None
) -> None:
    puller = replica()
    puller.check()
    installation.annotate(text)
    observer = observer_of(puller)
    assert observer.state() == new_state(puller)
    (problem,) = problems.find(observer.observe())
    assert problem.message.startswith(f"DaemonSet {NAME} has no readable state annotation; ")


def test_the_status_of_a_missing_daemonset_is_a_problem(replica: MakeReplica) -> None:
    (problem,) = problems.find(observer_of(replica()).observe())
    assert problem.message.startswith(f"DaemonSet {NAME} does not exist; ")


def test_a_rollout_is_complete_once_every_pod_is_ready(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    observer = observer_of(puller)
    assert observer.observe().rollout == "in progress"
    puller.check()
    assert observer.observe().rollout == "in progress"
    cluster.settle()
    assert observer.observe().rollout == "complete"


def test_a_mutated_tag_with_other_content_on_a_node_is_pulled_again(
    replica: MakeReplica, installation: Installation, cluster: SimulatedCluster
) -> None:
    cluster.images["quay.io/org/app:latest"] = digest(1)
    puller = replica(IMAGES=LATEST, **AT_ONCE)
    puller.commit(push("latest", 2))
    cluster.settle()
    again = PullAgain(entry="app", tag="latest", digest=digest(2), time=at(60))
    assert wrong_contents_of(puller) == (again,)
    assert wrong_contents_of(replica(IMAGES=BOTH)) == ()
    puller.commit(again)
    assert installation.state()["entries"]["app"]["tags"][0]["pulledAgain"]
    assert wrong_contents_of(puller) == ()
