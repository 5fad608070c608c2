"""A push changes the DaemonSet: from the notification of a registry to a real API server."""

import json
from collections.abc import Callable
from math import ceil
from time import monotonic

import requests

from e2e.harness.history import History
from e2e.harness.installation import DIGESTS, NAME, SECRET, STATE, Installation, reference
from e2e.harness.kubernetes_api import Json
from e2e.harness.processes import free_port
from e2e.harness.registry import Registry, Webhook
from e2e.harness.sender import notification, post, post_all, post_once
from e2e.harness.service import Service
from e2e.harness.sink import Sink
from e2e.harness.slow import slow_api_server
from e2e.harness.workspace import TIMEOUT_SECONDS, http_session, wait_until

MakeRegistry = Callable[..., Registry]
MakeService = Callable[..., Service]

APP = reference("team/app", "1.0.0")
PUSHES = 200
CONNECTIONS = 16


def app(tag: str) -> str:
    return reference("team/app", tag)


def newest(images: list[str]) -> tuple[int, ...]:
    return max(tuple(map(int, image.rpartition(":")[2].split("."))) for image in images)


def test_a_notification_of_the_registry_brings_tag_and_digest_into_the_template(
    installation: Installation, make_registry: MakeRegistry, make_service: MakeService
) -> None:
    port = free_port()
    webhook = Webhook(
        url=f"http://127.0.0.1:{port}/webhooks/distribution", authorization=f"Bearer {SECRET}"
    )
    environment = installation.environment(f"app={APP}")
    with (
        make_service(environment, kubeconfig=installation.kubeconfig, port=port),
        make_registry([webhook]) as registry,
    ):
        installation.wait_for_images(APP)
        digest = registry.push("team/app", "1.1.0", "new")
        live = installation.wait_for_images(APP, app("1.1.0"))
    digests = json.loads(live["spec"]["template"]["metadata"]["annotations"][DIGESTS])
    assert list(digests.values()) == [digest]


def test_an_identical_notification_changes_nothing_and_costs_no_write(
    installation: Installation, make_registry: MakeRegistry, make_service: MakeService, sink: Sink
) -> None:
    with make_registry([Webhook(url=sink.url, authorization="Bearer x")]) as registry:
        registry.push("team/app", "1.1.0", "new")
        notified = wait_until(lambda: tagged(sink), "the notification of the tag")
    environment = installation.environment(f"app={APP}")
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        installation.wait_for_images(APP)
        assert post(puller.url, notified) == 202
        before = installation.wait_for_images(APP, app("1.1.0"))
        writes = installation.patches()
        for _ in range(5):
            assert post(puller.url, notified) == 202
        assert installation.patches() == writes
        after = installation.daemonset()
    assert after is not None
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert annotation(after) == annotation(before)


def test_200_pushes_over_16_connections_cost_few_writes(
    installation: Installation, make_service: MakeService
) -> None:
    bodies = [notification("team/app", f"1.1.{n}", f"{n}") for n in range(PUSHES)]
    interval = 2
    environment = installation.environment(f"app={APP}", ROLLOUT_MIN_INTERVAL_SECONDS=str(interval))
    with (
        slow_api_server(installation) as (way, kubeconfig),
        make_service(environment, kubeconfig=kubeconfig) as puller,
    ):
        generation = installation.wait_for_images(APP)["metadata"]["generation"]
        # Slower than all connections, so that as many pushes as possible join the next write.
        way.seconds = 0.1
        writes, start = installation.patches(), monotonic()
        with History(installation) as history:
            assert post_all([puller.url], bodies, connections=CONNECTIONS) == [202] * PUSHES
            written = installation.patches() - writes
            live = installation.wait_for_images(APP, app("1.1.198"), app("1.1.199"))
            duration = monotonic() - start
    changes = live["metadata"]["generation"] - generation
    print(f"{written} writes, {changes} template changes, {duration:.2f} s")
    assert changes <= duration / interval + 2
    assert written <= 2 * PUSHES / CONNECTIONS + 10
    tags = [newest(images) for images in history.generations()]
    assert tags == sorted(tags)


def test_a_serial_sender_costs_at_most_one_write_per_push(
    installation: Installation, make_service: MakeService
) -> None:
    bodies = [notification("team/app", f"1.1.{n}", f"{n}") for n in range(30)]
    environment = installation.environment(f"app={APP}", ROLLOUT_MIN_INTERVAL_SECONDS="0")
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        installation.wait_for_images(APP)
        writes = installation.patches()
        assert post_all([puller.url], bodies, connections=1) == [202] * 30
        assert installation.patches() - writes <= 30
        installation.wait_for_images(APP, app("1.1.28"), app("1.1.29"))


def test_a_sigkill_between_answer_and_rollout_loses_no_push(
    installation: Installation, make_service: MakeService
) -> None:
    environment = installation.environment(f"app={APP}", ROLLOUT_MIN_INTERVAL_SECONDS="30")
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        installation.wait_for_images(APP)
        # The creation was a template change, so the push is stored and waits for the interval.
        assert post(puller.url, notification("team/app", "1.1.0", "new")) == 202
        assert installation.images() == [APP]
        puller.kill()
        assert installation.images() == [APP]
        puller.start()
        installation.wait_for_images(APP, app("1.1.0"))


def test_sigterm_applies_pending_pushes_and_leaves_the_daemonset(
    installation: Installation, make_service: MakeService
) -> None:
    environment = installation.environment(f"app={APP}", ROLLOUT_MIN_INTERVAL_SECONDS="3600")
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        installation.wait_for_images(APP)
        assert post(puller.url, notification("team/app", "1.1.0", "new")) == 202
        assert installation.images() == [APP]
        assert puller.terminate() == 0
        assert installation.images() == [APP, app("1.1.0")]


