"""The quota: enough for the largest pods that there can be, and no more."""

import pytest

from image_puller.core import daemonset, quota
from image_puller.core.daemonset import Platform
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
        return {"resources": {"limits": {"memory": memory}}}

    spec = {"containers": [container("1Mi"), container("2Mi")]}
    for init, total in (("2Mi", "3Mi"), ("5Mi", "5Mi")):
        spec["initContainers"] = [container(init), container("1Mi")]
        assert daemonset.asked({"spec": spec}) == {"limits.memory": quantity.parse(total)}
