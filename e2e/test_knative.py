"""The product on a real Knative: Serving with its gateway, Broker and sources, real nodes.

All tests share one installation, and run in the order of this file.
"""

import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from e2e.harness.control_plane import ControlPlane
from e2e.harness.deployed import SERVICE_IMAGE, ProductImages
from e2e.harness.events import sent
from e2e.harness.helm import Helm, Values
from e2e.harness.installation import NAME, reference
from e2e.harness.knative import install, push_parts
from e2e.harness.kubernetes_api import ApiError, Json
from e2e.harness.kustomize import TOP, Kustomize
from e2e.harness.nodes import Nodes
from e2e.harness.objects import Objects
from e2e.harness.oci_images import File, Image, sleep_image
from e2e.harness.on_knative import (
    BROKER,
    INTERNAL_HOST,
    NAMESPACE,
    NEVER,
    PORT,
    PUBLIC_HOST,
    WEBHOOK,
    WEBHOOKS,
    OnKnative,
    on_knative,
)
from e2e.harness.registry import Registry
from e2e.harness.sender import notification, post, post_once
from e2e.harness.workspace import Workspace, http_session, wait_until

MakeHelm = Callable[..., Helm]
MakeRegistry = Callable[..., Registry]

REPOSITORY = "knative/app"
OFTEN = "*/2 * * * * *"  # the first field is seconds
CHECK = "io.image-puller.check"
NODE_JOINED = "dev.knative.apiserver.ref.add"
PING = "dev.knative.sources.ping"
COLD_STARTS = 5


@pytest.fixture(scope="module")
def registry(
    workspace: Workspace,
    nodes: Nodes,
    make_registry: MakeRegistry,
    product_images: ProductImages,
    built_knative: Path,
    built_envoy: Path,
) -> Iterator[Registry]:
    """Run a registry with all images, and the public Service as its webhook."""
    with make_registry([WEBHOOK]) as registry:
        product_images.push(registry)
        push_parts(registry, built_knative, built_envoy / "envoy")
        push(registry, workspace, "1.0.0")
        yield registry


@pytest.fixture(scope="module")
def knative(
    control_plane: ControlPlane, registry: Registry, built_knative_manifests: Path
) -> Objects:
    """Install Knative, and return what applies objects of its kinds."""
    install(built_knative_manifests, control_plane)
    return Objects(control_plane.admin)


@pytest.fixture(scope="module")
def puller(
    workspace: Workspace, control_plane: ControlPlane, knative: Objects, kustomize: Kustomize
) -> Iterator[OnKnative]:
    """Run the product on Knative."""
    with on_knative(workspace, control_plane, kustomize, f"app={of_tag('1.0.0')}") as puller:
        wait_for_tag(puller, "1.0.0")
        yield puller


def of_tag(tag: str) -> str:
    return reference(REPOSITORY, tag)


def push(registry: Registry, workspace: Workspace, tag: str) -> str:
    image = sleep_image(workspace)
    content: dict[str, File] = {"content": File(tag.encode())}
    own: Image = replace(image, files={**image.files, **content})
    return registry.push_image(REPOSITORY, tag, own)


def wait_for_tag(puller: OnKnative, tag: str) -> None:
    wait_until(lambda: of_tag(tag) in puller.installation.images(), f"{tag} in the DaemonSet")


@pytest.mark.parametrize(
    "folder", [TOP, *sorted((TOP / "overlays").iterdir())], ids=lambda each: each.name
)
def test_knative_knows_every_field_of_the_manifests(
    control_plane: ControlPlane, knative: Objects, kustomize: Kustomize, folder: Path
) -> None:
    try_out(control_plane, knative, kustomize.render(folder))


@pytest.mark.parametrize(
    "values",
    [
        {"knative": {"enabled": True}},
        {
            "knative": {
                "enabled": True,
                "public": True,
                "inMemoryChannel": True,
                "deadLetterSink": {"uri": "http://dead.example.com"},
            },
            "configMap": {"eventAuth": "oidc", "oidcAudience": "puller"},
        },
    ],
    ids=["defaults", "everything"],
)
def test_knative_knows_every_field_that_the_chart_renders(
    make_helm: MakeHelm, control_plane: ControlPlane, knative: Objects, values: Values
) -> None:
    kubeconfig = control_plane.kubeconfig(control_plane.admin_token)
    rendered = make_helm(kubeconfig, NAMESPACE).template(values, "--dry-run=server")
    for document in rendered:
        if not document["kind"].startswith("Cluster"):
            document["metadata"]["namespace"] = NAMESPACE
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    try_out(control_plane, knative, [namespace, *rendered])


def try_out(control_plane: ControlPlane, knative: Objects, documents: Sequence[Json]) -> None:
    """Apply as a dry run; only what Serving needs to check a Service's pods is really applied."""
    knative.apply(each for each in documents if each["kind"] in ("Namespace", "ServiceAccount"))

    def dry_run() -> None:
        knative.apply(documents, fieldValidation="Strict", dryRun="All")

    set_oidc(control_plane, "enabled")
    try:
        wait_until(lambda: unless_oidc_is_off(dry_run), "all accepted")
    finally:
        set_oidc(control_plane, "disabled")


