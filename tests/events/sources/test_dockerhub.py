"""Docker Hub's webhooks."""

import json
from datetime import UTC, datetime

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Ignored, ImagePushed
from image_puller.events.sources import decode

PUSH = {"tag": "1.2.3", "pushed_at": 1767225600, "pusher": "ci"}
TIME = datetime(2026, 1, 1, tzinfo=UTC)


def pushed(tag="1.2.3", *, repository="team/app", time=TIME):
    return ImagePushed(registry="docker.io", repository=repository, tag=tag, digest=None, time=time)


def decoded(repository="team/app", **push):
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
        ({"tag": None}, Ignored(reason="neither tag nor digest")),
        ({"tag": ""}, Ignored(reason="neither tag nor digest")),
        ({"tag": "sha256-" + "a" * 64 + ".sig"}, Ignored(reason="signature or attestation")),
        ({"repository": "Team/App"}, Ignored(reason="repository outside the grammar")),
    ],
)
def test_a_push_is_of_a_tag_without_its_digest(push, event):
    assert decoded(**push) == (event,)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "the payload is not an object: []"),
        ({}, "'push_data' is missing"),
        ({"push_data": "x"}, "'push_data' is not an object: 'x'"),
        ({"push_data": PUSH}, "'repository.repo_name' is missing"),
        ({"push_data": PUSH | {"tag": 1}}, "'repository.repo_name' is missing"),
        # Alibaba Cloud's, which looks like it
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
def test_an_unreadable_notification_is_refused(payload, message):
    with pytest.raises(BadEventError) as error:
        decode("dockerhub", {}, json.dumps(payload).encode())
    assert str(error.value) == message
