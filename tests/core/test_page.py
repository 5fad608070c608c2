"""What the status page shows, from observations."""

from dataclasses import replace

import pytest

from image_puller import limits
from image_puller.core import page, problems
from image_puller.core.daemonset import DesiredImage
from image_puller.core.follow_up import NOT_STARTED, Failed, Failing
from image_puller.core.observation import Live, Observation, observe
from image_puller.core.page import Overview, Seen
from image_puller.core.pods import Pod
from image_puller.core.received import Received
from image_puller.core.state import Blocked, Quarantined, Refused, Seeding, State, Tag
from tests.support.building import NOON, at, configuration, digest, push
from tests.support.observations import observed
from tests.support.states import live, unverified_push

APP, NEWER = "quay.io/org/app:1.2.3", "quay.io/org/app:1.2.4"
CONFIG = configuration()
STATE = live(CONFIG, push("1.2.4", 1))
NOT_FOUND = f'ErrImagePull: "{NEWER}": not found'
PUSH = Received(time=NOON, source="quay", subject="app 1.2.4", decision="tracked", entry="app")


def newer_fails_on_node_2(number: int, image: DesiredImage) -> str:
    return NOT_FOUND if number == 2 and image.image == NEWER else ""


def seen(observation: Observation, failing: Failing | None = None) -> Seen:
    found = problems.find(observation)
    return Seen(observation=observation, problems=found, failing=failing or {})


def overview(*groups: Seen, received: tuple[Received, ...] = (), number: int = 1) -> Overview:
    return page.overview(groups, received, number=number)


COMPLETE = seen(observed(CONFIG, STATE))
FAILING = seen(observed(CONFIG, STATE, fails=newer_fails_on_node_2))


def with_app(state: State, **changes: object) -> State:
    return state.with_entry("app", replace(state.entries["app"], **changes))  # type: ignore[arg-type]


def test_a_complete_rollout_does_not_change_the_page() -> None:
    found = overview(COMPLETE)
    assert (found.complete, found.expected, found.rollout) == (3, 3, "complete")
    assert not found.is_changing
    assert found.problems == ()
    assert found.last_push is None


def test_images_are_listed_with_why_they_are_there_and_how_many_nodes_hold_them() -> None:
    (group,) = overview(COMPLETE).groups
    assert [(row.image, row.why) for row in group.images.rows] == [
        (APP, ("configured",)),
        (NEWER, ("tracked",)),
    ]
    newer = group.images.rows[1]
    assert newer.counts is not None
    assert newer.counts.held == 3
    assert (newer.digest, newer.pushed, newer.reason) == (digest(1), NOON, "")
    assert (group.name, group.hold_by, group.changed) == (None, "containers", NOON)


def test_a_mutable_tag_that_was_mutated_is_called_so() -> None:
    config = configuration(IMAGES="app=quay.io/org/app:latest")
    state = live(config, push("latest", 1), push("latest", 2, seconds=1))
    (group,) = overview(seen(observed(config, state))).groups
    assert [row.why for row in group.images.rows] == [("configured", "mutable", "mutated")]


def test_an_image_that_fails_has_the_reason_and_since_when() -> None:
    failing = {("node-2", image.container, image.expected): at(60) for image in images(FAILING)}
    known = {key: Failed(since=since, reason=NOT_FOUND) for key, since in failing.items()}
    found = overview(replace(FAILING, failing=known))
    row = found.groups[0].images.rows[1]
    assert row.counts is not None
    assert (row.counts.held, row.counts.failing) == (2, 1)
    assert (row.reason, row.since) == (NOT_FOUND, at(60))
    assert found.is_changing
    assert found.rollout == "in progress"
    assert (found.complete, found.expected) == (2, 3)
    assert [problem.kind for problem in found.problems] == ["ImageFailing"]


def images(group: Seen) -> tuple[DesiredImage, ...]:
    return group.observation.images


