"""Tests of the CloudEvents of zot."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.sources import decode
from tests.support.samples import sample

DIGEST = "sha256:d086afadf895ba005f583df3fbfc42364be8c0b7b6a85c300546f73917ae29d0"
TIME = datetime(2026, 8, 20, 10, 11, 12, 123_456, tzinfo=UTC)
IMAGE = {"name": "golang", "reference": "1.20", "digest": DIGEST}
BINARY = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "zotregistry.dev",
    "ce-time": "2026-08-20T10:11:12.123456789Z",
}


def image(
    kind: type[ImagePushed | ImageDeleted] = ImagePushed,
    tag: str | None = "1.20",
    *,
    repository: str = "golang",
    digest: str | None = DIGEST,
) -> Event:
    return kind(registry=None, repository=repository, tag=tag, digest=digest, time=TIME)


def decoded(kind: str, data: Any, source: str = "zot") -> tuple[Event, ...]:
    return decode(source, BINARY | {"ce-type": kind}, json.dumps(data).encode())


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("zot-image-updated-nested-untagged", image(tag=None, repository="infra/ci/agent")),
        ("zot-image-updated-channel", image()),
        ("zot-image-updated-structured", image(tag="latest")),
        ("zot-repository-created", Ignored(reason="about no image")),
        ("zot-image-lint_failed", Ignored(reason="not pushed")),
    ],
)
@pytest.mark.parametrize("source", ["zot", "cloudevents"])
def test_sample_decodes_to_its_event_on_both_paths(source: str, name: str, event: Event) -> None:
    assert decode(source, *sample(name)) == (event,)


@pytest.mark.parametrize(
    ("kind", "changes", "event"),
    [
        ("image.updated", {"digest": ""}, image(digest=None)),
        ("image.updated", {"reference": None}, image(tag=None)),
        ("image.updated", {"reference": "sha256:x", "digest": None}, Ignored(reason="neither tag nor digest")),  # noqa: E501
        ("image.updated", {"name": "Golang"}, Ignored(reason="repository outside the grammar")),
        ("image.deleted", {}, image(ImageDeleted)),
        ("image.deleted", {"reference": DIGEST}, image(ImageDeleted, None)),
        ("image.scanned", {}, Ignored(reason="scan")),
        ("image.invented", {}, Ignored(reason="unknown type")),
    ],
)  # fmt: skip
def test_type_decides(kind: str, changes: dict[str, Any], event: Event) -> None:
    assert decoded(f"zotregistry.{kind}", IMAGE | changes) == (event,)


@pytest.mark.parametrize("kind", ["zotregistry.image.scanned", "zotregistry.x"])
def test_data_of_ignored_type_is_not_parsed(kind: str) -> None:
    (event,) = decode("zot", BINARY | {"ce-type": kind}, b"not JSON")
    assert isinstance(event, Ignored)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "the payload is not an object: []"),
        ({}, "'name' is missing"),
        (IMAGE | {"reference": 1}, "'reference' is not a string: 1"),
    ],
)
def test_malformed_event_is_rejected(data: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decoded("zotregistry.image.updated", data)
    assert str(error.value) == message


def test_body_without_type_is_rejected() -> None:
    with pytest.raises(BadEventError, match=r"^not a CloudEvent of zot: \{'digest'"):
        decode("zot", {}, json.dumps(IMAGE).encode())


def test_path_of_zot_accepts_any_type_prefix() -> None:
    # zot's setting `typePrefix`, https://zotregistry.dev/v2.1.21/articles/events/
    assert decoded("com.example.registry.image.updated", IMAGE) == (image(),)
    assert decoded("image.deleted", IMAGE) == (image(ImageDeleted),)
    other = (Ignored(reason="unknown type"),)
    assert decoded("com.example.forwarded", IMAGE) == other
    assert decoded("updated", IMAGE) == other
    assert decoded("com.example.registry.image.updated", IMAGE, "cloudevents") == other


@pytest.mark.parametrize(
    ("manifest", "event"),
    [
        ('{"config": {"mediaType": "application/vnd.oci.image.config.v1+json"}}', image()),
        ("{}", image()),
        ("[]", image()),
        ("[" * 40_000, image()),
        ("not JSON", image()),
        (1, image()),
        (None, image()),
        (
            '{"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json"}}',
            Ignored(reason="chart"),
        ),
        ('{"artifactType": "model/x"}', Ignored(reason="artifact that is no image")),
    ],
)
def test_manifest_shows_whether_an_artifact_is_an_image(manifest: Any, event: Event) -> None:
    assert decoded("zotregistry.image.updated", IMAGE | {"manifest": manifest}) == (event,)