def unless_oidc_is_off(apply: Callable[[], None]) -> bool:
    """Apply what needs the feature; return False while Eventing still has it off."""
    try:
        apply()
    except ApiError as error:
        if "oidc-authentication feature not enabled" in str(error):
            return False
        raise
    return True


def set_oidc(control_plane: ControlPlane, to: str) -> None:
    """Switch a feature of Eventing, without which it accepts no EventPolicy."""
    path = "/api/v1/namespaces/knative-eventing/configmaps/config-features"
    control_plane.admin.patch(path, {"data": {"authentication-oidc": to}})


def test_a_push_through_the_gateway_to_zero_pods_reaches_the_nodes(
    puller: OnKnative, nodes: Nodes, registry: Registry, workspace: Workspace
) -> None:
    puller.bring_to_zero()
    digest = push(registry, workspace, "1.1.0")
    wait_until(
        lambda: all(node.images().get(of_tag("1.1.0")) == digest for node in nodes),
        "1.1.0 on all nodes",
    )


def test_the_job_of_the_documentation_checks_the_service(puller: OnKnative) -> None:
    page = (TOP.parent / "docs" / "install" / "knative.md").read_text()
    (text,) = re.findall(r"(?s)```yaml\n(apiVersion: batch/v1\n.*?)```", page)
    job = yaml.safe_load(text)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    # kustomize sets both in an overlay.
    container["image"] = SERVICE_IMAGE
    container["envFrom"] = [{"configMapRef": {"name": puller.config_map()}}]
    puller.bring_to_zero()
    admin = puller.installation.control_plane.admin
    jobs = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
    admin.post(jobs, job)
    path = f"{jobs}/{job['metadata']['name']}"
    wait_until(lambda: admin.get(path)["status"].get("conditions"), "the end of the Job")
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    (pod,) = admin.get(pods, labelSelector=f"job-name={job['metadata']['name']}")["items"]
    log = admin.text(f"{pods}/{pod['metadata']['name']}/log")
    assert f"owner of {NAME}: it is Knative Service {NAME}" in log
    assert "Nothing failed, 0 warnings.\n" in log
    admin.delete(path, propagationPolicy="Background")


def test_a_node_that_joins_is_an_event_from_the_broker(puller: OnKnative, nodes: Nodes) -> None:
    puller.bring_to_zero()
    with nodes.join() as third:
        wait_until(lambda: puller.taken() > 0, "the event")
        wait_until(lambda: of_tag("1.1.0") in third.images(), "1.1.0 on the node")
        joined = [each for each in puller.events() if each.headers["ce-type"] == NODE_JOINED]
        assert [each.headers["ce-name"] for each in joined] == [third.name]


def test_an_event_of_the_ping_source_recreates_a_deleted_daemonset(puller: OnKnative) -> None:
    puller.bring_to_zero()
    puller.installation.control_plane.admin.delete(puller.installation.path)
    wait_until(lambda: puller.installation.daemonset() is None, "the DaemonSet gone")
    puller.set_schedule(OFTEN)
    try:
        wait_for_tag(puller, "1.0.0")
        wait_until(
            lambda: PING in {each.headers["ce-type"] for each in puller.events()},
            "an event of the PingSource",
        )
    finally:
        puller.set_schedule(NEVER)


def test_the_broker_delivers_each_event_once(puller: OnKnative) -> None:
    puller.bring_to_zero()
    assert puller.send(BROKER, CHECK, "first") == 202
    wait_until(lambda: puller.taken() > 0, "the first event")
    ids = [f"once-{number}" for number in range(10)]
    for each in ids:
        assert puller.send(BROKER, CHECK, each) == 202
    wait_until(lambda: puller.taken() >= 1 + len(ids), "all events")
    # Pods terminate after seconds without a request, and a retry would have come before.
    puller.wait_until_terminating()
    assert puller.taken() == 1 + len(ids)
    sent = [each.headers["ce-id"] for each in puller.events()]
    assert sorted(each for each in sent if each.startswith("once-")) == ids
    assert not puller.dead_letters()


def test_both_services_scale_to_zero(
    puller: OnKnative, registry: Registry, workspace: Workspace
) -> None:
    puller.bring_to_zero()
    push(registry, workspace, "1.2.0")
    assert puller.send(BROKER, CHECK, "again") == 202
    # Including terminating pods, which take half a minute.
    wait_until(lambda: puller.pods(NAME) and puller.pods(WEBHOOKS), "pods of both Services")
    wait_for_tag(puller, "1.2.0")
    puller.wait_for_zero()


def test_a_new_revision_takes_over_and_the_old_one_stops_writing(
    puller: OnKnative, registry: Registry, workspace: Workspace
) -> None:
    push(registry, workspace, "1.5.0")
    wait_for_tag(puller, "1.5.0")
    old = f"http://{puller.address(WEBHOOKS)}:{PORT}"
    before = puller.installation.state()["configuration"]
    puller.apply(KEEP_TAGS="3")
    wait_until(
        lambda: puller.installation.state()["configuration"] != before, "the new configuration"
    )
    assert post_once(old, notification(REPOSITORY, "9.9.9", "old")).status_code == 503
    with http_session() as session:
        assert session.get(f"{old}/readyz", timeout=60).status_code == 503
    puller.wait_until_ready()
    push(registry, workspace, "1.6.0")
    wait_for_tag(puller, "1.6.0")
    assert of_tag("9.9.9") not in puller.installation.images()
    assert puller.installation.state()["configuration"] != before


