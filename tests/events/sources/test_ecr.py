"""Tests of Amazon ECR's events, as EventBridge sends them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.sources import decode
from tests.support.samples import sample

DIGEST = "sha256:" + "0123456789abcdef" * 4
HOST = "123456789012.dkr.ecr.us-west-2.amazonaws.com"
TIME = datetime(2026, 8, 27, 1, 2, 3, tzinfo=UTC)
DETAIL: dict[str, Any] = {
    "result": "SUCCESS",
    "repository-name": "apps/app",
    "image-digest": DIGEST,
    "action-type": "PUSH",
    "image-tag": "v1",
}
EVENT: dict[str, Any] = {
    "version": "0",
    "detail-type": "ECR Image Action",
    "source": "aws.ecr",
    "account": "123456789012",
    "time": "2026-08-27T01:02:03Z",
    "region": "us-west-2",
    "detail": DETAIL,
}

REPLICATED: dict[str, Any] = EVENT | {
    "detail-type": "ECR Replication Action",
    "resources": ["arn:aws:ecr:us-west-2:123456789012:repository/apps/app"],
    "detail": DETAIL
    | {
        "action-type": "REPLICATE",
        "source-account": "999988887777",
        "source-region": "eu-central-1",
    },
}


def image(
    kind: type[ImagePushed | ImageDeleted] = ImagePushed,
    tag: str | None = "v1",
    digest: str | None = DIGEST,
    **changes: Any,
) -> Event:
    named: dict[str, Any] = {"registry": HOST, "repository": "apps/app", "time": TIME}
    return kind(tag=tag, digest=digest, **named | changes)


def decoded(payload: Any) -> tuple[Event, ...]:
    return decode("ecr", {}, json.dumps(payload).encode())


def detail(**changes: Any) -> dict[str, Any]:
    return EVENT | {"detail": DETAIL | changes}


def test_sample_of_failed_push_is_ignored() -> None:
    assert decode("ecr", *sample("ecr-eventbridge-push-failure")) == (Ignored(reason="not pushed"),)


def test_sample_of_batch_is_two_pushes_without_their_malformed_digests() -> None:
    events = decode("ecr", *sample("ecr-eventbridge-batch-array"))
    images = [event for event in events if isinstance(event, ImagePushed)]
    assert len(images) == len(events)
    assert [(image.tag, image.digest) for image in images] == [("latest", None), ("v2", None)]


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        (EVENT, image()),
        (detail(**{"image-tag": None}), image(tag=None)),
        (detail(**{"image-tag": ""}), image(tag=None)),
        (detail(**{"action-type": "DELETE"}), image(ImageDeleted)),
        (detail(**{"action-type": "OTHER"}), Ignored(reason="unknown type")),
        (detail(result="FAILURE"), Ignored(reason="not pushed")),
        (EVENT | {"detail-type": "ECR Image Scan"}, Ignored(reason="scan")),
        (EVENT | {"detail-type": "ECR Pull Through Cache Action"}, Ignored(reason="mirror status")),
        (REPLICATED, image()),
        (
            REPLICATED | {"detail": REPLICATED["detail"] | {"result": "FAILED"}},
            Ignored(reason="not pushed"),
        ),
        (EVENT | {"detail-type": "EC2 Instance State-change"}, Ignored(reason="unknown type")),
        (EVENT | {"source": "my.app"}, Ignored(reason="unknown type")),
        (EVENT | {"time": "never"}, image(time=None)),
        (EVENT | {"account": "a b"}, Ignored(reason="registry outside the grammar")),
    ],
)
def test_type_and_result_decide(payload: Any, event: Event) -> None:
    assert decoded(payload) == (event,)


@pytest.mark.parametrize(
    ("media_type", "event"),
    [
        ("application/vnd.oci.image.config.v1+json", image()),
        ("application/vnd.docker.container.image.v1+json", image()),
        ("", image()),
        (None, image()),
        ("application/vnd.cncf.helm.config.v1+json", Ignored(reason="artifact that is no image")),
        ("application/vnd.in-toto+json", Ignored(reason="artifact that is no image")),
    ],
)
def test_media_type_of_the_artifact_shows_an_image(media_type: str | None, event: Event) -> None:
    assert decoded(detail(**{"artifact-media-type": media_type})) == (event,)


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("eu-central-1", "amazonaws.com"),
        ("us-gov-west-1", "amazonaws.com"),
        ("cn-north-1", "amazonaws.com.cn"),
        ("us-iso-east-1", "c2s.ic.gov"),
        ("us-isob-east-1", "sc2s.sgov.gov"),
        ("eusc-de-east-1", "amazonaws.eu"),
    ],
)
def test_host_of_the_registry_has_the_domain_of_its_partition(region: str, domain: str) -> None:
    host = f"123456789012.dkr.ecr.{region}.{domain}"
    assert decoded(EVENT | {"region": region}) == (image(registry=host),)


def test_batch_may_have_several_events() -> None:
    assert decoded([EVENT, detail(result="FAILURE")]) == (image(), Ignored(reason="not pushed"))
    assert decoded([]) == (Ignored(reason="no events"),)


DATA: dict[str, Any] = {
    "repositoryName": "apps/app",
    "imageDigest": DIGEST,
    "imageTag": "v1",
    "registryId": "123456789012",
}
SOURCE = "urn:aws:ecr:us-west-2:123456789012:repository/apps/app"


def transformed(
    kind: str = "com.amazon.ecr.image.push",
    data: Any = None,
    source: str = SOURCE,
    path: str = "ecr",
) -> tuple[Event, ...]:
    event = {
        "specversion": "1.0",
        "id": "1",
        "type": kind,
        "source": source,
        "time": "2026-08-27T01:02:03Z",
        "data": DATA if data is None else data,
    }
    headers = {"content-type": "application/json; charset=utf-8"}
    return decode(path, headers, json.dumps(event).encode())


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        ({}, image()),
        ({"path": "cloudevents"}, image()),
        ({"kind": "com.amazon.ecr.image.delete"}, image(ImageDeleted)),
        ({"kind": "com.amazon.ecr.image.scan"}, Ignored(reason="unknown type")),
        ({"data": DATA | {"imageTag": ""}}, image(tag=None)),
        ({"data": DATA | {"registryId": None}}, image()),
        ({"source": SOURCE.replace("urn:", "arn:")}, image()),
        ({"source": "urn:aws:ecr:us-west-2:"}, image()),
        ({"source": "urn:aws:s3:us-west-2:123456789012"}, image(registry=None)),
        ({"source": "aws.ecr"}, image(registry=None)),
        ({"data": EVENT}, image()),
        ({"data": EVENT, "kind": "com.example.forwarded"}, image()),
    ],
)
def test_cloudevent_of_an_input_transformer_is_decoded(
    changes: dict[str, Any], event: Event
) -> None:
    assert transformed(**changes) == (event,)


# Through SQS and SNS

SQS = "dev.knative.connector.event.aws-sqs"
TOPIC = "arn:aws:sns:us-west-2:123456789012:ecr-pushes"
TOKEN = "ab12" * 56
CONFIRM = f"aws sns confirm-subscription --region us-west-2 --topic-arn {TOPIC} --token {TOKEN}"
ENVELOPE: dict[str, Any] = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": TOPIC,
    "Message": json.dumps(EVENT),
    "Timestamp": "2026-08-27T01:02:04.000Z",
    "SignatureVersion": "1",
}


def confirmation(kind: str = "SubscriptionConfirmation", **changes: Any) -> dict[str, Any]:
    return ENVELOPE | {"Type": kind, "Message": "You have chosen …", "Token": TOKEN} | changes


def from_queue(body: Any, source: str = "cloudevents", *, binary: bool = True) -> tuple[Event, ...]:
    """Decode a message of a queue, as Knative's IntegrationSource delivers it."""
    attributes = {
        "specversion": "1.0",
        "id": "9CC70D09569020C-0000000000000001",
        "source": "dev.knative.eventing.aws-sqs-source",
        "type": SQS,
        "subject": "aws-sqs-source",
    }
    if not binary:
        headers = {"content-type": "application/cloudevents+json"}
        return decode(source, headers, json.dumps(attributes | {"data": body}).encode())
    named = {f"ce-{name}": value for name, value in attributes.items()}
    return decode(source, named | {"content-type": "text/plain"}, json.dumps(body).encode())