def test_an_image_of_a_container_that_never_started_fails_since_no_time() -> None:
    failing = {
        ("node-2", image.container, image.expected): Failed(since=NOT_STARTED, reason=NOT_FOUND)
        for image in images(FAILING)
    }
    assert overview(replace(FAILING, failing=failing)).groups[0].images.rows[1].since is None


def test_quarantined_and_refused_tags_are_listed_with_their_reasons() -> None:
    quarantined = Quarantined(
        tag=Tag(name="1.2.5", digest=digest(5), time=NOON), since=at(5), reason="OOMKilled"
    )
    refused = Refused(name="1.2.6", digest=None, reason="denied by policy")
    refused_digest = Refused(name=digest(7), digest=digest(7), reason="denied too")
    state = with_app(STATE, quarantined=(quarantined,), refused=(refused, refused_digest))
    (group,) = overview(seen(observed(CONFIG, state))).groups
    assert [(row.image, row.why, row.reason, row.since) for row in group.images.rows[2:]] == [
        ("quay.io/org/app:1.2.5", ("quarantined",), "OOMKilled", at(5)),
        ("quay.io/org/app:1.2.6", ("refused",), "denied by policy", None),
        (f"quay.io/org/app@{digest(7)}", ("refused",), "denied too", None),
    ]
    assert all(row.counts is None for row in group.images.rows[2:])


def test_unverified_pushes_are_listed_with_the_reason() -> None:
    config = configuration(VERIFY_PUSHES="true", ASK_REGISTRIES="true")
    state = live(config, unverified_push("1.2.4", 1, seconds=3))
    (group,) = overview(seen(observed(config, state))).groups
    row = group.images.rows[1]
    assert (row.image, row.why, row.reason) == (NEWER, ("unverified",), "unavailable")
    assert (row.pushed, row.digest, row.counts) == (at(3), digest(1), None)


def test_previous_content_of_a_quarantined_tag_is_called_so() -> None:
    config = configuration(IMAGES="app=quay.io/org/app:latest")
    state = live(config, push("latest", 1))
    tag = Tag(name="latest", digest=digest(2), time=NOON)
    quarantined = (Quarantined(tag=tag, since=at(5), reason="OOMKilled"),)
    entry = replace(state.entries["app"], quarantined=quarantined)
    (group,) = overview(seen(observed(config, state.with_entry("app", entry)))).groups
    assert "previous content" in group.images.rows[0].why
    assert group.images.rows[1].why == ("quarantined",)


def test_nodes_that_lack_the_most_images_come_first_and_not_selected_ones_last() -> None:
    config = configuration(NODE_SELECTOR='{"pool": "a"}')
    state = live(config, push("1.2.4", 1))
    found = observed(
        config,
        state,
        ("a", "b", "c"),
        fails=lambda number, image: NOT_FOUND if number == 2 and image.image == NEWER else "",
        without_pod=("c",),
        labels={"pool": "a"},
    )
    other = replace(found.live.nodes[0], name="0", labels={})  # type: ignore[index]
    nodes = (*(found.live.nodes or ()), other)
    rows = overview(seen(observe(config, replace(found.live, nodes=nodes)))).nodes.rows
    assert [(row.node, row.held, row.wanted, row.state) for row in rows] == [
        ("c", 0, 2, "no pod"),
        ("b", 1, 2, "not warm"),
        ("a", 2, 2, "warm"),
        ("0", 0, 0, "not selected"),
    ]
    assert rows[1].reason == f"1 of 2 images are not held: {NOT_FOUND}"


def test_nodes_come_in_pages() -> None:
    names = [f"node-{number:03}" for number in range(limits.PAGE_ROWS + 1)]
    large = seen(observed(CONFIG, STATE, names))
    first, last = overview(large).nodes, overview(large, number=2).nodes
    assert (len(first.rows), first.number, first.pages, first.total) == (100, 1, 2, 101)
    assert [row.node for row in last.rows] == ["node-100"]
    assert last.first == 101
    assert overview(large, number=9).nodes == last
    assert overview(large, number=0).nodes == first