def test_two_replicas_under_load_lose_no_push(
    installation: Installation, make_service: MakeService
) -> None:
    names = [f"app{n}" for n in range(10)]
    images = ";".join(f"{name}={reference(f'team/{name}', '1.0.0')}" for name in names)
    environment = installation.environment(images, ROLLOUT_MIN_INTERVAL_SECONDS="2", KEEP_TAGS="1")
    bodies = [
        notification(f"team/{name}", f"1.1.{n}", f"{name} {n}") for n in range(10) for name in names
    ]
    with (
        make_service(environment, kubeconfig=installation.kubeconfig) as one,
        make_service(environment, kubeconfig=installation.kubeconfig) as two,
    ):
        wait_until(installation.daemonset, "the DaemonSet")
        with History(installation) as history:
            answers = post_all([one.url, two.url], bodies, connections=CONNECTIONS)
            assert answers == [202] * len(bodies)
            configured = [reference(f"team/{name}", "1.0.0") for name in names]
            tracked = [reference(f"team/{name}", "1.1.9") for name in names]
            installation.wait_for_images(*configured, *tracked)
    for name in names:
        tags = [
            newest([image for image in images if f"/{name}:" in image])
            for images in history.generations()
        ]
        assert tags == sorted(tags)


def test_a_tag_mutated_through_one_replica_can_be_mutated_back_through_the_other(
    installation: Installation, make_service: MakeService
) -> None:
    latest = reference("team/app", "latest")
    environment = installation.environment(f"app={latest}", ROLLOUT_MIN_INTERVAL_SECONDS="0")
    pushes = [
        notification("team/app", "latest", content, time=f"2026-01-01T00:00:0{n}Z")
        for n, content in enumerate(("one", "two", "one"))
    ]
    with (
        make_service(environment, kubeconfig=installation.kubeconfig) as here,
        make_service(environment, kubeconfig=installation.kubeconfig) as there,
    ):
        installation.wait_for_images(latest)
        digests = []
        for puller, push in zip((here, there, here), pushes, strict=True):
            assert post(puller.url, push) == 202
            digests.append(expected_digest(installation, push))
        for digest, push in zip(digests, pushes, strict=True):
            assert digest == push["events"][0]["target"]["digest"]


def test_replicas_share_the_interval_between_template_changes(
    installation: Installation, make_service: MakeService
) -> None:
    interval = 3
    environment = installation.environment(f"app={APP}", ROLLOUT_MIN_INTERVAL_SECONDS=str(interval))
    with (
        make_service(environment, kubeconfig=installation.kubeconfig) as one,
        make_service(environment, kubeconfig=installation.kubeconfig) as two,
    ):
        generation = installation.wait_for_images(APP)["metadata"]["generation"]
        start = monotonic()
        for n in range(20):
            puller = (one, two)[n % 2]
            assert post(puller.url, notification("team/app", f"1.1.{n}", f"{n}")) == 202
        live = installation.wait_for_images(APP, app("1.1.18"), app("1.1.19"))
        changes = live["metadata"]["generation"] - generation
        assert changes <= ceil((monotonic() - start) / interval) + 1


def test_a_superseded_process_does_not_overwrite_a_newer_configuration(
    installation: Installation, make_service: MakeService
) -> None:
    old = installation.environment(f"app={APP}", ROLLOUT_MIN_INTERVAL_SECONDS="0")
    other = reference("team/other", "2.0.0")
    new = installation.environment(f"app={APP};other={other}", ROLLOUT_MIN_INTERVAL_SECONDS="0")
    with make_service(old, kubeconfig=installation.kubeconfig) as before:
        installation.wait_for_images(APP)
        with make_service(new, kubeconfig=installation.kubeconfig) as after:
            installation.wait_for_images(APP, other)
            answer = post_once(before.url, notification("team/app", "1.1.0", "new"))
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
            with http_session() as session:
                unready = wait_until(
                    lambda: refusal(session.get(f"{before.url}/readyz", timeout=TIMEOUT_SECONDS)),
                    "unready",
                )
            assert "another configuration is in charge" in unready
            assert installation.images() == [APP, other]
            assert post(after.url, notification("team/app", "1.1.0", "new")) == 202
            installation.wait_for_images(APP, app("1.1.0"), other)
            assert before.terminate() == 0
            assert sorted(installation.images()) == sorted([APP, app("1.1.0"), other])


def refusal(answer: requests.Response) -> str | None:
    """Return the text of a 503, or None for another answer."""
    return answer.text if answer.status_code == requests.codes.service_unavailable else None


def tagged(sink: Sink) -> Json | None:
    """Return the notification of a tag; a push sends one, and others for its blobs."""
    bodies: list[Json] = [json.loads(request.body) for request in sink.received]
    return next((body for body in bodies if "tag" in body["events"][0]["target"]), None)


def annotation(daemonset: Json) -> str:
    text: str = daemonset["metadata"]["annotations"][STATE]
    return text


def expected_digest(installation: Installation, push: Json) -> str:
    """Wait until the template expects the digest of the push, and return the digest."""
    digest = push["events"][0]["target"]["digest"]

    def expected() -> str | None:
        daemonset = installation.daemonset() or {}
        annotations = daemonset["spec"]["template"]["metadata"]["annotations"]
        found = json.loads(annotations[DIGESTS]).get("app")
        return found if found == digest else None

    return wait_until(expected, f"{NAME} expects {digest}")
