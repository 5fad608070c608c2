"""Tests of the webhooks of Gitea and Forgejo."""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.sources import decode
from tests.support.samples import sample

DIGEST = "sha256:ddc9e669194254cef019a29d3619a2c16592e5d52e1a81e98b01bd52319149a3"
TIME = datetime(2026, 8, 20, 10, 11, 12, tzinfo=UTC)
PACKAGE: dict[str, Any] = {
    "type": "container",
    "owner": {"login": "acme"},
    "name": "team/api",
    "version": "v1.2.3",
    "html_url": "https://git.example.com:3000/acme/-/packages/container/team%2Fapi/v1.2.3",
    "created_at": "2026-08-20T12:11:12+02:00",
}


def image(
    kind: type[ImagePushed | ImageDeleted] = ImagePushed,
    tag: str | None = "v1.2.3",
    digest: str | None = None,
    **changes: Any,
) -> Event:
    named: dict[str, Any] = {
        "registry": "git.example.com:3000",
        "repository": "acme/team/api",
        "time": TIME,
        "folds_case": True,
    }
    return kind(tag=tag, digest=digest, **named | changes)


def decoded(action: str = "created", **package: Any) -> tuple[Event, ...]:
    payload = {"action": action, "repository": None, "package": PACKAGE | package}
    return decode("gitea", {}, json.dumps(payload).encode())


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("gitea-package-created-container-untagged", image(tag=None, digest=DIGEST)),
        ("gitea-package-created-npm", Ignored(reason="artifact that is no image")),
    ],
)
def test_sample_decodes_to_its_event(name: str, event: Event) -> None:
    assert decode("gitea", *sample(name)) == (event,)


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        ({}, image()),
        ({"action": "deleted"}, image(ImageDeleted)),
        ({"action": "deleted", "version": DIGEST}, image(ImageDeleted, None, DIGEST)),
        ({"action": "opened"}, Ignored(reason="unknown type")),
        ({"owner": {"login": "ACME"}}, image()),
        ({"html_url": None}, image(registry=None)),
        ({"html_url": "http://git.lab/sub/acme/-/packages/x"}, image(registry="git.lab")),
        ({"html_url": "nonsense!"}, Ignored(reason="registry outside the grammar")),
        ({"created_at": "0001-01-01T00:00:00Z"}, image(time=None)),
        ({"version": ""}, Ignored(reason="neither tag nor digest")),
        ({"version": "a b"}, Ignored(reason="tag outside the grammar")),
    ],
)
def test_package_decodes_to_its_event(changes: dict[str, Any], event: Event) -> None:
    assert decoded(**changes) == (event,)


@pytest.mark.parametrize("payload", [{}, {"action": "opened"}, {"ref": "refs/heads/main"}])
def test_event_about_another_subject_is_ignored(payload: Any) -> None:
    assert decode("gitea", {}, json.dumps(payload).encode()) == (Ignored(reason="unknown type"),)


def test_form_is_decoded() -> None:
    payload = {"action": "created", "package": PACKAGE}
    body = urlencode({"payload": json.dumps(payload)}).encode()
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert decode("gitea", headers, body) == (image(),)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "the payload is not an object: []"),
        ({"package": []}, "'package' is not an object: []"),
        ({"action": "created", "package": {}}, "'type' is missing"),
        ({"action": "created", "package": {"type": "container"}}, "'owner.login' is missing"),
        (
            {"action": "created", "package": PACKAGE | {"name": None}},
            "'name' is missing",
        ),
        (
            {"action": "created", "package": PACKAGE | {"version": 1}},
            "'version' is not a string: 1",
        ),
    ],
)
def test_malformed_notification_is_rejected(payload: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decode("gitea", {}, json.dumps(payload).encode())
    assert str(error.value) == message
