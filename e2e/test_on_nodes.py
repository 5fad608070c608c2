"""Images reach the nodes: the product's own containers on real nodes, checked in their runtimes."""

import base64
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from e2e.harness.bare_nodes import bare_nodes
from e2e.harness.deployed import (
    NEXT_SERVICE_IMAGE,
    WEBHOOK,
    Deployed,
    ProductImages,
    deployed,
    deployed_with_pause,
    let_remove_startup_taint,
)
from e2e.harness.events import sent
from e2e.harness.installation import NAME, Denial, Installation, deny, reference
from e2e.harness.kubernetes_api import ApiError, Json, KubernetesApi
from e2e.harness.nodes import Nodes
from e2e.harness.oci_images import (
    INDEX,
    MANIFEST,
    File,
    Image,
    canonical,
    descriptor,
    digest_of,
    sleep_image,
)
from e2e.harness.pods import Pods, restricted
from e2e.harness.registry import LOCKED_HOST, PASSWORD, USER, Registry
from e2e.harness.rewriting import rewriting
from e2e.harness.sender import notification, post_once
from e2e.harness.sink import Sink
from e2e.harness.workspace import TIMEOUT_SECONDS, Workspace, wait_until

MakeRegistry = Callable[..., Registry]

AT_ONCE = {"ROLLOUT_MIN_INTERVAL_SECONDS": "0"}
QUARANTINE_SECONDS = 600  # three minutes of failing, the next check of the rollout, and the pulls
PULL_BYTES = 200 * 1024 * 1024  # of an image that a node pulls in some seconds
POOL = "e2e.example.com/pool"
STARTUP = "e2e.example.com/startup=images:NoSchedule"
BACK_OFF_SECONDS = 300 + TIMEOUT_SECONDS  # the longest of a kubelet, and then the pull


@pytest.fixture(scope="module")
def registry(make_registry: MakeRegistry, product_images: ProductImages) -> Iterator[Registry]:
    """Run a registry with the product's own images, and the service as its webhook."""
    with make_registry([WEBHOOK]) as registry:
        product_images.push(registry)
        yield registry


@pytest.fixture
def app(workspace: Workspace) -> Image:
    """Return an image of a container that runs, with random content."""
    return with_content(workspace, os.urandom(8).hex())


def with_content(workspace: Workspace, content: str) -> Image:
    image = sleep_image(workspace)
    return replace(image, files={**image.files, "content": File(content.encode())})


def on_all(nodes: Nodes, name: str, digest: str) -> bool:
    return all(node.images().get(name) == digest for node in nodes)


def wait_for_image(
    nodes: Nodes, name: str, digest: str, *, seconds: float = TIMEOUT_SECONDS
) -> None:
    """Wait until the runtime of each node has the image with this name and digest."""
    wait_until(lambda: on_all(nodes, name, digest), f"{name} on all nodes", seconds=seconds)


def start_everywhere(pods: Pods, nodes: Nodes, name: str) -> None:
    """Start a pod of the image on each node, with pull policy Never."""
    started = [pods.run(name, node=node, imagePullPolicy="Never") for node in nodes.names]
    for pod in started:
        pods.wait_for(pod, "Running")


def test_a_pushed_tag_is_on_every_node_and_starts_without_a_pull(
    nodes: Nodes, registry: Registry, installation: Installation, pods: Pods, workspace: Workspace
) -> None:
    configured, tracked = reference("nodes/app", "1.0.0"), reference("nodes/app", "1.1.0")
    registry.push_image("nodes/app", "1.0.0", with_content(workspace, "one"))
    registry.forget_notifications()
    with deployed(installation, f"app={configured}", **AT_ONCE) as puller:
        puller.wait_until_held(configured, *nodes.names)
        digest = registry.push_image("nodes/app", "1.1.0", with_content(workspace, "two"))
        wait_for_image(nodes, tracked, digest)
        puller.wait_until_held(tracked, *nodes.names)
        start_everywhere(pods, nodes, tracked)
        start_everywhere(pods, nodes, configured)


def test_a_sink_receives_the_events_of_a_push_of_a_failure_and_of_its_repair(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace, sink: Sink
) -> None:
    configured, tracked = reference("nodes/told", "1.0.0"), reference("nodes/told", "1.1.0")
    missing = reference("nodes/told-later", "1.0.0")
    registry.push_image("nodes/told", "1.0.0", with_content(workspace, "told"))
    entries = f"app={configured};later={missing}"

    def told(kind: str, subject: str) -> list[Json]:
        return wait_until(lambda: sent(sink.received, kind, subject), f"{kind} {subject}")

    # A problem of a registry would end only with the next check, in ten minutes.
    variables = {"K_SINK": sink.url, "ASK_REGISTRIES": "false"} | AT_ONCE
    with deployed(installation, entries, **variables):
        assert told("image.failing", missing)[0]["entry"] == "later"
        assert told("health.degraded", NAME)[0]["problems"]
        began = time.time()
        digest = registry.push_image("nodes/told", "1.1.0", with_content(workspace, "more"))
        (data,) = told("image.on-all-nodes", tracked)
        print(f"s from the push to the event: {time.time() - began:.2f}")
        assert (data["digest"], data["nodes"], data["since"]) == (digest, len(nodes.names), "push")
        registry.push_image("nodes/told-later", "1.0.0", with_content(workspace, "later"))
        assert told("image.recovered", missing)
        assert told("health.restored", NAME)[0]["seconds"] > 0
        assert told("rollout.started", NAME)
        assert told("rollout.complete", NAME)


KINDS: dict[str, dict[str, Any]] = {
    "from scratch": {"files": {"content": File(b"nothing else")}, "entrypoint": ()},
    "an entrypoint that would crash": {"entrypoint": ("/does-not-exist", "at all")},
    "a user of its own": {"user": "1234:1234"},
    "root": {"user": "0:0"},
    "a user by name": {
        "user": "nobody",
        "files": {"etc/passwd": File(b"nobody:x:65534:65534::/:\n")},
    },
    "an entrypoint and no command": {"entrypoint": ("/sleep",)},
    "SIGQUIT": {"stop_signal": "SIGQUIT"},
    "SIGWINCH": {"stop_signal": "SIGWINCH"},
    "a real-time signal": {"stop_signal": "SIGRTMIN+3"},
}


