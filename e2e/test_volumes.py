"""Images held by volumes on real nodes (`HOLD_BY=volumes`)."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from e2e.harness.control_plane import ControlPlane
from e2e.harness.deployed import WEBHOOK, Deployed, ProductImages, deployed
from e2e.harness.installation import Installation, reference
from e2e.harness.kubernetes_api import Json
from e2e.harness.nodes import Nodes
from e2e.harness.oci_images import ARCHITECTURE, File, Image, sleep_image
from e2e.harness.registry import Registry
from e2e.harness.workspace import Workspace, wait_until

MakeRegistry = Callable[..., Registry]

IMAGE_VOLUMES_SINCE = 35  # the minor version of Kubernetes
BY_VOLUMES = {"HOLD_BY": "volumes", "ROLLOUT_MIN_INTERVAL_SECONDS": "0"}
COMMON = "held-images"
MANY = 20
PUSH_SECONDS = 15  # by hand it takes 1.5 s; other tests may be running
OTHER_ARCHITECTURE = "arm64" if ARCHITECTURE == "amd64" else "amd64"

KINDS: dict[str, dict[str, Any]] = {
    "scratch": {"files": {"content": File(b"nothing else")}},
    "root": {"user": "0:0"},
    "named-user": {"user": "nobody"},
    "crash": {"entrypoint": ("/does-not-exist",)},
    "volume": {"volumes": ("/data", "/sleep")},
    "directory": {"directory": "/root", "user": "0:0"},
    "architecture": {"architecture": OTHER_ARCHITECTURE},
}


@pytest.fixture(autouse=True)
def _image_volumes(control_plane: ControlPlane) -> None:
    if control_plane.minor < IMAGE_VOLUMES_SINCE:
        pytest.skip("this Kubernetes has no image volumes by default")


@pytest.fixture(scope="module")
def registry(make_registry: MakeRegistry, product_images: ProductImages) -> Iterator[Registry]:
    """Run a registry with the product's own images, and the service as its webhook."""
    with make_registry([WEBHOOK]) as registry:
        product_images.push(registry)
        yield registry


def push_app(registry: Registry, name: str, tag: str) -> str:
    """Push an image with content of its own, and return its digest."""
    files = {"content": File(f"{name}:{tag}".encode())}
    return registry.push_image(f"volumes/{name}", tag, Image(files=files))


def image_of(puller: Deployed, name: str) -> Json:
    """Return what the status says about an image."""
    found: Json
    (found,) = [each for each in puller.status()["images"] if each["image"] == name]
    return found


def states(puller: Deployed, name: str) -> dict[str, str]:
    """Return the state of an image on each node, once it is desired."""
    return {
        node: found["state"]
        for each in puller.status()["images"]
        if each["image"] == name
        for node, found in each["nodes"].items()
    }


