"""Bad requests of every kind: their answers, and that they change nothing."""

import base64
import gzip
import hmac
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from image_puller import limits
from image_puller.cli import main
from image_puller.cluster.api_server import connect
from image_puller.cluster.client import KubernetesCluster
from image_puller.events.event import CheckRequested
from image_puller.serve import Service
from image_puller.simulation import SimulatedCluster
from tests.support.building import configuration
from tests.support.installation import NAME, NAMESPACE, Json, kubeconfig
from tests.support.waiting import TIMEOUT_SECONDS

IMAGES = "app=quay.io/org/app:1.2.3"
HOOKS = (
    "harbor", "quay", "distribution", "gitlab",
    "dockerhub", "acr", "ecr", "gar", "zot", "cdevents", "aliyun",
)  # fmt: skip
IN_PATH = ("quay", "dockerhub", "acr", "ecr", "gar", "aliyun")
SIGNERS = {
    "github": ("X-Hub-Signature-256", "sha256=", "sha256"),
    "gitea": ("X-Gitea-Signature", "", "sha256"),
    "jfrog": ("X-JFrog-Event-Auth", "", "sha256"),
    "nexus": ("X-Nexus-Webhook-Signature", "", "sha1"),
}
NAMES = (*HOOKS, *SIGNERS, "events", "read")
JSON = "application/json"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
ENVELOPE = {"specversion": "1.0", "id": "1", "source": "/s", "type": "any.image.pushed"}
IMAGE = {"registry": "quay.io", "repository": "org/app", "tag": "1.2.4", "digest": None}
BINARY = {f"ce-{name}": value for name, value in ENVELOPE.items()}
NESTED = b"[" * 40_000
TOO_LARGE = b" " * (limits.BODY_BYTES + 1)

Row = tuple[str, str, dict[str, str], bytes, int, str]


def secret(name: str) -> str:
    return f"s3cret-of-{name}"


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def with_secret(name: str, content_type: str = JSON) -> dict[str, str]:
    return bearer(secret(name)) | {"Content-Type": content_type}


def with_signature(name: str, body: bytes, by: str | None = None) -> dict[str, str]:
    header, prefix, algorithm = SIGNERS[name]
    digits = hmac.new(secret(by or name).encode(), body, algorithm).hexdigest()
    return {header: prefix + digits, "Content-Type": JSON}


class Target:
    """A service at a cluster whose DaemonSet is up to date."""

    def __init__(self, cluster: SimulatedCluster, client: FlaskClient) -> None:
        self.cluster = cluster
        self.client = client

    def live(self) -> Json | None:
        return self.cluster.daemonset(NAME, NAMESPACE)

    def send(
        self, method: str, path: str, headers: dict[str, str], body: bytes, *, chunked: bool = False
    ) -> TestResponse:
        if not chunked:
            return self.client.open(path, method=method, headers=headers, data=body)
        return self.client.open(
            path,
            method=method,
            headers=headers | {"Transfer-Encoding": "chunked"},
            input_stream=io.BytesIO(body),
            environ_overrides={"wsgi.input_terminated": True},  # as gunicorn does
        )


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("target")
    for name in NAMES:
        (folder / name).write_text(secret(name))
    with SimulatedCluster(nodes=1) as cluster:
        api = connect({"KUBECONFIG": str(kubeconfig(cluster, folder))})
        config = configuration(
            IMAGES=IMAGES, WEBHOOK_SECRETS_DIR=str(folder), ROLLOUT_MIN_INTERVAL_SECONDS="0"
        )
        service = Service(config, KubernetesCluster(api, config))
        service.start()
        service.intake.accept("test", (CheckRequested(),), timeout=TIMEOUT_SECONDS)
        yield Target(cluster, service.app.test_client())
        service.stop()
        service.join(TIMEOUT_SECONDS)
        api.rest_client.close()