def test_images_come_in_pages() -> None:
    number = limits.PAGE_ROWS // 2 + 1
    names = {f"app-{each:02}": f"quay.io/org/app-{each:02}:1.2.3" for each in range(number)}
    config = configuration(IMAGES=";".join(f"{name}={image}" for name, image in names.items()))
    pushes = [push("1.2.4", 1, entry=name) for name in names]
    large = seen(observed(config, live(config, *pushes), ("node-1",)))
    (first,) = overview(large).groups
    assert (len(first.images.rows), first.images.pages, first.images.total) == (100, 2, 102)
    (second,) = page.overview((large,), (), images=2).groups
    assert [row.image for row in second.images.rows] == [
        "quay.io/org/app-50:1.2.3",
        "quay.io/org/app-50:1.2.4",
    ]
    found = page.node((large,), "node-1", number=2)
    assert found is not None
    assert [row.name for row in found.groups[0].images.rows] == [
        row.image for row in second.images.rows
    ]


def test_a_held_image_has_since_when() -> None:
    found = page.node((COMPLETE,), "node-1")
    assert found is not None
    (part,) = found.groups
    assert [(row.state, row.reason, row.since) for row in part.images.rows] == [
        ("held", "", NOON),
        ("held", "", NOON),
    ]


def test_an_image_that_is_pulled_has_since_when_beside_the_reason() -> None:
    pulling = seen(only_begun(COMPLETE.observation, "node-2", 1))
    row = overview(pulling).groups[0].images.rows[1]
    assert row.counts is not None
    assert (row.counts.held, row.counts.pulling) == (2, 1)
    assert (row.reason, row.since) == ("", NOON)
    first = overview(pulling).nodes.rows[0]
    assert first.node == "node-2"
    assert first.reason == f"1 of 2 images are not held: pulling since {NOON.isoformat()}"


def only_begun(found: Observation, node: str, number: int) -> Observation:
    """Return an observation in which a container of a node has not started yet."""

    def begun(pod: Pod) -> Pod:
        containers = list(pod.containers)
        containers[number + 1] = replace(containers[number + 1], running_since=None)
        return replace(pod, is_ready=False, containers=tuple(containers))

    pods = [begun(pod) if pod.node == node else pod for pod in found.live.pods]
    return observe(found.config, replace(found.live, pods=pods))


def test_without_the_right_to_list_nodes_the_controller_counts_them() -> None:
    found = observed(CONFIG, STATE, without_pod=("node-3",), may_list_nodes=False)
    assert (overview(seen(found)).complete, overview(seen(found)).expected) == (2, 3)


def test_a_node_without_a_pod_is_not_complete_even_if_no_image_is_known() -> None:
    found = observed(CONFIG, STATE, without_pod=("node-3",))
    unreadable = overview(seen(observe(CONFIG, replace(found.live, state=None))))
    assert (unreadable.complete, unreadable.expected) == (2, 3)


def test_without_a_daemonset_the_page_says_so() -> None:
    found = overview(seen(observe(CONFIG, Live(daemonset=None, state=None))))
    assert (found.rollout, found.is_changing) == ("no DaemonSet", True)
    assert (found.complete, found.expected) == (0, 0)
    assert found.groups[0].hold_by is None


def test_a_node_of_two_groups_is_complete_when_it_has_the_images_of_both() -> None:
    gpu_config = replace(CONFIG, group="gpu")
    gpu = seen(observed(gpu_config, STATE, fails=newer_fails_on_node_2))
    found = overview(COMPLETE, gpu)
    assert (found.complete, found.expected, found.rollout) == (2, 3, "in progress")
    assert [group.name for group in found.groups] == [None, "gpu"]
    first = found.nodes.rows[0]
    assert (first.node, first.held, first.wanted, first.state) == ("node-2", 3, 4, "not warm")
    assert len(found.problems) == 1


