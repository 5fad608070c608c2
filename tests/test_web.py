"""The HTTP routes, as senders and readers meet them; `test_bad_input.py` has what is refused."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from image_puller import limits
from image_puller.sources import SOURCES
from tests.building import digest
from tests.conftest import NAME, NAMESPACE, Gate, Installation, Json, Web

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


def assert_accepted(answer: TestResponse) -> None:
    assert (answer.status_code, answer.data) == (202, b"")


# Webhooks


@pytest.mark.parametrize("name", PAYLOADS)
@pytest.mark.parametrize(
    "authorization", ["s3cret", "Bearer s3cret", basic("", "s3cret"), basic("quay", "s3cret")]
)
def test_a_push_is_followed_however_its_sender_shows_the_secret(
    web: MakeWeb, installation: Installation, name: str, authorization: str
) -> None:
    service = web(**AT_ONCE)
    service.secret(name, "s3cret")
    assert_accepted(post(service, f"/webhooks/{name}", PAYLOADS[name], authorization))
    assert installation.images() == [APP, NEWER]
    assert list(installation.digests().values()) == ([] if name == "quay" else [digest(1)])


def test_quay_may_show_it_in_the_path(web: MakeWeb, installation: Installation) -> None:
    service = web(**AT_ONCE)
    service.secret("quay", "s3cret", "with space")
    assert_accepted(post(service, "/webhooks/quay/s3cret", quay()))
    assert_accepted(post(service, "/webhooks/quay/with%20space", quay("1.2.5")))
    assert installation.images() == [APP, NEWER, "quay.io/org/app:1.2.5"]


def test_only_senders_that_can_do_nothing_else_may_show_it_in_the_path() -> None:
    assert {name for name, source in SOURCES.items() if source.secret_in_path} == {"quay"}


def test_a_registry_may_send_its_own_cloudevents(web: MakeWeb, installation: Installation) -> None:
    service = web(**AT_ONCE)
    service.secret("harbor", "s3cret")
    pushed = event("harbor.artifact.pushed") | {"data": harbor()["event_data"]}
    headers = {"Content-Type": "application/cloudevents+json"}
    assert_accepted(post(service, "/webhooks/harbor", pushed, "s3cret", **headers))
    assert installation.images() == [APP, NEWER]


def test_harbors_test_call_is_accepted_and_does_nothing(
    web: MakeWeb, installation: Installation
) -> None:
    service = web()
    service.secret("harbor", "s3cret")
    service.stop()  # whatever it did would fail
    installation.sent()
    assert_accepted(service.client.post("/webhooks/harbor"))
    assert installation.sent() == []


def test_the_steady_state_push_is_one_request_a_known_one_a_read_and_a_refused_one_none(
    web: MakeWeb, installation: Installation
) -> None:
    service = web(**AT_ONCE)
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


def test_events_come_one_by_one_or_in_batches(web: MakeWeb, installation: Installation) -> None:
    service = web(KEEP_TAGS="5", **AT_ONCE)
    service.secret("events", "t")
    assert_accepted(post_event(service, event()))
    batch = [event(tag="1.2.5"), event("com.example.image.push", tag="1.2.6"), event("other")]
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    assert_accepted(post(service, "/", batch, "Bearer t", **headers))
    headers = {f"ce-{name}": value for name, value in event().items() if name != "data"}
    assert_accepted(post(service, "/", event(tag="1.2.7")["data"], "bearer t", **headers))
    followed = [f"quay.io/org/app:1.2.{number}" for number in (3, 4, 5, 6, 7)]
    assert installation.images() == followed
    assert_accepted(post_event(service, event("io.image-puller.image.deleted", tag="1.2.7")))
    assert installation.images() == followed[:-1]


@pytest.mark.parametrize("kind", ["io.image-puller.refresh", "dev.knative.sources.ping"])
def test_a_tick_makes_a_deleted_daemonset_again(
    web: MakeWeb, installation: Installation, kind: str
) -> None:
    service = web(**AT_ONCE)
    service.secret("events", "t")
    post_event(service, event(kind))
    service.service._cluster.delete(installation.live()["metadata"]["uid"])
    assert_accepted(post_event(service, event(kind)))
    assert installation.images() == [APP]


def test_a_node_that_joins_does_so_too(web: MakeWeb, installation: Installation) -> None:
    service = web(**AT_ONCE)
    service.secret("events", "t")
    joined = event("dev.knative.apiserver.resource.add") | {
        "kind": "Node",
        "apiversion": "v1",
        "name": "node-9",
    }
    post_event(service, joined)
    service.service._cluster.delete(installation.live()["metadata"]["uid"])
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
        ("GET", "/status", "read"),
        ("GET", "/metrics", "read"),
    ],
)
def test_without_a_secret_nobody_gets_in_and_the_log_says_what_to_set(
    web: MakeWeb, caplog: pytest.LogCaptureFixture, method: str, path: str, name: str
) -> None:
    service = web()
    for authorization in ("s3cret", "Bearer ", basic("", "")):
        headers = {"Authorization": authorization}
        answer = service.client.open(path, method=method, headers=headers, data=b"{}")
        assert answer.status_code == 401
    said = (
        "a request was refused because no secret is set for it: put one into "
        f"file {name} of {service.secrets}"
    )
    assert caplog.messages.count(said) == 3
    assert "s3cret" not in caplog.text


def test_wrong_credentials_do_not_blame_the_administrator(
    web: MakeWeb, caplog: pytest.LogCaptureFixture
) -> None:
    service = web()
    service.secret("quay", "s3cret")
    assert post(service, "/webhooks/quay", quay(), "wrong").status_code == 401
    assert "no secret is set" not in caplog.text


def test_secrets_are_read_again_and_several_hold_at_once(web: MakeWeb) -> None:
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


@pytest.mark.parametrize(
    "sent", [event(), event("io.image-puller.image.deleted", tag="1.2.4"), event(repository="x")]
)
def test_without_event_auth_an_event_says_when_to_look_and_never_what_to_pull(
    web: MakeWeb, installation: Installation, sent: Json
) -> None:
    service = web(EVENT_AUTH="none", **AT_ONCE)
    service.secret("quay", "s3cret")
    post(service, "/webhooks/quay", quay(), "s3cret")
    before = installation.live()
    installation.sent()
    assert_accepted(post_event(service, sent, None))
    assert installation.live() == before
    assert installation.sent() == [
        "GET apis", "GET deployments", "GET daemonsets", "PATCH daemonsets dry run",
    ]  # fmt: skip


def test_without_event_auth_webhooks_still_need_their_secrets(web: MakeWeb) -> None:
    service = web(EVENT_AUTH="none", READ_AUTH="none")
    assert post(service, "/webhooks/quay", quay()).status_code == 401


SECRET = "s3cret-that-no-log-may-show"


def test_no_secret_is_ever_logged(
    web: MakeWeb, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    service = web(**AT_ONCE)
    for names in ((), ("quay", "harbor", "events", "read")):
        for name in names:
            service.secret(name, SECRET)
        for authorization in (SECRET, f"Bearer {SECRET}", f"Token {SECRET}", basic("", SECRET)):
            for path in ("/", "/webhooks/harbor", "/webhooks/quay", f"/webhooks/quay/{SECRET}"):
                post(service, path, b"{", authorization)
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


# An API server in trouble


@pytest.mark.parametrize(
    ("path", "payload"), [("/", event()), *((f"/webhooks/{n}", p) for n, p in PAYLOADS.items())]
)
def test_an_api_server_in_trouble_is_a_503_with_retry_after(
    web: MakeWeb,
    installation: Installation,
    caplog: pytest.LogCaptureFixture,
    path: str,
    payload: Json,
) -> None:
    service = web(**AT_ONCE)
    for name in (*PAYLOADS, "events"):
        service.secret(name, "t")
    post_event(service, event("io.image-puller.refresh"))
    installation.cluster.fail(method="PATCH", status=500)
    send = post_event if path == "/" else lambda *of: post(of[0], path, of[1], "t")
    answer = send(service, payload)
    assert (answer.status_code, answer.text) == (503, "try again later\n")
    assert int(answer.headers["Retry-After"]) == limits.RETRY_AFTER_SECONDS
    assert "the API server answered 500" in caplog.text
    assert_accepted(send(service, payload))
    assert installation.images() == [APP, NEWER]


def test_a_slow_api_server_is_a_503_within_the_senders_patience(
    web: MakeWeb, installation: Installation
) -> None:
    service = web(**AT_ONCE)
    service.secret("distribution", "s3cret")
    post(service, "/webhooks/distribution", distribution(), "s3cret")
    with Gate(installation.cluster, "PATCH"):
        start = time.monotonic()
        answer = post(service, "/webhooks/distribution", distribution("1.2.5"), "s3cret")
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        assert time.monotonic() - start < 1
    assert_accepted(post(service, "/webhooks/distribution", distribution("1.2.5"), "s3cret"))


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("distribution", 0.8), ("gitlab", 0.8), ("harbor", 2.5), ("quay", 8), ("cloudevents", 2.5)],
)
def test_each_senders_patience_is_known(name: str, seconds: float) -> None:
    assert SOURCES[name].patience == seconds


def test_who_has_been_superseded_answers_503_and_is_unready(
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
    assert installation.written() == ["PATCH daemonsets"]  # the one that lost
    assert installation.live() == before
    assert old.client.get("/healthz").status_code == 200
    assert new.client.get("/readyz").status_code == 200
    problems = old.client.get("/status").json["problems"]
    assert any("another configuration is in charge" in problem for problem in problems)


# The rest


@pytest.mark.parametrize("path", ["/", "/webhooks/quay", "/webhooks/quay/s3cret"])
def test_the_handshake_of_webhooks_consents(web: MakeWeb, path: str) -> None:
    service = web()
    answer = service.client.options(path, headers={"WebHook-Request-Origin": "registry.example"})
    assert answer.status_code == 200
    assert answer.headers["Allow"] == "OPTIONS, POST"
    assert answer.headers["WebHook-Allowed-Origin"] == "registry.example"
    assert answer.headers["WebHook-Allowed-Rate"] == "*"
    answer = service.client.options(path)
    assert answer.status_code == 200
    assert "WebHook-Allowed-Origin" not in answer.headers


def test_health_costs_no_request(web: MakeWeb, installation: Installation) -> None:
    service = web()
    service.stop()
    installation.sent()
    for path in ("/healthz", "/readyz"):
        answer = service.client.get(path)
        assert (answer.status_code, answer.text) == (200, "ok\n")
    assert installation.sent() == []


@pytest.mark.parametrize("authorization", ["Bearer t", basic("anybody", "t"), "t"])
def test_readers_show_their_token(
    web: MakeWeb, installation: Installation, authorization: str
) -> None:
    service = web()
    service.secret("read", "t")
    service.stop()
    headers = {"Authorization": authorization}
    found = service.client.get("/status", headers=headers)
    assert found.content_type == JSON
    assert found.json["daemonset"]["exists"] is True
    assert b"image_puller_events_total" in service.client.get("/metrics", headers=headers).data
    one = service.client.get("/status/app", headers=headers)
    assert [image["image"] for image in one.json["images"]] == [APP]


def test_whoever_may_read_is_said(web: MakeWeb, installation: Installation) -> None:
    service = web(READ_AUTH="none")
    service.stop()
    assert service.client.get("/status").status_code == 200
    content_type = service.client.get("/metrics").content_type
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    found = service.client.get(f"/status/{APP}").json
    assert [image["image"] for image in found["images"]] == [APP]


def test_no_status_without_the_api_server(web: MakeWeb, installation: Installation) -> None:
    service = web(READ_AUTH="none")
    service.stop()
    for path in ("/status", "/status/app"):
        installation.cluster.fail(method="GET")
        answer = service.client.get(path)
        assert (answer.status_code, answer.text) == (503, "try again later\n")
        assert "Retry-After" in answer.headers


def test_status_tells_where_there_is_no_daemonset_or_no_state(
    web: MakeWeb, installation: Installation
) -> None:
    service = web(READ_AUTH="none")
    service.stop()
    installation.annotate("{")
    assert "no state that can be read" in service.client.get("/status").json["problems"][0]
    service.service._cluster.delete(installation.live()["metadata"]["uid"])
    assert "does not exist" in service.client.get("/status").json["problems"][0]
