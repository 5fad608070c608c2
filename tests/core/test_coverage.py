"""What the status means: how many nodes hold each image, and what the others wait for."""

import pytest

from image_puller.core import coverage
from image_puller.core.node_state import ImageState
from tests.support.building import digest
from tests.support.statuses import NOT_READY, image, on_node, only_groups, status, tag

APP = "quay.io/org/app:1.2.3"


def test_image_is_complete_once_every_node_holds_it() -> None:
    (found,) = coverage.images(status(image(APP, "held", "held")))
    assert (found.held, len(found.counted), found.is_complete) == (2, 2, True)
    assert (found.missing, dict(found.others), found.reason) == ((), {}, "")
    (found,) = coverage.images(status(image(APP, "held", on_node("pulling", "since noon"))))
    assert (found.held, len(found.counted), found.is_complete) == (1, 2, False)
    assert (dict(found.others), found.reason) == ({"pulling": 1}, "node-2: since noon")


def test_nodes_that_do_not_count_change_nothing() -> None:
    seen = status(image(APP, "held", "no pod", "held"), nodes={"node-2": NOT_READY})
    (found,) = coverage.images(seen)
    assert (found.held, len(found.counted), found.is_complete) == (2, 2, True)
    assert coverage.not_counted(seen) == (("node-2", "the node is not ready"),)


def test_node_that_counts_in_one_group_counts() -> None:
    other = {"warm": False, "counts": False, "state": "not selected"}
    seen = status(
        image(APP, "held"),
        nodes={"node-9": other},
        groups={"gpu": status(image(APP, "held"), nodes={"node-1": other})},
    )
    assert coverage.not_counted(seen) == (("node-9", "not selected"),)


def test_worst_state_comes_first_with_its_reason() -> None:
    states = [on_node(each.value, f"why {each}") for each in ImageState]
    (found,) = coverage.images(status(image(APP, *states)))
    assert list(found.others) == [
        "failing",
        "no pod",
        "waiting",
        "pulling",
        "on node",
        "not selected",
    ]
    assert found.reason == "node-4: why failing"


def test_state_of_a_newer_release_is_among_the_worst_and_stands_for_its_reason() -> None:
    (found,) = coverage.images(status(image(APP, "pulling", "on fire")))
    assert list(found.others) == ["on fire", "pulling"]
    assert found.reason == "node-2: on fire"


@pytest.mark.parametrize(
    ("rollout", "reason"),
    [("complete", ""), ("in progress", "no node is known that should hold it")],
)
def test_image_without_a_node_that_counts_is_complete_once_the_rollout_is(
    rollout: str, reason: str
) -> None:
    seen = status(image(APP), rollout=rollout)
    (found,) = coverage.images(seen)
    assert (found.is_complete, found.reason) == (rollout == "complete", reason)
    assert coverage.is_complete(seen) is (rollout == "complete")


def test_images_of_all_groups_are_found() -> None:
    seen = status(image(APP, "held"), groups={"gpu": status(image(APP, "failing"))})
    assert [(each.name, each.is_complete) for each in coverage.images(seen)] == [
        ("app", True),
        ("gpu/app", False),
    ]
    assert not coverage.is_complete(seen)


def test_service_may_have_only_named_groups() -> None:
    seen = only_groups(gpu=status(image(APP, "held")))
    assert [each.name for each in coverage.images(seen)] == ["gpu/app"]
    assert coverage.is_complete(seen)


def test_status_without_a_daemonset_is_not_complete() -> None:
    assert not coverage.is_complete(status(rollout=None))


def test_quarantined_refused_and_unverified_tags_are_notes_and_not_missing() -> None:
    seen = status(
        image(APP, "held"),
        quarantined=[tag("quay.io/org/app:1.2.4", digest=digest(1), reason="exec format error")],
        groups={
            "gpu": status(
                refused=[tag("quay.io/org/app:1.2.5", reason="not allowed")],
                unverified=[tag("quay.io/org/app:1.2.6", reason="no")],
            )
        },
    )
    assert coverage.is_complete(seen)
    assert [(each.kind, each.entry, each.image, each.reason) for each in coverage.notes(seen)] == [
        ("quarantined", "app", "quay.io/org/app:1.2.4", "exec format error"),
        ("refused", "gpu/app", "quay.io/org/app:1.2.5", "not allowed"),
        ("unverified", "gpu/app", "quay.io/org/app:1.2.6", "no"),
    ]
