"""The HTTP routes, as senders and readers use them. `test_bad_input.py` has rejected requests."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import responses
from werkzeug.test import TestResponse

from image_puller import limits
from image_puller.events.sources import SOURCES
from image_puller.http.oidc import GOOGLE_KEYS
from tests.support.building import digest
from tests.support.clock import ManualClock
from tests.support.daemonset import CHECK, end_pod, start_pod
from tests.support.installation import NAME, NAMESPACE, Gate, Installation, Json
from tests.support.issuer import Issuer
from tests.support.samples import sample
from tests.support.waiting import wait_until
from tests.support.web import Web

AT_ONCE = {"ROLLOUT_MIN_INTERVAL_SECONDS": "0"}
APP = "quay.io/org/app:1.2.3"
NEWER = "quay.io/org/app:1.2.4"
JSON = "application/json"
PATH = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/{NAME}"

MakeWeb = Callable[..., Web]


def harbor(tag: str = "1.2.4") -> Json:
    resource = {"tag": tag, "digest": digest(1), "resource_url": f"quay.io/org/app:{tag}"}
    data = {"resources": [resource], "repository": {"repo_full_name": "org/app"}}
    return {"type": "PUSH_ARTIFACT", "occur_at": 1767225600, "event_data": data}


def quay(*tags: str) -> Json:
    return {"docker_url": "quay.io/org/app", "updated_tags": list(tags or ["1.2.4"])}


def distribution(tag: str = "1.2.4") -> Json:
    target = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "size": 1,
        "digest": digest(1),
        "repository": "org/app",
        "tag": tag,
    }
    return {"events": [{"action": "push", "target": target, "request": {"host": "quay.io"}}]}


PAYLOADS = {
    "harbor": harbor(),
    "quay": quay(),
    "distribution": distribution(),
    "gitlab": distribution(),
}


IMAGE = {"name": "org/app", "reference": "1.2.4", "digest": digest(1)}
REPOSITORY = "us-docker.pkg.dev/org/project/app"

# The payloads of the registries that sign, or whose payload has another form.
MORE_PAYLOADS: dict[str, Any] = {
    "dockerhub": {"push_data": {"tag": "1.2.4"}, "repository": {"repo_name": "org/app"}},
    "github": {
        "action": "published",
        "package": {
            "name": "app",
            "namespace": "org",
            "package_type": "CONTAINER",
            "package_version": {
                "version": digest(1),
                "container_metadata": {"tag": {"name": "1.2.4"}},
            },
        },
    },
    "acr": distribution()["events"][0],
    "ecr": {
        "detail-type": "ECR Image Action",
        "source": "aws.ecr",
        "account": "123456789012",
        "region": "us-west-2",
        "detail": {
            "result": "SUCCESS",
            "action-type": "PUSH",
            "repository-name": "org/app",
            "image-tag": "1.2.4",
            "image-digest": digest(1),
        },
    },
    "gar": {
        "action": "INSERT",
        "tag": f"{REPOSITORY}:1.2.4",
        "digest": f"{REPOSITORY}@{digest(1)}",
    },
    "jfrog": {
        "domain": "docker",
        "event_type": "pushed",
        "data": {
            "repo_key": "org",
            "path": "app/1.2.4/manifest.json",
            "tag": "1.2.4",
            "sha256": digest(1).removeprefix("sha256:"),
        },
    },
    "nexus": {
        "action": "CREATED",
        "component": {"format": "docker", "name": "org/app", "version": "1.2.4"},
    },
    "gitea": {
        "action": "created",
        "package": {
            "type": "container",
            "owner": {"login": "org"},
            "name": "app",
            "version": "1.2.4",
            "html_url": "https://quay.io/org/-/packages/container/app/1.2.4",
        },
    },
    "zot": {
        "specversion": "1.0",
        "id": "1",
        "source": "zotregistry.dev",
        "type": "zotregistry.image.updated",
        "data": IMAGE,
    },
    "cdevents": {
        "context": {"type": "dev.cdevents.artifact.published.0.2.0"},
        "subject": {
            "id": f"pkg:oci/app@{digest(1)}?repository_url=quay.io/org/app&tag=1.2.4",
        },
    },
    "aliyun": {
        "push_data": {"tag": "1.2.4", "digest": digest(1)},
        "repository": {"region": "cn-hangzhou", "repo_full_name": "org/app"},
    },
}
# The repository in each of these payloads, if it is not quay.io/org/app.
REPOSITORIES = {
    "dockerhub": "docker.io/org/app",
    "github": "ghcr.io/org/app",
    "ecr": "123456789012.dkr.ecr.us-west-2.amazonaws.com/org/app",
    "gar": REPOSITORY,
    "aliyun": "registry.cn-hangzhou.aliyuncs.com/org/app",
}
WITHOUT_DIGEST = ("dockerhub", "nexus", "gitea", "quay")
SIGNERS = {
    "github": ("X-Hub-Signature-256", "sha256=", "sha256"),
    "jfrog": ("X-JFrog-Event-Auth", "", "sha256"),
    "nexus": ("X-Nexus-Webhook-Signature", "", "sha1"),
    "gitea": ("X-Gitea-Signature", "", "sha256"),
}


def signature(name: str, body: bytes, secret: str = "s3cret") -> dict[str, str]:
    header, prefix, algorithm = SIGNERS[name]
    return {header: prefix + hmac.new(secret.encode(), body, algorithm).hexdigest()}


def credentials(name: str, body: bytes) -> dict[str, str]:
    return signature(name, body) if name in SIGNERS else {"Authorization": "s3cret"}


def event(type_: str = "io.image-puller.image.pushed", **data: Any) -> Json:
    image = {"registry": "quay.io", "repository": "org/app", "tag": "1.2.4", "digest": None}
    envelope = {"specversion": "1.0", "id": "1", "source": "/s", "type": type_}
    return envelope | {"time": "2026-01-01T00:00:00Z", "data": image | data}


def post(
    web: Web, path: str, payload: object, authorization: str | None = None, **headers: str
) -> TestResponse:
    if authorization is not None:
        headers["Authorization"] = authorization
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return web.client.post(path, headers={"Content-Type": JSON} | headers, data=body)


def post_event(web: Web, payload: object, authorization: str | None = "Bearer t") -> TestResponse:
    content_type = "application/cloudevents+json"
    return post(web, "/", payload, authorization, **{"Content-Type": content_type})


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def get_json(web: Web, path: str, headers: dict[str, str] | None = None) -> Json:
    answer = web.client.get(path, headers=headers)
    assert answer.content_type == JSON
    value: Json = json.loads(answer.data)
    return value


def assert_accepted(answer: TestResponse) -> None:
    assert (answer.status_code, answer.data) == (202, b"")


# Webhooks


@pytest.mark.parametrize("name", PAYLOADS)
@pytest.mark.parametrize(
    "authorization", ["s3cret", "Bearer s3cret", basic("", "s3cret"), basic("quay", "s3cret")]
)
def test_push_is_tracked_with_the_secret_in_any_form(
    web: MakeWeb, installation: Installation, name: str, authorization: str
) -> None:
    service = web(**AT_ONCE)
    service.secret(name, "s3cret")
    assert_accepted(post(service, f"/webhooks/{name}", PAYLOADS[name], authorization))
    assert installation.images() == [APP, NEWER]
    assert list(installation.digests().values()) == ([] if name == "quay" else [digest(1)])


@pytest.mark.parametrize("name", MORE_PAYLOADS)
def test_push_of_every_registry_is_tracked_with_credentials_of_its_scheme(
    web: MakeWeb, installation: Installation, name: str
) -> None:
    image = REPOSITORIES.get(name, "quay.io/org/app")
    service = web(
        IMAGES=f"app={image}:1.2.3",
        WEBHOOK_REGISTRIES="jfrog=quay.io;nexus=quay.io;zot=quay.io",
        **AT_ONCE,
    )
    service.secret(name, "s3cret")
    body = json.dumps(MORE_PAYLOADS[name]).encode()
    assert_accepted(post(service, f"/webhooks/{name}", body, **credentials(name, body)))
    assert installation.images() == [f"{image}:1.2.3", f"{image}:1.2.4"]
    digests = list(installation.digests().values())
    assert digests == ([] if name in WITHOUT_DIGEST else [digest(1)])


def test_every_source_has_a_payload_here() -> None:
    assert PAYLOADS.keys() | MORE_PAYLOADS.keys() | {"cloudevents"} == SOURCES.keys()


def test_push_in_a_signed_form_is_tracked(web: MakeWeb, installation: Installation) -> None:
    service = web(IMAGES="app=ghcr.io/org/app:1.2.3", **AT_ONCE)
    service.secret("github", "s3cret")
    body = urlencode({"payload": json.dumps(MORE_PAYLOADS["github"])}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"} | signature("github", body)
    answer = service.client.post("/webhooks/github", data=body, headers=headers)
    assert_accepted(answer)
    assert installation.images() == ["ghcr.io/org/app:1.2.3", "ghcr.io/org/app:1.2.4"]


@pytest.mark.parametrize("name", SIGNERS)
def test_sender_that_signs_is_accepted_only_with_the_signature_of_its_body(
    web: MakeWeb, installation: Installation, name: str
) -> None:
    service = web(**AT_ONCE)
    service.secret(name, "s3cret", "newer")
    body = json.dumps({"any": "thing"}).encode()
    for secret in ("s3cret", "newer"):
        assert_accepted(post(service, f"/webhooks/{name}", body, **signature(name, body, secret)))
    header = SIGNERS[name][0]
    for headers in (
        {},
        {header: ""},
        {header: SIGNERS[name][1]},
        {header: "0" * 64},
        signature(name, body, "older"),
        signature(name, body + b" "),
        {"Authorization": "Bearer s3cret"},
        {"Authorization": basic("", "s3cret")},
    ):
        assert post(service, f"/webhooks/{name}", body, **headers).status_code == 401
    path = f"/webhooks/{name}/s3cret"
    assert post(service, path, body, **signature(name, body)).status_code == 401


def test_jfrog_may_send_the_secret_itself(web: MakeWeb, installation: Installation) -> None:
    service = web(WEBHOOK_REGISTRIES="jfrog=quay.io", **AT_ONCE)
    service.secret("jfrog", "s3cret")
    headers = {"X-JFrog-Event-Auth": "s3cret"}
    assert_accepted(post(service, "/webhooks/jfrog", MORE_PAYLOADS["jfrog"], **headers))
    assert installation.images() == [APP, NEWER]


def test_eventbridge_may_send_the_secret_as_api_key(web: MakeWeb) -> None:
    service = web()
    service.secret("ecr", "s3cret")
    assert_accepted(post(service, "/webhooks/ecr", {}, **{"X-Api-Key": "s3cret"}))
    assert post(service, "/webhooks/ecr", {}, **{"X-Api-Key": "s3cre"}).status_code == 401


@pytest.mark.parametrize("name", ["dockerhub", "aliyun", "gar", "acr", "ecr"])
def test_some_registries_may_send_the_secret_in_the_path(
    web: MakeWeb, installation: Installation, name: str
) -> None:
    image = REPOSITORIES.get(name, "quay.io/org/app")
    service = web(IMAGES=f"app={image}:1.2.3", **AT_ONCE)
    service.secret(name, "s3cret")
    assert_accepted(post(service, f"/webhooks/{name}/s3cret", MORE_PAYLOADS[name]))
    assert installation.images() == [f"{image}:1.2.3", f"{image}:1.2.4"]
    assert post(service, f"/webhooks/{name}/other", {}).status_code == 401


def test_quay_may_send_the_secret_in_the_path(web: MakeWeb, installation: Installation) -> None:
    service = web(**AT_ONCE)
    service.secret("quay", "s3cret", "with space")
    assert_accepted(post(service, "/webhooks/quay/s3cret", quay()))
    assert_accepted(post(service, "/webhooks/quay/with%20space", quay("1.2.5")))
    assert installation.images() == [APP, NEWER, "quay.io/org/app:1.2.5"]


@pytest.mark.parametrize("secret", ["a/b", "a//b/", "a+b=c", "a b", "schlüssel", "100%25"])
def test_secret_in_the_path_may_have_any_characters(web: MakeWeb, secret: str) -> None:
    service = web()
    service.secret("quay", secret)
    for sent in (secret, quote(secret, safe="")):
        path = f"/webhooks/quay/{sent}" if sent != "100%25" else "/webhooks/quay/100%2525"
        assert_accepted(post(service, path, quay("1.2.4")))


def test_secrets_that_can_not_be_read_are_a_503_with_the_reason_in_the_log(
    web: MakeWeb, caplog: pytest.LogCaptureFixture
) -> None:
    """Amazon EventBridge drops an event that is answered 401."""
    service = web()
    (service.secrets / "ecr").symlink_to("ecr")
    (service.secrets / "read").symlink_to("read")
    for _ in range(2):
        answer = post(service, "/webhooks/ecr", {}, "s3cret")
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        assert str(service.secrets) not in answer.text
    assert service.client.get("/status").status_code == 503
    reasons = {each for each in caplog.messages if "secrets can't be read" in each}
    # Each is the same for all requests, so the log has it once a minute.
    assert len(reasons) == 2
    assert all("check the mode of the mounted Secret" in each for each in reasons)


def test_slash_at_the_end_of_a_url_is_accepted(web: MakeWeb) -> None:
    service = web()
    service.secret("quay", "s3cret")
    service.secret("events", "t")
    assert_accepted(post(service, "/webhooks/quay/", quay(), "s3cret"))
    assert_accepted(post(service, "/webhooks/quay/s3cret/", quay()))
    content_type = {"Content-Type": "application/cloudevents+json"}
    assert_accepted(post(service, "http://localhost//", event(), "Bearer t", **content_type))


def test_subscription_of_sns_is_not_confirmed_but_the_log_has_the_command_for_it(
    web: MakeWeb, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    service = web(READ_AUTH="none")
    service.secret("ecr", "s3cret")
    headers, body = sample("ecr-sns-subscription-confirmation")
    installation.sent()
    with caplog.at_level("INFO"):
        assert_accepted(service.client.post("/webhooks/ecr/s3cret", headers=headers, data=body))
        assert service.client.post("/webhooks/ecr/x", headers=headers, data=body).status_code == 401
    topic, token = (json.loads(body)[key] for key in ("TopicArn", "Token"))
    (line,) = (each for each in caplog.messages if "aws sns" in each)
    assert line == (
        f"ecr: ignored: the subscription of SNS topic {topic} waits for its confirmation; if the "
        "topic is yours, run: aws sns confirm-subscription --region us-west-2 "
        f"--topic-arn {topic} --token {token}"
    )
    assert installation.sent() == []
    reason = 'image_puller_events_total{outcome="subscription_not_confirmed",source="ecr"} 1.0'
    assert reason in service.client.get("/metrics").text


def test_message_of_a_queue_is_a_push(web: MakeWeb, installation: Installation) -> None:
    image = "123456789012.dkr.ecr.us-west-2.amazonaws.com/team/app"
    service = web(IMAGES=f"app={image}:v0", IMAGE_TAG_POLICIES="app=any", **AT_ONCE)
    service.secret("events", "t")
    headers, body = sample("cloudevents-aws-sqs-binary")
    assert service.client.post("/", headers=headers, data=body).status_code == 401
    bearer = {"Authorization": "Bearer t"}
    assert_accepted(service.client.post("/", headers={**headers, **bearer}, data=body))
    assert installation.images() == [f"{image}:v0", f"{image}:v1"]


def test_secret_in_the_path_is_accepted_from_few_sources_only() -> None:
    names = {name for name, source in SOURCES.items() if source.scheme.in_path}
    # Of acr it is for Event Grid, and of ecr for SNS.
    assert names == {"quay", "dockerhub", "aliyun", "gar", "acr", "ecr"}


def test_registry_may_send_its_own_cloudevents_to_its_webhook(
    web: MakeWeb, installation: Installation
) -> None:
    service = web(**AT_ONCE)
    service.secret("harbor", "s3cret")
    pushed = event("harbor.artifact.pushed") | {"data": harbor()["event_data"]}
    headers = {"Content-Type": "application/cloudevents+json"}
    assert_accepted(post(service, "/webhooks/harbor", pushed, "s3cret", **headers))
    assert installation.images() == [APP, NEWER]


def test_empty_test_request_of_harbor_is_accepted_and_changes_nothing(
    web: MakeWeb, installation: Installation
) -> None:
    service = web()
    service.secret("harbor", "s3cret")
    service.stop()  # so any change would fail
    installation.sent()
    assert_accepted(service.client.post("/webhooks/harbor"))
    assert installation.sent() == []


def test_new_push_costs_one_patch_a_known_one_a_get_and_a_rejected_one_nothing(
    web: MakeWeb, installation: Installation
) -> None:
    service = web(KEEP_TAGS="1", **AT_ONCE)
    service.secret("harbor", "s3cret")
    post(service, "/webhooks/harbor", harbor("1.2.4"), "s3cret")
    installation.sent()
    assert_accepted(post(service, "/webhooks/harbor", harbor("1.2.5"), "s3cret"))
    assert installation.sent() == ["PATCH daemonsets"]
    assert_accepted(post(service, "/webhooks/harbor", harbor("1.2.5"), "s3cret"))
    assert installation.sent() == ["GET daemonsets metadata"]
    assert_accepted(post(service, "/webhooks/harbor", harbor("latest"), "s3cret"))
    assert post(service, "/webhooks/harbor", harbor("1.2.6"), "wrong").status_code == 401
    assert installation.sent() == []


# CloudEvents


def test_events_are_accepted_structured_batched_and_binary(
    web: MakeWeb, installation: Installation
) -> None:
    service = web(KEEP_TAGS="5", **AT_ONCE)
    service.secret("events", "t")
    assert_accepted(post_event(service, event()))
    batch = [event(tag="1.2.5"), event("com.example.image.push", tag="1.2.6"), event("other")]
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    assert_accepted(post(service, "/", batch, "Bearer t", **headers))
    headers = {f"ce-{name}": value for name, value in event().items() if name != "data"}
    assert_accepted(post(service, "/", event(tag="1.2.7")["data"], "bearer t", **headers))
    tracked = [f"quay.io/org/app:1.2.{number}" for number in (3, 4, 5, 6, 7)]
    assert installation.images() == tracked
    assert_accepted(post_event(service, event("io.image-puller.image.deleted", tag="1.2.7")))
    assert installation.images() == tracked[:-1]


OWN_EVENTS: dict[str, tuple[str, Any]] = {
    "acr": ("Microsoft.ContainerRegistry.ImagePushed", MORE_PAYLOADS["acr"]),
    "ecr": ("com.amazon.ecr.image.push", MORE_PAYLOADS["ecr"]),
    "gar": ("google.cloud.pubsub.topic.v1.messagePublished", MORE_PAYLOADS["gar"]),
    "zot": ("zotregistry.image.updated", IMAGE),
    "cdevents": ("dev.cdevents.artifact.published.0.2.0", MORE_PAYLOADS["cdevents"]),
    "harbor": ("harbor.artifact.pushed", harbor()["event_data"]),
}


@pytest.mark.parametrize("name", OWN_EVENTS)
def test_cloudevents_of_a_registry_are_accepted_at_the_common_path(
    web: MakeWeb, installation: Installation, name: str
) -> None:
    image = REPOSITORIES.get(name, "quay.io/org/app")
    registry = image.partition("/")[0]  # the payload of zot does not have it
    service = web(
        IMAGES=f"app={image}:1.2.3", WEBHOOK_REGISTRIES=f"cloudevents={registry}", **AT_ONCE
    )
    service.secret("events", "t")
    kind, data = OWN_EVENTS[name]
    if name == "cdevents":
        data = data | {"context": {"type": kind}}
    assert_accepted(post_event(service, event(kind) | {"data": data}))
    assert installation.images() == [f"{image}:1.2.3", f"{image}:1.2.4"]


@pytest.mark.parametrize("kind", ["io.image-puller.check", "dev.knative.sources.ping"])
def test_requested_check_creates_a_deleted_daemonset_again(
    web: MakeWeb, installation: Installation, kind: str
) -> None:
    service = web(**AT_ONCE)
    service.secret("events", "t")
    post_event(service, event(kind))
    installation.cluster.delete(NAME, NAMESPACE)
    assert_accepted(post_event(service, event(kind)))
    assert installation.images() == [APP]


def test_joined_node_creates_a_deleted_daemonset_again(
    web: MakeWeb, installation: Installation
) -> None:
    service = web(**AT_ONCE)
    service.secret("events", "t")
    joined = event("dev.knative.apiserver.resource.add") | {
        "kind": "Node",
        "apiversion": "v1",
        "name": "node-9",
    }
    post_event(service, joined)
    installation.cluster.delete(NAME, NAMESPACE)
    assert_accepted(post_event(service, joined))
    assert installation.images() == [APP]


# Secure by default


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/", "events"),
        ("POST", "/webhooks/harbor", "harbor"),
        ("POST", "/webhooks/quay", "quay"),
        ("POST", "/webhooks/quay/s3cret", "quay"),
        ("POST", "/webhooks/distribution", "distribution"),
        ("POST", "/webhooks/dockerhub/s3cret", "dockerhub"),
        ("POST", "/webhooks/github", "github"),
        ("GET", "/status", "read"),
        ("GET", "/metrics", "read"),
    ],
)
def test_without_a_secret_all_requests_are_rejected_and_the_log_has_the_file_to_add(
    web: MakeWeb, caplog: pytest.LogCaptureFixture, method: str, path: str, name: str
) -> None:
    service = web()
    for authorization in ("s3cret", "Bearer ", basic("", "")):
        headers = {"Authorization": authorization}
        answer = service.client.open(path, method=method, headers=headers, data=b"{}")
        assert answer.status_code == 401
    message = (
        "a request was rejected because no secret is set: put one into "
        f"file {name} of {service.secrets}"
    )
    assert caplog.messages.count(message) == 3
    assert "s3cret" not in caplog.text


def test_wrong_credentials_are_not_logged_as_a_missing_secret(
    web: MakeWeb, caplog: pytest.LogCaptureFixture
) -> None:
    service = web()
    service.secret("quay", "s3cret")
    assert post(service, "/webhooks/quay", quay(), "wrong").status_code == 401
    assert "no secret is set" not in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/", "events"),
        ("POST", "/webhooks/harbor", "harbor"),
        ("POST", "/webhooks/quay/wr0ng", "quay"),
        ("POST", "/webhooks/github", "github"),
        ("GET", "/status", "read"),
        ("GET", "/metrics", "read"),
    ],
)
def test_wrong_secrets_leave_one_line_for_each_source_and_minute(
    web: MakeWeb,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    name: str,
) -> None:
    service = web()
    service.secret(name, "s3cret")
    for _ in range(3):
        headers = {"Authorization": "Bearer wr0ng"}
        answer = service.client.open(path, method=method, headers=headers, data=b"{}")
        assert answer.status_code == 401
    advice = (
        "its credentials are missing or wrong; give the sender the secret in file "
        f"{name} of {service.secrets}"
    )
    lines = [each for each in caplog.messages if "rejected" in each]
    assert lines == [f"{name}: a request from 127.0.0.1 was rejected: {advice}"]
    clock.advance(60)
    service.client.get("/healthz")
    assert caplog.messages[-1] == (
        f"{name}: 2 more requests were rejected within 60 s, from 127.0.0.1 (2): {advice}"
    )
    assert "s3cret" not in caplog.text
    assert "wr0ng" not in caplog.text


def test_wrong_tokens_leave_one_line_for_each_source_and_minute(
    web: MakeWeb, issuer: Issuer, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    service = web(EVENT_AUTH="oidc", OIDC_AUDIENCE="puller")
    for _ in range(3):
        assert service.client.post("/", data=b"{}").status_code == 401
    clock.advance(60)
    service.client.get("/healthz")
    advice = "its token is missing, or is not accepted"
    assert [each for each in caplog.messages if advice in each] == [
        f"events: a request from 127.0.0.1 was rejected: {advice}",
        f"events: 2 more requests were rejected within 60 s, from 127.0.0.1 (2): {advice}",
    ]


def test_secrets_are_read_again_and_several_are_valid_at_once(web: MakeWeb) -> None:
    service = web()

    def codes() -> list[int]:
        secrets = ("old", "new")
        return [post(service, "/webhooks/quay", quay(), secret).status_code for secret in secrets]

    assert codes() == [401, 401]
    service.secret("quay", "old")
    assert codes() == [202, 401]
    service.secret("quay", "old", "new")
    assert codes() == [202, 202]
    service.secret("quay", "new")
    assert codes() == [401, 202]


@pytest.mark.parametrize("sent", [event(), event("io.image-puller.image.deleted", tag="1.2.4")])
def test_without_event_auth_an_event_starts_a_check_and_changes_no_image(
    web: MakeWeb, installation: Installation, sent: Json
) -> None:
    service = web(EVENT_AUTH="none", **AT_ONCE)
    service.secret("quay", "s3cret")
    post(service, "/webhooks/quay", quay(), "s3cret")
    before = installation.live()
    installation.sent()
    assert_accepted(post_event(service, sent, None))
    assert installation.live() == before
    assert installation.sent() == CHECK


def test_without_event_auth_a_push_of_an_unknown_repository_costs_nothing(
    web: MakeWeb, installation: Installation
) -> None:
    service = web(EVENT_AUTH="none")
    installation.sent()
    assert_accepted(post_event(service, event(repository="x"), None))
    assert installation.sent() == []


def test_without_event_auth_webhooks_still_need_their_secrets(web: MakeWeb) -> None:
    service = web(EVENT_AUTH="none", READ_AUTH="none")
    assert post(service, "/webhooks/quay", quay()).status_code == 401


def test_event_may_have_its_secret_in_the_query(web: MakeWeb, installation: Installation) -> None:
    service = web(**AT_ONCE)
    service.secret("events", "t/1")
    service.secret("harbor", "s3cret")
    content_type = {"Content-Type": "application/cloudevents+json"}
    for query in ("", "?access_token=", "?access_token=t", "?access_token=s3cret", "?token=t/1"):
        assert post(service, f"/{query}", event(), **content_type).status_code == 401
    assert post(service, "/webhooks/harbor?access_token=s3cret", harbor()).status_code == 401
    answer = post(service, "/?access_token=t%2F1", event(), **content_type)
    assert_accepted(answer)
    assert answer.headers["Cache-Control"] == "private"
    assert installation.images() == [APP, NEWER]


# Tokens of OpenID Connect: `test_oidc.py` has the claims of a token


AUDIENCE = "puller.images"
ACCOUNT = "pusher@project.iam.gserviceaccount.com"
OIDC = {"EVENT_AUTH": "oidc", "OIDC_AUDIENCE": AUDIENCE, **AT_ONCE}
GOOGLE = {"GAR_AUDIENCE": AUDIENCE, "GAR_SERVICE_ACCOUNT": ACCOUNT, **AT_ONCE}
GAR_IMAGES = {"IMAGES": "app=us-docker.pkg.dev/org/project/app:1.2.3"}


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


def publish(installation: Installation, issuer: Issuer) -> None:
    documents = installation.cluster.documents
    documents["/openid/v1/jwks"] = json.loads(issuer.document())
    documents["/.well-known/openid-configuration"] = {"issuer": "https://cluster.local"}


def token(issuer: Issuer, **changes: Any) -> str:
    claims = {
        "iss": "https://cluster.local",
        "aud": [AUDIENCE],
        "sub": f"system:serviceaccount:{NAMESPACE}:trigger",
        "exp": time.time() + 600,
    }
    return "Bearer " + issuer.token(claims | changes)


def test_trigger_authenticates_with_the_token_of_its_service_account(
    web: MakeWeb, installation: Installation, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    publish(installation, issuer)
    service = web(**OIDC, NAMESPACE=NAMESPACE)
    service.secret("events", "t")
    stranger = Issuer()
    for wrong in (
        None,
        "Bearer t",
        token(stranger),
        token(issuer, aud=["another"]),
        token(issuer, sub="system:serviceaccount:other:trigger"),
        token(issuer, iss="https://another"),
        token(issuer, exp=1),
    ):
        answer = post_event(service, event(), wrong)
        assert answer.status_code == 401
        assert answer.text == "credentials for events are missing or wrong\n"
    assert installation.images() == [APP]
    assert_accepted(post_event(service, event(), token(issuer)))
    assert installation.images() == [APP, NEWER]
    assert "no secret is set" not in caplog.text
    assert "eyJ" not in caplog.text


def test_unreadable_keys_are_a_503_and_no_request_is_accepted(
    web: MakeWeb,
    installation: Installation,
    issuer: Issuer,
    caplog: pytest.LogCaptureFixture,
    clock: ManualClock,
) -> None:
    service = web(**OIDC, NAMESPACE=NAMESPACE)
    for changes in ({}, {"aud": "another"}):
        answer = post_event(service, event(), token(issuer, **changes))
        assert (answer.status_code, answer.text) == (503, "try again later\n")
        assert int(answer.headers["Retry-After"]) == limits.RETRY_AFTER_SECONDS
        assert "keys can't be read from the API server: 404 page not found" in caplog.text
    assert post_event(service, event(), None).status_code == 401
    assert post_event(service, event(), "Bearer x").status_code == 401
    assert installation.images() == [APP]
    publish(installation, issuer)
    clock.advance(limits.KEYS_AGAIN_SECONDS)
    assert_accepted(post_event(service, event(), token(issuer)))
    assert installation.images() == [APP, NEWER]


def test_keys_are_read_once_for_many_tokens(
    web: MakeWeb, installation: Installation, issuer: Issuer, clock: ManualClock
) -> None:
    publish(installation, issuer)
    service = web(**OIDC, NAMESPACE=NAMESPACE)
    installation.sent()
    forger = Issuer()
    for number in range(5):
        post_event(service, event("any.other"), token(issuer))
        clock.advance(0.5)
        forger.rotate(f"forged-{number}")
        assert post_event(service, event(), token(forger)).status_code == 503
    asked = [request.path for request in installation.cluster.requests]
    assert asked.count("/openid/v1/jwks") == 1


@responses.activate
def test_push_of_google_authenticates_with_the_token_of_its_service_account(
    web: MakeWeb, installation: Installation, issuer: Issuer
) -> None:
    responses.get(GOOGLE_KEYS, body=issuer.document())
    service = web(**GOOGLE, **GAR_IMAGES)
    service.secret("gar", "s3cret")
    claims = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "email": ACCOUNT,
        "email_verified": True,
    }
    before = installation.images()
    for path in ("/webhooks/gar", "/webhooks/gar/s3cret"):
        for wrong in (
            None,
            "Bearer s3cret",
            "s3cret",
            token(issuer, **claims | {"email": "somebody@gmail.com"}),
            token(issuer, **claims | {"email_verified": False}),
            token(issuer, **claims | {"aud": "another"}),
            token(issuer, **claims | {"iss": "https://cluster.local"}),
        ):
            assert post(service, path, MORE_PAYLOADS["gar"], wrong).status_code == 401
    assert installation.images() == before
    assert_accepted(post(service, "/webhooks/gar", MORE_PAYLOADS["gar"], token(issuer, **claims)))
    assert installation.images() == [f"{REPOSITORY}:1.2.3", f"{REPOSITORY}:1.2.4"]


@responses.activate
def test_push_of_google_is_a_503_while_its_keys_can_not_be_read(
    web: MakeWeb, installation: Installation, issuer: Issuer
) -> None:
    responses.get(GOOGLE_KEYS, status=500)
    service = web(**GOOGLE, **GAR_IMAGES)
    answer = post(service, "/webhooks/gar", MORE_PAYLOADS["gar"], token(issuer))
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    service.secret("quay", "s3cret")  # other sources are not affected
    assert_accepted(post(service, "/webhooks/quay", quay(), "s3cret"))


SECRET = "s3cret-that-no-log-may-have"


def test_secrets_are_never_logged(
    web: MakeWeb, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    service = web(**AT_ONCE)
    paths = (
        "/",
        f"/?access_token={SECRET}",
        *(f"/webhooks/{name}{rest}" for name in SOURCES for rest in ("", f"/{SECRET}")),
    )
    for names in ((), (*SOURCES, "events", "read")):
        for name in names:
            service.secret(name, SECRET)
        for authorization in (SECRET, f"Bearer {SECRET}", f"Token {SECRET}", basic("", SECRET)):
            for path in paths:
                headers = {"X-JFrog-Event-Auth": SECRET, "X-Api-Key": SECRET}
                post(service, path, b"{", authorization, **headers)
            post(service, f"/webhooks/nowhere/{SECRET}", b"{", authorization)
            service.client.get("/status", headers={"Authorization": authorization})
    assert_accepted(post(service, f"/webhooks/quay/{SECRET}", quay()))
    installation.cluster.fail(method="PATCH")
    assert post(service, f"/webhooks/quay/{SECRET}", quay("1.2.5")).status_code == 503
    installation.cluster.documents[PATH] = {"no": "DaemonSet"}
    answer = post(service, f"/webhooks/quay/{SECRET}", quay("1.2.6"))
    assert (answer.status_code, answer.text) == (500, "internal error\n")
    assert "KeyError" in caplog.text
    for hidden in (SECRET, basic("", SECRET).removeprefix("Basic ")):
        assert hidden not in caplog.text


# Errors of the API server


@pytest.mark.parametrize(
    ("path", "payload"), [("/", event()), *((f"/webhooks/{n}", p) for n, p in PAYLOADS.items())]
)
def test_error_of_the_api_server_is_a_503_with_retry_after(
    web: MakeWeb,
    installation: Installation,
    caplog: pytest.LogCaptureFixture,
    path: str,
    payload: Json,
) -> None:
    service = web(**AT_ONCE)
    for name in (*PAYLOADS, "events"):
        service.secret(name, "t")
    post_event(service, event("io.image-puller.check"))
    installation.cluster.fail(method="PATCH", status=500)
    send = post_event if path == "/" else lambda *of: post(of[0], path, of[1], "t")
    answer = send(service, payload)
    assert (answer.status_code, answer.text) == (503, "try again later\n")
    assert int(answer.headers["Retry-After"]) == limits.RETRY_AFTER_SECONDS
    assert "the API server answered 500" in caplog.text
    assert_accepted(send(service, payload))
    assert installation.images() == [APP, NEWER]


def test_slow_api_server_is_a_503_within_the_timeout_of_the_sender(
    web: MakeWeb, installation: Installation
) -> None:
    service = web(**AT_ONCE)
    service.secret("distribution", "s3cret")
    post(service, "/webhooks/distribution", distribution(), "s3cret")

    def push() -> TestResponse:
        return post(service, "/webhooks/distribution", distribution("1.2.5"), "s3cret")

    with Gate(installation.cluster, "PATCH"):
        start = time.monotonic()
        answer = push()
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        assert time.monotonic() - start < limits.PUSH_SECONDS  # the next longer timeout
    wait_until(lambda: push().status_code == 202)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("distribution", 0.8),
        ("gitlab", 0.8),
        ("harbor", 2.5),
        ("ecr", 4),
        ("gitea", 4),
        ("quay", 8),
        ("github", 8),
        ("zot", 2.5),
        ("cloudevents", 2.5),
    ],
)
def test_timeout_of_each_source_is_below_that_of_its_sender(name: str, seconds: float) -> None:
    assert SOURCES[name].timeout == seconds


def test_superseded_process_answers_503_and_is_unready(
    web: MakeWeb, installation: Installation
) -> None:
    old = web(READ_AUTH="none", **AT_ONCE)
    old.secret("quay", "s3cret")
    post(old, "/webhooks/quay", quay(), "s3cret")
    new = web(KEEP_TAGS="3", **AT_ONCE)
    new.secret("quay", "s3cret")
    post(new, "/webhooks/quay", quay("1.2.5"), "s3cret")
    before = installation.live()
    installation.sent()
    for _ in range(2):
        answer = post(old, "/webhooks/quay", quay("1.2.6"), "s3cret")
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        unready = old.client.get("/readyz")
        assert unready.status_code == 503
        assert "another configuration is in charge of the DaemonSet" in unready.text
    assert installation.written() == ["PATCH daemonsets"]  # the one that lost the race
    assert installation.live() == before
    assert old.client.get("/healthz").status_code == 200
    assert new.client.get("/readyz").status_code == 200
    problems = get_json(old, "/status")["problems"]
    assert any("another configuration is in charge" in problem for problem in problems)


def test_superseded_process_is_ready_again_by_itself_once_its_rival_is_gone(
    web: MakeWeb, installation: Installation, clock: ManualClock
) -> None:
    for name in ("old-1", "new-1"):
        start_pod(installation.cluster, name)
    old = web(host="old-1", **AT_ONCE)
    old.secret("quay", "s3cret")
    web(host="new-1", KEEP_TAGS="3", **AT_ONCE)
    assert post(old, "/webhooks/quay", quay("1.2.5"), "s3cret").status_code == 503
    end_pod(installation.cluster, "new-1")
    assert old.client.get("/readyz").status_code == 503

    def is_ready() -> bool:
        clock.advance(limits.RETURN_SECONDS)
        return old.client.get("/readyz").status_code == 200

    wait_until(is_ready)
    assert post(old, "/webhooks/quay", quay("1.2.5"), "s3cret").status_code == 202


# Handshakes, health and status


@pytest.mark.parametrize("path", ["/", "/webhooks/quay", "/webhooks/quay/s3cret"])
def test_handshake_of_webhooks_allows_the_origin(web: MakeWeb, path: str) -> None:
    service = web()
    answer = service.client.options(path, headers={"WebHook-Request-Origin": "registry.example"})
    assert answer.status_code == 200
    assert answer.headers["Allow"] == "OPTIONS, POST"
    assert answer.headers["WebHook-Allowed-Origin"] == "registry.example"
    assert answer.headers["WebHook-Allowed-Rate"] == "*"
    answer = service.client.options(path)
    assert answer.status_code == 200
    assert "WebHook-Allowed-Origin" not in answer.headers


def test_handshake_of_event_grid_is_answered_without_a_secret(web: MakeWeb) -> None:
    headers = {
        "WebHook-Request-Origin": "eventgrid.azure.net",
        "WebHook-Request-Callback": "https://rp-westus2.eventgrid.azure.net:553/validate?id=5",
        "WebHook-Request-Rate": "120",
    }
    answer = web().client.options("/webhooks/acr", headers=headers)
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["WebHook-Allowed-Origin"] == "eventgrid.azure.net"
    assert answer.headers["WebHook-Allowed-Rate"] == "*"
    assert "POST" in answer.headers["Allow"]


VALIDATION = [
    {
        "id": "1",
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": {"validationCode": "512d38b6", "validationUrl": "https://quay.io/validate"},
    }
]


def test_validation_code_of_event_grid_is_answered_only_with_the_secret(
    web: MakeWeb, installation: Installation
) -> None:
    service = web(READ_AUTH="none")
    service.secret("acr", "s3cret")
    service.stop()  # so any change would fail
    installation.sent()
    for path, authorization in (("/webhooks/acr", "s3cret"), ("/webhooks/acr/s3cret", None)):
        headers = {"aeg-event-type": "SubscriptionValidation"}
        answer = post(service, path, VALIDATION, authorization, **headers)
        assert (answer.status_code, answer.content_type) == (200, JSON)
        assert answer.json == {"validationResponse": "512d38b6"}
    for path, authorization in (("/webhooks/acr", None), ("/webhooks/acr/other", "s3cret")):
        answer = post(service, path, VALIDATION, authorization)
        assert answer.status_code == 401
        assert "512d38b6" not in answer.text
    counted = service.client.get("/metrics").text
    assert 'image_puller_events_total{outcome="handshake",source="acr"} 2.0' in counted
    assert installation.written() == []


def test_validation_code_is_not_answered_to_another_source(web: MakeWeb) -> None:
    service = web()
    service.secret("quay", "s3cret")
    assert_accepted(post(service, "/webhooks/quay", VALIDATION, "s3cret"))


def test_health_probes_cost_no_request(web: MakeWeb, installation: Installation) -> None:
    service = web()
    service.stop()
    installation.sent()
    for path in ("/healthz", "/readyz"):
        answer = service.client.get(path)
        assert (answer.status_code, answer.text) == (200, "ok\n")
    assert installation.sent() == []


@pytest.mark.parametrize("authorization", ["Bearer t", basic("anybody", "t"), "t"])
def test_reader_authenticates_with_its_secret_in_any_form(
    web: MakeWeb, installation: Installation, authorization: str
) -> None:
    service = web()
    service.secret("read", "t")
    service.stop()
    headers = {"Authorization": authorization}
    assert get_json(service, "/status", headers)["daemonset"]["exists"] is True
    assert b"image_puller_events_total" in service.client.get("/metrics", headers=headers).data
    one = get_json(service, "/status/app", headers)
    assert [image["image"] for image in one["images"]] == [APP]


def test_without_read_auth_everybody_may_read(web: MakeWeb, installation: Installation) -> None:
    service = web(READ_AUTH="none")
    service.stop()
    assert service.client.get("/status").status_code == 200
    content_type = service.client.get("/metrics").content_type
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    found = get_json(service, f"/status/{APP}")
    assert [image["image"] for image in found["images"]] == [APP]


def test_status_is_a_503_without_the_api_server(web: MakeWeb, installation: Installation) -> None:
    service = web(READ_AUTH="none")
    service.stop()
    for path in ("/status", "/status/app"):
        installation.cluster.fail(method="GET", path="/daemonsets/")
        answer = service.client.get(path)
        assert (answer.status_code, answer.text) == (503, "try again later\n")
        assert "Retry-After" in answer.headers


def test_status_reports_a_missing_daemonset_or_state(
    web: MakeWeb, installation: Installation
) -> None:
    service = web(READ_AUTH="none")
    service.stop()
    installation.annotate("{")
    assert "no readable state annotation" in get_json(service, "/status")["problems"][0]
    installation.cluster.delete(NAME, NAMESPACE)
    assert "does not exist" in get_json(service, "/status")["problems"][0]


def test_the_log_has_the_reason_and_the_address_of_each_kind_of_rejected_request(
    web: MakeWeb, caplog: pytest.LogCaptureFixture
) -> None:
    service = web()
    service.secret("events", "t")
    service.secret("github", "s3cret")
    assert post(service, "/", b"{", "Bearer t").status_code == 400
    large = b"x" * (limits.BODY_BYTES + 1)
    headers = {"X-Hub-Signature-256": "sha256=" + "0" * 64}
    assert post(service, "/webhooks/github", large, **headers).status_code == 413
    assert post(service, "/webhooks/github", b"{}").status_code == 401
    rejected = [each.split(" was rejected: ")[0] for each in caplog.messages if "rejected" in each]
    assert rejected == [
        f"{name}: a request from 127.0.0.1" for name in ("cloudevents", "github", "github")
    ]
