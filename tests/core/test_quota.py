"""The quota: enough for the fullest pods there can be, and no more."""

import pytest

from image_puller.core import daemonset, quota
from image_puller.core.daemonset import Platform
from image_puller.values import quantity
from tests.support.building import configuration, push, state_of

BIG = {"CACHING_MEMORY_REQUEST": "1Gi", "CACHING_MEMORY_LIMIT": "2Gi"}


def hard(nodes: int = 1, **environ: str) -> dict[str, str]:
    return quota.manifest(configuration(**environ), nodes)["spec"]["hard"]


def test_a_quota_names_the_daemonset_s_namespace():
    metadata = quota.manifest(configuration(NAMESPACE="n", DAEMONSET_NAME="d"), 1)["metadata"]
    assert metadata == {"name": "d", "namespace": "n"}


def test_the_original_s_formula_holds_with_one_image_more_where_no_other_tag_is_followed():
    images = "a=quay.io/org/a:latest;b=quay.io/org/b:15;c=quay.io/org/c:next"
    assert hard(nodes=10, IMAGES=images) == {
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
        ("quay.io/org/app:1.2.3", "pinned", 1),
        ("quay.io/org/app:latest", "any", 4),
        ("quay.io/org/app:latest", "semver:>=1", 4),
        ("quay.io/org/app:latest", "glob:release-*", 4),
        ("quay.io/org/app:latest", "regex:r.*", 4),
    ],
)
def test_followed_tags_count_where_they_can_come(image: str, policy: str, images: int):
    found = hard(IMAGES=f"app={image}", IMAGE_TAG_POLICIES=f"app={policy}", KEEP_TAGS="3", **BIG)
    assert found["limits.memory"] == f"{(images + 1) * 2048}Mi"


def test_no_pod_asks_for_more_than_its_share():
    config = configuration(KEEP_TAGS="2")
    pushes = [push(f"1.2.{number}", number) for number in range(4, 9)]
    template = daemonset.template(config, state_of(config, *pushes), Platform())
    asked = {what: amount * 7 for what, amount in daemonset.asked(template).items()}
    allowed = {what: quantity.parse(amount) for what, amount in hard(nodes=7).items()}
    assert asked | {"pods": 7} == allowed


def test_init_containers_count_where_they_ask_for_more_than_all_others():
    def container(memory: str) -> dict[str, object]:
        return {"resources": {"limits": {"memory": memory}}}

    spec = {"containers": [container("1Mi"), container("2Mi")]}
    for init, total in (("2Mi", "3Mi"), ("5Mi", "5Mi")):
        spec["initContainers"] = [container(init), container("1Mi")]
        assert daemonset.asked({"spec": spec}) == {"limits.memory": quantity.parse(total)}


def test_request_of_a_pod_is_described_with_what_to_lower() -> None:
    images = ";".join(f"app-{number}=quay.io/org/app:1.2.{number}" for number in range(50))
    assert quota.describe(configuration(IMAGES=images)) == (
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
    found = hard(IMAGES="app=quay.io/org/app:1.2.3", KEEP_TAGS="5")
    text = quota.describe(configuration(IMAGES="app=quay.io/org/app:1.2.3", KEEP_TAGS="5"))
    assert f"up to {found['requests.cpu']} CPU and {found['requests.memory']} memory" in text
