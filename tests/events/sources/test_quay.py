"""Tests of the notifications of Quay."""

import json
from typing import Any

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Event, Ignored, ImagePushed
from image_puller.events.sources import decode
from tests.support.samples import sample

DIGEST = "sha256:" + "0123456789abcdef" * 4
PUSH: dict[str, Any] = {
    "repository": "team/app",
    "namespace": "team",
    "name": "app",
    "docker_url": "quay.example.com/team/app",
    "homepage": "https://quay.example.com/repository/team/app",
    "updated_tags": ["v1"],
}


def pushed(
    tag: str | None,
    *,
    registry: str | None = "quay.example.com",
    repository: str = "team/app",
    digest: str | None = None,
) -> Event:
    return ImagePushed(registry=registry, repository=repository, tag=tag, digest=digest)


def decoded(payload: Any) -> tuple[Event, ...]:
    return decode("quay", {"content-type": "application/json"}, json.dumps(payload).encode())


@pytest.mark.parametrize(
    ("name", "event"),
    [
        (
            "quay-repo_push-selfhosted-port-nested",
            pushed(
                "v2.3.1",
                registry="quay.apps.example.com:8443",
                repository="platform/images/backend/api",
            ),
        ),
        (
            "quay-repo_push-http-homepage",
            pushed("edge", registry="quay.lab.local", repository="lab/tool"),
        ),
        ("quay-repo_push-test-notification", Ignored(reason="test")),
        ("quay-repo_mirror_sync_started", Ignored(reason="mirror status")),
        ("quay-repo_mirror_sync_failed", Ignored(reason="mirror status")),
    ],
)
def test_sample_decodes_to_its_event(name: str, event: Event) -> None:
    assert decode("quay", *sample(name)) == (event,)


@pytest.mark.parametrize(
    ("changes", "events"),
    [
        ({}, (pushed("v1"),)),
        ({"updated_tags": ["v1", "latest"]}, (pushed("v1"), pushed("latest"))),
        ({"updated_tags": {"v1": "b750fe79", "v2": None}}, (pushed("v1"), pushed("v2"))),
        ({"updated_tags": [DIGEST]}, (pushed(None, digest=DIGEST),)),
        ({"docker_url": "https://quay.example.com/team/app"}, (pushed("v1"),)),
        ({"docker_url": "[::1]:8443/team/app"}, (pushed("v1", registry="[::1]:8443"),)),
        ({"pruned_image_count": 3, "pushed_image_count": 10}, (pushed("v1"),)),
        ({"updated_tags": []}, (Ignored(reason="no events"),)),
        ({"updated_tags": {}}, (Ignored(reason="no events"),)),
        ({"updated_tags": ["", "sha256:x"]}, (Ignored(reason="neither tag nor digest"),) * 2),
        ({"updated_tags": ["a b", "v1"]}, (Ignored(reason="tag outside the grammar"), pushed("v1"))),  # noqa: E501
        ({"docker_url": "quay.example.com"}, (Ignored(reason="repository outside the grammar"),)),
        ({"docker_url": "/team/app"}, (pushed("v1", registry=None),)),
        ({"pruned_image_count": 3}, (Ignored(reason="test"),)),
        ({"pruned_image_count": None}, (Ignored(reason="test"),)),
    ],
)  # fmt: skip
def test_each_updated_tag_is_a_push(changes: dict[str, Any], events: tuple[Event, ...]) -> None:
    assert decoded(PUSH | changes) == events


WITHOUT_TAGS = {key: value for key, value in PUSH.items() if key != "updated_tags"}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (WITHOUT_TAGS | {"build_id": "1", "docker_tags": ["latest"]}, "build"),
        (WITHOUT_TAGS | {"vulnerability": {"id": "CVE-1"}, "tags": ["latest"]}, "scan"),
        (WITHOUT_TAGS | {"expiring_in": "5 days", "tags": ["latest"]}, "expiry"),
        (WITHOUT_TAGS | {"message": "Mirror started"}, "mirror status"),
        ({"namespace": "team", "homepage": "x", "limit_bytes": 1}, "quota"),
        (WITHOUT_TAGS, "unknown type"),
        (WITHOUT_TAGS | {"updated_tags": None}, "unknown type"),
        ({"updated_tags": ["v1"]}, "unknown type"),
        ({"docker_url": None, "updated_tags": ["v1"]}, "unknown type"),
        ({}, "unknown type"),
    ],
)
def test_other_notification_is_ignored(payload: Any, reason: str) -> None:
    assert decoded(payload) == (Ignored(reason=reason),)


def test_notification_inside_a_cloudevent_is_decoded() -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/forwarder",
        "ce-type": "com.example.image.push",
        "content-type": "application/json",
    }
    assert decode("quay", headers, json.dumps(PUSH).encode()) == (pushed("v1"),)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "the payload is not an object: []"),
        ("x", "the payload is not an object: 'x'"),
        (PUSH | {"docker_url": 1}, "'docker_url' is not a string: 1"),
        (PUSH | {"updated_tags": "v1"}, "'updated_tags' is neither a list nor an object: 'v1'"),
        (PUSH | {"updated_tags": 0}, "'updated_tags' is neither a list nor an object: 0"),
        (
            PUSH | {"updated_tags": ["v1", None]},
            "'updated_tags' has a tag that is not a string: None",
        ),
    ],
)
def test_malformed_notification_is_rejected(payload: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decoded(payload)
    assert str(error.value) == message


def test_empty_body_is_rejected() -> None:
    with pytest.raises(BadEventError, match=r"^not JSON: "):
        decode("quay", {}, b"")
