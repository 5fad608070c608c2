"""Property tests of the decoders of all sources, with arbitrary requests."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_puller.errors import BadEventError
from image_puller.events.sources import SOURCES, decode
from tests.support.decoding import check

Path = tuple[Any, ...]

# Keys and values that the decoders know. Only with them arbitrary requests reach all branches.
KEYS = st.sampled_from(
    """
    account action action-type apiVersion component container_metadata context created_at data
    detail detail-type digest docker_url domain event_data event_type eventType events format host
    html_url id image-tag imageTag image_name jpd_origin kind login mediaType media_type message
    metadata name namespace occur_at owner package package_type package_url package_version path
    publishTime push_data pushed_at reference region registry registry_package registryId
    repo_full_name repo_key repo_name repository repository-name repositoryName repository_url
    request resource_url resources result sha256 size source specversion subject tag target time
    timestamp type updated_tags url version Type Message TopicArn Token
    """.split()  # noqa: SIM905 - a list of words reads best as words
)
WORDS = st.sampled_from(
    """
    push delete pull published created pushed deleted PUSH DELETE INSERT CREATED SUCCESS container
    docker aws.ecr us-west-2 Microsoft.ContainerRegistry.ImagePushed zotregistry.image.updated
    Microsoft.EventGrid.SubscriptionValidationEvent com.amazon.ecr.image.push eyJhY3Rpb24iOjF9
    dev.cdevents.artifact.published.0.2.0 google.cloud.pubsub.topic.v1.messagePublished
    urn:aws:ecr:us-west-2:123456789012:repository/app pkg:oci/app@sha256%3A0?tag=v1 ghcr.io/a/b:
    Notification SubscriptionConfirmation arn:aws:sns:us-west-2:123456789012:topic
    dev.knative.connector.event.aws-sqs
    PUSH_ARTIFACT DELETE_ARTIFACT harbor.artifact.pushed x.image.pushed
    io.image-puller.image.deleted dev.knative.apiserver.ref.add Node v1 1.0 team/app latest
    host/team/app:v1 host.example.com/team/app https://host/v2/team/app/manifests/v1
    application/vnd.oci.image.index.v1+json 2026-08-20T10:11:12Z 2026-08-20T10:11:12+0000
    """.split()  # noqa: SIM905
) | st.just("ECR Image Action")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(KEYS, values, max_size=8),
    max_leaves=30,
)
PAYLOADS = st.dictionaries(KEYS, VALUES, max_size=12) | VALUES
HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "ce-specversion", "ce-id", "ce-source", "ce-type", "ce-kind"])
    | st.text().map("ce-{}".format),
    st.sampled_from(
        [
            "application/json",
            "application/cloudevents+json",
            "application/cloudevents-batch+json",
            "%ff",
        ]
    )
    | WORDS
    | st.text(),
)


every_source = pytest.mark.parametrize("source", sorted(SOURCES))

# Each generated request goes to every source, because generating takes longer than decoding.


@given(HEADERS, st.binary())
def test_any_bytes_are_decoded_or_rejected(headers: dict[str, str], body: bytes) -> None:
    for source in SOURCES:
        check(source, headers, body)


@given(HEADERS, PAYLOADS)
@settings(max_examples=200)
def test_any_json_is_decoded_or_rejected(headers: dict[str, str], payload: Any) -> None:
    body = json.dumps(payload).encode()
    for source in SOURCES:
        check(source, headers, body)


@every_source
def test_error_quotes_little_of_the_request(source: str) -> None:
    check(source, {"ce-specversion": "1.0", f"ce-{'x' * 9999}": "%ff"}, b"{}")
    check(source, {"ce-specversion": "1.0", "ce-id": "%ff" * 9999}, b"{}")
    check(source, {"content-type": f"application/cloudevents+{'x' * 9999}"}, b"{}")


@every_source
@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"type":' * 200_000, b"9" * 10_000])
def test_malicious_body_is_rejected(source: str, body: bytes) -> None:
    with pytest.raises(BadEventError):
        decode(source, {}, body)


# Requests that the decoders read completely. Tests replace each of their values by another.
DEEP: list[tuple[str, Any]] = [
    ("dockerhub", {"push_data": {"tag": "v1", "pushed_at": 1}, "repository": {"repo_name": "a/b"}}),
    (
        "aliyun",
        {"push_data": {"tag": "v1"}, "repository": {"region": "r", "repo_full_name": "a/b"}},
    ),
    (
        "github",
        {
            "action": "published",
            "package": {
                "name": "b",
                "namespace": "a",
                "owner": {"login": "a"},
                "package_type": "container",
                "registry": {"type": "docker", "url": "https://ghcr.io/a/b"},
                "package_version": {
                    "version": "v1",
                    "name": "v1",
                    "package_url": "ghcr.io/a/b:v1",
                    "container_metadata": {
                        "tag": {"name": "v1", "digest": "x"},
                        "manifest": {"digest": "x"},
                    },
                },
            },
        },
    ),
    (
        "acr",
        [
            {
                "eventType": "Microsoft.ContainerRegistry.ImagePushed",
                "data": {
                    "action": "push",
                    "target": {"mediaType": "x", "url": "/manifests/", "repository": "a/b"},
                    "request": {"host": "h"},
                },
            },
        ],
    ),
    (
        "ecr",
        {
            "detail-type": "ECR Image Action",
            "source": "aws.ecr",
            "account": "1",
            "region": "r",
            "time": "t",
            "detail": {
                "result": "SUCCESS",
                "action-type": "PUSH",
                "repository-name": "a/b",
                "image-tag": "v1",
                "image-digest": "x",
                "artifact-media-type": "x.image.x",
            },
        },
    ),
    ("ecr", {"Type": "Notification", "TopicArn": "t", "Message": '{"detail-type": "x"}'}),
    (
        "ecr",
        {
            "Type": "SubscriptionConfirmation",
            "TopicArn": "arn:aws:sns:us-west-2:123456789012:topic",
            "Token": "a1",
        },
    ),
    ("gar", {"message": {"data": "eyJhY3Rpb24iOiJJTlNFUlQifQ==", "publishTime": "t"}}),
    ("gar", {"action": "INSERT", "tag": "gcr.io/a/b:v1", "digest": "gcr.io/a/b@x"}),
    (
        "jfrog",
        {
            "domain": "docker",
            "event_type": "pushed",
            "jpd_origin": "https://h",
            "data": {
                "repo_key": "k",
                "path": "a/b/v1/m",
                "image_name": "b",
                "tag": "v1",
                "sha256": "x",
                "image_type": "docker",
            },
        },
    ),
    (
        "nexus",
        {
            "timestamp": "t",
            "action": "CREATED",
            "component": {"format": "docker", "name": "a/b", "version": "v1"},
        },
    ),
    (
        "gitea",
        {
            "action": "created",
            "package": {
                "type": "container",
                "owner": {"login": "a"},
                "name": "b",
                "version": "v1",
                "html_url": "https://h/x",
                "created_at": "t",
            },
        },
    ),
    (
        "cdevents",
        {
            "context": {"type": "dev.cdevents.artifact.published.0.2.0", "timestamp": "t"},
            "subject": {"id": "pkg:oci/b@x?repository_url=h/a/b&tag=v1"},
        },
    ),
]


def paths_in(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of each value inside a value, and its own empty path."""
    yield path
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths_in(child, (*path, key))


def with_replaced(value: Any, path: Path, other: Any) -> Any:
    if not path:
        return other
    copy = value.copy()
    copy[path[0]] = with_replaced(value[path[0]], path[1:], other)
    return copy


@given(VALUES)
def test_any_value_in_any_place_is_decoded_or_rejected(other: Any) -> None:
    for source, payload in DEEP:
        for path in paths_in(payload):
            check(source, {}, json.dumps(with_replaced(payload, path, other)).encode())


def test_each_source_has_its_documented_timeout_or_the_default() -> None:
    documented = {
        "quay": 8,
        "distribution": 0.8,
        "gitlab": 0.8,
        "github": 8,
        "ecr": 4,
        "gitea": 4,
    }
    timeouts = {source.name: source.timeout for source in SOURCES.values()}
    assert timeouts == dict.fromkeys(SOURCES, 2.5) | documented


def test_unknown_source_raises_key_error() -> None:
    with pytest.raises(KeyError):
        decode("unknown", {}, b"{}")