def test_images_of_all_kinds_are_held_and_their_containers_end_at_once(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    names = [kind.lower().replace(" ", "-")[:40] for kind in KINDS]
    digests = {}
    for name, kind in zip(names, KINDS.values(), strict=True):
        image = replace(sleep_image(workspace), **kind)
        digests[name] = registry.push_image(f"kinds/{name}", "1.0.0", image)
    registry.forget_notifications()
    entries = ";".join(f"{name}={reference(f'kinds/{name}', '1.0.0')}" for name in names)
    with deployed(installation, entries, **AT_ONCE) as puller:
        for name in names:
            puller.wait_until_held(reference(f"kinds/{name}", "1.0.0"), *nodes.names)
        for name, digest in digests.items():
            assert on_all(nodes, reference(f"kinds/{name}", "1.0.0"), digest)
        # A container that ignores its signal would use up the grace period.
        end_pods(installation, puller, grace=600, seconds=60)


def test_the_containers_of_a_large_pod_run_and_end_in_time(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    names = [f"large-{number}" for number in range(12)]
    for name in names:
        registry.push_image(f"nodes/{name}", "1.0.0", with_content(workspace, name))
    entries = ";".join(f"{name}={reference(f'nodes/{name}', '1.0.0')}" for name in names)
    with deployed(installation, entries, HOLD_BY="containers", **AT_ONCE) as puller:
        for name in names:
            puller.wait_until_held(reference(f"nodes/{name}", "1.0.0"), *nodes.names)
        live = wait_until(lambda: all_ready(installation, nodes), "all pods ready")
        _, *containers = live["spec"]["template"]["spec"]["containers"]
        lingers = [f"{500 + 26 * place}ms" for place in range(1, len(names) + 1)]
        assert [each["args"] for each in containers] == [["720h", linger] for linger in lingers]
        assert not any(any(json.loads(pod)[1:]) for pod in puller.pods().values()), "restarted"
        end_pods(installation, puller, grace=600, seconds=60)


def test_a_failure_shows_what_the_pods_logged(
    nodes: Nodes, registry: Registry, installation: Installation, app: Image
) -> None:
    registry.push_image("nodes/logged", "1.0.0", app)
    name = reference("nodes/logged", "1.0.0")

    def fail() -> None:
        with deployed(installation, f"app={name}") as puller:
            puller.wait_until_held(name, *nodes.names)
            raise RuntimeError("by the test")

    with pytest.raises(RuntimeError, match="by the test") as failed:
        fail()
    (note,) = failed.value.__notes__
    assert f"service of {NAME}-" in note
    assert "INFO image_puller." in note


def test_a_mutated_tag_is_pulled_on_every_node_and_only_its_new_layers(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    latest, stable = reference("nodes/mutable", "latest"), reference("nodes/stable", "1.0.0")
    # Layers that no other test has: a node does not fetch layers that it has.
    one, two, shared, other = (os.urandom(100_000) for _ in range(4))
    old = registry.push_image("nodes/mutable", "latest", with_layers(workspace, shared, one))
    kept = registry.push_image("nodes/stable", "1.0.0", with_layers(workspace, other))
    with deployed(installation, f"mutable={latest};stable={stable}", **AT_ONCE) as puller:
        for name, digest in ((latest, old), (stable, kept)):
            puller.wait_until_notified(name, digest)
            puller.wait_until_held(name, *nodes.names)
        before = registry.blob_fetches()
        mutated = with_layers(workspace, shared, two)
        digest = registry.push_image("nodes/mutable", "latest", mutated)
        wait_for_image(nodes, latest, digest)
        puller.wait_until_held(latest, *nodes.names)
    *_, own = mutated.layer_digests

    def fetched() -> dict[str, int]:
        """Return how often each layer was fetched, from the log of the registry."""
        blobs = registry.blob_fetches() - before
        return {blob: count for blob, count in blobs.items() if blob != config_digest(mutated)}

    wait_until(lambda: fetched().get(own, 0) >= len(nodes.names), "all fetches in the log")
    assert fetched() == {own: len(nodes.names)}


def test_a_node_that_joins_pulls_all_images_and_the_status_reports_it(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    name, latest = reference("nodes/joined", "1.0.0"), reference("nodes/old", "latest")
    digest = registry.push_image("nodes/joined", "1.0.0", with_content(workspace, "joined"))
    old = registry.push_image("nodes/old", "latest", with_content(workspace, "old"))
    with nodes.join() as third:
        # The node was part of the cluster before, and has old content of `latest` from then.
        third.pull(latest)
        assert third.images()[latest] == old
        third.stop()
        new = registry.push_image("nodes/old", "latest", with_content(workspace, "new"))
        registry.forget_notifications()
        with deployed(installation, f"joined={name};old={latest}", **AT_ONCE) as puller:
            puller.wait_until_held(name, "node-1", "node-2")
            began = time.monotonic()
            third.start()
            puller.wait_until_held(name, *nodes.names)
            puller.wait_until_held(latest, *nodes.names)
            assert third.images()[name] == digest
            assert third.images()[latest] == new
            warm = puller.status()["nodes"][third.name]
            assert warm["warm"]
            assert 0 < warm["warmUpSeconds"] <= time.monotonic() - began + 1  # whole seconds


def test_a_node_that_joins_gets_other_pods_only_after_its_images(
    nodes: Nodes, registry: Registry, installation: Installation, pods: Pods, workspace: Workspace
) -> None:
    names = [reference(f"nodes/startup-{each}", "1.0.0") for each in ("one", "two")]
    for each in ("one", "two"):
        image = with_layers(workspace, os.urandom(PULL_BYTES))
        registry.push_image(f"nodes/startup-{each}", "1.0.0", image)
    let_remove_startup_taint(installation)
    entries = ";".join(f"image-{number}={name}" for number, name in enumerate(names))
    with deployed(installation, entries, NODE_STARTUP_TAINT=STARTUP, **AT_ONCE) as puller:
        for name in names:
            puller.wait_until_held(name, "node-1", "node-2")
        waiting = wait_for_node(pods, names[0], "node-3")
        with nodes.join(taint=STARTUP) as third:
            status = pods.wait_for(waiting, "Running")
            assert set(names) <= third.images().keys()
            scheduled = condition_time(status, "PodScheduled")
            assert scheduled >= max(held_since(pods, third.name))
            node = installation.control_plane.admin.get(f"/api/v1/nodes/{third.name}")
            taints = node["spec"].get("taints", ())
            assert [each for each in taints if each["key"] in STARTUP] == []
            created = datetime.fromisoformat(node["metadata"]["creationTimestamp"])
            taken = datetime.fromisoformat(scheduled) - created
            print(f"s from the node's creation to the pod: {taken.total_seconds():.0f}")


def wait_for_node(pods: Pods, image: str, node: str) -> str:
    """Create a pod that the scheduler puts on this node, once it may. Return its name."""
    spec = restricted(image, imagePullPolicy="Never") | {
        "nodeSelector": {"kubernetes.io/hostname": node}
    }
    body = {"metadata": {"generateName": "waiting-"}, "spec": spec}
    name: str = pods.admin.post(pods.path, body)["metadata"]["name"]
    return name


def condition_time(status: Json, kind: str) -> str:
    """Return when a condition of a pod became what it is."""
    (found,) = (each for each in status["conditions"] if each["type"] == kind)
    time: str = found["lastTransitionTime"]
    return time


def held_since(pods: Pods, node: str) -> list[str]:
    """Return when the containers of the DaemonSet's pod on a node started, by its runtime."""
    (found,) = (
        each
        for each in of_the_daemonset(pods.admin, pods.path)
        if each["spec"].get("nodeName") == node
    )
    return [each["state"]["running"]["startedAt"] for each in found["status"]["containerStatuses"]]


def test_a_dead_node_does_not_delay_the_others(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    configured, tracked = reference("nodes/death", "1.0.0"), reference("nodes/death", "1.1.0")
    registry.push_image("nodes/death", "1.0.0", with_content(workspace, "one"))
    registry.forget_notifications()
    # The service runs on another node than the one that dies, because it starts first.
    with (
        deployed(installation, f"app={configured}", **AT_ONCE) as puller,
        nodes.join() as third,
    ):
        puller.wait_until_held(configured, *nodes.names)
        third.kill()
        digest = registry.push_image("nodes/death", "1.1.0", with_content(workspace, "two"))
        alive = [nodes["node-1"], nodes["node-2"]]
        wait_until(
            lambda: all(node.images().get(tracked) == digest for node in alive),
            "the new tag on the other nodes",
        )
        assert third.is_ready(), "the push waited until Kubernetes noticed the dead node"
        puller.wait_until_held(tracked, "node-1", "node-2")
        third.stop()


def test_a_node_that_restarts_holds_its_images_again(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    name = reference("nodes/reborn", "1.0.0")
    registry.push_image("nodes/reborn", "1.0.0", with_content(workspace, "reborn"))
    registry.forget_notifications()
    with (
        nodes.join() as third,
        deployed(installation, f"app={name}", **AT_ONCE) as puller,
    ):
        puller.wait_until_held(name, *nodes.names)
        before = puller.pods()
        third.kill()
        third.start()
        wait_until(lambda: puller.pods() != before, "its containers started again")
        puller.wait_until_held(name, *nodes.names)
        assert puller.pods().keys() == before.keys()


def test_a_missing_image_does_not_affect_the_others_and_its_push_repairs_it(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    there, missing = reference("nodes/there", "1.0.0"), reference("nodes/missing", "1.0.0")
    registry.push_image("nodes/there", "1.0.0", with_content(workspace, "there"))
    registry.forget_notifications()
    with deployed(installation, f"missing={missing};there={there}", **AT_ONCE) as puller:
        puller.wait_until_held(there, *nodes.names)
        found = wait_for_reason(puller, missing, "not found")
        assert found.startswith(("ErrImagePull", "ImagePullBackOff"))
        before = puller.pods()
        digest = registry.push_image("nodes/missing", "1.0.0", with_content(workspace, "here now"))
        puller.wait_until_held(missing, *nodes.names)
        assert on_all(nodes, missing, digest)
        # New pods pull at once: each pod has its own back-off.
        wait_until(lambda: is_replaced(puller, before), "new pods")


def test_what_no_node_can_pull_is_quarantined_and_another_push_reaches_all_nodes(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    stable, broken = reference("nodes/stuck", "1.0.0"), reference("nodes/stuck", "1.1.0")
    latest = reference("nodes/stuck-latest", "latest")
    other, newer = reference("nodes/free", "1.0.0"), reference("nodes/free", "1.1.0")
    registry.push_image("nodes/stuck", "1.0.0", with_content(workspace, "stuck"))
    old = registry.push_image("nodes/stuck-latest", "latest", with_content(workspace, "latest"))
    registry.push_image("nodes/free", "1.0.0", with_content(workspace, "free"))
    entries = f"stuck={stable};latest={latest};free={other}"
    with deployed(installation, entries, ROLLOUT_MAX_UNAVAILABLE="1", **AT_ONCE) as puller:
        puller.wait_until_notified(latest, old)
        for name in (stable, latest, other):
            puller.wait_until_held(name, *nodes.names)
        quarantined = {"1.1.0": push_for_no_node(registry, "nodes/stuck", "1.1.0", workspace)}
        bad, kept = quarantined["1.1.0"], latest
        if not nodes["node-1"].runtime.loses_images:
            kept = f"{latest}@{old}"
            quarantined["latest"] = push_for_no_node(
                registry, "nodes/stuck-latest", "latest", workspace
            )
        puller.wait_until_notified(broken, bad)
        digest = registry.push_image("nodes/free", "1.1.0", with_content(workspace, "new"))
        wait_for_image(nodes, newer, digest, seconds=QUARANTINE_SECONDS)
        for name in (newer, other, stable, kept):
            puller.wait_until_held(name, *nodes.names)
        found = {each["tag"]: each for each in puller.status()["quarantined"]}
        assert {tag: each["digest"] for tag, each in found.items()} == quarantined
        assert all("no match for platform" in each["reason"] for each in found.values())
        wait_for_problem(puller, "tag 1.1.0 with")
        assert sorted(installation.images()) == sorted((stable, kept, other, newer))
        assert maximum_unavailable(installation) == 1
        # Pushed again, it is tried again.
        good = registry.push_image("nodes/stuck", "1.1.0", with_content(workspace, "good"))
        wait_for_image(nodes, broken, good)
        puller.wait_until_held(broken, *nodes.names)


def test_a_node_pulls_only_after_the_seed_holds_everything(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    configured, newer = reference("nodes/seeded", "1.0.0"), reference("nodes/seeded", "1.1.0")
    first = with_layers(workspace, os.urandom(PULL_BYTES))
    digest = registry.push_image("nodes/seeded", "1.0.0", first)
    with deployed(installation, f"app={configured}", ROLLOUT_SEED_NODES="1", **AT_ONCE) as puller:
        puller.wait_until_notified(configured, digest)
        wait_until(lambda: all_follow(puller, configured, nodes), f"{configured} on all nodes")
        assert is_pulled_by_one_after_the_other(installation, configured)
        assert maximum_unavailable(installation) == "100%"
        pushed = with_layers(workspace, os.urandom(PULL_BYTES))
        digest = registry.push_image("nodes/seeded", "1.1.0", pushed)
        wait_for_image(nodes, newer, digest)
        wait_until(lambda: all_follow(puller, newer, nodes), f"{newer} on all nodes")
        assert is_pulled_by_one_after_the_other(installation, newer)
        assert maximum_unavailable(installation) == "100%"


def test_of_the_nodes_that_are_selected_after_none_was_the_seed_pulls_first(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    name = reference("nodes/empty", "1.0.0")
    image = with_layers(workspace, os.urandom(PULL_BYTES))
    digest = registry.push_image("nodes/empty", "1.0.0", image)
    variables = {"ROLLOUT_SEED_NODES": "1", "NODE_SELECTOR": json.dumps({POOL: "yes"})}
    with deployed(installation, f"app={name}", **variables, **AT_ONCE) as puller:
        puller.wait_until_notified(name, digest)
        wait_until(lambda: selects_nothing(puller, installation), "no node selected")
        with labelled(installation, nodes, POOL):
            wait_until(lambda: all_follow(puller, name, nodes), f"{name} on all nodes")
            assert is_pulled_by_one_after_the_other(installation, name)
            puller.restart()
            assert installation.images() == [name]
        wait_until(lambda: not puller.pods(), "no pod")
        puller.restart()  # the check at start takes the images from the template
        wait_until(lambda: selects_nothing(puller, installation), "no node selected again")
        with labelled(installation, nodes, POOL):
            wait_until(lambda: all_follow(puller, name, nodes), f"{name} on all nodes again")


def selects_nothing(puller: Deployed, installation: Installation) -> bool:
    """Return whether the template has no image, because no node is selected."""
    told = puller.status()["daemonset"].get("seeding", "")
    return "no node is selected" in told and not installation.images()


@contextmanager
def labelled(installation: Installation, nodes: Nodes, label: str) -> Iterator[None]:
    """Give all nodes a label until the context ends."""
    admin = installation.control_plane.admin
    for name in nodes.names:
        admin.patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": {label: "yes"}}})
    try:
        yield
    finally:
        for name in nodes.names:
            admin.patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": {label: None}}})


def all_follow(puller: Deployed, image: str, nodes: Nodes) -> bool:
    """Return whether all nodes hold the image, and the rollout has ended."""
    daemonset = puller.status()["daemonset"]
    is_over = "seeding" not in daemonset and daemonset["rollout"] == "complete"
    return is_over and puller.held_on(image) == set(nodes.names)


def is_pulled_by_one_after_the_other(installation: Installation, image: str) -> bool:
    """Return whether the second pod with the image was created after the first one was ready.

    Times are in whole seconds, so a pull has to take longer than one.
    """
    path = f"/api/v1/namespaces/{installation.namespace}/pods"
    found = of_the_daemonset(installation.control_plane.admin, path)
    first, second = sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
    for pod in (first, second):
        volumes = [each["image"]["reference"] for each in pod["spec"]["volumes"] if "image" in each]
        assert image in [each["image"] for each in pod["spec"]["containers"]] + volumes
    started = [
        each["state"]["running"]["startedAt"] for each in first["status"]["containerStatuses"]
    ]
    created: str = second["metadata"]["creationTimestamp"]
    return bool(created >= max(started))


def test_an_image_pushed_without_a_webhook_is_pulled_after_the_kubelets_back_off(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    missing = reference("nodes/unannounced", "1.0.0")
    with deployed(installation, f"missing={missing}", **AT_ONCE) as puller:
        wait_for_reason(puller, missing, "not found")
        puller.scale(0)
        digest = registry.push_image("nodes/unannounced", "1.0.0", with_content(workspace, "late"))
        wait_for_image(nodes, missing, digest, seconds=BACK_OFF_SECONDS)


def test_wrong_credentials_do_not_affect_other_images_and_the_next_push_uses_right_ones(
    nodes: Nodes,
    registry: Registry,
    make_registry: MakeRegistry,
    installation: Installation,
    workspace: Workspace,
) -> None:
    there, name = reference("nodes/open", "1.0.0"), f"{LOCKED_HOST}/nodes/locked:1.0.0"
    registry.push_image("nodes/open", "1.0.0", with_content(workspace, "open"))
    image = with_content(workspace, "locked")
    with make_registry([WEBHOOK], locked=True) as locked:
        locked.push_image("nodes/locked", "1.0.0", image)
        put_credentials(installation, "wrong")
        entries = f"locked={name};open={there}"
        with deployed(installation, entries, IMAGE_PULL_SECRETS="pull", **AT_ONCE) as puller:
            puller.wait_until_held(there, *nodes.names)
            wait_for_reason(puller, name, "401 Unauthorized")
            put_credentials(installation, PASSWORD)
            digest = locked.push_image("nodes/locked", "1.0.0", image)
            # A kubelet that has not seen the new secret yet pulls again after its back-off.
            wait_for_image(nodes, name, digest, seconds=BACK_OFF_SECONDS)
            puller.wait_until_held(name, *nodes.names)


def test_a_missing_sleep_image_is_reported_and_images_are_pulled_anyway(
    nodes: Nodes,
    registry: Registry,
    installation: Installation,
    workspace: Workspace,
    product_images: ProductImages,
) -> None:
    name, sleep = reference("nodes/held", "1.0.0"), reference("nodes/sleep", "1.0.0")
    digest = registry.push_image("nodes/held", "1.0.0", with_content(workspace, "held"))
    with deployed(installation, f"app={name}", KIP_IMAGE=sleep, **AT_ONCE) as puller:
        wait_for_image(nodes, name, digest)
        found = wait_for_reason(puller, name, "waiting for container install-sleep")
        assert sleep in found
        registry.push_layout("nodes/sleep", "1.0.0", product_images.sleep)
        # First the back-off of install-sleep, then that of containers without a sleep binary.
        wait_until(
            lambda: puller.held_on(name) == set(nodes.names),
            f"{name} held",
            seconds=2 * BACK_OFF_SECONDS,
        )


LIMITS = {
    "limitranges": (
        {"limits": [{"type": "Container", "max": {"memory": "300Mi"}}]},
        "maximum memory usage per Container is 300Mi",
    ),
    "resourcequotas": ({"hard": {"limits.memory": "1Gi"}}, "exceeded quota: small"),
}


@pytest.mark.parametrize("kind", LIMITS)
def test_a_template_that_a_limit_refuses_leaves_the_old_pods(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace, kind: str
) -> None:
    spec, reason = LIMITS[kind]
    configured = reference("nodes/limited", "1.0.0")
    registry.push_image("nodes/limited", "1.0.0", with_content(workspace, "limited"))
    registry.forget_notifications()
    with deployed(installation, f"app={configured}", **AT_ONCE) as puller:
        puller.wait_until_held(configured, *nodes.names)
        before = puller.pods()
        path = f"/api/v1/namespaces/{installation.namespace}/{kind}"
        installation.control_plane.admin.post(path, {"metadata": {"name": "small"}, "spec": spec})
        greedy = {"name": "main", "image": configured, "resources": {"limits": {"memory": "1Gi"}}}
        installation.control_plane.wait_until_refused(
            f"/api/v1/namespaces/{installation.namespace}/pods",
            {"metadata": {"name": "greedy"}, "spec": {"containers": [greedy]}},
            message=reason,
        )
        # Not even one more pod of one container fits beside the others.
        puller.restart(CACHING_MEMORY_LIMIT="800Mi")
        wait_until(lambda: puller.status()["daemonset"].get("rollout") == "blocked", "blocked")
        wait_for_problem(puller, reason)
        assert puller.pods() == before


def test_a_template_that_a_policy_on_pods_refuses_leaves_the_old_pods(
    nodes: Nodes, registry: Registry, installation: Installation, pods: Pods, workspace: Workspace
) -> None:
    configured = reference("nodes/policed", "1.0.0")
    registry.push_image("nodes/policed", "1.0.0", with_content(workspace, "policed"))
    registry.forget_notifications()
    # Pod Security admits only `restricted` pods here, and all pods of the service are.
    with pytest.raises(ApiError, match="violates PodSecurity"):
        pods.run(configured, node="node-1", securityContext={})
    with deployed(installation, f"app={configured}", **AT_ONCE) as puller:
        puller.wait_until_held(configured, *nodes.names)
        before = puller.pods()
        allow = deny(installation, "tolerant", TOLERANT)
        puller.restart(TOLERATIONS=json.dumps(EVERYTHING))
        wait_until(lambda: puller.status()["daemonset"].get("rollout") == "blocked", "blocked")
        wait_for_problem(puller, TOLERANT.message)
        assert puller.pods() == before
        allow()
        puller.restart()
        wait_until(lambda: is_replaced(puller, before), "new pods once the policy is gone")
        puller.wait_until_held(configured, *nodes.names)


EVERYTHING = [{"operator": "Exists"}]
TOLERANT = Denial(
    group="",
    resource="pods",
    expression="has(object.spec.tolerations) && object.spec.tolerations.exists(t, !has(t.key))",
    message="no pod tolerates every taint",
    probe={
        "metadata": {"name": "probe"},
        "spec": {**restricted(reference("nodes/policed", "1.0.0")), "tolerations": EVERYTHING},
    },
)


def test_a_push_that_the_pods_outgrow_empties_no_node(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    """A LimitRange allows the memory of two containers. The pushed tag would be the third."""
    configured = reference("nodes/outgrown", "1.0.0")
    digest = registry.push_image("nodes/outgrown", "1.0.0", with_content(workspace, "outgrown"))
    with deployed(installation, f"app={configured}", **AT_ONCE) as puller:
        puller.wait_until_notified(configured, digest)
        puller.wait_until_held(configured, *nodes.names)
        before = puller.pods()
        namespace = f"/api/v1/namespaces/{installation.namespace}"
        limits = {"limits": [{"type": "Pod", "max": {"memory": "40Mi"}}]}
        admin = installation.control_plane.admin
        admin.post(f"{namespace}/limitranges", {"metadata": {"name": "small"}, "spec": limits})
        reason = "maximum memory usage per Pod is 40Mi"
        large = {"name": "main", "image": configured, "resources": {"limits": {"memory": "1Gi"}}}
        installation.control_plane.wait_until_refused(
            f"{namespace}/pods",
            {"metadata": {"name": "large"}, "spec": {"containers": [large]}},
            message=reason,
        )
        registry.push_image("nodes/outgrown", "1.0.1", with_content(workspace, "larger"))
        wait_until(lambda: puller.status()["daemonset"].get("rollout") == "blocked", "blocked")
        wait_for_problem(puller, reason)
        installation.wait_for_warning(reason)
        assert puller.pods() == before
        assert puller.held_on(configured) == set(nodes.names)
        admin.delete(f"{namespace}/limitranges/small")
        puller.restart()
        puller.wait_until_held(reference("nodes/outgrown", "1.0.1"), *nodes.names)


def test_a_first_installation_whose_pods_are_refused_reports_why(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    configured = reference("nodes/owned", "1.0.0")
    registry.push_image("nodes/owned", "1.0.0", with_content(workspace, "owned"))
    allow = deny(installation, "owned", OWNED)
    with deployed(installation, f"app={configured}", **AT_ONCE) as puller:
        wait_until(lambda: puller.status()["daemonset"].get("rollout") == "blocked", "blocked")
        wait_for_problem(puller, OWNED.message)
        installation.wait_for_warning(OWNED.message)
        allow()
        puller.restart()
        puller.wait_until_held(configured, *nodes.names)


OWNED = Denial(
    group="",
    resource="pods",
    expression=(
        "has(object.metadata.labels) && 'image-puller.io/daemonset' in object.metadata.labels"
        " && !('owner' in object.metadata.labels)"
    ),
    message="you must provide labels: owner",
    probe={
        "metadata": {"name": "probe", "labels": {"image-puller.io/daemonset": "probe"}},
        "spec": restricted(reference("nodes/owned", "1.0.0")),
    },
)


def test_a_quota_without_room_for_one_of_two_nodes_is_told_with_the_node(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    configured, tracked = reference("nodes/partial", "1.0.0"), reference("nodes/partial", "1.0.1")
    digest = registry.push_image("nodes/partial", "1.0.0", with_content(workspace, "partial"))
    admin, base = installation.control_plane.admin, f"/api/v1/namespaces/{installation.namespace}"
    with deployed(installation, f"app={configured}", ASK_REGISTRIES="false", **AT_ONCE) as puller:
        puller.wait_until_notified(configured, digest)
        puller.wait_until_held(configured, *nodes.names)
        wait_until(lambda: all_ready(installation, nodes), "all pods ready")
        # One pod for the service, and one for one of the nodes.
        quota = {"metadata": {"name": "small"}, "spec": {"hard": {"pods": "2"}}}
        admin.post(f"{base}/resourcequotas", quota)
        probe = {"metadata": {"name": "probe"}, "spec": restricted(configured)}
        reason = "exceeded quota: small"
        installation.control_plane.wait_until_refused(f"{base}/pods", probe, message=reason)
        gone = next(
            each
            for each in of_the_daemonset(admin, f"{base}/pods")
            if each["spec"]["nodeName"] == "node-2"
        )
        admin.delete(f"{base}/pods/{gone['metadata']['name']}")
        told = partial(told_about, lambda: puller.status()["nodes"], "node-2", reason)
        node = wait_until(told, "the refusal of a pod for node-2")
        assert (node["warm"], node["state"]) == (False, "no pod")
        assert puller.held_on(configured) == {"node-1"}
        assert puller.status()["daemonset"]["rollout"] == "in progress"
        wait_for_problem(puller, "1 of 2 nodes (node-2) have no pod, because the cluster refuses")
        installation.wait_for_warning("1 of 2 nodes (node-2) have no pod")
        # There is room for no other pod at all, so a push leaves the pod that runs.
        registry.push_image("nodes/partial", "1.0.1", with_content(workspace, "more"))
        wait_until(lambda: puller.status()["daemonset"].get("rollout") == "blocked", "blocked")
        assert puller.held_on(configured) == {"node-1"}
        admin.patch(f"{base}/resourcequotas/small", {"spec": {"hard": {"pods": "3"}}})
        # The controller tries again later and later, but at once after a change.
        registry.push_image("nodes/partial", "1.0.2", with_content(workspace, "most"))
        puller.wait_until_held(reference("nodes/partial", "1.0.2"), *nodes.names)
        puller.wait_until_held(tracked, *nodes.names)
        wait_until(lambda: not puller.status()["problems"], "no problem any more")


def test_each_node_without_the_image_is_shown_with_its_reason(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    """A tainted node, two full ones, a pod that terminates, and an image of a mirror."""
    configured, mirrored = reference("nodes/shown", "1.0.0"), reference("mirror/shown", "1.0.0")
    for repository in ("mirror/shown", "nodes/shown"):
        digest = registry.push_image(repository, "1.0.0", with_content(workspace, "shown"))
    admin = installation.control_plane.admin
    pods = f"/api/v1/namespaces/{installation.namespace}/pods"
    room = {"cpu": "4", "memory": "4Gi", "pods": "10"}
    taints = [{"key": "pool", "value": "ci", "effect": "NoSchedule"}]
    with (
        rewriting(workspace, installation, image=configured, other=mirrored),
        bare_nodes(admin, busy=room | {"cpu": "1m"}, crowded=room | {"pods": "0"}) as bare,
        tainted(admin, "node-2", taints),
        # The mirror rewrites the images of containers only.
        deployed(installation, f"app={configured}", HOLD_BY="containers", **AT_ONCE) as puller,
    ):
        puller.wait_until_notified(configured, digest)
        puller.wait_until_held(configured, "node-1")
        (pod,) = of_the_daemonset(admin, pods)
        assert mirrored in {each["image"] for each in pod["spec"]["containers"]}

        def seen() -> dict[str, Json]:
            bare.beat()
            found: dict[str, Json] = puller.status()["nodes"]
            return found

        assert seen()["node-1"]["state"] == "warm"
        assert seen()["node-2"] == {
            "warm": False,
            "counts": False,
            "state": "no pod",
            "reason": "the node has the taint pool=ci:NoSchedule, which TOLERATIONS does not "
            "tolerate",
        }
        for name, words in (("busy", "Insufficient cpu"), ("crowded", "Too many pods")):
            told = partial(told_about, seen, name, words)
            assert wait_until(told, f"{name}: {words}")["state"] == "no pod"
        wait_for_problem(puller, "2 of 3 nodes (busy, crowded) have no pod: Unschedulable: ")

        name = f"{pods}/{pod['metadata']['name']}"
        admin.patch(name, {"metadata": {"finalizers": ["example.com/e2e"]}})
        admin.delete(name)
        reason = f"pod {pod['metadata']['name']} is terminating since "
        told = partial(told_about, seen, "node-1", reason)
        assert wait_until(told, "the pod terminating")["state"] == "no pod"
        admin.patch(name, {"metadata": {"finalizers": None}})
        puller.wait_until_held(configured, "node-1")


def test_pods_with_all_options_run_and_carry_them(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    configured = reference("nodes/options", "1.0.0")
    registry.push_image("nodes/options", "1.0.0", with_content(workspace, "options"))
    registry.forget_notifications()
    admin, namespace = installation.control_plane.admin, installation.namespace
    account = {"metadata": {"name": "images"}}
    admin.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    options = {
        "POD_LABELS": '{"team": "ci"}',
        "POD_ANNOTATIONS": '{"example.com/owner": "ci"}',
        "HOST_NETWORK": "true",
        "POD_SERVICE_ACCOUNT": "images",
        "RUNTIME_CLASS_NAME": namespace,
        "CACHING_MEMORY_LIMIT": "none",
        "CACHING_CPU_LIMIT": "none",
    }
    with (
        runtime_class(admin, namespace),
        deployed(installation, f"app={configured}", **options, **AT_ONCE) as puller,
    ):
        puller.wait_until_held(configured, *nodes.names)
        found = of_the_daemonset(admin, f"/api/v1/namespaces/{namespace}/pods")
        assert {each["spec"]["nodeName"] for each in found} == set(nodes.names)
        for pod in found:
            spec, metadata = pod["spec"], pod["metadata"]
            assert metadata["labels"]["team"] == "ci"
            assert metadata["annotations"]["example.com/owner"] == "ci"
            assert spec["hostNetwork"]
            assert pod["status"]["podIP"] == pod["status"]["hostIP"]
            assert spec["serviceAccountName"] == "images"
            assert not any("projected" in volume for volume in spec["volumes"])
            assert spec["runtimeClassName"] == namespace
            assert not [each for each in spec["containers"] if "limits" in each["resources"]]


def test_a_pod_of_the_service_that_ends_takes_pushes_for_five_seconds(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    configured, tracked = reference("nodes/ending", "1.0.0"), reference("nodes/ending", "1.1.0")
    registry.push_image("nodes/ending", "1.0.0", with_content(workspace, "one"))
    admin = installation.control_plane.admin
    pods = f"/api/v1/namespaces/{installation.namespace}/pods"
    with deployed_with_pause(installation, f"app={configured}", **AT_ONCE) as puller:
        (pod,) = admin.get(pods, labelSelector=f"app={NAME}")["items"]
        url = f"http://{pod['status']['podIP']}:8080"
        began = time.monotonic()
        admin.delete(f"{pods}/{pod['metadata']['name']}")
        time.sleep(3)  # a sender with an old address is that late
        push = notification("nodes/ending", "1.1.0", "late")
        assert post_once(url, push).status_code == 202
        assert tracked in installation.images()
        wait_until(lambda: not is_there(admin, f"{pods}/{pod['metadata']['name']}"), "the pod gone")
        assert 5 <= time.monotonic() - began < 30
        puller.status()


def test_keep_tags_untracks_the_oldest_tag(
    nodes: Nodes, registry: Registry, installation: Installation, pods: Pods, workspace: Workspace
) -> None:
    tags = ["1.0.0", "1.1.0", "1.2.0", "1.3.0"]
    names = [reference("nodes/kept", tag) for tag in tags]
    registry.push_image("nodes/kept", "1.0.0", with_content(workspace, "1.0.0"))
    registry.forget_notifications()
    with deployed(installation, f"app={names[0]}", KEEP_TAGS="2", **AT_ONCE) as puller:
        for tag in tags[1:3]:
            registry.push_image("nodes/kept", tag, with_content(workspace, tag))
        for name in names[:3]:
            puller.wait_until_held(name, *nodes.names)
            start_everywhere(pods, nodes, name)
        registry.push_image("nodes/kept", "1.3.0", with_content(workspace, "1.3.0"))
        puller.wait_until_held(names[3], *nodes.names)
        assert sorted(installation.images()) == [names[0], names[2], names[3]]


def test_restarts_and_upgrades_of_the_service_restart_no_pod_of_the_daemonset(
    nodes: Nodes, registry: Registry, installation: Installation, workspace: Workspace
) -> None:
    configured, tracked = reference("nodes/calm", "1.0.0"), reference("nodes/calm", "1.1.0")
    registry.push_image("nodes/calm", "1.0.0", with_content(workspace, "one"))
    registry.forget_notifications()
    with deployed(installation, f"app={configured}", **AT_ONCE) as puller:
        registry.push_image("nodes/calm", "1.1.0", with_content(workspace, "two"))
        puller.wait_until_held(tracked, *nodes.names)
        before = puller.pods()
        puller.restart()
        puller.restart(PORT="8080")
        puller.scale(2)
        puller.scale(0)
        puller.scale(1)
        puller.wait_until_held(tracked, *nodes.names)
        assert puller.pods() == before
        puller.upgrade(NEXT_SERVICE_IMAGE)
        puller.wait_until_held(tracked, *nodes.names)
        assert puller.pods() == before


def test_another_sleep_image_replaces_the_pods(
    nodes: Nodes,
    registry: Registry,
    installation: Installation,
    workspace: Workspace,
    product_images: ProductImages,
) -> None:
    name = reference("nodes/renewed", "1.0.0")
    registry.push_image("nodes/renewed", "1.0.0", with_content(workspace, "renewed"))
    registry.push_layout("image-puller/next-sleep", "e2e", product_images.sleep)
    registry.forget_notifications()
    with deployed(installation, f"app={name}", **AT_ONCE) as puller:
        puller.wait_until_held(name, *nodes.names)
        before = puller.pods()
        puller.restart(KIP_IMAGE=reference("image-puller/next-sleep", "e2e"))
        wait_until(lambda: is_replaced(puller, before), "new pods")
        wait_until(lambda: all_ready(installation, nodes), "all pods ready")
        puller.wait_until_held(name, *nodes.names)


def push_for_no_node(registry: Registry, repository: str, tag: str, workspace: Workspace) -> str:
    """Push an image for an architecture that no node has, and return its digest."""
    manifest = registry.put_blobs(repository, with_content(workspace, f"{repository}:{tag}"))
    content = canonical(manifest)
    registry.put_manifest(repository, digest_of(content), manifest)
    platform = {"architecture": "s390x", "os": "linux"}
    image = descriptor(MANIFEST, content) | {"platform": platform}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [image]}
    return registry.put_manifest(repository, tag, index)


def maximum_unavailable(installation: Installation) -> int | str:
    """Return how many nodes of the DaemonSet may change at once."""
    strategy = installation.settled()["spec"]["updateStrategy"]
    bound: int | str = strategy["rollingUpdate"]["maxUnavailable"]
    return bound


def put_credentials(installation: Installation, password: str) -> None:
    """Create or change the pull secret for the locked registry."""
    token = base64.b64encode(f"{USER}:{password}".encode()).decode()
    config = json.dumps({"auths": {LOCKED_HOST: {"auth": token}}})
    secret = {
        "metadata": {"name": "pull"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": config},
    }
    admin = installation.control_plane.admin
    path = f"/api/v1/namespaces/{installation.namespace}/secrets"
    with suppress(ApiError):
        admin.delete(f"{path}/pull")
    admin.post(path, secret)


def reason(puller: Deployed, name: str) -> str:
    """Return the reason in /status for which some node lacks the image."""
    reasons = [
        found["reason"]
        for each in puller.status()["images"]
        if each["image"] == name
        for found in each["nodes"].values()
        if not found["held"]
    ]
    return reasons[0] if reasons else ""


def wait_for_reason(puller: Deployed, name: str, message: str) -> str:
    """Wait until /status gives a reason with this message for a node that lacks the image."""

    def found() -> str | None:
        text = reason(puller, name)
        return text if message in text else None

    return wait_until(found, f"{name} lacking: {message}")


def wait_for_problem(puller: Deployed, message: str) -> None:
    """Wait until one of the problems in /status has this text."""
    wait_until(lambda: any(message in each for each in puller.status()["problems"]), message)


def of_the_daemonset(admin: KubernetesApi, path: str) -> list[Json]:
    """Return the pods of the DaemonSet that have a node and do not terminate."""
    listed = admin.get(path, labelSelector=f"image-puller.io/daemonset={NAME}")["items"]
    return [
        pod
        for pod in listed
        if "nodeName" in pod["spec"] and "deletionTimestamp" not in pod["metadata"]
    ]


def told_about(seen: Callable[[], dict[str, Json]], name: str, words: str) -> Json | None:
    """Return a node of /status once its reason has these words."""
    node = seen()[name]
    return node if words in node.get("reason", "") else None


def is_there(admin: KubernetesApi, path: str) -> bool:
    try:
        admin.get(path)
    except ApiError as error:
        if error.code == 404:
            return False
        raise
    return True


@contextmanager
def runtime_class(admin: KubernetesApi, name: str) -> Iterator[None]:
    """Create a RuntimeClass of the nodes' only runtime, and delete it in the end."""
    path = "/apis/node.k8s.io/v1/runtimeclasses"
    admin.post(path, {"metadata": {"name": name}, "handler": "runc"})
    try:
        yield
    finally:
        admin.delete(f"{path}/{name}")


@contextmanager
def tainted(admin: KubernetesApi, node: str, taints: list[Json]) -> Iterator[None]:
    """Give a node these taints until the context ends."""
    path = f"/api/v1/nodes/{node}"
    admin.patch(path, {"spec": {"taints": taints}})
    try:
        yield
    finally:
        admin.patch(path, {"spec": {"taints": None}})


def with_layers(workspace: Workspace, *layers: bytes) -> Image:
    return replace(sleep_image(workspace), layers=layers)


def config_digest(image: Image) -> str:
    digest: str = image.manifest()["config"]["digest"]
    return digest


def end_pods(installation: Installation, puller: Deployed, *, grace: int, seconds: int) -> None:
    """Delete the DaemonSet's pods with this grace period, and wait until they are gone."""
    admin = installation.control_plane.admin
    path = f"/api/v1/namespaces/{installation.namespace}/pods"
    before = puller.pods()
    for pod in admin.get(path, labelSelector="app.kubernetes.io/name=image-puller")["items"]:
        admin.delete(f"{path}/{pod['metadata']['name']}", gracePeriodSeconds=str(grace))
    wait_until(lambda: is_replaced(puller, before), "pods gone", seconds=seconds)


def all_ready(installation: Installation, nodes: Nodes) -> Json | None:
    """Return the DaemonSet once all containers run on each node."""
    live = installation.settled()
    return live if live["status"].get("numberReady") == len(nodes.names) else None


def is_replaced(puller: Deployed, before: Mapping[str, str]) -> bool:
    """Return whether all these pods of the DaemonSet are gone or have restarted."""
    return set(before.values()).isdisjoint(puller.pods().values())