def test_a_push_to_zero_pods_is_answered_within_seconds(puller: OnKnative) -> None:
    """Print how long; the answer comes after the change of the DaemonSet."""
    started, answered = [], []
    for number in range(COLD_STARTS):
        puller.bring_to_zero()
        tag = f"2.{number}.0"
        began = time.time()
        assert post(f"http://{PUBLIC_HOST}", notification(REPOSITORY, tag, tag)) == 202
        answered.append(time.time() - began)
        assert of_tag(tag) in puller.installation.images()
        started.append(puller.first_words(WEBHOOKS) - began)
    for what, seconds in (("the service has started", started), ("it has answered", answered)):
        listed = ", ".join(f"{each:.2f}" for each in sorted(seconds))
        print(f"s until {what}: {listed}; median {statistics.median(seconds):.2f}")


def test_the_events_of_the_service_arrive_at_a_sink(
    puller: OnKnative, nodes: Nodes, registry: Registry, workspace: Workspace
) -> None:
    """The push is taken by one Service, and observed by the other one, which starts from zero."""

    def told(kind: str, subject: str) -> Json:
        found = wait_until(lambda: sent(puller.events(), kind, subject), f"{kind} {subject}")
        return found[0]

    with puller.sending_events():
        # Earlier tests leave tags that can't be pulled. Two newer ones take their place.
        push(registry, workspace, "2.8.0")
        puller.bring_to_zero()
        began = time.time()
        digest = push(registry, workspace, "2.9.0")
        data = told("image.on-all-nodes", of_tag("2.9.0"))
        print(f"s from the push to the event: {time.time() - began:.2f}")
        assert (data["entry"], data["digest"], data["since"]) == ("app", digest, "push")
        assert data["nodes"] == len(nodes.names)
        assert 0 <= data["seconds"] < time.time() - began
        assert told("rollout.complete", NAME)["nodes"] == len(nodes.names)
        puller.bring_to_zero()
        with nodes.join() as third:
            assert told("node.warm", third.name)["seconds"] > 0
        assert not puller.dead_letters()


def test_with_oidc_only_events_of_the_sources_are_accepted(puller: OnKnative) -> None:
    control_plane = puller.installation.control_plane
    set_oidc(control_plane, "enabled")
    puller.remove_broker()  # the channel of a Broker can't be changed
    wait_until(
        lambda: unless_oidc_is_off(lambda: puller.apply("oidc", "in-memory-channel")),
        "all accepted",
    )
    puller.wait_until_ready()
    service = f"http://{INTERNAL_HOST}/"
    assert puller.send(service, CHECK, "no token") == 401
    wrong = control_plane.token_for(NAMESPACE, "default")
    assert puller.send(service, CHECK, "wrong", authorization=f"Bearer {wrong}") == 401
    wait_until(
        lambda: puller.send(BROKER, CHECK, "no token") == 401, "the Broker requiring a token"
    )
    puller.bring_to_zero()
    puller.set_schedule(OFTEN)
    wait_until(lambda: puller.taken() > 0, "an event with its token")


def test_with_oidc_the_service_authenticates_at_its_sink(
    puller: OnKnative, knative: Objects, registry: Registry, workspace: Workspace
) -> None:
    page = (TOP.parent / "docs" / "events.md").read_text()
    policy = next(text for text in page.split("```yaml") if "kind: EventPolicy" in text)
    set_oidc(puller.installation.control_plane, "enabled")
    if "EventPolicy" not in puller.kinds():  # this test may run alone
        puller.remove_broker()
        wait_until(
            lambda: unless_oidc_is_off(lambda: puller.apply("oidc", "in-memory-channel")),
            "all accepted",
        )
    with puller.sending_events("oidc", "in-memory-channel"):
        knative.apply([yaml.safe_load(policy.partition("```")[0])])
        tag = of_tag("2.10.0")
        push(registry, workspace, "2.10.0")
        kind = "image.on-all-nodes"
        wait_until(lambda: sent(puller.events(), kind, tag), f"{kind} {tag}")


def test_a_push_while_the_api_server_is_down_arrives_by_a_retry(
    puller: OnKnative, registry: Registry, workspace: Workspace
) -> None:
    """The last test, because Knative can need a long time to recover."""
    push(registry, workspace, "3.0.0")
    wait_for_tag(puller, "3.0.0")
    api_server = puller.installation.control_plane.api_server
    failed = registry.failed_notifications()
    api_server.stop()
    try:
        push(registry, workspace, "3.1.0")
        wait_until(lambda: registry.failed_notifications() > failed, "a failed notification")
    finally:
        api_server.start()
    wait_for_tag(puller, "3.1.0")