@pytest.mark.parametrize("source", ["cloudevents", "ecr"])
@pytest.mark.parametrize(
    ("body", "event"),
    [
        (EVENT, image()),
        (ENVELOPE, image()),
        (detail(result="FAILURE"), Ignored(reason="not pushed")),
        (EVENT | {"detail-type": "ECR Image Scan"}, Ignored(reason="scan")),
        (EVENT | {"detail-type": "Any other", "source": "aws.s3"}, Ignored(reason="unknown type")),
    ],
)
def test_message_of_a_queue_is_the_event_that_it_holds(
    source: str, body: Any, event: Event
) -> None:
    assert from_queue(body, source) == (event,)
    assert from_queue(body, source, binary=False) == (event,)
    assert from_queue(json.dumps(body), source, binary=False) == (event,)


def test_batch_of_messages_of_a_queue_is_decoded() -> None:
    envelope = {"specversion": "1.0", "id": "1", "source": "/s", "type": SQS}
    batch = [envelope | {"data": EVENT}, envelope | {"data": ENVELOPE}]
    headers = {"content-type": "application/cloudevents-batch+json"}
    assert decode("cloudevents", headers, json.dumps(batch).encode()) == (image(), image())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"hello": "world"}, "'detail-type' is missing"),
        ("hello", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        (None, "'events[0]' is not an object: None"),
        (1, "'events[0]' is not an object: 1"),
    ],
)
def test_other_message_of_a_queue_is_rejected(body: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        from_queue(body, binary=False)
    assert str(error.value) == message


def test_sns_may_deliver_an_event_in_its_envelope_or_raw() -> None:
    for payload in (ENVELOPE, EVENT):
        headers = {"content-type": "text/plain; charset=UTF-8"}
        assert decode("ecr", headers, json.dumps(payload).encode()) == (image(),)
    several = ENVELOPE | {"Message": json.dumps([EVENT, detail(result="FAILURE")])}
    assert decoded(several) == (image(), Ignored(reason="not pushed"))


@pytest.mark.parametrize(
    ("kind", "reason", "start"),
    [
        (
            "SubscriptionConfirmation",
            "subscription not confirmed",
            (
                f"the subscription of SNS topic {TOPIC} waits for its confirmation; if the topic "
                "is yours, run: "
            ),
        ),
        (
            "UnsubscribeConfirmation",
            "subscription deleted",
            f"the subscription of SNS topic {TOPIC} was deleted; to restore it, run: ",
        ),
    ],
)
def test_confirmation_of_sns_is_ignored_with_the_command_for_it(
    kind: str, reason: str, start: str
) -> None:
    (event,) = decoded(confirmation(kind))
    assert event == Ignored(reason=reason)
    assert isinstance(event, Ignored)
    assert event.detail == start + CONFIRM


@pytest.mark.parametrize(
    "topic",
    [
        "arn:aws-cn:sns:cn-north-1:123456789012:topic",
        "arn:aws-us-gov:sns:us-gov-west-1:123456789012:a_b-C.fifo",
    ],
)
def test_command_names_the_region_of_the_topic(topic: str) -> None:
    (event,) = decoded(confirmation(TopicArn=topic))
    assert isinstance(event, Ignored)
    assert f"--region {topic.split(':')[3]} --topic-arn {topic} " in event.detail


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (ENVELOPE | {"Message": None}, "'Message' is missing"),
        (ENVELOPE | {"Message": 1}, "'Message' is not a string: 1"),
        (
            ENVELOPE | {"Message": "hello"},
            "'Message' of SNS: not JSON: Expecting value: line 1 column 1 (char 0)",
        ),
        (ENVELOPE | {"Message": "1"}, "'events[0]' is not an object: 1"),
        (ENVELOPE | {"Message": "{}"}, "'detail-type' is missing"),
        (ENVELOPE | {"Message": json.dumps(ENVELOPE)}, "'detail-type' is missing"),
        (confirmation(Token=None), "'Token' is missing"),
        (confirmation(Token="a b"), "'Token' is not a token of SNS: 'a b'"),
        (confirmation(Token="$(id)"), "'Token' is not a token of SNS: '$(id)'"),
        (confirmation(TopicArn="topic"), "'TopicArn' is not the ARN of a topic: 'topic'"),
        (
            confirmation(TopicArn="arn:aws:sns:us-west-2:123456789012:a;id"),
            "'TopicArn' is not the ARN of a topic: 'arn:aws:sns:us-west-2:123456789012:a;id'",
        ),
        (ENVELOPE | {"Type": 1}, "'Type' is not a string: 1"),
        (ENVELOPE | {"Type": "Other"}, "'Type' is not a type of SNS: 'Other'"),
    ],
)
def test_malformed_envelope_of_sns_is_rejected(payload: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decoded(payload)
    assert str(error.value) == message


def test_message_of_sns_that_is_no_unicode_is_rejected() -> None:
    body = json.dumps(ENVELOPE | {"Message": "\ud800"})
    with pytest.raises(BadEventError, match="not JSON"):
        decode("ecr", {}, body.encode())


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (1, "'events[0]' is not an object: 1"),
        ({}, "'detail-type' is missing"),
        (EVENT | {"source": None}, "'source' is missing"),
        (EVENT | {"detail": None}, "'detail' is missing"),
        (EVENT | {"region": None}, "'region' is missing"),
        (EVENT | {"account": 123456789012}, "'account' is not a string: 123456789012"),
        (detail(result=None), "'result' is missing"),
        (detail(**{"repository-name": None}), "'repository-name' is missing"),
    ],
)
def test_malformed_event_is_rejected(payload: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decoded(payload)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [([], "the payload is not an object: []"), ({}, "'repositoryName' is missing")],
)
def test_malformed_cloudevent_is_rejected(data: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        transformed(data=data)
    assert str(error.value) == message