@pytest.fixture
def untouched(target: Target, caplog: pytest.LogCaptureFixture) -> Iterator[Target]:
    """Check that a test changed nothing in the cluster, and logged no secret."""
    before = target.live()
    assert before is not None
    target.cluster.requests.clear()
    caplog.set_level("DEBUG", logger="image_puller")
    yield target
    writes = [request for request in target.cluster.requests if request.method != "GET"]
    assert [request for request in writes if not request.dry_run] == []
    after = target.live()
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert after == before
    assert "s3cret" not in caplog.text


def credentials() -> Iterator[Row]:
    for name in HOOKS:
        path, rejected = f"/webhooks/{name}", f"credentials for {name} are missing or wrong\n"
        for wrong in (
            {},
            {"Authorization": "s3cret"},
            {"Authorization": secret(name) + "x"},
            {"Authorization": ""},
            {"Authorization": "Bearer"},
            {"Authorization": f"Token {secret(name)}"},
            {"Authorization": "Basic s3cret"},
            bearer("s3cret"),
            bearer(secret("events")),
            bearer(secret("read")),
            bearer(secret(HOOKS[HOOKS.index(name) - 1])),
            basic("user", "s3cret"),
            basic(secret(name), ""),
        ):
            yield "POST", path, wrong, b"{}", 401, rejected
        yield "POST", f"{path}/s3cret", {}, b"{}", 401, rejected
        yield "POST", f"{path}/{secret('events')}", {}, b"{}", 401, rejected
        yield "POST", f"{path}/s3cret/{secret(name)}", {}, b"{}", 401, rejected
        yield "POST", f"{path}/{secret(name)}//", {}, b"{}", 401, rejected
        yield "POST", f"{path}/", {}, b"{}", 401, rejected
    for name in (name for name in HOOKS if name not in IN_PATH):
        rejected = f"credentials for {name} are missing or wrong\n"
        for headers in ({}, with_secret(name)):
            yield "POST", f"/webhooks/{name}/{secret(name)}", headers, b"{}", 401, rejected
    for name, (header, prefix, _) in SIGNERS.items():
        path, rejected = f"/webhooks/{name}", f"credentials for {name} are missing or wrong\n"
        right = with_signature(name, b"{}")
        for wrong in (
            {},
            {header: ""},
            {header: prefix},
            {header: prefix + "s3cret"},
            {header: right[header].upper() + "0"},
            {header: right[header][:-1]},
            {"X-Hub-Signature": "sha1=" + "0" * 40},
            {"Authorization": secret(name)},
            {"Authorization": right[header]},
            bearer(secret(name)),
            basic("user", secret(name)),
            with_signature(name, b"{} "),
            with_signature(name, b""),
            with_signature(name, b"{}", by="events"),
            with_signature(name, b"{}", by="harbor"),
        ):
            yield "POST", path, wrong, b"{}", 401, rejected
        yield "POST", path, right, b"", 401, rejected
        yield "POST", f"{path}/{secret(name)}", right, b"{}", 401, rejected
    for wrong in (
        {},
        {"Authorization": secret("events")},
        bearer("s3cret"),
        bearer(secret("harbor")),
        bearer(secret("read")),
        basic("user", secret("events")),
    ):
        event = json.dumps(ENVELOPE | {"data": IMAGE}).encode()
        rejected = "credentials for events are missing or wrong\n"
        yield "POST", "/", wrong | {"Content-Type": STRUCTURED}, event, 401, rejected
    for path in ("/", "/status", "/status/app", "/status/nothing", "/nodes/node-1", "/metrics"):
        for wrong in (
            {},
            bearer("s3cret"),
            bearer(secret("events")),
            basic("user", "s3cret"),
            basic(secret("read"), ""),
        ):
            rejected = "credentials for read are missing or wrong\n"
            yield "GET", path, wrong, b"", 401, rejected


NOT_FOUND = (
    "The requested URL was not found on the server. If you entered the URL manually please check "
    "your spelling and try again.\n"
)
NOT_ALLOWED = "The method is not allowed for the requested URL.\n"


