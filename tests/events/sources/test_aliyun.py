"""Tests of the webhooks of Alibaba Cloud Container Registry."""

import json
from typing import Any

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Event, Ignored, ImagePushed
from image_puller.events.sources import decode

DIGEST = "sha256:" + "0123456789abcdef" * 4
HOST = "registry.cn-hangzhou.aliyuncs.com"


def pushed(
    tag: str | None = "1.2.3", *, registry: str | None = HOST, digest: str | None = DIGEST
) -> Event:
    return ImagePushed(registry=registry, repository="team/app", tag=tag, digest=digest)


def decoded(repository: dict[str, Any] | None = None, **push: Any) -> tuple[Event, ...]:
    payload = {
        "push_data": {"digest": DIGEST, "pushed_at": "2026-08-20 10:11:12", "tag": "1.2.3"} | push,
        "repository": {
            "name": "app",
            "namespace": "team",
            "region": "cn-hangzhou",
            "repo_full_name": "team/app",
        }
        | (repository or {}),
    }
    return decode("aliyun", {}, json.dumps(payload).encode())


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        ({}, pushed()),
        ({"tag": DIGEST}, pushed(None)),
        ({"digest": "sha256:short"}, pushed(digest=None)),
        ({"repository": {"region": None}}, pushed(registry=None)),
        ({"repository": {"region": ""}}, pushed(registry=None)),
        ({"repository": {"region": "a b"}}, Ignored(reason="registry outside the grammar")),
        (
            {"repository": {"repo_full_name": "team/repoTest"}},
            Ignored(reason="repository outside the grammar"),
        ),
        ({"tag": "", "digest": None}, Ignored(reason="neither tag nor digest")),
    ],
)
def test_push_has_a_digest_and_the_host_of_its_region(
    changes: dict[str, Any], event: Event
) -> None:
    assert decoded(**changes) == (event,)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "the payload is not an object: []"),
        ({"repository": {}}, "'push_data' is missing"),
        ({"push_data": {}}, "'repository' is missing"),
        # a payload of Docker Hub, which is similar
        (
            {"push_data": {}, "repository": {"repo_name": "team/app"}},
            "'repo_full_name' is missing",
        ),
        (
            {"push_data": {}, "repository": {"region": 1}},
            "'region' is not a string: 1",
        ),
    ],
)
def test_malformed_notification_is_rejected(payload: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decode("aliyun", {}, json.dumps(payload).encode())
    assert str(error.value) == message
