"""Tests of the webhooks of JFrog Artifactory."""

import json
from typing import Any

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.sources import decode
from tests.support.samples import sample

SHA256 = "ba19ebbc3493f16045d196ecddceef7ef4a0776059ca8aebce75b2dd6f556716"
DATA: dict[str, Any] = {
    "repo_key": "docker-local",
    "event_type": "pushed",
    "path": "team/app/1.2.3/manifest.json",
    "name": "manifest.json",
    "sha256": SHA256,
    "image_name": "team/app",
    "tag": "1.2.3",
    "platforms": [],
}
PUSH: dict[str, Any] = {
    "domain": "docker",
    "event_type": "pushed",
    "data": DATA,
    "jpd_origin": "https://example.jfrog.io",
}


def image(
    kind: type[ImagePushed | ImageDeleted] = ImagePushed,
    tag: str | None = "1.2.3",
    *,
    registry: str | None = "example.jfrog.io",
    **changes: Any,
) -> Event:
    named = {"repository": "docker-local/team/app", "digest": f"sha256:{SHA256}"} | changes
    return kind(registry=registry, tag=tag, **named)


def decoded(payload: Any) -> tuple[Event, ...]:
    return decode("jfrog", {}, json.dumps(payload).encode())


@pytest.mark.parametrize(
    ("name", "event"),
    [
        (
            "jfrog-docker-pushed-no-origin",
            image(registry=None, repository="docker-local/team/backend/api"),
        ),
        ("jfrog-artifact-deployed", Ignored(reason="artifact that is no image")),
    ],
)
def test_sample_decodes_to_its_event(name: str, event: Event) -> None:
    assert decode("jfrog", *sample(name)) == (event,)


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        ({}, image()),
        ({"jpd_origin": None}, image(registry=None)),
        ({"jpd_origin": "https://"}, image(registry=None)),
        (
            {"jpd_origin": "https://art.example.com:8443/artifactory"},
            image(registry="art.example.com:8443"),
        ),
        ({"event_type": "deleted"}, image(ImageDeleted)),
        ({"event_type": "promoted"}, Ignored(reason="promotion")),
        ({"event_type": "invented"}, Ignored(reason="unknown type")),
        ({"domain": "artifact"}, Ignored(reason="artifact that is no image")),
    ],
)
def test_platform_and_type_decide(changes: dict[str, Any], event: Event) -> None:
    assert decoded(PUSH | changes) == (event,)


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        ({"path": "team/app/1.2.3/list.manifest.json"}, image()),
        ({"path": "other/name/1.2.3/manifest.json"}, image(repository="docker-local/other/name")),
        ({"path": "manifest.json"}, image()),
        ({"tag": f"sha256:{SHA256}"}, image(tag=None)),
        ({"sha256": None}, image(digest=None)),
        ({"sha256": "short"}, image(digest=None)),
        ({"image_type": "oci"}, image()),
        ({"image_type": "helmoci"}, Ignored(reason="chart")),
        ({"tag": "", "sha256": ""}, Ignored(reason="neither tag nor digest")),
        ({"repo_key": "Docker"}, Ignored(reason="repository outside the grammar")),
    ],
)
def test_repository_begins_with_its_repository_key(changes: dict[str, Any], event: Event) -> None:
    assert decoded(PUSH | {"data": DATA | changes}) == (event,)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "the payload is not an object: []"),
        ({}, "'domain' is missing"),
        ({"domain": "docker"}, "'event_type' is missing"),
        ({"domain": "docker", "event_type": "pushed"}, "'data' is missing"),
        (PUSH | {"data": {}}, "'repo_key' is missing"),
        (PUSH | {"data": {"repo_key": "x"}}, "'path' is missing"),
        (PUSH | {"data": {"repo_key": "x", "path": "y/z"}}, "'image_name' is missing"),
        (PUSH | {"jpd_origin": 1}, "'jpd_origin' is not a string: 1"),
    ],
)
def test_malformed_notification_is_rejected(payload: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decoded(payload)
    assert str(error.value) == message
