"""Rules of images held by volumes: what joins the common container, and when."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_puller.config.entries import COMMON_CONTAINER, INSTALL_CONTAINER
from image_puller.core import daemonset, holding, rollout
from image_puller.core.changes import Change, HoldApart, NoteProven
from image_puller.core.nodes import Node
from image_puller.core.state import State
from image_puller.values.reference import parse
from tests.support.building import NOON, configuration, deletion, push, state_of
from tests.support.states import TWO, changed, images

CONFIG = configuration(IMAGES=f"{TWO};moving=quay.io/org/moving:latest", HOLD_BY="volumes")
IMAGES = tuple(
    f"quay.io/org/{name}:1.2.{patch}" for name in ("app", "web") for patch in range(3, 9)
)

PUSHES = st.builds(
    lambda entry, patch, number: push(f"1.2.{patch}", number, seconds=patch, entry=entry),
    st.sampled_from(["app", "web"]),
    st.integers(3, 8),
    st.integers(1, 2),
)
DELETIONS = st.integers(4, 8).map(lambda patch: deletion(f"1.2.{patch}", seconds=100))
PROVEN = st.sampled_from(IMAGES).map(NoteProven)
APART = st.sampled_from(IMAGES).map(HoldApart)
CHANGES = st.lists(st.one_of(PUSHES, DELETIONS, PROVEN, APART), max_size=12)


def created() -> State:
    """Return the state of a new DaemonSet that holds images by volumes."""
    return rolled_out(holding.by_volumes(CONFIG, state_of(CONFIG)))


def rolled_out(state: State) -> State:
    """Return the state once its template is live."""
    return rollout.advance(CONFIG, holding.joined(CONFIG, state), NOON)


def after(state: State, change: Change) -> State:
    """Return the state after a change, and after its rollout if there is one."""
    state = changed(CONFIG, state, change)
    return rolled_out(state) if rollout.is_pending(CONFIG, state) else state


def mounts(state: State) -> dict[str, set[str]]:
    """Return the images of each container that mounts some."""
    found: dict[str, set[str]] = {}
    for image in daemonset.desired_images(CONFIG, state):
        if image.is_volume:
            found.setdefault(image.holder, set()).add(image.image)
    return found


@given(CHANGES, PROVEN)
def test_no_rollout_is_only_for_joining(changes: list[Change], proven: Change) -> None:
    state = created()
    for change in changes:
        state = after(state, change)
    assert not rollout.is_pending(CONFIG, changed(CONFIG, state, proven))


@given(CHANGES)
def test_only_what_is_proven_joins(changes: list[Change]) -> None:
    state, proven = created(), set(created().holding.common)
    for change in changes:
        match change:
            case NoteProven(image):
                proven.add(image)
            case HoldApart(image):
                proven.discard(image)
        state = after(state, change)
        assert set(state.holding.common) <= proven


@given(CHANGES)
def test_the_same_changes_again_change_nothing(changes: list[Change]) -> None:
    state = created()
    for change in changes:
        state = after(state, change)
        again = changed(CONFIG, state, change)
        assert again.holding == state.holding
        assert not rollout.is_pending(CONFIG, again)


@given(CHANGES)
def test_each_desired_image_is_held_once_by_a_volume_or_by_a_container(
    changes: list[Change],
) -> None:
    state = created()
    for change in changes:
        state = after(state, change)
    spec = daemonset.template(CONFIG, state, daemonset.Platform())["spec"]
    volumes = [v["image"]["reference"] for v in spec["volumes"] if "image" in v]
    containers = [c["image"] for c in spec["containers"] if c["name"] != INSTALL_CONTAINER]
    run = [image for image in containers if image != parse(CONFIG.kip_image).name]
    held = sorted([*volumes, *(image for image in run if image in dict.fromkeys(every(state)))])
    assert held == sorted(every(state))
    assert len(spec["containers"]) == daemonset.container_count(CONFIG, state) == state.containers


def every(state: State) -> list[str]:
    """Return the desired images of a state."""
    return [image.image for image in daemonset.desired_images(CONFIG, state)]


def test_a_new_daemonset_has_all_images_in_the_common_container() -> None:
    assert mounts(created()) == {
        COMMON_CONTAINER: {"quay.io/org/app:1.2.3", "quay.io/org/web:1.2.3"}
    }


def test_a_tag_pushed_with_other_content_is_run_by_a_container() -> None:
    state = after(created(), push("1.2.3", 1))
    assert mounts(state) == {COMMON_CONTAINER: {"quay.io/org/web:1.2.3"}}
    assert images(CONFIG, state) == ["app:1.2.3", "web:1.2.3", "moving:latest"]


def test_what_the_template_lost_is_forgotten() -> None:
    state = after(after(created(), push("1.2.4", 1)), NoteProven("quay.io/org/app:1.2.4"))
    state = after(state, deletion("1.2.4", seconds=100))
    assert state.holding.common == ("quay.io/org/app:1.2.3", "quay.io/org/web:1.2.3")
    assert state.holding.proven == ()
    state = after(state, push("1.2.4", 1, seconds=1000))
    assert mounts(state)[COMMON_CONTAINER] == {"quay.io/org/app:1.2.3", "quay.io/org/web:1.2.3"}


def test_another_way_of_holding_is_tried_with_one_pod_first() -> None:
    state = rollout.advance(CONFIG, state_of(CONFIG), NOON)
    assert rollout.needs_trial(CONFIG, holding.by_volumes(CONFIG, state))
    assert rollout.needs_trial(CONFIG, holding.by_containers(created()))


def test_a_proven_tag_that_makes_room_needs_no_trial() -> None:
    state = after(after(created(), push("1.2.4", 1)), NoteProven("quay.io/org/app:1.2.4"))
    pushed = changed(CONFIG, state, push("1.2.5", 2))
    assert not rollout.needs_trial(CONFIG, holding.joined(CONFIG, pushed))
    assert rollout.needs_trial(CONFIG, pushed)


def test_containers_join_nothing() -> None:
    state = state_of(CONFIG)
    assert holding.joined(CONFIG, state) == state
    assert changed(CONFIG, state, NoteProven(IMAGES[0]), HoldApart(IMAGES[0])) == state


def test_volumes_that_hold_already_keep_what_is_apart() -> None:
    state = after(created(), HoldApart(IMAGES[0]))
    assert holding.by_volumes(CONFIG, state) == state
    assert replace(state, holding=holding.by_volumes(CONFIG, state).holding) == state


NEW, OLD = ("containerd://2.4.2", "v1.37.2"), ("cri-o://1.30.1", "v1.37.2")


@pytest.mark.parametrize(
    ("nodes", "why_not"),
    [
        (None, "the service may not list nodes, so it does not know what they can mount"),
        ({}, "there is no node yet that could mount images"),
        ({"a": NEW, "b": NEW}, ""),
        (
            {"c": OLD, "a": NEW, "b": ("", "")},
            (
                "2 of 3 nodes can't mount images by their versions, such as b with an unknown "
                "runtime and kubelet unknown"
            ),
        ),
    ],
)
def test_the_reason_against_volumes_names_the_first_node_that_can_not(
    nodes: dict[str, tuple[str, str]] | None, why_not: str
) -> None:
    listed = (
        None
        if nodes is None
        else [
            Node(name=name, labels={"kubernetes.io/os": "linux"}, runtime=runtime, kubelet=kubelet)
            for name, (runtime, kubelet) in nodes.items()
        ]
    )
    template = daemonset.trial_manifest(CONFIG, daemonset.Platform(), mounts=True)["spec"][
        "template"
    ]
    assert holding.why_not_on_nodes(template, listed) == why_not


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1200)), max_size=30))
def test_the_automatic_choice_changes_only_after_a_quarter_of_an_hour(
    steps: list[tuple[bool, int]],
) -> None:
    now, right_since = NOON, NOON
    state, was_right = holding.chosen(CONFIG, state_of(CONFIG), "", now), True
    assert state.holding.by_volumes
    for can, seconds in steps:
        now += timedelta(seconds=seconds)
        if can is not was_right:
            was_right, right_since = can, now
        before = state.holding.by_volumes
        state = holding.chosen(CONFIG, state, "" if can else "an old node", now)
        if state.holding.by_volumes is not before:
            assert state.holding.by_volumes is can
            assert now - right_since >= timedelta(minutes=15)
