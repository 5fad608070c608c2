"""The quota: enough for the largest pods that there can be, and no more."""

import pytest

from image_puller.core import daemonset, quota
from image_puller.core.daemonset import Manifest, Platform
from image_puller.values import quantity
from tests.support.building import configuration, push, state_of

BIG = {"CACHING_MEMORY_REQUEST": "1Gi", "CACHING_MEMORY_LIMIT": "2Gi"}


def hard(nodes: int, /, **environ: str) -> dict[str, str]:
    """Return the limits of the quota."""
    spec: dict[str, dict[str, str]] = quota.manifest(configuration(**environ), nodes)["spec"]
    return spec["hard"]


def test_a_quota_has_the_name_and_namespace_of_the_daemonset() -> None:
    metadata = quota.manifest(configuration(NAMESPACE="n", DAEMONSET_NAME="d"), 1)["metadata"]
    assert metadata == {"name": "d", "namespace": "n"}


def test_without_other_tags_a_pod_asks_for_its_images_and_the_install_container() -> None:
    images = "a=quay.io/org/a:latest;b=quay.io/org/b:15;c=quay.io/org/c:next"
    assert hard(10, IMAGES=images) == {
        "limits.cpu": "8",
        "limits.memory": "800Mi",
        "pods": "10",
        "requests.cpu": "2",
        "requests.memory": "400Mi",
    }


def test_a_limit_that_is_left_out_is_no_part_of_the_quota() -> None:
    images = "a=quay.io/org/a:latest"
    assert hard(10, IMAGES=images, CACHING_CPU_LIMIT="none", CACHING_MEMORY_REQUEST="none") == {
        "limits.memory": "400Mi",
        "pods": "10",
        "requests.cpu": "1",
        "requests.memory": "400Mi",
    }


@pytest.mark.parametrize(
    ("image", "policy", "images"),
    [
        ("quay.io/org/app:1.2.3", "auto", 4),
        ("quay.io/org/app:latest", "auto", 1),
        ("quay.io/org/app", "auto", 1),
        (f"quay.io/org/app@sha256:{'0' * 64}", "auto", 1),
        (f"quay.io/org/app:1.2.3@sha256:{'0' * 64}", "auto", 1),
        ("quay.io/org/app:1.2.3", "exact", 1),
        (f"quay.io/org/app:1.2.3@sha256:{'0' * 64}", "exact", 2),
        (f"quay.io/org/app@sha256:{'0' * 64}", "exact", 1),
        (f"quay.io/org/app:1.2.3@sha256:{'0' * 64}", "any", 4),
        ("quay.io/org/app:1.2.3", "pinned", 1),
        ("quay.io/org/app:latest", "any", 4),
        ("quay.io/org/app:latest", "semver:>=1", 4),
        ("quay.io/org/app:latest", "glob:release-*", 4),
        ("quay.io/org/app:latest", "regex:r.*", 4),
    ],
)
def test_tags_count_where_the_policy_tracks_them(image: str, policy: str, images: int) -> None:
    found = hard(1, IMAGES=f"app={image}", IMAGE_TAG_POLICIES=f"app={policy}", KEEP_TAGS="3", **BIG)
    assert found["limits.memory"] == f"{(images + 1) * 2048}Mi"


def test_the_largest_pods_fit_the_quota_exactly() -> None:
    config = configuration(KEEP_TAGS="2")
    pushes = [push(f"1.2.{number}", number) for number in range(4, 9)]
    template = daemonset.template(config, state_of(config, *pushes), Platform())
    asked = {what: amount * 7 for what, amount in daemonset.asked(template).items()}
    allowed = {what: quantity.parse(amount) for what, amount in hard(7).items()}
    assert asked | {"pods": 7} == allowed


def test_an_init_container_counts_where_it_asks_for_more_than_all_containers() -> None:
    def container(memory: str) -> dict[str, object]:
        return {"resources": {"requests": {"memory": memory}}}

    spec = {"containers": [container("1Mi"), container("2Mi")]}
    for init, total in (("2Mi", "3Mi"), ("5Mi", "5Mi")):
        spec["initContainers"] = [container(init), container("1Mi")]
        assert daemonset.asked({"spec": spec}) == {"requests.memory": quantity.parse(total)}


def daemon_set(containers: int, *, scheduled: int = 3) -> Manifest:
    images = ";".join(f"app{n}=quay.io/org/app{n}:1" for n in range(containers - 1))
    config = configuration(IMAGES=images)
    template = daemonset.template(config, state_of(config), Platform())
    status = {"currentNumberScheduled": scheduled, "desiredNumberScheduled": scheduled}
    return {"spec": {"template": template}, "status": status}


