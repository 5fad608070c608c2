"""Tests of the webhooks of Sonatype Nexus."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.sources import decode
from tests.support.samples import sample

DIGEST = "sha256:" + "0123456789abcdef" * 4
TIME = datetime(2026, 8, 20, 10, 11, 12, 515_000, tzinfo=UTC)
COMPONENT: dict[str, Any] = {
    "format": "docker",
    "name": "team/backend/api",
    "group": None,
    "version": "1.2.3",
}


def image(
    kind: type[ImagePushed | ImageDeleted] = ImagePushed,
    tag: str | None = "1.2.3",
    digest: str | None = None,
    time: datetime | None = TIME,
) -> Event:
    return kind(registry=None, repository="team/backend/api", tag=tag, digest=digest, time=time)


def decoded(
    action: str = "CREATED", timestamp: Any = "2026-08-20T10:11:12.515+0000", **component: Any
) -> tuple[Event, ...]:
    payload = {
        "timestamp": timestamp,
        "repositoryName": "docker-hosted",
        "action": action,
        "component": COMPONENT | component,
    }
    return decode("nexus", {}, json.dumps(payload).encode())


@pytest.mark.parametrize(
    "name", ["nexus-component-created-docker", "nexus-component-updated-docker"]
)
def test_sample_is_a_push(name: str) -> None:
    assert decode("nexus", *sample(name)) == (image(),)


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        ({"action": "DELETED"}, image(ImageDeleted)),
        ({"action": "PURGED"}, Ignored(reason="unknown type")),
        ({"format": "npm"}, Ignored(reason="artifact that is no image")),
        ({"format": "npm", "action": "PURGED"}, Ignored(reason="artifact that is no image")),
        ({"version": DIGEST}, image(tag=None, digest=DIGEST)),
        ({"version": None}, Ignored(reason="neither tag nor digest")),
        ({"name": "Team"}, Ignored(reason="repository outside the grammar")),
    ],
)
def test_action_on_a_component_decodes_to_its_event(changes: dict[str, Any], event: Event) -> None:
    assert decoded(**changes) == (event,)


@pytest.mark.parametrize(
    ("timestamp", "time"),
    [
        ("2026-08-20T12:11:12.515+0200", TIME),
        ("2026-08-20T04:41:12.515-0530", TIME),
        ("2026-08-20T10:11:12.515+00:00", TIME),
        ("2026-08-20T10:11:12.515Z", TIME),
        ("2026-08-20T10:11:12.515", None),
        ("yesterday+0000", None),
        (None, None),
        (1, None),
    ],
)
def test_utc_offset_may_lack_its_colon(timestamp: Any, time: datetime | None) -> None:
    assert decoded(timestamp=timestamp) == (image(time=time),)


@pytest.mark.parametrize("payload", [{}, {"action": "CREATED", "asset": {"format": "docker"}}])
def test_event_without_component_is_ignored(payload: Any) -> None:
    assert decode("nexus", {}, json.dumps(payload).encode()) == (Ignored(reason="unknown type"),)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "the payload is not an object: []"),
        ({"component": COMPONENT}, "'action' is missing"),
        ({"action": "CREATED", "component": {}}, "'format' is missing"),
        ({"action": "CREATED", "component": {"format": "docker"}}, "'name' is missing"),
        (
            {"action": "CREATED", "component": COMPONENT | {"version": 1}},
            "'version' is not a string: 1",
        ),
    ],
)
def test_malformed_notification_is_rejected(payload: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decode("nexus", {}, json.dumps(payload).encode())
    assert str(error.value) == message
