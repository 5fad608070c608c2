"""Groups of images on real nodes: each for its own nodes, and with pulls of its own."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from e2e.harness.deployed import WEBHOOK, Deployed, ProductImages, allow_groups, deployed
from e2e.harness.installation import NAME, Installation, reference
from e2e.harness.kubernetes_api import Json
from e2e.harness.nodes import Nodes
from e2e.harness.oci_images import File, Image, sleep_image
from e2e.harness.registry import Registry
from e2e.harness.workspace import Workspace, wait_until

MakeRegistry = Callable[..., Registry]

MIB = 1024 * 1024
LARGE_MIB = 400
LARGE, FIRST = f"{NAME}-large", f"{NAME}-first"


@pytest.fixture(scope="module")
def registry(make_registry: MakeRegistry, product_images: ProductImages) -> Iterator[Registry]:
    """Run a registry with the product's own images, and the service as its webhook."""
    with make_registry([WEBHOOK]) as registry:
        product_images.push(registry)
        yield registry


def image(workspace: Workspace, mebibytes: int = 0) -> Image:
    """Return an image that no node has, with that much random content."""
    sleep = sleep_image(workspace)
    content = {**sleep.files, "content": File(os.urandom(8))}
    layers = [os.urandom(100 * MIB) for _ in range(mebibytes // 100)]
    return replace(sleep, files=content, layers=layers)


def held_on(puller: Deployed, group: str, name: str) -> set[str]:
    """Return the nodes that hold an image of a group, according to /status."""
    return {
        node
        for each in puller.status()["groups"][group]["images"]
        if each["image"] == name
        for node, found in each["nodes"].items()
        if found["held"]
    }


def seconds_until_on(nodes: Nodes, name: str, digest: str) -> float:
    """Return how long it takes from now until the runtime of each node has the image."""
    start = time.monotonic()
    wait_until(lambda: all(each.images().get(name) == digest for each in nodes), name, seconds=300)
    return time.monotonic() - start


def daemonset(installation: Installation, name: str) -> Json | None:
    path = f"/apis/apps/v1/namespaces/{installation.namespace}/daemonsets"
    items = installation.control_plane.admin.get(path)["items"]
    return next((each for each in items if each["metadata"]["name"] == name), None)


def test_groups_have_their_nodes_and_pull_side_by_side_and_a_removed_one_goes(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    names = {each: reference(f"groups/{each}", "1.0.0") for each in ("app", "large", "first")}
    for each in names:
        registry.push_image(f"groups/{each}", "1.0.0", image(workspace))
    node = nodes.names[0]
    groups = {
        "large": {"images": {"large": names["large"]}},
        "first": {
            "images": {"first": names["first"]},
            "nodeSelector": {"kubernetes.io/hostname": node},
        },
    }
    allow_groups(installation, LARGE, FIRST)
    with deployed(
        installation,
        f"app={names['app']}",
        IMAGE_GROUPS=json.dumps(groups),
        ROLLOUT_MIN_INTERVAL_SECONDS="0",
    ) as puller:
        puller.wait_until_held(names["app"], *nodes.names)
        wait_until(lambda: held_on(puller, "large", names["large"]) == set(nodes.names), "large")
        wait_until(lambda: held_on(puller, "first", names["first"]) == {node}, "first")

        # A push in one group does not wait for the pull of a large image in another one.
        large = image(workspace, LARGE_MIB)
        digest_of_large = registry.push_image("groups/large", "1.1.0", large)
        digest = registry.push_image("groups/app", "1.1.0", image(workspace))
        seconds = seconds_until_on(nodes, reference("groups/app", "1.1.0"), digest)
        others = seconds_until_on(nodes, reference("groups/large", "1.1.0"), digest_of_large)
        print(
            f"beside the pull of {LARGE_MIB} MiB: {seconds:.1f} s; that pull: {others:.1f} s more"
        )

        # The DaemonSet of a removed group is deleted, and no other.
        del groups["first"]
        puller.restart(IMAGE_GROUPS=json.dumps(groups))
        wait_until(lambda: daemonset(installation, FIRST) is None, "no group first", seconds=120)
        assert daemonset(installation, LARGE) is not None
        puller.wait_until_held(names["app"], *nodes.names)
    wait_until(lambda: daemonset(installation, LARGE) is None, "the last group gone")