def routes() -> Iterator[Row]:
    for name in ("cloudevents", "nothing", "Quay", "events", "read", "%00", "quay%0a"):
        quoted = {"%00": "\\x00", "quay%0a": "quay\\n"}.get(name, name)
        for rest in ("", "/s3cret"):
            message = f"no source is called '{quoted}'\n"
            yield "POST", f"/webhooks/{name}{rest}", with_secret("events"), b"{}", 404, message
    yield "POST", f"/webhooks/{'x' * 99}", {}, b"", 404, f"no source is called '{'x' * 40}'\n"
    for path in ("/webhooks", "/webhooks/", "/nothing"):
        yield "POST", path, {}, b"{}", 404, NOT_FOUND
    for path in ("//webhooks/quay/s3cret", "/webhooks//quay/s3cret"):  # never redirected
        yield "POST", f"http://localhost{path}", {}, b"{}", 404, NOT_FOUND
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        for path in ("/webhooks/quay", "/webhooks/quay/s3cret"):
            yield method, path, {}, b"", 405, NOT_ALLOWED
    for method in ("PUT", "PATCH", "DELETE"):
        yield method, "/", {}, b"", 405, NOT_ALLOWED
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        for path in ("/status", "/status/app", "/nodes/node-1", "/metrics", "/healthz", "/readyz"):
            yield method, path, {}, b"", 405, NOT_ALLOWED
    message = "no image is called 'quay.io/org/other:1'; "
    yield "GET", "/status/quay.io/org/other:1", bearer(secret("read")), b"", 404, message


UNREADABLE = {
    b"": "not JSON: Expecting value: line 1 column 1 (char 0)\n",
    b" ": "not JSON: Expecting value: line 1 column 2 (char 1)\n",
    b"{": "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)\n",
    b"{'a': 1}": (
        "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)\n"
    ),
    b"\xff\xfe": (
        "not JSON: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte\n"
    ),
    b'{"a": "\xff"}': (
        "not JSON: 'utf-8' codec can't decode byte 0xff in position 7: invalid start byte\n"
    ),
    b'{"a": NaN}': "not JSON: NaN is not a JSON number\n",
    b"\x00": "not JSON: Expecting value: line 1 column 1 (char 0)\n",
    NESTED: "not JSON: nested too deeply\n",
}
NO_PAYLOADS = (b"null", b"[]", b"1", b'"text"', b"{}", b'{"type": 1}', b'{"events": {}}')


def bodies() -> Iterator[Row]:
    for name in HOOKS:
        for body in (*UNREADABLE, *NO_PAYLOADS):
            yield "POST", f"/webhooks/{name}", with_secret(name), body, 202, ""
            headers = {"Authorization": secret(name)}
            yield "POST", f"/webhooks/{name}", headers, body, 202, ""
    for name in SIGNERS:
        for body in (*UNREADABLE, *NO_PAYLOADS, b"payload=", b"payload=%ff"):
            yield "POST", f"/webhooks/{name}", with_signature(name, body), body, 202, ""
    for body, message in UNREADABLE.items():
        yield "POST", f"/webhooks/quay/{secret('quay')}", {}, body, 202, ""
        yield "POST", "/", with_secret("events", STRUCTURED), body, 400, message
        yield "POST", "/", with_secret("events", BATCH), body, 400, message
    for body in NO_PAYLOADS:
        message = "not a CloudEvent, neither by its Content-Type nor by a ce-specversion header: "
        yield "POST", "/", with_secret("events"), body, 400, message


def compressed() -> Iterator[Row]:
    # No body is unpacked, so a small request can't use much memory.
    encoding = {"Content-Encoding": "gzip"}
    message = "compressed bodies are not accepted: gzip\n"
    for unpacked in (structured(), b" " * 50 * limits.BODY_BYTES):
        body = gzip.compress(unpacked)
        for name in HOOKS:
            yield "POST", f"/webhooks/{name}", with_secret(name) | encoding, body, 202, ""
        for name in SIGNERS:
            yield "POST", f"/webhooks/{name}", with_signature(name, body) | encoding, body, 202, ""
        headers = with_secret("events", STRUCTURED) | encoding
        yield "POST", "/", headers, body, 400, message


