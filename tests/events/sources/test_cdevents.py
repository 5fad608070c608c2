"""Tests of CDEvents about artifacts."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.sources import decode

DIGEST = "sha256:0b31b1c02ff458ad9b7b81cbdf8f028bd54699fa151f221d1e8de6817db93427"
ENCODED = DIGEST.replace(":", "%3A")
TIME = datetime(2026, 8, 20, 10, 11, 12, tzinfo=UTC)
PACKAGED = "dev.cdevents.artifact.packaged.0.2.0"
PUBLISHED = "dev.cdevents.artifact.published.0.3.0"


def image(
    kind: type[ImagePushed | ImageDeleted] = ImagePushed,
    tag: str | None = None,
    digest: str | None = DIGEST,
    **changes: Any,
) -> Event:
    named: dict[str, Any] = {"registry": "mycr.io", "repository": "team/app", "time": TIME}
    return kind(tag=tag, digest=digest, **named | changes)


def cdevent(
    kind: str = PUBLISHED, purl: Any = f"pkg:oci/app@{ENCODED}?repository_url=mycr.io/team/app"
) -> dict[str, Any]:
    return {
        "context": {"type": kind, "timestamp": "2026-08-20T10:11:12Z"},
        "subject": {"id": purl, "content": {}},
    }


def wrapped(
    payload: Any,
    kind: str = PUBLISHED,
    source: str = "cdevents",
    time: dict[str, str] | None = None,
) -> tuple[Event, ...]:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/ci",
        "ce-type": kind,
        "content-type": "application/json",
    }
    return decode(source, headers | (time or {}), json.dumps(payload).encode())


@pytest.mark.parametrize(
    ("predicate", "event"),
    [
        ("published.0.1.1", image()),
        ("published.0.2.0", image()),
        ("published.0.3.0-draft", image()),
        ("deleted.0.1.0", image(ImageDeleted, with_all_tags=True)),
        ("packaged.0.2.0", Ignored(reason="not pushed")),
        ("signed.0.2.0", Ignored(reason="signature or attestation")),
        ("downloaded.0.1.0", Ignored(reason="pull")),
        ("invented.0.1.0", Ignored(reason="unknown type")),
        ("publishedtoo.0.1.0", Ignored(reason="unknown type")),
    ],
)
def test_type_decides_in_any_version(predicate: str, event: Event) -> None:
    kind = f"dev.cdevents.artifact.{predicate}"
    assert wrapped(cdevent(kind), kind) == (event,)
    assert wrapped(cdevent(kind), kind, "cloudevents") == (event,)
    assert decode("cdevents", {}, json.dumps(cdevent(kind)).encode()) == (event,)


@pytest.mark.parametrize(
    "kind", ["dev.cdevents.service.deployed.0.1.0", "published", "com.example.x"]
)
def test_event_about_another_subject_is_ignored(kind: str) -> None:
    body = json.dumps(cdevent(kind)).encode()
    assert decode("cdevents", {}, body) == (Ignored(reason="unknown type"),)


@pytest.mark.parametrize(
    ("purl", "event"),
    [
        (f"app@{ENCODED}?repository_url=mycr.io/team/app&tag=v1", image(tag="v1")),
        (f"app@{ENCODED}?tag=v1&repository_url=mycr.io%2Fteam%2Fapp#sub/path", image(tag="v1")),
        (f"app@{DIGEST}?repository_url=https://mycr.io/team/app", image()),
        (f"app@{ENCODED}?repository_url=mycr.io/team", image()),
        (f"app@{ENCODED}?repository_url=mycr.io", image(repository="app")),
        (f"app@{ENCODED}?repository_url=localhost:5000/app", image(registry="localhost:5000", repository="app")),  # noqa: E501
        (f"app@{ENCODED}", image(registry=None, repository="app")),
        ("app?repository_url=mycr.io/team/app&tag=v1", image(tag="v1", digest=None)),
        ("app@v1?repository_url=mycr.io/team/app", Ignored(reason="neither tag nor digest")),
        (f"App@{ENCODED}?repository_url=mycr.io/team/app", Ignored(reason="repository outside the grammar")),  # noqa: E501
        ("", Ignored(reason="repository outside the grammar")),
    ],
)  # fmt: skip
def test_image_comes_from_the_package_url(purl: str, event: Event) -> None:
    assert wrapped(cdevent(purl=f"pkg:oci/{purl}")) == (event,)


@pytest.mark.parametrize(
    ("purl", "event"),
    [
        (f"team/app@{ENCODED}?repository_url=mycr.io&tag=v1", image(tag="v1")),
        (f"team/app@{ENCODED}?repository_url=https://mycr.io/", image()),
        (f"app@{ENCODED}?repository_url=mycr.io/team", image()),
        (f"team/app@{ENCODED}?repository_url=mycr.io/team/app", image()),
        (f"team%2Fapp@{ENCODED}?repository_url=mycr.io", image()),
        ("team/app@v1?repository_url=mycr.io", image(tag="v1", digest=None)),
        ("team/app@v2?repository_url=mycr.io&tag=v1", image(tag="v1", digest=None)),
        ("cassandra@latest", image(registry="docker.io", repository="cassandra", tag="latest", digest=None)),  # noqa: E501
        ("team/app?repository_url=mycr.io", Ignored(reason="neither tag nor digest")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("start", ["pkg:docker/", "pkg://docker/", "pkg:Docker/"])
def test_image_comes_from_a_package_url_of_type_docker(start: str, purl: str, event: Event) -> None:
    assert wrapped(cdevent(purl=start + purl)) == (event,)


@pytest.mark.parametrize("purl", ["pkg:golang/mygit.com/myorg/myapp@234fd47e", "mycr.io/app", ""])
def test_artifact_that_is_no_image_is_ignored(purl: str) -> None:
    assert wrapped(cdevent(purl=purl)) == (Ignored(reason="artifact that is no image"),)


def test_time_of_the_cloudevent_counts_where_the_cdevent_has_none() -> None:
    payload = cdevent()
    payload["context"]["timestamp"] = "never"
    assert wrapped(payload) == (image(time=None),)
    assert wrapped(payload, time={"ce-time": "2026-08-20T10:11:12Z"}) == (image(),)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "the payload is not an object: []"),
        ({}, "'context.type' is missing"),
        ({"context": {"type": PUBLISHED}}, "'subject.id' is missing"),
        (cdevent(purl=1), "'subject.id' is not a string: 1"),
        # With only one of the two, a build could count as a push.
        (
            cdevent(PACKAGED),
            f"'context.type' differs from the CloudEvent's type: {PACKAGED!r}",
        ),
    ],
)
def test_malformed_event_is_rejected(payload: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        wrapped(payload)
    assert str(error.value) == message
