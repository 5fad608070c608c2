"""Tests of the notifications of CNCF Distribution and GitLab."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.sources import decode
from tests.support.samples import sample

DIGEST = "sha256:" + "0123456789abcdef" * 4
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
TIME = datetime(2026, 8, 20, 10, 11, 12, 123_456, tzinfo=UTC)
INDEX_DIGEST = "sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6"
BLOB = Ignored(reason="blob")


def pushed(
    tag: str | None,
    digest: str | None = DIGEST,
    *,
    registry: str | None = "registry.example.com",
    repository: str = "team/app",
) -> Event:
    return ImagePushed(registry=registry, repository=repository, tag=tag, digest=digest, time=TIME)


def deleted(tag: str | None = None, digest: str | None = None) -> Event:
    return ImageDeleted(
        registry="registry.example.com",
        repository="team/app",
        tag=tag,
        digest=digest,
        time=TIME,
    )


def event(action: str = "push", **target: Any) -> dict[str, Any]:
    plain = {"mediaType": MANIFEST, "digest": DIGEST, "size": 1, "repository": "team/app"}
    return {
        "id": "1",
        "timestamp": "2026-08-20T12:11:12.123456789+02:00",
        "action": action,
        "target": plain | target,
        "request": {"host": "registry.example.com"},
    }


def deletion(**target: Any) -> dict[str, Any]:
    return event("delete") | {"target": {"repository": "team/app"} | target}


def decoded(*events: Any, source: str = "distribution") -> tuple[Event, ...]:
    media_type = "application/vnd.docker.distribution.events.v2+json"
    return decode(source, {"content-type": media_type}, json.dumps({"events": events}).encode())


@pytest.mark.parametrize(
    ("name", "events"),
    [
        (
            "distribution-v2-push-tag",
            (
                pushed(
                    "1.4.2",
                    "sha256:682a010b2355b4bcfd6fdafa61c371370a86bd8bdd8612d91a8bccbec4e6ff52",
                ),
            ),
        ),
        ("distribution-v2-push-blob", (BLOB,)),
        (
            "distribution-v1-multiarch-envelope",
            (
                BLOB,
                BLOB,
                *(
                    pushed(None, f"sha256:{digest}", repository="shop/web")
                    for digest in (
                        "b2e6d606c88404bb97e4495cbc0b732d38d6ffe11400d1188683dc3a17433d3e",
                        "2d0734fa51e1aecf1638d06718d6cd49031998ff3e32c2d525ef7224738a4ed2",
                        "f745a15153c4dacf0ea4bbf57265e73283941f8335939b33c693975315cf5916",
                    )
                ),
                pushed("2.0.0", INDEX_DIGEST, repository="shop/web"),
            ),
        ),
        (
            "distribution-v2-push-with-references",
            (pushed("2.0.0", INDEX_DIGEST, repository="shop/web"),),
        ),
        (
            "distribution-v2-push-no-actor-ipv6",
            (
                pushed(
                    "edge",
                    "sha256:3e8286044388886ee0875bb280f40fc655f55c2016794d6eee8a6012f9555f29",
                    registry="[2001:db8::10]:5000",
                    repository="ops/agent",
                ),
            ),
        ),
        ("distribution-v2-empty-envelope", (Ignored(reason="no events"),)),
    ],
)
@pytest.mark.parametrize("source", ["distribution", "gitlab"])
def test_sample_decodes_to_its_events(source: str, name: str, events: tuple[Event, ...]) -> None:
    assert decode(source, *sample(name)) == events


URL = "https://registry.example.com/v2/team/app"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"tag": "v1"}, pushed("v1")),
        ({}, pushed(None)),
        ({"tag": "v1", "digest": "sha256:short"}, pushed("v1", None)),
        ({"digest": "sha256:short"}, Ignored(reason="neither tag nor digest")),
        ({"repository": "Team"}, Ignored(reason="repository outside the grammar")),
        *(
            ({"mediaType": media_type, "tag": "v1"}, pushed("v1"))
            for media_type in (
                "application/vnd.docker.distribution.manifest.v1+json",
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.distribution.manifest.list.v2+json",
                "application/vnd.oci.image.index.v1+json",
            )
        ),
        *(
            ({"mediaType": media_type, "url": f"{URL}/manifests/latest"}, BLOB)
            for media_type in (
                "application/octet-stream",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "application/vnd.docker.container.image.rootfs.diff+x-gtar",
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.oci.image.layer.v1.tar+zstd",
                "application/vnd.oci.image.config.v1+json",
            )
        ),
        ({"mediaType": "application/vnd.new", "url": f"{URL}/manifests/{DIGEST}"}, pushed(None)),
        ({"mediaType": None, "url": f"{URL}/manifests/{DIGEST}"}, pushed(None)),
        ({"mediaType": "application/vnd.new", "url": f"{URL}/blobs/{DIGEST}"}, BLOB),
        ({"mediaType": None, "url": f"{URL}/blobs/{DIGEST}"}, BLOB),
        ({"mediaType": "application/vnd.new"}, BLOB),
        ({"artifactType": "application/vnd.oci.image.config.v1+json"}, pushed(None)),
        ({"artifactType": "application/vnd.docker.container.image.v1+json"}, pushed(None)),
        ({"artifactType": "application/vnd.cncf.helm.config.v1+json"}, Ignored(reason="artifact that is no image")),  # noqa: E501
    ],
)  # fmt: skip
def test_media_type_or_else_url_shows_a_manifest(target: dict[str, Any], expected: Event) -> None:
    assert decoded(event(**target)) == (expected,)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("manifests/latest", pushed("latest")),
        (f"manifests/{DIGEST}", pushed(None)),
        ("manifests/", pushed(None)),
        ("", pushed(None)),
    ],
)
def test_tag_comes_from_the_url_only_without_a_size(end: str, expected: Event) -> None:
    new = event(url=f"{URL}/{end}")
    old = event(url=f"{URL}/{end}", length=1)
    del old["target"]["size"]
    assert decoded(new) == (pushed(None),)
    assert decoded(old) == (expected,)


def test_registry_is_the_host_of_the_request_or_else_of_the_url() -> None:
    push = event(url="http://other.example.com:5000/v2/team/app/manifests/v1")
    assert decoded(push) == (pushed(None),)
    assert decoded(push | {"request": {"host": ""}}) == (
        pushed(None, registry="other.example.com:5000"),
    )
    assert decoded(push | {"request": None}) == (pushed(None, registry="other.example.com:5000"),)
    assert decoded(event() | {"request": None}) == (pushed(None, registry=None),)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"tag": "v1"}, deleted(tag="v1")),
        ({"digest": DIGEST}, deleted(digest=DIGEST)),
        ({}, deleted()),
        ({"tag": "", "digest": None}, deleted()),
        ({"digest": "sha256:short"}, Ignored(reason="neither tag nor digest")),
        ({"repository": "Team"}, Ignored(reason="repository outside the grammar")),
    ],
)
def test_deletion_is_of_a_tag_a_digest_or_the_repository(
    target: dict[str, Any], expected: Event
) -> None:
    assert decoded(deletion(**target)) == (expected,)


@pytest.mark.parametrize(
    ("action", "reason"), [("pull", "pull"), ("mount", "blob"), ("rename", "unknown type")]
)
def test_other_action_is_ignored_with_any_target(action: str, reason: str) -> None:
    assert decoded({"action": action, "target": 3}) == (Ignored(reason=reason),)


def test_every_event_of_a_notification_is_decoded() -> None:
    assert decoded(event(tag="v1"), event("pull"), deletion(tag="v1"), source="gitlab") == (
        pushed("v1"),
        Ignored(reason="pull"),
        deleted(tag="v1"),
    )


@pytest.mark.parametrize("timestamp", [None, "", "0001-01-01T00:00:00Z", 1, "yesterday"])
def test_malformed_time_counts_as_absent(timestamp: Any) -> None:
    (push,) = decoded(event() | {"timestamp": timestamp})
    assert isinstance(push, ImagePushed)
    assert push.time is None


def test_notifications_inside_cloudevents_are_decoded() -> None:
    envelope = {"specversion": "1.0", "id": "1", "source": "/s", "type": "com.example.forwarded"}
    body = json.dumps([envelope | {"data": {"events": [event()]}}, envelope | {"data": {}}])
    headers = {"content-type": "application/cloudevents-batch+json"}
    assert decode("distribution", headers, body.encode()) == (pushed(None),)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "the payload is not an object: []"),
        ({"events": {}}, "'events' is not a list: {}"),
        ({"events": [event("pull"), 1]}, "'events[1]' is not an object: 1"),
        ({"events": [{}]}, "'action' is missing"),
        ({"events": [{"action": "push"}]}, "'target' is missing"),
        ({"events": [{"action": "delete", "target": []}]}, "'target' is not an object: []"),
        ({"events": [event(repository=None)]}, "'repository' is missing"),
        ({"events": [deletion(repository=1)]}, "'repository' is not a string: 1"),
        ({"events": [event(tag=1)]}, "'tag' is not a string: 1"),
        ({"events": [event(url=[])]}, "'url' is not a string: []"),
        ({"events": [event() | {"request": 1}]}, "'request' is not an object: 1"),
    ],
)
def test_malformed_notification_is_rejected(payload: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decode("distribution", {}, json.dumps(payload).encode())
    assert str(error.value) == message


CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@pytest.mark.parametrize(
    ("kinds", "is_image"),
    [
        ([CONFIG, LAYER, LAYER], True),
        ([CONFIG], True),
        ([MANIFEST, MANIFEST], True),
        ([None, 1], True),
        ([], True),
        (["application/vnd.cncf.helm.config.v1+json", LAYER], False),
        ([CONFIG, "application/vnd.in-toto+json"], False),
    ],
)
def test_references_show_whether_a_manifest_is_an_image(kinds: list[Any], is_image: bool) -> None:
    references = [{"mediaType": kind} for kind in kinds]
    expected = pushed("1") if is_image else Ignored(reason="artifact that is no image")
    assert decoded(event(tag="1", references=[*references, "x"])) == (expected,)
    assert decoded(event(tag="1", references="x")) == (pushed("1"),)


def test_another_host_in_the_url_is_kept_for_the_log() -> None:
    url = f"https://public.example.com/v2/team/app/manifests/{DIGEST}"
    (found,) = decoded(event(tag="1", url=url))
    assert isinstance(found, ImagePushed)
    assert (found.registry, found.other_host) == ("registry.example.com", "public.example.com")
