"""Tests of Azure Container Registry: its webhooks, and Event Grid in both of its schemas."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.sources import acr, decode
from tests.support.samples import sample

DIGEST = "sha256:213bbc182920ab41e18edc2001e06abcca6735d87782d9cef68abd83941cf0e5"
TIME = datetime(2018, 4, 25, 21, 39, 47, 276_585, tzinfo=UTC)
VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"
CODE = "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"


def image(
    kind: type[ImagePushed | ImageDeleted] = ImagePushed,
    tag: str | None = "v1",
    digest: str | None = DIGEST,
) -> Event:
    return kind(
        registry="demo.azurecr.io", repository="aci-helloworld", tag=tag, digest=digest, time=TIME
    )


def notification(action: str = "push", **target: Any) -> dict[str, Any]:
    plain = {
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "size": 3023,
        "digest": DIGEST,
        "repository": "aci-helloworld",
    }
    return {
        "id": "31c51664",
        "timestamp": "2018-04-25T21:39:47.276585742Z",
        "action": action,
        "target": plain | target,
        "request": {"host": "demo.azurecr.io", "method": "PUT"},
    }


def grid_event(kind: str, data: Any) -> dict[str, Any]:
    return {"id": "1", "topic": "/x", "eventType": kind, "eventTime": "x", "data": data}


def validation(**data: Any) -> dict[str, Any]:
    return grid_event(VALIDATION, {"validationCode": CODE, "validationUrl": "https://x/"} | data)


def decoded(payload: Any) -> tuple[Event, ...]:
    return decode("acr", {}, json.dumps(payload).encode())


@pytest.mark.parametrize("source", ["acr", "cloudevents"])
def test_sample_of_batch_is_two_pushes(source: str) -> None:
    request = sample("eventgrid-cloudevents-imagepushed-batch")
    assert decode(source, *request) == (image(), image(tag="v2"))


CHART = {"action": "chart_push", "target": {"repository": "repo", "tag": "x-5.4.0.tgz"}}


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        (notification(tag="v1"), image()),
        (notification(), image(tag=None)),
        (notification("delete"), image(ImageDeleted, None)),
        (notification("delete", tag="v1"), image(ImageDeleted)),
        (notification("quarantine"), Ignored(reason="unknown type")),
        (CHART, Ignored(reason="chart")),
        ({"action": "chart_delete"}, Ignored(reason="chart")),
        ({"action": "ping"}, Ignored(reason="test")),
    ],
)
def test_webhook_is_one_event(payload: Any, event: Event) -> None:
    assert decoded(payload) == (event,)


PUSHED = "Microsoft.ContainerRegistry.ImagePushed"
DELETED = "Microsoft.ContainerRegistry.ImageDeleted"
TYPED = [
    (PUSHED, notification(tag="v1"), image()),
    (DELETED, notification("delete"), image(ImageDeleted, None)),
    ("Microsoft.ContainerRegistry.ChartPushed", CHART, Ignored(reason="chart")),
    ("Microsoft.ContainerRegistry.ChartDeleted", {"action": "chart_delete"}, Ignored(reason="chart")),  # noqa: E501
    ("Microsoft.ContainerRegistry.Invented", {}, Ignored(reason="unknown type")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "data", "event"), TYPED)
def test_event_grid_type_decides_in_both_schemas(kind: str, data: Any, event: Event) -> None:
    assert decoded([grid_event(kind, data)]) == (event,)
    envelope = {"specversion": "1.0", "id": "1", "source": "/s", "type": kind, "data": data}
    headers = {"content-type": "application/cloudevents+json; charset=utf-8"}
    assert decode("acr", headers, json.dumps(envelope).encode()) == (event,)


def test_event_grid_schema_is_a_list_of_events() -> None:
    payload = [
        grid_event(PUSHED, notification(tag="v1")),
        validation(),
        grid_event("Other.Type", None),
    ]
    assert decoded(payload) == (
        image(),
        Ignored(reason="test"),
        Ignored(reason="unknown type"),
    )
    assert decoded([]) == (Ignored(reason="no events"),)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (1, "the payload is not an object: 1"),
        ({}, "'action' is missing"),
        ({"action": "push"}, "'target' is missing"),
        ([1], "'events[0]' is not an object: 1"),
        ([{}], "'eventType' is missing"),
        ([grid_event(PUSHED, None)], "the payload is not an object: None"),
        # With only one of the two, a deletion could count as a push.
        (
            [grid_event(PUSHED, notification("delete"))],
            f"'action' contradicts the type {PUSHED}: 'delete'",
        ),
        (
            [grid_event(DELETED, notification("push"))],
            f"'action' contradicts the type {DELETED}: 'push'",
        ),
    ],
)
def test_malformed_notification_is_rejected(payload: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decoded(payload)
    assert str(error.value) == message


# The handshake


@pytest.mark.parametrize("payload", [[validation()], [grid_event("Other.Type", {}), validation()]])
def test_handshake_returns_the_validation_code(payload: Any) -> None:
    assert acr.handshake(json.dumps(payload).encode()) == {"validationResponse": CODE}


@pytest.mark.parametrize(
    "payload",
    [
        [],
        notification(tag="v1"),
        validation(),  # Event Grid's own schema is always a list
        [grid_event(PUSHED, notification(tag=VALIDATION))],
        {"action": VALIDATION},
    ],
)
def test_other_request_is_no_handshake(payload: Any) -> None:
    assert acr.handshake(json.dumps(payload).encode()) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (VALIDATION.encode(), "not JSON: Expecting value: line 1 column 1 (char 0)"),
        (json.dumps([validation(validationCode=None)]), "'data.validationCode' is missing"),
        (json.dumps([validation(validationCode=1)]), "'data.validationCode' is not a string: 1"),
        (json.dumps([VALIDATION]), f"'events[0]' is not an object: '{VALIDATION}'"),
    ],
)
def test_malformed_handshake_is_rejected(body: bytes | str, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        acr.handshake(body if isinstance(body, bytes) else body.encode())
    assert str(error.value) == message
