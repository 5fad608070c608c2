"""Which nodes lose the startup taint. `tests/controller/test_startup_release.py` has the way."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from image_puller.config.startup_taint import StartupTaint, parse
from image_puller.core import decide, startup_taint
from image_puller.core.daemonset import DesiredImage
from image_puller.core.nodes import Node
from image_puller.core.observation import Observation, observe
from image_puller.core.startup_taint import Reason, Release, Seen
from image_puller.core.state import Seeding
from tests.support.building import NOON, at, configuration, push, state_of
from tests.support.daemonset import AT_ONCE, BOTH
from tests.support.observations import observed
from tests.support.states import live

KEY = "image-puller.io/startup:NoSchedule"
TAINT = {"key": "image-puller.io/startup", "effect": "NoSchedule"}
OTHER = {"key": "dedicated", "value": "ci", "effect": "NoSchedule"}
CONFIG = configuration(NODE_STARTUP_TAINT=KEY, IMAGES=BOTH, **AT_ONCE)
STATE = live(CONFIG)
MINUTE = timedelta(minutes=1)


def with_taints(
    seen: Observation, taints: Sequence[Mapping[str, object]], **facts: object
) -> Observation:
    """Return an observation in which the nodes have these taints, and these other facts."""
    nodes = [
        replace(node, taints=tuple(map(dict, taints)), **facts)  # type: ignore[arg-type]
        for node in seen.live.nodes or ()
    ]
    return observe(seen.config, replace(seen.live, nodes=nodes))


def nothing_fails(_number: int, _image: DesiredImage) -> str:
    return ""


def one_fails(_number: int, image: DesiredImage) -> str:
    return "ImagePullBackOff: not found" if image.entry == "other" else ""


def seen_with(
    *taints: Mapping[str, object], fails: bool = False, created: datetime = NOON
) -> Observation:
    """Return an observation of one node with taints, on which an image may fail."""
    failing = one_fails if fails else nothing_fails
    found = observed(CONFIG, STATE, ("node-1",), fails=failing)
    return with_taints(found, taints or (TAINT,), created=created, uid="uid-1")


def releases(
    *observations: Observation | None,
    timeout: timedelta | None = MINUTE,
    seconds: float = 10,
    began: datetime = NOON,
    taint: StartupTaint = parse(KEY),  # noqa: B008  immutable
    listed: Sequence[Node] | None = None,
) -> tuple[Release, ...]:
    groups = [Seen(config=CONFIG, observation=each) for each in observations]
    if listed is None:
        listed = next(each.live.nodes or () for each in observations if each is not None)
    return startup_taint.releases(taint, timeout, groups, listed, at(seconds), began=began)


def missing(found: Sequence[Release]) -> str:
    (only,) = found
    assert only.reason is Reason.TIMEOUT
    (text,) = only.missing
    return text


def test_a_node_with_all_images_is_released_with_the_taint_as_it_was_seen() -> None:
    valued = {**TAINT, "value": "x", "timeAdded": "2026-01-15T12:00:00Z"}
    assert releases(seen_with(OTHER | {"effect": "PreferNoSchedule"}, valued)) == (
        Release(
            node="node-1",
            uid="uid-1",
            index=1,
            taint=valued,
            reason=Reason.WARM,
            seconds=10,
            images=2,
        ),
    )


@pytest.mark.parametrize(
    "other",
    [
        {"key": "image-puller.io/startup", "effect": "NoExecute"},
        {"key": "image-puller.io/other", "effect": "NoSchedule"},
        {"key": "image-puller.io", "value": "startup", "effect": "NoSchedule"},
    ],
)
def test_another_taint_is_not_the_startup_taint(other: Mapping[str, object]) -> None:
    seen = seen_with(other)
    assert not startup_taint.is_awaited(seen)
    assert releases(seen) == ()


def test_with_a_value_only_that_value_counts() -> None:
    mine = parse("image-puller.io/startup=a:NoSchedule")
    assert mine.matches(TAINT | {"value": "a"})
    assert not mine.matches(TAINT | {"value": "b"})
    assert not mine.matches(TAINT)
    assert parse("image-puller.io/startup=:NoSchedule").matches(TAINT)
    assert parse(KEY).matches(TAINT | {"value": "b"})


@pytest.mark.parametrize(
    ("text", "toleration"),
    [
        ("a:NoExecute", {"key": "a", "operator": "Exists", "effect": "NoExecute"}),
        (
            "a/b=c:NoSchedule",
            {"key": "a/b", "operator": "Equal", "value": "c", "effect": "NoSchedule"},
        ),
    ],
)
def test_the_toleration_is_that_of_the_taint(text: str, toleration: Mapping[str, str]) -> None:
    assert parse(text).toleration == toleration
    assert str(parse(text)) == text


def test_an_image_that_fails_is_waited_for_until_the_timeout() -> None:
    seen = seen_with(fails=True)
    assert startup_taint.is_awaited(seen)
    assert releases(seen, seconds=59) == ()
    assert missing(releases(seen, seconds=60)) == (
        "1 of 2 images are not held: ImagePullBackOff: not found"
    )
    assert releases(seen, seconds=6000, timeout=None) == ()


def test_the_timeout_counts_from_the_start_where_there_is_no_daemonset() -> None:
    nodes = seen_with().live.nodes
    empty = observe(CONFIG, replace(seen_with().live, daemonset=None, state=None))
    old = [replace(node, created=at(-3600)) for node in nodes or ()]
    assert releases(empty, listed=old, began=at(0), seconds=59) == ()
    assert missing(releases(empty, listed=old, began=at(0), seconds=60)) == (
        "DaemonSet kubernetes-image-puller does not exist"
    )


def test_the_timeout_counts_from_the_creation_of_the_youngest_daemonset() -> None:
    seen = seen_with(fails=True, created=at(-3600))
    found = seen.live.daemonset
    assert found is not None
    found["metadata"]["creationTimestamp"] = at(0).isoformat()
    assert releases(seen, began=at(-3600), seconds=59) == ()
    assert len(releases(seen, began=at(-3600), seconds=60)) == 1


def test_a_node_without_a_time_waits_from_the_start_of_the_process() -> None:
    seen = with_taints(seen_with(fails=True), [TAINT], created=None)
    assert releases(seen, seconds=59) == ()
    (found,) = releases(seen, seconds=60)
    assert found.seconds is None


def test_a_group_that_was_not_observed_is_waited_for() -> None:
    assert releases(seen_with(), None) == ()
    assert missing(releases(seen_with(), None, seconds=60)) == (
        "DaemonSet kubernetes-image-puller could not be observed"
    )


def test_while_another_configuration_is_in_charge_no_node_is_released() -> None:
    seen = seen_with()
    assert seen.live.state is not None
    state = replace(seen.live.state, configuration="other")
    others = observe(CONFIG, replace(seen.live, state=state))
    assert releases(others) == ()
    assert releases(others, seconds=6000) == ()
    assert releases(seen, others, seconds=6000) == ()


def test_a_state_that_cannot_be_read_is_waited_for_until_the_timeout() -> None:
    seen = observe(CONFIG, replace(seen_with().live, state=None))
    assert releases(seen) == ()
    assert missing(releases(seen, seconds=60)) == (
        "the state of DaemonSet kubernetes-image-puller can't be read"
    )


def test_a_daemonset_without_images_counts_as_missing_them() -> None:
    seen = seen_with()
    assert seen.live.state is not None
    state = replace(seen.live.state, seeding=Seeding.EMPTY)
    empty = observe(CONFIG, replace(seen.live, state=state))
    assert missing(releases(empty, seconds=60)) == "the DaemonSet has no images yet"


def test_a_template_whose_images_are_not_noted_counts_as_missing_them() -> None:
    seen = observe(CONFIG, replace(seen_with().live, state=state_of(CONFIG)))
    assert missing(releases(seen, seconds=60)) == "the DaemonSet has no images yet"


def test_a_template_that_does_not_tolerate_the_taint_yet_is_waited_for() -> None:
    seen = seen_with()
    found = seen.live.daemonset
    assert found is not None
    del found["spec"]["template"]["spec"]["tolerations"]
    old = observe(CONFIG, seen.live)
    assert releases(old) == ()
    assert missing(releases(old, seconds=60)) == (
        "the DaemonSet does not tolerate the startup taint yet"
    )


@pytest.mark.parametrize(
    "key",
    [
        "node.kubernetes.io/network-unavailable",
        "node.cloudprovider.kubernetes.io/uninitialized",
        "node.cluster.x-k8s.io/uninitialized",
        "startup-taint.cluster-autoscaler.kubernetes.io/gpu",
        "karpenter.sh/unregistered",
        "node.cilium.io/agent-not-ready",
        "ebs.csi.aws.com/agent-not-ready",
        "readiness.k8s.io/example.com/network",
        "example.com/Startup",
    ],
)
def test_a_temporary_taint_of_others_is_waited_for(key: str) -> None:
    seen = seen_with({"key": key, "effect": "NoSchedule"}, TAINT)
    assert releases(seen) == ()
    assert missing(releases(seen, seconds=60)) == f"the node still has the taint {key}:NoSchedule"


def test_with_a_lasting_taint_a_group_has_no_image_for_the_node() -> None:
    (found,) = releases(seen_with(OTHER, TAINT, fails=True))
    assert (found.reason, found.images, found.index) == (Reason.WARM, 0, 1)
    temporary = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    (found,) = releases(seen_with(temporary, OTHER, TAINT, fails=True))
    assert (found.reason, found.index) == (Reason.WARM, 2)


def test_a_node_that_is_not_ready_is_waited_for() -> None:
    seen = with_taints(seen_with(), [TAINT], is_ready=False)
    assert missing(releases(seen, seconds=60)) == "the node is not ready"


def test_another_node_of_the_same_name_is_not_released_for_the_old_ones_images() -> None:
    seen = seen_with()
    joined = [replace(node, uid="uid-2") for node in seen.live.nodes or ()]
    assert releases(seen, listed=joined) == ()
    assert missing(releases(seen, listed=joined, seconds=60)) == "the node has just joined"


def test_an_image_that_waits_for_a_pending_template_is_not_awaited() -> None:
    config = configuration(
        NODE_STARTUP_TAINT=KEY, IMAGES=BOTH, ROLLOUT_MIN_INTERVAL_SECONDS="100000"
    )
    state = live(config)
    pending, _ = decide.apply(config, state, [push("1.2.4", 4)])
    found = observed(config, state, ("node-1",))
    seen = with_taints(observe(config, replace(found.live, state=pending)), [TAINT], uid="uid-1")
    assert seen.rollout == "pending"
    assert len(seen.images) == 3
    groups = [Seen(config=config, observation=seen)]
    (release,) = startup_taint.releases(
        parse(KEY), MINUTE, groups, seen.live.nodes or (), at(10), began=at(0)
    )
    assert (release.reason, release.images) == (Reason.WARM, 2)


def test_what_a_named_group_lacks_has_its_name() -> None:
    config = replace(CONFIG, group="gpu")
    groups = [Seen(config=config, observation=None)]
    nodes = seen_with().live.nodes or ()
    (found,) = startup_taint.releases(parse(KEY), MINUTE, groups, nodes, at(60), began=at(0))
    assert found.missing == ("gpu: DaemonSet kubernetes-image-puller could not be observed",)
