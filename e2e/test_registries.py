"""The service asks real registries: it completes and verifies pushes, and catches up."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from functools import partial

import pytest
import requests

from e2e.harness.installation import DIGESTS, SECRET, Installation, reference
from e2e.harness.kubernetes_api import Json
from e2e.harness.registry import HOST, LOCKED_HOST, PASSWORD, PORT, USER, Registry
from e2e.harness.sender import notification, post, until_taken
from e2e.harness.service import Service
from e2e.harness.slow import Silent, slow_api_server
from e2e.harness.workspace import http_session, wait_until
from image_puller.events.sources import SOURCES

MakeRegistry = Callable[..., Registry]
MakeService = Callable[..., Service]

APP, LATEST = reference("ask/app", "1.0.0"), reference("ask/app", "latest")
ASKING = {"INSECURE_REGISTRIES": f"{HOST};{LOCKED_HOST}", "ROLLOUT_MIN_INTERVAL_SECONDS": "0"}


def digests(installation: Installation) -> dict[str, str]:
    """Return the digests that the template expects, by image."""
    template = (installation.daemonset() or {})["spec"]["template"]
    expected = json.loads(template["metadata"]["annotations"][DIGESTS])
    return {
        each["image"]: expected[each["name"]]
        for each in template["spec"]["containers"]
        if each["name"] in expected
    }


def wait_for_digest(installation: Installation, image: str, digest: str) -> None:
    """Wait until the template expects this digest of an image."""
    wait_until(
        lambda: installation.daemonset() and digests(installation).get(image) == digest,
        f"{image} as {digest}",
    )


def tell(url: str, path: str, body: Json, **headers: str) -> requests.Response:
    """Send a webhook or an event until the answer is not 503, and return the answer."""
    with http_session() as session:
        return until_taken(
            lambda: session.post(f"{url}{path}", json=body, headers=headers, timeout=60)
        )


def quay(*tags: str, host: str = HOST) -> Json:
    """Return a push notification of Quay, which has no digest."""
    return {"docker_url": f"{host}/ask/app", "updated_tags": list(tags)}


def harbor(tag: str, digest: str | None = None) -> Json:
    """Return a push notification of Harbor."""
    resource = {"tag": tag, "resource_url": f"{HOST}/ask/app:{tag}"}
    if digest is not None:
        resource["digest"] = digest
    data = {"resources": [resource], "repository": {"repo_full_name": "ask/app"}}
    return {"type": "PUSH_ARTIFACT", "event_data": data}


def tell_from(url: str, source: str, body: Json) -> int:
    """Send a notification to the path of a source, and return the status code."""
    return tell(url, f"/webhooks/{source}", body, Authorization=f"Bearer {SECRET}").status_code


def trigger_check(url: str) -> None:
    """Trigger a check."""
    event = {"specversion": "1.0", "id": "1", "source": "/e2e", "type": "io.image-puller.check"}
    headers = {
        "Content-Type": "application/cloudevents+json",
        "Authorization": f"Bearer {SECRET}",
    }
    with http_session() as session:
        answer = until_taken(
            lambda: session.post(url, data=json.dumps(event), headers=headers, timeout=30)
        )
    assert answer.status_code == 202


def status(puller: Service) -> Json:
    """Return /status."""
    with http_session() as session:
        headers = {"Authorization": f"Bearer {SECRET}"}
        found: Json = session.get(f"{puller.url}/status", headers=headers, timeout=30).json()
    return found


def tracked(installation: Installation, entry: str = "app") -> dict[str, str]:
    """Return the digests of the tags that an entry tracks."""
    tags = installation.state()["entries"][entry]["tags"]
    return {tag["tag"]: tag["digest"] for tag in tags}


def has_tracked(installation: Installation, entry: str, tags: dict[str, str]) -> bool:
    """Return whether an entry tracks these tags, with these digests, and no others."""
    return tracked(installation, entry) == tags


def is_seen(installation: Installation, entry: str, tag: str) -> bool:
    """Return whether a check has confirmed a tracked tag."""
    tags = installation.state()["entries"][entry]["tags"]
    return any(each["tag"] == tag and each.get("confirmed", False) for each in tags)


def notification_of(repository: str, tag: str, digest: str) -> Json:
    """Return the notification of a push with this digest."""
    notified = notification(repository, tag, "")
    notified["events"][0]["target"]["digest"] = digest
    return notified


def test_a_push_without_digest_is_completed_at_the_registry(
    installation: Installation, make_registry: MakeRegistry, make_service: MakeService
) -> None:
    environment = installation.environment(f"app={APP}", **ASKING)
    with make_registry() as registry:
        configured = registry.push("ask/app", "1.0.0", "configured")
        with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
            wait_for_digest(installation, APP, configured)
            pushed = registry.push("ask/app", "1.1.0", "pushed")
            assert tell_from(puller.url, "quay", quay("1.1.0")) == 202
            assert digests(installation)[reference("ask/app", "1.1.0")] == pushed


def test_a_registry_with_passwords_is_asked_with_the_configured_pull_secret(
    installation: Installation, make_registry: MakeRegistry, make_service: MakeService
) -> None:
    config = {"auths": {LOCKED_HOST: {"username": USER, "password": PASSWORD}}}
    secret = {
        "metadata": {"name": "registry-credentials"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(json.dumps(config).encode()).decode()},
    }
    admin = installation.control_plane.admin
    admin.post(f"/api/v1/namespaces/{installation.namespace}/secrets", secret)
    app = f"{LOCKED_HOST}/ask/app:1.0.0"
    secrets = {"IMAGE_PULL_SECRETS": "registry-credentials"}
    environment = installation.environment(f"app={app}", **ASKING, **secrets)
    with make_registry(locked=True) as registry:
        configured = registry.push("ask/app", "1.0.0", "locked")
        with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
            wait_for_digest(installation, app, configured)
            pushed = registry.push("ask/app", "1.1.0", "locked too")
            assert tell_from(puller.url, "quay", quay("1.1.0", host=LOCKED_HOST)) == 202
            assert digests(installation)[f"{LOCKED_HOST}/ask/app:1.1.0"] == pushed
            assert status(puller)["problems"] == []


def test_a_registry_with_passwords_and_no_pull_secret_is_reported_and_pushes_are_tracked(
    installation: Installation, make_registry: MakeRegistry, make_service: MakeService
) -> None:
    app = f"{LOCKED_HOST}/ask/app:1.0.0"
    environment = installation.environment(f"app={app}", **ASKING)
    with make_registry(locked=True) as registry:
        registry.push("ask/app", "1.0.0", "locked")
        with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
            installation.wait_for_images(app)
            assert tell_from(puller.url, "quay", quay("1.1.0", host=LOCKED_HOST)) == 202
            installation.wait_for_images(app, f"{LOCKED_HOST}/ask/app:1.1.0")
            problems = status(puller)["problems"]
    assert any("name a pull secret that covers it" in problem for problem in problems)


def test_with_verification_a_push_changes_nothing_until_its_registry_confirms_it(
    installation: Installation, make_registry: MakeRegistry, make_service: MakeService
) -> None:
    environment = installation.environment(f"app={APP}", **ASKING, VERIFY_PUSHES="true")
    with make_registry() as registry:
        registry.push("ask/app", "1.0.0", "configured")
        true = registry.push("ask/elsewhere", "1.1.0", "the true one")
        with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
            installation.wait_for_images(APP)
            # The timeout of Harbor is long enough to ask any registry here.
            forged = f"sha256:{6:064}"
            for push in (harbor("1.1.0", true), harbor("1.0.0", forged)):
                assert tell_from(puller.url, "harbor", push) == 202
            held = {push["tag"]: push["reason"] for push in status(puller)["unverified"]}
            assert held["1.1.0"] == f"{HOST} has no {HOST}/ask/app:1.1.0"
            assert held["1.0.0"].startswith(f"{HOST} has sha256:")
            assert installation.images() == [APP]
            puller.kill()
        # Another process continues with the unverified pushes.
        with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
            registry.push("ask/app", "1.1.0", "the true one")
            wait_for_digest(installation, reference("ask/app", "1.1.0"), true)
            assert [push["tag"] for push in status(puller)["unverified"]] == ["1.0.0"]
            assert forged not in digests(installation).values()


def test_without_event_auth_an_event_is_verified_at_the_registry(
    installation: Installation, make_registry: MakeRegistry, make_service: MakeService
) -> None:
    environment = installation.environment(f"app={APP}", **ASKING, EVENT_AUTH="none")
    forged = {"registry": HOST, "repository": "ask/app", "tag": "1.1.0", "digest": None}
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/e2e",
        "type": "io.image-puller.image.pushed",
        "data": {**forged, "digest": f"sha256:{'6' * 64}"},
    }
    structured = {"Content-Type": "application/cloudevents+json"}
    with make_registry() as registry:
        registry.push("ask/app", "1.0.0", "configured")
        with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
            installation.wait_for_images(APP)
            assert tell(puller.url, "/", event, **structured).status_code == 202
            assert installation.images() == [APP]
            true = registry.push("ask/app", "1.1.0", "the true one")

            def is_tracked() -> bool:
                # A registry that answers too slowly is asked again for the next event.
                assert tell(puller.url, "/", event, **structured).status_code == 202
                return digests(installation).get(reference("ask/app", "1.1.0")) == true

            wait_until(is_tracked, "the digest of the registry")


def test_one_check_catches_up_on_ten_missed_webhooks(
    installation: Installation, make_registry: MakeRegistry, make_service: MakeService
) -> None:
    mutable = reference("ask/mutable", "latest")
    ranged = reference("ask/ranged", "1.0.0")
    environment = installation.environment(
        f"app={APP};mutable={mutable};ranged={ranged}",
        **ASKING,
        IMAGE_TAG_POLICIES="ranged=semver:^1",
    )
    with make_registry() as registry:
        for repository, tag in (("app", "1.0.0"), ("mutable", "latest"), ("ranged", "1.0.0")):
            registry.push(f"ask/{repository}", tag, f"{repository} configured")
        with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
            doomed = registry.push("ask/app", "1.1.0", "to be deleted")
            assert post(puller.url, notification_of("ask/app", "1.1.0", doomed)) == 202
            early = registry.push("ask/ranged", "1.1.0", "early")
            assert post(puller.url, notification_of("ask/ranged", "1.1.0", early)) == 202
            trigger_check(puller.url)
            for entry in ("app", "ranged"):
                wait_until(partial(is_seen, installation, entry, "1.1.0"), "a check")
            assert puller.terminate() == 0

        # No service runs during ten pushes and a deletion.
        registry.delete("ask/app", doomed)
        expected = {
            ("app", "1.0.0"): registry.push("ask/app", "1.0.0", "app configured"),
            ("app", "1.2.0"): registry.push("ask/app", "1.2.0", "app 1.2.0"),
            ("app", "1.3.0"): registry.push("ask/app", "1.3.0", "overwritten"),
            ("app", "2.0.0"): registry.push("ask/app", "2.0.0", "app 2.0.0"),
            ("ranged", "1.0.0"): registry.push("ask/ranged", "1.0.0", "ranged configured"),
            ("ranged", "1.1.0"): registry.push("ask/ranged", "1.1.0", "ranged mutated"),
            ("ranged", "1.4.0"): registry.push("ask/ranged", "1.4.0", "ranged 1.4.0"),
        }
        registry.push("ask/app", "2.0.1-rc.1", "not tracked")
        registry.push("ask/ranged", "2.0.0", "out of range")
        expected["app", "1.3.0"] = registry.push("ask/app", "1.3.0", "mutated")
        registry.push("ask/mutable", "latest", "mutated")
        expected["mutable", "latest"] = registry.push("ask/mutable", "latest", "mutated again")

        with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
            trigger_check(puller.url)
            for entry in ("app", "mutable", "ranged"):
                of_entry = {tag: digest for (e, tag), digest in expected.items() if e == entry}
                wait_until(
                    partial(has_tracked, installation, entry, of_entry), f"{of_entry} of {entry}"
                )
            installation.wait_for_images(
                APP,
                reference("ask/app", "1.3.0"),
                reference("ask/app", "2.0.0"),
                mutable,
                ranged,
                reference("ask/ranged", "1.1.0"),
                reference("ask/ranged", "1.4.0"),
            )
            tags = [tag["tag"] for tag in installation.state()["entries"]["app"]["tags"]]
            assert tags == ["2.0.0", "1.3.0", "1.2.0", "1.0.0"]
            assert status(puller)["problems"] == []


# Answers before the timeout of the sender

# The timeout of each sender, from its documentation or its code.
WAITS = {"distribution": 1.0, "gitlab": 1.0, "harbor": 3.0, "gitea": 5.0, "quay": 10.0}

IMAGE = {"name": "ask/app", "tag": "1.1.0"}


def signed(secret: str, body: bytes) -> str:
    return hmac.digest(secret.encode(), body, "sha256").hex()


SENDERS: dict[str, Json] = {
    "distribution": notification("ask/app", "1.1.0", "new"),
    "gitlab": notification("ask/app", "1.1.0", "new"),
    "harbor": harbor("1.1.0"),
    "quay": quay("1.1.0"),
    "gitea": {
        "action": "created",
        "package": {
            "type": "container",
            "name": "app",
            "version": "1.1.0",
            "owner": {"login": "ask"},
            "html_url": f"http://{HOST}/ask/-/packages/container/app/1.1.0",
        },
    },
}


def timed(url: str, source: str) -> tuple[requests.Response, float]:
    """Send a push of the source, and return the answer and the seconds until it came."""
    body = json.dumps(SENDERS[source]).encode()
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
    if source == "gitea":
        headers = {"Content-Type": "application/json", "X-Gitea-Signature": signed(SECRET, body)}
    started = time.monotonic()
    with http_session() as session:
        answer = session.post(f"{url}/webhooks/{source}", data=body, headers=headers, timeout=60)
    return answer, time.monotonic() - started


def in_time(url: str, source: str, code: int) -> requests.Response:
    """Send a push of the source until the answer is right and in time, at most three times."""
    for _ in range(3):
        answer, seconds = timed(url, source)
        print(f"{source}: {answer.status_code} after {seconds:.2f} s")
        if answer.status_code == code and seconds < WAITS[source]:
            return answer
    pytest.fail(f"{source} was answered {answer.status_code} after {seconds:.2f} s")


@pytest.mark.parametrize("source", SENDERS)
def test_a_sender_is_answered_in_time_although_registry_and_api_server_are_slow(
    installation: Installation, make_service: MakeService, source: str
) -> None:
    """The registry never answers; later the API server takes ten seconds for each answer."""
    (installation.secrets / "gitea").write_text(SECRET)
    environment = installation.environment(f"app={APP}", **ASKING)
    with (
        Silent(PORT),
        slow_api_server(installation) as (way, kubeconfig),
        make_service(environment, kubeconfig=kubeconfig) as puller,
    ):
        installation.wait_for_images(APP)
        in_time(puller.url, source, 202)
        installation.wait_for_images(APP, reference("ask/app", "1.1.0"))
        way.seconds = 10
        answer = in_time(puller.url, source, 503)
        assert int(answer.headers["Retry-After"]) > 0
        way.seconds = 0


def test_the_timed_sources_cover_all_timeouts() -> None:
    assert {SOURCES[source].timeout for source in SENDERS} == {
        source.timeout for source in SOURCES.values()
    }
