"""Tests of the webhooks of Docker Hub."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Event, Ignored, ImagePushed
from image_puller.events.sources import decode

PUSH = {"tag": "1.2.3", "pushed_at": 1767225600, "pusher": "ci"}
TIME = datetime(2026, 1, 1, tzinfo=UTC)


def pushed(
    tag: str | None = "1.2.3", *, repository: str = "team/app", time: datetime | None = TIME
) -> Event:
    return ImagePushed(registry="docker.io", repository=repository, tag=tag, digest=None, time=time)


def decoded(repository: str = "team/app", **push: Any) -> tuple[Event, ...]:
    payload = {
        "callback_url": "https://registry.hub.docker.com/u/team/app/hook/2141b5/",
        "push_data": PUSH | push,
        "repository": {"repo_name": repository, "repo_url": "https://hub.docker.com/r/x/y"},
    }
    return decode("dockerhub", {}, json.dumps(payload).encode())


@pytest.mark.parametrize(
    ("push", "event"),
    [
        ({}, pushed()),
        ({"repository": "library/nginx"}, pushed(repository="library/nginx")),
        ({"pushed_at": 1.7672256e9}, pushed()),
        ({"pushed_at": None}, pushed(time=None)),
        ({"pushed_at": "today"}, pushed(time=None)),
        ({"images": [], "media_type": "application/vnd.oci.image.index.v1+json"}, pushed()),
        ({"media_type": "application/vnd.cncf.helm.config.v1+json"}, Ignored(reason="chart")),
        ({"media_type": "model/x"}, Ignored(reason="artifact that is no image")),
        ({"tag": None}, Ignored(reason="neither tag nor digest")),
        ({"tag": ""}, Ignored(reason="neither tag nor digest")),
        ({"tag": "sha256-" + "a" * 64 + ".sig"}, Ignored(reason="signature or attestation")),
        ({"repository": "Team/App"}, Ignored(reason="repository outside the grammar")),
    ],
)
def test_push_has_a_tag_and_no_digest(push: dict[str, Any], event: Event) -> None:
    assert decoded(**push) == (event,)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "the payload is not an object: []"),
        ({}, "'push_data' is missing"),
        ({"push_data": "x"}, "'push_data' is not an object: 'x'"),
        ({"push_data": PUSH}, "'repository.repo_name' is missing"),
        ({"push_data": PUSH | {"tag": 1}}, "'repository.repo_name' is missing"),
        # a payload of Alibaba Cloud, which is similar
        (
            {"push_data": PUSH, "repository": {"repo_full_name": "team/app"}},
            "'repository.repo_name' is missing",
        ),
        (
            {"push_data": {"tag": 1}, "repository": {"repo_name": "team/app"}},
            "'tag' is not a string: 1",
        ),
    ],
)
def test_malformed_notification_is_rejected(payload: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decode("dockerhub", {}, json.dumps(payload).encode())
    assert str(error.value) == message