def without(name: str) -> Json:
    return {key: value for key, value in ENVELOPE.items() if key != name}


def structured(**changes: Any) -> bytes:
    return json.dumps(ENVELOPE | {"data": IMAGE} | changes).encode()


def cloudevents() -> Iterator[Row]:
    def event(message: str, **changes: Any) -> Row:
        return "POST", "/", with_secret("events", STRUCTURED), structured(**changes), 400, message

    for name in ENVELOPE:
        body = json.dumps(without(name)).encode()
        message = f"a CloudEvent has no '{name}'\n"
        yield "POST", "/", with_secret("events", STRUCTURED), body, 400, message
        yield event(f"a CloudEvent has no '{name}'\n", **{name: None})
        yield event(f"a CloudEvent's '{name}' is empty or no string: ''\n", **{name: ""})
        yield event(f"a CloudEvent's '{name}' is empty or no string: 7\n", **{name: 7})
        headers = {key: value for key, value in BINARY.items() if key != f"ce-{name}"}
        if name != "specversion":
            yield "POST", "/", with_secret("events") | headers, b"{}", 400, message
    yield event("a CloudEvent's 'specversion' is not 1.0 or 0.3: '2.0'\n", specversion="2.0")
    yield event("not an RFC 3339 time: 'yesterday'\n", time="yesterday")
    yield event("not an RFC 3339 time: 3\n", time=3)
    yield event("a CloudEvent has both 'data' and 'data_base64'\n", data_base64="e30=")
    yield event("'data_base64' is not base64: '!'\n", data=None, data_base64="!")
    yield event("'data_base64' is not base64: 5\n", data=None, data_base64=5)
    yield event("a CloudEvent's 'more' is not a string, integer or boolean: {}\n", more={})
    yield event("a CloudEvent's attribute 'not-a-name' is not valid\n", **{"not-a-name": "x"})
    for media_type in ("application/cloudevents+xml", "application/cloudevents-batch+avro"):
        message = f"CloudEvents are accepted as JSON only, not '{media_type}'\n"
        yield "POST", "/", with_secret("events", media_type), structured(), 400, message
    for body in (b"null", b"[]", b"1", b'"text"'):
        message = f"a CloudEvent is not an object: {str(json.loads(body)) or body.decode()}"[:30]
        yield "POST", "/", with_secret("events", STRUCTURED), body, 400, message
    for body in (b"null", b"{}", b"1", structured()):
        message = "a batch of CloudEvents is not a list: "
        yield "POST", "/", with_secret("events", BATCH), body, 400, message
    # One malformed event makes the whole batch malformed, so none of its events is used.
    body = b"[" + structured() + b"," + structured(id="") + b"]"
    message = "a CloudEvent's 'id' is empty or no string: ''\n"
    yield "POST", "/", with_secret("events", BATCH), body, 400, message
    headers = with_secret("events") | BINARY | {"ce-subject": "%ff"}
    yield "POST", "/", headers, b"{}", 400, "'ce-subject' is not UTF-8: '%ff'\n"
    for body, message in UNREADABLE.items():
        if body:
            yield "POST", "/", with_secret("events") | BINARY, body, 400, message


