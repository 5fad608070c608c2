"""Tests of the types of CloudEvents."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import (
    CheckRequested,
    DaemonSetChanged,
    Event,
    Ignored,
    ImageDeleted,
    ImagePushed,
    NodeJoined,
)
from image_puller.events.sources import decode
from tests.support.samples import sample

DIGEST = "sha256:e64c826b6b33f307cecf54ff843c5f9797c1056eb33f9dd60bc632f519712cb9"
IMAGE = {"registry": "registry.example.com", "repository": "team/app", "tag": "v1", "digest": None}
TIME = datetime(2026, 8, 20, 10, 11, 12, tzinfo=UTC)
NODE = {"ce-kind": "Node", "ce-apiversion": "v1", "ce-name": "worker-3", "ce-namespace": ""}


def decoded(kind: str, body: bytes = b"", **headers: str) -> tuple[Event, ...]:
    binary = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": kind}
    return decode("cloudevents", binary | headers, body)


def decoded_image(kind: str, **changes: Any) -> tuple[Event, ...]:
    body = json.dumps(IMAGE | changes).encode()
    return decoded(kind, body, **{"ce-time": "2026-08-20T10:11:12Z"})


def image(
    kind: type[ImagePushed | ImageDeleted] = ImagePushed,
    *,
    tag: str | None = "v1",
    digest: str | None = None,
    time: datetime | None = TIME,
) -> Event:
    return kind(
        registry="registry.example.com", repository="team/app", tag=tag, digest=digest, time=time
    )


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("cloudevents-structured-with-ce-headers", TIME),
        ("cloudevents-structured-uppercase-content-type", TIME),
        ("cloudevents-binary-unicode-subject", TIME.replace(microsecond=123_456)),
        ("cloudevents-structured-v03", None),
    ],
)
def test_sample_is_a_push(name: str, time: datetime | None) -> None:
    assert decode("cloudevents", *sample(name)) == (image(digest=DIGEST, time=time),)


def test_sample_without_id_is_rejected() -> None:
    with pytest.raises(BadEventError, match=r"^a CloudEvent has no 'id'$"):
        decode("cloudevents", *sample("cloudevents-structured-missing-id"))


@pytest.mark.parametrize(
    "kind",
    ["io.image-puller.image.pushed", "com.example.container.image.push", "x.image.pushed"],
)
def test_image_pushed_type_is_a_push(kind: str) -> None:
    assert decoded_image(kind) == (image(),)
    assert decoded_image(kind, tag=None, digest=DIGEST) == (image(tag=None, digest=DIGEST),)
    assert decoded_image(kind, tag=DIGEST) == (image(tag=None, digest=DIGEST),)


def test_image_deleted_type_is_a_deletion() -> None:
    assert decoded_image("io.image-puller.image.deleted") == (image(ImageDeleted),)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tag": "", "digest": None}, "neither tag nor digest"),
        ({"tag": None, "digest": "sha256:short"}, "neither tag nor digest"),
        ({"repository": "Team"}, "repository outside the grammar"),
        ({"registry": "https://registry.example.com"}, "registry outside the grammar"),
    ],
)
def test_event_that_names_no_image_is_ignored(changes: dict[str, Any], reason: str) -> None:
    assert decoded_image("x.image.pushed", **changes) == (Ignored(reason=reason),)


@pytest.mark.parametrize(
    "kind",
    [
        "com.example.image.deleted", "image.pushed", "x.image.Pushed", "x.image.pushed.v1",
        "dev.knative.sources.ping.x", "dev.knative.apiserver", "io.image-puller.rollout.started",
    ],
)  # fmt: skip
def test_unknown_type_is_ignored_with_any_data(kind: str) -> None:
    assert decoded(kind, b"{", **{"content-type": "application/json"}) == (
        Ignored(reason="unknown type"),
    )


@pytest.mark.parametrize("kind", ["dev.knative.sources.ping", "io.image-puller.check"])
@pytest.mark.parametrize("body", [b"", b'{"check":true}', b"{"])
def test_check_type_requests_a_check_with_any_data(kind: str, body: bytes) -> None:
    assert decoded(kind, body) == (CheckRequested(),)


DAEMONSET = {
    "ce-kind": "DaemonSet",
    "ce-apiversion": "apps/v1",
    "ce-name": "kubernetes-image-puller",
}
ADD = "dev.knative.apiserver.resource.add"
REF_ADD = "dev.knative.apiserver.ref.add"


@pytest.mark.parametrize(
    ("kind", "headers", "body"),
    [
        (ADD, NODE, b"{"),
        (REF_ADD, NODE, b""),
        (ADD, {}, b'{"apiVersion":"v1","kind":"Node","metadata":{"name":"worker-3"}}'),
        (REF_ADD, {}, b'{"kind":"Node","name":"worker-3","apiVersion":"v1"}'),
        (ADD, {"ce-kind": "Node", "ce-name": ""}, b'{"apiVersion":"v1","metadata":{"name":"worker-3"}}'),  # noqa: E501
    ],
)  # fmt: skip
def test_added_node_has_joined(kind: str, headers: dict[str, str], body: bytes) -> None:
    assert decoded(kind, body, **headers) == (NodeJoined(node="worker-3"),)


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("dev.knative.apiserver.resource.update", NODE),
        ("dev.knative.apiserver.resource.delete", NODE),
        ("dev.knative.apiserver.ref.update", NODE),
        ("dev.knative.apiserver.ref.delete", NODE),
        ("dev.knative.apiserver.new", NODE),
        ("dev.knative.apiserver.new", DAEMONSET),
        (ADD, NODE | {"ce-kind": "Pod"}),
        (ADD, NODE | {"ce-kind": "DaemonSet"}),
        (ADD, NODE | {"ce-apiversion": "longhorn.io/v1beta2"}),
    ],
)
def test_other_change_of_an_object_is_ignored(kind: str, headers: dict[str, str]) -> None:
    assert decoded(kind, b"{", **headers) == (Ignored(reason="change of another object"),)


@pytest.mark.parametrize("mode", ["resource", "ref"])
@pytest.mark.parametrize("change", ["add", "update", "delete"])
def test_each_change_of_a_daemonset_is_taken(mode: str, change: str) -> None:
    expected = (DaemonSetChanged(name="kubernetes-image-puller"),)
    kind = f"dev.knative.apiserver.{mode}.{change}"
    assert decoded(kind, b"{", **DAEMONSET) == expected
    body = (
        b'{"kind":"DaemonSet","namespace":"k8s-image-puller",'
        b'"name":"kubernetes-image-puller","apiVersion":"apps/v1"}'
    )
    assert decoded(kind, body) == expected


@pytest.mark.parametrize("kind", ["harbor.artifact.pulled", "harbor.new"])
def test_types_of_harbor_go_to_its_decoder(kind: str) -> None:
    assert decoded(kind) == decode("harbor", {}, json.dumps({"type": kind}).encode())


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        *(
            (
                kind,
                body,
                f"the data must have exactly registry, repository, tag and digest: {quoted}",
            )
            for kind in ("x.image.pushed", "io.image-puller.image.deleted")
            for body, quoted in (
                (b"", "None"),
                (b"[]", "[]"),
                (b'{"registry": "r"}', "{'registry': 'r'}"),
                (
                    json.dumps(IMAGE | {"more": 1}).encode(),
                    "{'digest': None, 'more': 1, 'registry': 'registry.example.com', 'rep",
                ),
            )
        ),
        ("x.image.push", b"{", "not JSON: Expecting property name enclosed in double quotes: "),
        ("x.image.push", json.dumps(IMAGE | {"tag": None}).encode(), "'tag' and 'digest' are both null"),  # noqa: E501
        ("x.image.push", json.dumps(IMAGE | {"tag": 1}).encode(), "'tag' is not a string: 1"),
        ("x.image.push", json.dumps(IMAGE | {"registry": None}).encode(), "'registry' is missing"),
        ("x.image.push", json.dumps(IMAGE | {"repository": 1}).encode(), "'repository' is not a string: 1"),  # noqa: E501
        (ADD, b"", "the payload is not an object: None"),
        (ADD, b"[]", "the payload is not an object: []"),
        (ADD, b'{"kind": "Node", "apiVersion": "v1"}', "not the name of a node: ''"),
        (ADD, b'{"kind": "Node", "apiVersion": "v1", "name": "../x"}', "not the name of a node: '../x'"),  # noqa: E501
        ("dev.knative.apiserver.ref.update", b'{"kind": "DaemonSet", "apiVersion": "apps/v1", "name": "A"}', "not the name of a DaemonSet: 'A'"),  # noqa: E501
        (ADD, b'{"kind": 1}', "'kind' is not a string: 1"),
    ],
)  # fmt: skip
def test_malformed_data_of_a_known_type_is_rejected(kind: str, body: bytes, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decoded(kind, body)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ({}, b"", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        (
            {"content-type": "application/json"},
            b"{}",
            "not a CloudEvent, neither by its Content-Type nor by a ce-specversion header: {}",
        ),
    ],
)
def test_request_that_is_no_cloudevent_is_rejected(
    headers: dict[str, str], body: bytes, message: str
) -> None:
    with pytest.raises(BadEventError) as error:
        decode("cloudevents", headers, body)
    assert str(error.value) == message


def test_empty_batch_has_no_events() -> None:
    headers = {"content-type": "application/cloudevents-batch+json"}
    assert decode("cloudevents", headers, b"[]") == (Ignored(reason="no events"),)
