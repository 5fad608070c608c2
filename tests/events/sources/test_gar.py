"""Tests of the notifications of Google Artifact Registry, through Pub/Sub and Eventarc."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.sources import decode
from tests.support.samples import sample

DIGEST = "sha256:b974ebb9a97901339d70cbd59a98baeb15228d9f39e326d41014aa938512c4e9"
NAME = "us-west1-docker.pkg.dev/my-project/my-repo/hello-world"
INSERT: dict[str, Any] = {"action": "INSERT", "digest": f"{NAME}@{DIGEST}", "tag": f"{NAME}:1.1"}
TIME = datetime(2026, 8, 20, 10, 11, 12, 123_000, tzinfo=UTC)


def image(
    kind: type[ImagePushed | ImageDeleted] = ImagePushed,
    tag: str | None = "1.1",
    digest: str | None = DIGEST,
    **changes: Any,
) -> Event:
    named: dict[str, Any] = {
        "registry": "us-west1-docker.pkg.dev",
        "repository": "my-project/my-repo/hello-world",
        "time": TIME,
    }
    return kind(tag=tag, digest=digest, **named | changes)


def wrapper(notification: Any, **changes: Any) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(notification).encode()).decode()
    message = {"data": data, "messageId": "1", "publishTime": "2026-08-20T10:11:12.123Z"}
    return {"message": message | changes, "subscription": "projects/p/subscriptions/s"}


def decoded(payload: Any, **headers: str) -> tuple[Event, ...]:
    return decode("gar", headers, json.dumps(payload).encode())


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("gar", "gar-pubsub-unwrapped"),
        ("gar", "eventarc-binary-pubsub-insert"),
        ("cloudevents", "eventarc-binary-pubsub-insert"),
    ],
)
def test_sample_is_a_push(source: str, name: str) -> None:
    assert decode(source, *sample(name)) == (image(),)


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        ({}, image()),
        ({"tag": None}, image(tag=None)),
        ({"digest": None}, image(digest=None)),
        ({"action": "DELETE"}, image(ImageDeleted)),
        ({"action": "DELETE", "digest": None}, image(ImageDeleted, digest=None)),
        ({"action": "DELETE", "tag": None}, image(ImageDeleted, None)),
        ({"action": "OTHER"}, Ignored(reason="unknown type")),
        ({"action": None}, Ignored(reason="unknown type")),
        (
            {"digest": None, "tag": "gcr.io/example.com/proj/app:v1"},
            image(tag="v1", digest=None, registry="gcr.io", repository="example.com/proj/app"),
        ),
        (
            {"digest": None, "tag": "localhost:5000/app:v1"},
            image(tag="v1", digest=None, registry="localhost:5000", repository="app"),
        ),
        ({"digest": None, "tag": None}, Ignored(reason="repository outside the grammar")),
        ({"digest": NAME, "tag": None}, Ignored(reason="neither tag nor digest")),
        ({"digest": None, "tag": "1.1"}, Ignored(reason="repository outside the grammar")),
    ],
)
def test_notification_names_image_by_full_references(changes: dict[str, Any], event: Event) -> None:
    assert decoded(wrapper(INSERT | changes)) == (event,)


@pytest.mark.parametrize(
    ("changes", "time"),
    [
        ({}, TIME),
        ({"publishTime": None, "publish_time": "2026-08-20T10:11:12.123Z"}, TIME),
        ({"publishTime": None}, None),
        ({"publishTime": 1}, None),
    ],
)
def test_time_is_that_of_the_message(changes: dict[str, Any], time: datetime | None) -> None:
    assert decoded(wrapper(INSERT, **changes)) == (image(time=time),)


def test_message_without_wrapper_has_its_time_in_a_header() -> None:
    time = {"x-goog-pubsub-publish-time": "2026-08-20T10:11:12.123Z"}
    assert decoded(INSERT, **time) == (image(),)
    assert decoded(INSERT) == (image(time=None),)
    with pytest.raises(BadEventError, match=r"^the payload is not an object: \[\]$"):
        decoded([], **time)


@pytest.mark.parametrize("payload", [{}, {"message": {}}, {"message": {"data": ""}}])
def test_empty_message_is_ignored(payload: Any) -> None:
    assert decoded(payload) == (Ignored(reason="unknown type"),)


OTHER = "gcr.io/my-project/other:1.1"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "the payload is not an object: []"),
        ({"message": 1}, "'message' is not an object: 1"),
        ({"message": {"data": "!"}}, "'message.data' is not base64: '!'"),
        ({"message": {"data": "ü"}}, "'message.data' is not base64: 'ü'"),
        ({"message": {"data": "AAAA"}}, "not JSON: Expecting value: line 1 column 1 (char 0)"),
        (wrapper([]), "the payload is not an object: []"),
        (wrapper(INSERT | {"tag": 1}), "'tag' is not a string: 1"),
    ],
)
def test_malformed_message_is_rejected(payload: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decoded(payload)
    assert str(error.value) == message


def test_notification_that_names_two_images_is_rejected() -> None:
    with pytest.raises(BadEventError, match=r"^'digest' and 'tag' name two images: \{"):
        decoded(wrapper(INSERT | {"tag": OTHER}))