def images() -> Iterator[Row]:
    def pushed(message: str, data: Any) -> Row:
        return "POST", "/", with_secret("events", STRUCTURED), structured(data=data), 400, message

    inexact = "the data must have exactly registry, repository, tag and digest: "
    partial = {"repository": "org/app", "tag": "1"}
    values: tuple[Any, ...] = (None, [], "text", {}, IMAGE | {"more": 1}, partial)
    for data in values:
        yield pushed(inexact, data)
    yield pushed("'tag' and 'digest' are both null\n", IMAGE | {"tag": None})
    yield pushed("'registry' is missing\n", IMAGE | {"registry": None})
    yield pushed("'repository' is missing\n", IMAGE | {"repository": None})
    yield pushed("'tag' is not a string: 1\n", IMAGE | {"tag": 1})
    yield pushed("'digest' is not a string: {}\n", IMAGE | {"digest": {}})
    node = {"type": "dev.knative.apiserver.resource.add", "kind": "Node", "apiversion": "v1"}
    body = structured(**node, name="Not A Node", data=None)
    message = "not the name of a node: 'Not A Node'\n"
    yield "POST", "/", with_secret("events", STRUCTURED), body, 400, message
    body = structured(type="harbor.artifact.pushed", data={"resources": []})
    message = "'repository.repo_full_name' is missing\n"
    yield "POST", "/", with_secret("events", STRUCTURED), body, 400, message


def ignored() -> Iterator[Row]:
    for changes in (
        {"type": "com.example.anything"},
        {"type": "com.example.anything", "data": "any text"},
        {"type": "dev.knative.apiserver.resource.delete"},
        {"type": "dev.knative.apiserver.resource.add", "kind": "Pod"},
        {"type": "harbor.artifact.pulled"},
        {"type": "harbor.anything"},
        {"data": IMAGE | {"repository": "org/unknown"}},
        {"data": IMAGE | {"registry": "quay.example.com"}},
        {"data": IMAGE | {"registry": "no host!"}},
        {"data": IMAGE | {"repository": "Org/../app"}},
        {"data": IMAGE | {"tag": "latest"}},
        {"data": IMAGE | {"tag": "1.2.4-rc.1"}},
        {"data": IMAGE | {"tag": "not a tag"}},
        {"data": IMAGE | {"tag": None, "digest": "sha256:" + "a" * 64}},
        {"data": IMAGE | {"tag": "sha256-" + "a" * 64 + ".sig"}},
    ):
        body = structured(**changes)
        yield "POST", "/", with_secret("events", STRUCTURED), body, 202, ""
        for name in HOOKS:
            yield "POST", f"/webhooks/{name}", with_secret(name, STRUCTURED), body, 202, ""
    yield "POST", "/", with_secret("events", BATCH), b"[]", 202, ""
    for name, payload in PULLS.items():
        body = json.dumps(payload).encode()
        yield "POST", f"/webhooks/{name}", with_secret(name), body, 202, ""
        other = HOOKS[(HOOKS.index(name) + 1) % 3]  # gitlab has the payloads of distribution
        yield "POST", f"/webhooks/{other}", with_secret(other), body, 202, ""


PULLS: dict[str, Json] = {
    "harbor": {
        "type": "PULL_ARTIFACT",
        "event_data": {"repository": {"repo_full_name": "org/app"}, "resources": []},
    },
    "quay": {"docker_url": "quay.io/org/unknown", "updated_tags": ["1.2.4"]},
    "distribution": {"events": [{"action": "pull", "target": {"repository": "org/app"}}]},
}


