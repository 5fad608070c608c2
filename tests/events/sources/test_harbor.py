"""Tests of the webhooks of Harbor."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.sources import decode
from tests.support.samples import sample

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"
NOON = datetime(2025, 8, 21, 12, tzinfo=UTC)
JSON = {"content-type": "application/json"}


def pushed(
    repository: str,
    tag: str | None,
    digest: str | None,
    *,
    registry: str | None = "harbor.example.com",
    time: datetime | None = NOON,
) -> Event:
    return ImagePushed(registry=registry, repository=repository, tag=tag, digest=digest, time=time)


def request(
    kind: str = "PUSH_ARTIFACT",
    *,
    occur_at: Any = 1_755_777_600,
    name: str = "team/app",
    **resource: Any,
) -> dict[str, Any]:
    plain = {"digest": DIGEST, "tag": "v1", "resource_url": f"harbor.example.com/{name}:v1"}
    return {
        "type": kind,
        "occur_at": occur_at,
        "operator": "",
        "event_data": {
            "resources": [plain | resource],
            "repository": {"name": "app", "repo_full_name": name},
        },
    }


def decoded(payload: Any) -> tuple[Event, ...]:
    return decode("harbor", JSON, json.dumps(payload).encode())


EIGHT = datetime(2025, 8, 21, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "event"),
    [
        *(
            (
                f"harbor-{form}-push-nested-port",
                pushed(
                    "team-a/backend/api/v2/server",
                    "v1.0.0-rc.1",
                    "sha256:233562de1a0288b139c4fa40b7d189f806e906eeb048517aeb67f34ac0e2faf1",
                    registry="harbor.internal.example.com:8443",
                    time=EIGHT,
                ),
            )
            for form in ("default", "cloudevents")
        ),
        (
            "harbor-cloudevents-push-proxy-cache",
            pushed(
                "ext.mcr.microsoft.com/vscode/devcontainers/javascript-node",
                None,
                "sha256:4637dee26a57c3781f5c23ffaf5a956b2ef9ed8ea5161e98fcfee446dd133cac",
                time=datetime(2024, 2, 15, 1, 38, 29, tzinfo=UTC),
            ),
        ),
        ("harbor-default-push-cosign-signature", Ignored(reason="signature or attestation")),
        (
            "harbor-default-multiarch-1-child-amd64",
            pushed(
                "shop/web",
                None,
                "sha256:41ebf656c5b5d18d06fb92ee8eb611feef53397b5a9852b39a1fc213f8a57324",
                time=EIGHT,
            ),
        ),
        (
            "harbor-default-multiarch-2-child-arm64",
            pushed(
                "shop/web",
                None,
                "sha256:b2f7b9f4faddd431a0eca8c4d5ba78f972c8749ce0473f017f7f7213fe95bd07",
                time=EIGHT,
            ),
        ),
        (
            "harbor-default-push-unicode-operator",
            pushed(
                "library/app",
                "v1",
                "sha256:46c5eff0c85b54bc3b6cb8d84cd100a4f22b3dcc2e18eb2d27f1402d3d838fad",
                time=EIGHT,
            ),
        ),
        (
            "harbor-default-push-no-date_created",
            pushed(
                "library/app",
                "latest",
                "sha256:936e1e07c61d11db76b51149e7146d62259c74009d7567dc280c3c2709fe2103",
                time=EIGHT,
            ),
        ),
        ("harbor-test-endpoint", Ignored(reason="test")),
    ],
)
def test_sample_decodes_to_its_event(name: str, event: Event) -> None:
    assert decode("harbor", *sample(name)) == (event,)


@pytest.mark.parametrize("kind", ["PUSH_ARTIFACT", "pushImage"])
def test_push_type_is_a_push(kind: str) -> None:
    assert decoded(request(kind)) == (pushed("team/app", "v1", DIGEST),)


@pytest.mark.parametrize("kind", ["DELETE_ARTIFACT", "deleteImage"])
def test_delete_type_is_a_deletion(kind: str) -> None:
    assert decoded(request(kind)) == (
        ImageDeleted(
            registry="harbor.example.com",
            repository="team/app",
            tag="v1",
            digest=DIGEST,
            time=NOON,
            with_all_tags=True,
        ),
    )


def test_deletion_without_a_digest_is_of_one_tag() -> None:
    payload = request("DELETE_ARTIFACT")
    del payload["event_data"]["resources"][0]["digest"]
    (event,) = decoded(payload)
    assert isinstance(event, ImageDeleted)
    assert (event.tag, event.digest, event.with_all_tags) == ("v1", None, False)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("PULL_ARTIFACT", "pull"),
        ("pullImage", "pull"),
        ("SCANNING_COMPLETED", "scan"),
        ("SCANNING_STOPPED", "scan"),
        ("SCANNING_FAILED", "scan"),
        ("scanningCompleted", "scan"),
        ("scanningFailed", "scan"),
        ("QUOTA_EXCEED", "quota"),
        ("QUOTA_WARNING", "quota"),
        ("REPLICATION", "replication status"),
        ("TAG_RETENTION", "tag retention"),
        ("uploadChart", "chart"),
        ("downloadChart", "chart"),
        ("deleteChart", "chart"),
        ("testEndpoint", "test"),
        ("push_artifact", "unknown type"),
        ("harbor.artifact.renamed", "unknown type"),
        ("", "unknown type"),
    ],
)
def test_other_type_is_ignored_with_any_data(kind: str, reason: str) -> None:
    assert decoded({"type": kind, "event_data": 3}) == (Ignored(reason=reason),)


def cloudevent(kind: str, data: Any) -> dict[str, Any]:
    envelope = {"specversion": "1.0", "id": "1", "source": "/projects/2/webhook/policies/15"}
    return {
        **envelope,
        "type": kind,
        "time": "2025-08-21T12:00:00Z",
        "operator": "",
        "requestid": "",
        "data": data,
    }


def decoded_event(source: str, kind: str, data: Any) -> tuple[Event, ...]:
    headers = {"content-type": "application/cloudevents+json"}
    return decode(source, headers, json.dumps(cloudevent(kind, data)).encode())


@pytest.mark.parametrize("source", ["harbor", "cloudevents"])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("harbor.artifact.pulled", "pull"),
        ("harbor.scan.completed", "scan"),
        ("harbor.scan.stopped", "scan"),
        ("harbor.scan.failed", "scan"),
        ("harbor.quota.exceeded", "quota"),
        ("harbor.quota.warned", "quota"),
        ("harbor.replication.status.changed", "replication status"),
        ("harbor.tag_retention.finished", "tag retention"),
        ("harbor.something.new", "unknown type"),
    ],
)
def test_cloudevent_of_other_type_is_ignored(source: str, kind: str, reason: str) -> None:
    assert decoded_event(source, kind, 3) == (Ignored(reason=reason),)


@pytest.mark.parametrize("source", ["harbor", "cloudevents"])
def test_cloudevent_has_the_event_data_and_the_time(source: str) -> None:
    data = request()["event_data"]
    assert decoded_event(source, "harbor.artifact.pushed", data) == (
        pushed("team/app", "v1", DIGEST),
    )
    (deleted,) = decoded_event(source, "harbor.artifact.deleted", data)
    assert isinstance(deleted, ImageDeleted)


def test_default_format_inside_a_cloudevent_is_decoded() -> None:
    assert decoded_event("harbor", "com.example.forwarded", request()) == (
        pushed("team/app", "v1", DIGEST),
    )


@pytest.mark.parametrize(
    ("url", "registry"),
    [
        ("harbor.example.com/team/app:v1", "harbor.example.com"),
        ("https://harbor.example.com/team/app:v1", "harbor.example.com"),
        ("harbor.example.com:8443/team/app@" + DIGEST, "harbor.example.com:8443"),
        ("10.92.103.227/team/app:" + DIGEST, "10.92.103.227"),
        ("[2001:db8::10]:8443/team/app:v1", "[2001:db8::10]:8443"),
        ("[2001:db8::10]/team/app", "[2001:db8::10]"),
        ("localhost/team/app:v1", "localhost"),
        ("", None),
        (None, None),
    ],
)
def test_registry_is_the_url_without_the_repository(url: str | None, registry: str | None) -> None:
    (event,) = decoded(request(resource_url=url))
    assert event == pushed("team/app", "v1", DIGEST, registry=registry)


def test_repository_may_have_the_name_of_its_project() -> None:
    (event,) = decoded(request(name="app/app", resource_url="app/app/app:v1"))
    assert event == pushed("app/app", "v1", DIGEST, registry="app")


@pytest.mark.parametrize(
    ("tag", "digest", "expected"),
    [
        ("v1", DIGEST, ("v1", DIGEST)),
        ("v1", None, ("v1", None)),
        ("v1", "sha256:short", ("v1", None)),
        ("v1", "", ("v1", None)),
        (DIGEST, DIGEST, (None, DIGEST)),
        (DIGEST, None, (None, DIGEST)),
        (DIGEST, "sha256:short", (None, DIGEST)),
        ("sha256:short", DIGEST, (None, DIGEST)),
        (None, DIGEST, (None, DIGEST)),
        ("", DIGEST, (None, DIGEST)),
        ("sha-1234567", None, ("sha-1234567", None)),
        ("sha256-1234567", None, ("sha256-1234567", None)),
    ],
)
def test_digest_in_place_of_the_tag_counts_as_the_digest(
    tag: str | None, digest: str | None, expected: tuple[str | None, str | None]
) -> None:
    (event,) = decoded(request(tag=tag, digest=digest))
    assert isinstance(event, ImagePushed)
    assert (event.tag, event.digest) == expected


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        ({"tag": None, "digest": None}, "neither tag nor digest"),
        ({"tag": "", "digest": ""}, "neither tag nor digest"),
        ({"tag": "sha256:short", "digest": "sha256:short"}, "neither tag nor digest"),
        ({"tag": "1.2.3+build"}, "tag outside the grammar"),
        ({"tag": "ünicode"}, "tag outside the grammar"),
        ({"tag": "v1\n"}, "tag outside the grammar"),
        ({"tag": f"sha256-{HEX}.sig"}, "signature or attestation"),
        ({"tag": f"sha256-{HEX}.att"}, "signature or attestation"),
        ({"tag": f"sha256-{HEX}.sbom"}, "signature or attestation"),
        ({"tag": f"sha256-{HEX}.cosign-2"}, "signature or attestation"),
        ({"tag": f"sha256-{HEX}"}, "signature or attestation"),
        ({"tag": "sha256-abc.sig"}, "signature or attestation"),
        ({"name": "Team/App"}, "repository outside the grammar"),
        ({"name": "team/app\n"}, "repository outside the grammar"),
        ({"name": "team//app"}, "repository outside the grammar"),
        ({"name": "a" * 256}, "repository outside the grammar"),
        ({"resource_url": "bad host/team/app:v1"}, "registry outside the grammar"),
        ({"resource_url": "host:port/team/app:v1"}, "registry outside the grammar"),
        ({"resource_url": "ex\u212ample.com/team/app:v1"}, "registry outside the grammar"),
    ],
)
@pytest.mark.parametrize("kind", ["PUSH_ARTIFACT", "DELETE_ARTIFACT"])
def test_resource_that_names_no_image_is_ignored(
    kind: str, resource: dict[str, Any], reason: str
) -> None:
    assert decoded(request(kind, **resource)) == (Ignored(reason=reason),)


def test_every_resource_is_an_event() -> None:
    payload = request()
    resources = payload["event_data"]["resources"]
    resources.append(resources[0] | {"tag": "v2"})
    assert decoded(payload) == (
        pushed("team/app", "v1", DIGEST),
        pushed("team/app", "v2", DIGEST),
    )


@pytest.mark.parametrize("resources", [[], None])
def test_payload_without_resources_has_no_events(resources: list[Any] | None) -> None:
    payload = request()
    payload["event_data"]["resources"] = resources
    assert decoded(payload) == (Ignored(reason="no events"),)


@pytest.mark.parametrize("occur_at", [None, 0, "2025-08-21", True, 1_755_763_200_000, [], -(2**63)])
def test_malformed_time_counts_as_absent(occur_at: Any) -> None:
    (event,) = decoded(request(occur_at=occur_at))
    assert isinstance(event, ImagePushed)
    assert event.time is None


@pytest.mark.parametrize("body", [b"", b" \r\n"])
def test_empty_body_is_a_test(body: bytes) -> None:
    assert decode("harbor", JSON, body) == (Ignored(reason="test"),)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "the payload is not an object: []"),
        (None, "the payload is not an object: None"),
        ({}, "'type' is missing"),
        ({"type": 1}, "'type' is not a string: 1"),
        ({"type": "PUSH_ARTIFACT"}, "'event_data' is missing"),
        ({"type": "PUSH_ARTIFACT", "event_data": []}, "'event_data' is not an object: []"),
        (
            {"type": "PUSH_ARTIFACT", "event_data": {}},
            "'repository.repo_full_name' is missing",
        ),
        (
            {"type": "PUSH_ARTIFACT", "event_data": {"repository": {"repo_full_name": 1}}},
            "'repository.repo_full_name' is not a string: 1",
        ),
        (request(tag=1), "'tag' is not a string: 1"),
        (request(digest={}), "'digest' is not a string: {}"),
        (
            request(resource_url="harbor.example.com/other/app:v1"),
            "'resource_url' does not contain the repository: 'harbor.example.com/other/app:v1'",
        ),
        (
            request(resource_url="team/app:v1"),
            "'resource_url' does not contain the repository: 'team/app:v1'",
        ),
    ],
)
def test_malformed_payload_is_rejected(payload: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decoded(payload)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "the payload is not an object: None"),
        ([], "the payload is not an object: []"),
        ({"resources": [1], "repository": {"repo_full_name": "a"}}, "'resources[0]' is not an object: 1"),  # noqa: E501
    ],
)  # fmt: skip
def test_malformed_cloudevent_is_rejected(data: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decoded_event("harbor", "harbor.artifact.pushed", data)
    assert str(error.value) == message
