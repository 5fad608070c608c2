"""Whether awaited images are on the nodes: held, pending or impossible, with the reason."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_puller.core import awaiting
from image_puller.core.awaiting import Enough, Progress, Verdict
from image_puller.values.reference import InvalidReferenceError
from tests.support.building import digest
from tests.support.statuses import NOT_READY, image, on_node, only_groups, status, tag

REPOSITORY = "quay.io/org/app"
APP = f"{REPOSITORY}:1.2.3"
NEW = f"{REPOSITORY}:1.2.4"
PULLING = on_node("pulling", "since noon")
ALL = Enough()


def of(seen: dict[str, Any], *wanted: str, enough: Enough = ALL) -> tuple[Progress, ...]:
    return awaiting.progress(seen, wanted, enough)


def one(seen: dict[str, Any], wanted: str, enough: Enough = ALL) -> Progress:
    (found,) = of(seen, wanted, enough=enough)
    return found


# How many nodes


@pytest.mark.parametrize(
    ("enough", "nodes", "needed"),
    [
        (ALL, 3, 3),
        (Enough(number=95), 3, 3),
        (Enough(number=95), 20, 19),
        (Enough(number=1), 1, 1),
        (Enough(number=50), 0, 0),
        (Enough(number=2, is_percentage=False), 5, 2),
        (Enough(number=2, is_percentage=False), 1, 2),
    ],
)
def test_percentage_counts_a_part_of_a_node_as_a_whole_one(
    enough: Enough, nodes: int, needed: int
) -> None:
    assert enough.of(nodes) == needed


@pytest.mark.parametrize(
    ("text", "enough"),
    [("95%", Enough(number=95)), ("100%", ALL), ("3", Enough(number=3, is_percentage=False))],
)
def test_enough_is_a_number_or_a_percentage(text: str, enough: Enough) -> None:
    assert awaiting.enough(text) == enough


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "-1", "1.5", "x", "%", "9" * 7])
def test_malformed_number_of_nodes_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be a number of nodes such as 3, or a percentage"):
        awaiting.enough(text)


@given(st.integers(1, 100), st.integers(1, 5000))
def test_percentage_needs_between_one_and_all_nodes(percentage: int, nodes: int) -> None:
    assert 1 <= Enough(number=percentage).of(nodes) <= nodes


@pytest.mark.parametrize(
    ("enough", "verdict"),
    [
        (ALL, Verdict.PENDING),
        (Enough(number=67), Verdict.PENDING),
        (Enough(number=66), Verdict.HELD),
        (Enough(number=2, is_percentage=False), Verdict.HELD),
        (Enough(number=3, is_percentage=False), Verdict.PENDING),
    ],
)
def test_image_is_held_once_enough_nodes_hold_it(enough: Enough, verdict: Verdict) -> None:
    assert one(status(image(APP, "held", "held", PULLING)), APP, enough).verdict is verdict


def test_pending_image_has_its_counts_and_the_reason_of_the_worst_node() -> None:
    assert one(status(image(APP, "held", PULLING)), APP) == Progress(
        name=APP,
        verdict=Verdict.PENDING,
        held=1,
        needed=2,
        others="1 pulling",
        reason="node-2: since noon",
    )


def test_more_nodes_than_count_are_waited_for() -> None:
    found = one(status(image(APP, "held")), APP, Enough(number=2, is_percentage=False))
    assert (found.verdict, found.reason) == (Verdict.PENDING, "only 1 nodes count")


def test_node_that_does_not_count_is_not_waited_for() -> None:
    seen = status(image(APP, "held", "no pod"), nodes={"node-2": NOT_READY})
    assert one(seen, APP).verdict is Verdict.HELD


@pytest.mark.parametrize(
    ("rollout", "verdict"),
    [
        ("complete", Verdict.HELD),
        ("in progress", Verdict.PENDING),
        (None, Verdict.PENDING),
    ],
)
def test_image_that_no_node_needs_is_held_once_the_rollout_is_complete(
    rollout: str | None, verdict: Verdict
) -> None:
    assert one(status(image(APP), rollout=rollout), APP).verdict is verdict


# All images


def test_without_names_each_desired_image_of_all_groups_is_awaited() -> None:
    seen = status(image(APP, "held"), groups={"gpu": status(image(NEW, PULLING))})
    assert [(each.name, each.verdict) for each in of(seen)] == [
        (APP, Verdict.HELD),
        (f"{NEW} of group gpu", Verdict.PENDING),
    ]


def test_without_names_something_desired_is_awaited_first() -> None:
    (found,) = of(status())
    assert (found.verdict, found.reason) == (
        Verdict.PENDING,
        "the service desires no image yet",
    )


# Names


BOTH = status(image(APP, "held"), image(NEW, PULLING, digest=digest(4)))
GROUPS = only_groups(
    gpu=status(image(APP, "held")),
    large=status(image(APP, PULLING), image("nginx", "held", entry="web")),
)


@pytest.mark.parametrize(
    ("seen", "wanted", "names"),
    [
        (BOTH, "app", [APP, NEW]),
        (BOTH, REPOSITORY, [APP, NEW]),
        (BOTH, APP, [APP]),
        (BOTH, f"{NEW}@{digest(4)}", [NEW]),
        (BOTH, f"{REPOSITORY}@{digest(4)}", [NEW]),
        (GROUPS, "app", [f"{APP} of group gpu", f"{APP} of group large"]),
        (GROUPS, "large/app", [f"{APP} of group large"]),
        (GROUPS, APP, [f"{APP} of group gpu", f"{APP} of group large"]),
        (GROUPS, "docker.io/library/nginx", ["nginx of group large"]),
        (GROUPS, "nginx:latest", ["nginx of group large"]),
        (status(image(f"{REPOSITORY}@{digest(1)}", "held")), REPOSITORY, None),
        (
            status(image(f"{REPOSITORY}@{digest(1)}", "held")),
            f"{REPOSITORY}@{digest(1)}",
            None,
        ),
        (status(image(f"{APP}@{digest(1)}", "held")), APP, None),
    ],
)
def test_image_may_be_named_by_entry_repository_tag_and_digest(
    seen: dict[str, Any], wanted: str, names: list[str] | None
) -> None:
    expected = names or [each["image"] for each in seen["images"]]
    assert [each.name for each in of(seen, wanted)] == expected


def test_name_that_no_image_can_have_is_an_error() -> None:
    with pytest.raises(InvalidReferenceError):
        of(BOTH, "Not an image")


def test_several_names_are_awaited_together() -> None:
    found = of(BOTH, APP, NEW)
    assert [each.verdict for each in found] == [Verdict.HELD, Verdict.PENDING]


# A push on its way


@pytest.mark.parametrize(
    "wanted",
    [f"{REPOSITORY}:1.2.5", f"{REPOSITORY}:1.2.5@{digest(5)}", f"{REPOSITORY}@{digest(5)}"],
)
def test_tag_or_digest_that_is_not_tracked_yet_is_awaited(wanted: str) -> None:
    found = one(BOTH, wanted)
    assert (found.name, found.verdict) == (wanted, Verdict.PENDING)


def test_reason_of_an_untracked_tag_names_the_entry() -> None:
    assert one(GROUPS, f"{REPOSITORY}:1.2.5").reason == (
        "entry gpu/app, large/app does not track it yet; was it pushed, and does the policy allow "
        "it?"
    )


@pytest.mark.parametrize(
    ("known", "reason"),
    [(digest(4), f"{NEW} has {digest(4)} now"), (None, f"{NEW} has no known digest now")],
)
def test_tag_with_another_digest_is_awaited(known: str | None, reason: str) -> None:
    found = one(status(image(NEW, "held", digest=known)), f"{NEW}@{digest(5)}")
    assert (found.verdict, found.reason) == (Verdict.PENDING, reason)


def test_node_with_other_content_does_not_hold_the_wanted_digest() -> None:
    nodes = (on_node("held", image_id="same"), on_node("held", image_id="other"))
    seen = status(image(NEW, *nodes, digest=digest(4)))
    assert one(seen, NEW).verdict is Verdict.HELD
    found = one(seen, f"{NEW}@{digest(4)}")
    assert (found.verdict, found.held) == (Verdict.PENDING, 1)
    assert found.reason == "node-2: the node holds other content"


def test_unverified_push_is_awaited_with_its_reason() -> None:
    note = tag(f"{REPOSITORY}:1.2.5", reason="the registry does not have it")
    found = one(BOTH | {"unverified": [note]}, f"{REPOSITORY}:1.2.5")
    assert (found.verdict, found.reason) == (
        Verdict.PENDING,
        f"{REPOSITORY}:1.2.5 is unverified: the registry does not have it",
    )


# What will not come


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("quay.io/org/other:1", "quay.io/org/other"), ("web", "docker.io/library/web")],
)
def test_image_that_no_group_names_is_impossible(wanted: str, name: str) -> None:
    found = one(BOTH, wanted)
    assert (found.verdict, found.reason) == (
        Verdict.IMPOSSIBLE,
        f"no group has an entry of {name}",
    )


@pytest.mark.parametrize("kind", ["quarantined", "refused"])
@pytest.mark.parametrize("wanted", [NEW, f"{NEW}@{digest(5)}", f"{REPOSITORY}@{digest(5)}"])
@pytest.mark.parametrize(
    "images",
    [
        [image(APP, "held")],
        [image(APP, "held"), image(f"{NEW}@{digest(4)}", "held")],
        [image(NEW, "failing", digest=digest(5))],
        [image(NEW, "failing")],
    ],
)
def test_quarantined_or_refused_tag_is_impossible_also_with_its_previous_content(
    kind: str, wanted: str, images: list[dict[str, Any]]
) -> None:
    note = tag(NEW, digest=digest(5), reason="exec format error")
    found = one(status(*images) | {kind: [note]}, wanted)
    assert (found.verdict, found.reason) == (
        Verdict.IMPOSSIBLE,
        f"{NEW} is {kind}: exec format error",
    )


@pytest.mark.parametrize("wanted", [NEW, f"{NEW}@{digest(6)}", "app", REPOSITORY, APP])
def test_quarantined_content_does_not_matter_for_other_content(wanted: str) -> None:
    note = tag(NEW, digest=digest(5), reason="exec format error")
    seen = status(image(APP, "held"), image(NEW, "held", digest=digest(6)), quarantined=[note])
    assert {each.verdict for each in of(seen, wanted)} == {Verdict.HELD}


@pytest.mark.parametrize("wanted", ["app", REPOSITORY, APP])
def test_entry_whose_only_image_is_refused_is_impossible(wanted: str) -> None:
    seen = status(image("nginx", "held", entry="web"), refused=[tag(APP, reason="not allowed")])
    assert one(seen, wanted).verdict is Verdict.IMPOSSIBLE


def test_refused_digest_is_impossible() -> None:
    name = f"{REPOSITORY}@{digest(1)}"
    seen = status(refused=[tag(name, reason="not allowed")])
    assert one(seen, name).verdict is Verdict.IMPOSSIBLE


# Selected nodes


SELECTED = {"selector": "pool=gpu"}


def test_image_is_held_once_the_selected_nodes_hold_it() -> None:
    assert one(status(image(APP, "held")) | SELECTED, APP).verdict is Verdict.HELD
    assert one(status(image(APP, PULLING)) | SELECTED, APP).verdict is Verdict.PENDING


def test_image_is_pending_while_no_node_matches() -> None:
    found = one(status(image(APP)) | SELECTED, APP)
    assert (found.verdict, found.needed, found.reason) == (
        Verdict.PENDING,
        0,
        "no node matches the selector pool=gpu",
    )


def test_image_is_pending_while_no_node_that_matches_counts() -> None:
    seen = status(image(APP, "held"), nodes={"node-1": NOT_READY}) | SELECTED
    found = one(seen, APP)
    assert (found.verdict, found.reason) == (
        Verdict.PENDING,
        "no node that matches the selector pool=gpu counts; node-1: the node is not ready",
    )


def test_image_that_no_selected_node_needs_is_left_out_beside_one_that_they_need() -> None:
    seen = status(image(APP), groups={"gpu": status(image(APP, "held"))}) | SELECTED
    for wanted in ([], ["app"], [APP]):
        assert [each.name for each in of(seen, *wanted)] == [f"{APP} of group gpu"]


# The verdict about all


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        (["held"], Verdict.HELD),
        (["held", "pending"], Verdict.PENDING),
        (["pending", "impossible", "held"], Verdict.IMPOSSIBLE),
    ],
)
def test_verdict_about_all_images_is_the_worst(verdicts: list[str], verdict: Verdict) -> None:
    found = [Progress(name="app", verdict=Verdict(each)) for each in verdicts]
    assert awaiting.verdict(found) is verdict