@pytest.mark.parametrize(
    "row",
    [*credentials(), *routes(), *bodies(), *compressed(), *cloudevents(), *images(), *ignored()],
    ids=lambda row: f"{row[0]} {row[1][:40]} {row[4]}",
)
def test_bad_request_is_answered_and_changes_nothing(untouched: Target, row: Row) -> None:
    method, path, headers, body, code, text = row
    answer = untouched.send(method, path, headers, body)
    assert answer.status_code == code
    assert answer.text.startswith(text)
    assert text or not answer.data
    assert not text.endswith("\n") or answer.text == text
    challenge = 'Basic realm="image-puller"' if (method, code) == ("GET", 401) else None
    assert answer.headers.get("WWW-Authenticate") == challenge
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("name", HOOKS)
def test_large_body_of_a_webhook_is_accepted_and_ignored(
    untouched: Target, name: str, chunked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    answer = untouched.send(
        "POST", f"/webhooks/{name}", with_secret(name), TOO_LARGE, chunked=chunked
    )
    assert (answer.status_code, answer.data) == (202, b"")
    assert f"{name}: ignored: the body has more than 1048576 bytes" in caplog.messages


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("headers", [{"Content-Type": STRUCTURED}, BINARY, {}])
def test_large_body_of_an_event_is_413(
    untouched: Target, headers: dict[str, str], chunked: bool
) -> None:
    sent = bearer(secret("events")) | headers
    answer = untouched.send("POST", "/", sent, TOO_LARGE, chunked=chunked)
    assert answer.status_code == 413
    assert answer.text == "The data value transmitted exceeds the capacity limit.\n"


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("name", SIGNERS)
def test_large_signed_body_is_413_because_its_signature_can_not_be_checked(
    untouched: Target, name: str, chunked: bool
) -> None:
    path = f"/webhooks/{name}"
    for headers in (with_signature(name, TOO_LARGE), with_signature(name, TOO_LARGE, by="harbor")):
        answer = untouched.send("POST", path, headers, TOO_LARGE, chunked=chunked)
        assert answer.status_code == 413
        assert answer.text == "The data value transmitted exceeds the capacity limit.\n"
    metrics = untouched.send("GET", "/metrics", bearer(secret("read")), b"").text
    assert f'image_puller_requests_rejected_total{{source="{name}",status="413"}}' in metrics


@pytest.mark.parametrize("chunked", [True, False])
def test_large_body_with_the_secret_in_a_header_is_accepted_and_ignored(
    untouched: Target, chunked: bool
) -> None:
    headers = {"X-JFrog-Event-Auth": secret("jfrog")}
    answer = untouched.send("POST", "/webhooks/jfrog", headers, TOO_LARGE, chunked=chunked)
    assert (answer.status_code, answer.data) == (202, b"")


class Unreadable(io.RawIOBase):
    """A body that must not be read."""

    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: object) -> int:
        raise AssertionError("the body was read")


@pytest.mark.parametrize("path", [f"/webhooks/{name}{end}" for name in NAMES for end in ("", "/x")])
def test_body_is_not_read_without_valid_credentials(untouched: Target, path: str) -> None:
    headers = {
        "Authorization": "Bearer s3cret",
        "X-Hub-Signature-256": "sha256=",
        "X-Gitea-Signature": "",
        "X-JFrog-Event-Auth": "s3cret",
        "X-Nexus-Webhook-Signature": "s3cret",
    }
    environ = {"wsgi.input": Unreadable(), "CONTENT_LENGTH": "5"}
    answer = untouched.client.post(path, headers=headers, environ_overrides=environ)
    assert answer.status_code == (404 if path.split("/")[2] in ("events", "read") else 401)


@pytest.mark.parametrize("path", ["/", "/webhooks/quay", "/webhooks/harbor", "/webhooks/quay/x"])
@pytest.mark.parametrize("chunked", [True, False])
def test_large_body_is_not_read_without_valid_credentials(
    untouched: Target, path: str, chunked: bool
) -> None:
    answer = untouched.send("POST", path, bearer("s3cret"), TOO_LARGE, chunked=chunked)
    assert answer.status_code == 401


def test_body_of_the_largest_size_is_read(untouched: Target) -> None:
    body = structured(type="com.example.anything").ljust(limits.BODY_BYTES)
    answer = untouched.send("POST", "/", with_secret("events", STRUCTURED), body)
    assert answer.status_code == 202


def test_chunked_body_is_read(untouched: Target) -> None:
    body = structured(id="")
    answer = untouched.send("POST", "/", with_secret("events", STRUCTURED), body, chunked=True)
    assert (answer.status_code, answer.text) == (
        400,
        "a CloudEvent's 'id' is empty or no string: ''\n",
    )