def test_the_worst_rollout_counts() -> None:
    state = replace(STATE, blocked=Blocked(template="t", reason="quota"))
    blocked = seen(observed(CONFIG, state))
    found = overview(COMPLETE, FAILING, blocked)
    assert found.rollout == "blocked"


def test_nodes_that_wait_for_seeds_are_told_of() -> None:
    state = replace(STATE, seeding=Seeding.SEEDS, max_unavailable=2)
    config = configuration(ROLLOUT_SEED_NODES="2")
    (group,) = overview(seen(observed(config, state))).groups
    assert group.seeding.endswith("2 nodes change at once, and the others wait for the seeds")


def test_images_held_by_volumes_have_their_holder() -> None:
    holding = replace(STATE.holding, by_volumes=True, reason="all nodes can", common=(APP,))
    (group,) = overview(seen(observed(CONFIG, replace(STATE, holding=holding)))).groups
    assert (group.hold_by, group.hold_by_reason) == ("volumes", "all nodes can")
    assert group.images.rows[0].holder == "held-images"


def test_the_last_push_is_the_newest_one() -> None:
    newer = replace(PUSH, time=at(9), decision="older")
    found = overview(COMPLETE, received=(newer, PUSH))
    assert (found.last_push, found.received) == (newer, (newer, PUSH))


@pytest.mark.parametrize("name", ["app", NEWER])
def test_an_image_has_a_page_by_its_name_and_by_that_of_its_entry(name: str) -> None:
    other = replace(PUSH, entry="other")
    found = page.image((FAILING,), (PUSH, other), name)
    assert found is not None
    assert found.received == (PUSH,)
    nodes = found.images[-1].nodes.rows
    assert [(row.name, row.state, row.reason) for row in nodes] == [
        ("node-2", "failing", NOT_FOUND),
        ("node-1", "held", ""),
        ("node-3", "held", ""),
    ]
    assert [part.image.image for part in found.images][-1] == NEWER
    assert len(found.images) == (2 if name == "app" else 1)


def test_a_quarantined_tag_has_a_page_without_nodes() -> None:
    quarantined = Quarantined(
        tag=Tag(name="1.2.5", digest=None, time=NOON), since=at(5), reason="OOMKilled"
    )
    state = with_app(STATE, quarantined=(quarantined,))
    found = page.image((seen(observed(CONFIG, state)),), (), "quay.io/org/app:1.2.5")
    assert found is not None
    assert [(part.image.why, part.nodes.rows) for part in found.images] == [(("quarantined",), ())]


def test_an_unknown_image_or_node_has_no_page() -> None:
    assert page.image((COMPLETE,), (), "quay.io/org/other:1") is None
    assert page.node((COMPLETE,), "node-9") is None


def test_a_node_has_a_page_with_the_worst_state_first() -> None:
    found = page.node((FAILING,), "node-2")
    assert found is not None
    assert (found.created, found.runtime, found.is_changing) == (NOON, "containerd://2.1.0", True)
    (part,) = found.groups
    assert (part.group, part.state) == (None, "not warm")
    assert [(row.name, row.entry, row.state) for row in part.images.rows] == [
        (NEWER, "app", "failing"),
        (APP, "app", "held"),
    ]


def test_a_node_that_joined_after_the_last_rollout_has_its_warm_up_time() -> None:
    changed = at(-60)
    found = page.node((seen(observed(CONFIG, replace(STATE, changed=changed))),), "node-1")
    assert found is not None
    assert [part.warm_up for part in found.groups] == [0.0]
    failing = page.node((FAILING,), "node-2")
    assert failing is not None
    assert [part.warm_up for part in failing.groups] == [None]


def test_a_node_that_may_not_be_listed_has_a_page_without_its_facts() -> None:
    found = page.node((seen(observed(CONFIG, STATE, may_list_nodes=False)),), "node-1")
    assert found is not None
    assert (found.created, found.runtime, found.kubelet) == (None, "", "")