@pytest.mark.parametrize(
    ("used", "limited", "has_room"),
    [
        ("limits.memory=120Mi", "limits.memory=180Mi", True),  # 3 pods of 3 containers of 20Mi
        ("limits.memory=120Mi", "limits.memory=179Mi", False),
        ("limits.memory=121Mi", "limits.memory=180Mi", False),  # somebody else uses 1Mi
        ("pods=3", "pods=3", True),
        ("count/pods=3", "count/pods=3", True),
        ("pods=4", "pods=4", True),
        ("pods=4", "pods=3", False),
        ("memory=60Mi,cpu=300m", "memory=90Mi,cpu=450m", True),
        ("memory=60Mi,cpu=300m", "memory=90Mi,cpu=449m", False),
        ("requests.nvidia.com/gpu=1", "requests.nvidia.com/gpu=1", False),
        ("pods=many", "pods=3", False),
    ],
)
def test_old_pods_free_the_quota_that_new_ones_need(
    used: str, limited: str, has_room: bool
) -> None:
    refusal = f"exceeded quota: q, requested: {used}, used: {used}, limited: {limited}"
    live, template = daemon_set(2), daemon_set(3)["spec"]["template"]
    assert quota.has_room(refusal, live, template) is has_room


@pytest.mark.parametrize(("limited", "has_room"), [("60Mi", True), ("59Mi", False)])
def test_without_nodes_the_quota_must_have_room_for_one_pod(limited: str, has_room: bool) -> None:
    refusal = (
        "exceeded quota: q, requested: limits.memory=60Mi, used: limits.memory=0, "
        f"limited: limits.memory={limited}"
    )
    live, template = daemon_set(2, scheduled=0), daemon_set(3)["spec"]["template"]
    assert quota.has_room(refusal, live, template) is has_room


def test_a_refusal_without_amounts_has_no_room_for_larger_pods() -> None:
    refusal = "exceeded quota: q, requested: pods=1"
    assert not quota.has_room(refusal, daemon_set(2), daemon_set(3)["spec"]["template"])
    assert quota.has_room(refusal, daemon_set(2), daemon_set(2)["spec"]["template"])


def test_request_of_a_pod_is_described_with_what_to_lower() -> None:
    images = ";".join(f"app-{number}=quay.io/org/app:1.2.{number}" for number in range(50))
    assert quota.describe(configuration(IMAGES=images, HOLD_BY="containers")) == (
        "each pod of the DaemonSet requests 2550m CPU and 510Mi memory (51 containers), "
        "and up to 7550m CPU and 1510Mi memory (151 containers) with all tracked tags; "
        "to request less of each node, lower CACHING_CPU_REQUEST, CACHING_MEMORY_REQUEST or "
        "KEEP_TAGS, or use fewer entries"
    )


def test_request_of_a_pod_that_can_not_grow_is_one_amount() -> None:
    config = configuration(IMAGES="app=quay.io/org/app:latest", CACHING_CPU_REQUEST="0")
    text = quota.describe(config)
    assert text.startswith(
        "each pod of the DaemonSet requests 0 CPU and 20Mi memory (2 containers)"
    )
    assert "tracked" not in text


def test_described_request_is_that_of_the_quota() -> None:
    found = hard(1, IMAGES="app=quay.io/org/app:1.2.3", KEEP_TAGS="5")
    text = quota.describe(configuration(IMAGES="app=quay.io/org/app:1.2.3", KEEP_TAGS="5"))
    assert f"up to {found['requests.cpu']} CPU and {found['requests.memory']} memory" in text


THREE = "a=quay.io/org/a:1.0.0;b=quay.io/org/b:1.0.0;c=quay.io/org/c:latest"


@pytest.mark.parametrize(
    ("hold_by", "containers"),
    # Containers: three images, two tags each of two entries, and the install container. Volumes:
    # the common container, a new tag each of two entries, `latest`, and the install container.
    [("containers", 8), ("volumes", 5), ("auto", 8)],
)
def test_a_quota_has_the_containers_of_the_way_that_images_are_held(
    hold_by: str, containers: int
) -> None:
    found = hard(1, IMAGES=THREE, HOLD_BY=hold_by, **BIG)
    assert found["limits.memory"] == f"{containers * 2048}Mi"


def test_fifty_images_request_what_one_container_does_if_volumes_hold_them() -> None:
    images = ";".join(f"app-{number}=quay.io/org/app-{number}:1.0.0" for number in range(50))
    pinned = ";".join(f"app-{number}=pinned" for number in range(50))
    environ = {"IMAGES": images, "IMAGE_TAG_POLICIES": pinned}
    by_containers = "2550m CPU and 510Mi memory (51 containers)"
    by_volumes = "50m CPU and 10Mi memory (1 containers)"
    for hold_by, text in (
        ("containers", by_containers),
        ("volumes", by_volumes),
        ("auto", f"{by_containers} if containers hold the images, and {by_volumes} by volumes"),
    ):
        described = quota.describe(configuration(HOLD_BY=hold_by, **environ))
        assert described.startswith(f"each pod of the DaemonSet requests {text}; ")