def test_images_of_all_kinds_survive_the_garbage_collection(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    for kind, fields in KINDS.items():
        image = replace(sleep_image(workspace), **fields)
        # An index would have no image for a node of another architecture. A manifest has one.
        registry.push_image(f"volumes/{kind}", "1.0.0", image)
    registry.push_artifact("volumes/artifact", "1.0.0", "a model")
    push_app(registry, "unheld", "1.0.0")
    registry.forget_notifications()
    names = {kind: reference(f"volumes/{kind}", "1.0.0") for kind in (*KINDS, "artifact")}
    entries = ";".join(f"{kind}={name}" for kind, name in names.items())
    node, unheld = nodes["node-1"], reference("volumes/unheld", "1.0.0")
    with deployed(installation, entries, **BY_VOLUMES) as puller:
        for name in names.values():
            puller.wait_until_held(name, *nodes.names)
        assert puller.status()["daemonset"]["requests"] == {"cpu": "50m", "memory": "10Mi"}
        node.pull(unheld)
        node.collect_images()
        wait_until(lambda: unheld not in node.images(), "the collection of the unheld image")
        assert set(names.values()) <= node.images().keys()
        puller.wait_until_held(names["root"], *nodes.names)


def test_a_push_among_many_images_is_held_in_seconds_and_a_failing_one_stops_no_other(
    nodes: Nodes, registry: Registry, installation: Installation
) -> None:
    apps = [f"many-{number}" for number in range(MANY)]
    for app in apps:
        push_app(registry, app, "1.0.0")
    registry.forget_notifications()
    configured = {app: reference(f"volumes/{app}", "1.0.0") for app in apps}
    entries = ";".join(f"{app}={name}" for app, name in configured.items())
    with deployed(installation, entries, **BY_VOLUMES) as puller:
        for name in configured.values():
            puller.wait_until_held(name, *nodes.names)
        assert {each["holder"] for each in puller.status()["images"]} == {COMMON}

        # A tag that no node has held yet has a container of its own.
        began = time.monotonic()
        digest = push_app(registry, apps[-1], "1.1.0")
        pushed = reference(f"volumes/{apps[-1]}", "1.1.0")
        wait_until(
            lambda: all(node.images().get(pushed) == digest for node in nodes), "the pushed tag"
        )
        puller.wait_until_held(pushed, *nodes.names)
        assert time.monotonic() - began < PUSH_SECONDS
        assert image_of(puller, pushed)["holder"] != COMMON
        listed = {"same", "unknown"}  # a kubelet lists its 50 largest images
        assert {each["imageID"] for each in image_of(puller, pushed)["nodes"].values()} <= listed

        # Once it is proven, it joins the common container with the next push.
        wait_until(lambda: pushed in installation.state()["holding"]["proven"], f"{pushed} proven")
        missing = reference("volumes/many-0", "1.1.0")
        registry.push_index("volumes/many-0", "1.1.0", "for no node", architectures=["s390x"])
        wait_until(lambda: set(states(puller, missing).values()) == {"failing"}, "the failure")
        assert image_of(puller, pushed)["holder"] == COMMON
        for name in (*configured.values(), pushed):
            puller.wait_until_held(name, *nodes.names)


def is_moved(puller: Deployed, hold_by: str) -> bool:
    """Whether all nodes hold the images this way."""
    daemonset = puller.status()["daemonset"]
    return bool(daemonset["holdBy"] == hold_by and daemonset["rollout"] == "complete")


def test_another_way_of_holding_pulls_nothing_again(
    nodes: Nodes, registry: Registry, installation: Installation
) -> None:
    names = []
    for number in range(3):
        push_app(registry, f"moved-{number}", "1.0.0")
        names.append(reference(f"volumes/moved-{number}", "1.0.0"))
    registry.forget_notifications()
    entries = ";".join(f"moved-{number}={name}" for number, name in enumerate(names))
    with deployed(installation, entries, **BY_VOLUMES | {"HOLD_BY": "containers"}) as puller:
        for name in names:
            puller.wait_until_held(name, *nodes.names)
        before = registry.blob_fetches()
        for hold_by, holders in (("volumes", {COMMON}), ("containers", {"moved-0"})):
            puller.restart(HOLD_BY=hold_by)
            wait_until(partial(is_moved, puller, hold_by), f"the rollout of {hold_by}")
            for name in names:
                puller.wait_until_held(name, *nodes.names)
            assert image_of(puller, names[0])["holder"] in holders
        assert registry.blob_fetches() == before


def test_a_missing_image_of_the_common_container_gets_one_of_its_own(
    nodes: Nodes, registry: Registry, installation: Installation
) -> None:
    push_app(registry, "there", "1.0.0")
    registry.forget_notifications()
    there, missing = (reference(f"volumes/{name}", "1.0.0") for name in ("there", "missing"))
    with deployed(installation, f"missing={missing};there={there}", **BY_VOLUMES) as puller:
        puller.wait_until_held(there, *nodes.names)
        wait_until(lambda: set(states(puller, missing).values()) == {"failing"}, "the failure")
        assert image_of(puller, missing)["holder"] == "missing"
        assert image_of(puller, there)["holder"] == COMMON
        assert any(missing in problem for problem in puller.status()["problems"])