def test_only_an_empty_request_of_harbor_is_accepted_without_a_secret(
    untouched: Target,
) -> None:
    assert untouched.send("POST", "/webhooks/harbor", {}, b"").status_code == 202
    assert untouched.send("POST", "/webhooks/harbor", {}, b"{}", chunked=True).status_code == 401
    for name in ("quay", "distribution", "gitlab"):
        assert untouched.send("POST", f"/webhooks/{name}", {}, b"").status_code == 401


# Metrics


def test_bad_requests_are_counted_without_names_that_they_send(untouched: Target) -> None:
    untouched.send("POST", "/webhooks/quay", with_secret("quay"), b"{")
    untouched.send("POST", "/webhooks/quay", with_secret("quay"), TOO_LARGE)
    untouched.send("POST", "/webhooks/quay", {}, b"{}")
    untouched.send("POST", "/webhooks/unknown-to-metrics", {}, b"{}")
    body = structured(data=IMAGE | {"repository": "unknown-to-metrics/repository"})
    untouched.send("POST", "/", with_secret("events", STRUCTURED), body)
    metrics = untouched.send("GET", "/metrics", bearer(secret("read")), b"").text
    assert 'image_puller_events_total{outcome="unreadable",source="quay"}' in metrics
    assert 'image_puller_events_total{outcome="too_large",source="quay"}' in metrics
    assert 'image_puller_requests_rejected_total{source="quay",status="401"}' in metrics
    assert 'outcome="unknown_repository",source="cloudevents"' in metrics
    assert "unknown-to-metrics" not in metrics


# Variables; `tests/config/test_configuration.py` has all of them


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"IMAGES": ""}, "IMAGES: must be set, as name=image;name=image;…\n"),
        (
            {"PORT": "0", "EVENT_AUTH": "no"},
            (
                "EVENT_AUTH: must be token or oidc or none, not 'no'\n"
                "PORT: must be a whole number from 1 to 65535, not '0'\n"
            ),
        ),
        (
            {"EVENT_AUTH": "oidc", "OIDC_KEYS": "http://keys", "OIDC_SUBJECTS": "*"},
            (
                "OIDC_KEYS: must be a URL such as https://host/path, not 'http://keys', nor the "
                "absolute path of a file\n"
                "OIDC_AUDIENCE: must be set where EVENT_AUTH is oidc, to the audience that "
                "senders' tokens are issued for\n"
                "OIDC_ISSUER: must be set where OIDC_KEYS is\n"
                "OIDC_SUBJECTS: a * is allowed only at the end, after a prefix: '*'\n"
            ),
        ),
        (
            {"EVENT_AUTH": "oidc", "OIDC_AUDIENCE": "a b", "OIDC_ISSUER": "cluster"},
            (
                "OIDC_AUDIENCE: must be of printable ASCII without spaces, 512 characters at "
                "most, not 'a b'\n"
                "OIDC_ISSUER: must be a URL such as https://host/path, not 'cluster'\n"
            ),
        ),
        (
            {"GAR_SERVICE_ACCOUNT": "pusher"},
            (
                "GAR_SERVICE_ACCOUNT: must be an e-mail address, not 'pusher'\n"
                "GAR_AUDIENCE: must be set where GAR_SERVICE_ACCOUNT is\n"
            ),
        ),
        (
            {"GAR_AUDIENCE": "puller"},
            "GAR_SERVICE_ACCOUNT: must be set where GAR_AUDIENCE is\n",
        ),
        (
            {"CACHING_INTERVAL_HOURS": "0"},
            (
                "CACHING_INTERVAL_HOURS: must be a number of hours above 0, such as 1 or 0.5, "
                "100000 at most, not '0'\n"
            ),
        ),
    ],
)
def test_wrong_variable_ends_the_service_before_its_first_request(
    cluster: SimulatedCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    message: str,
) -> None:
    file = kubeconfig(cluster, tmp_path)
    for name, value in ({"IMAGES": IMAGES, "KUBECONFIG": str(file)} | variables).items():
        monkeypatch.setenv(name, value)
    assert main.main(["serve"]) == 2
    assert capsys.readouterr().err == message
    assert cluster.requests == []
