"""Amazon ECR's events, as EventBridge sends them."""

import json
from datetime import UTC, datetime

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Ignored, ImageDeleted, ImagePushed
from image_puller.events.sources import decode
from tests.support.samples import sample

DIGEST = "sha256:" + "0123456789abcdef" * 4
HOST = "123456789012.dkr.ecr.us-west-2.amazonaws.com"
TIME = datetime(2026, 8, 27, 1, 2, 3, tzinfo=UTC)
DETAIL = {
    "result": "SUCCESS",
    "repository-name": "apps/app",
    "image-digest": DIGEST,
    "action-type": "PUSH",
    "image-tag": "v1",
}
EVENT = {
    "version": "0",
    "detail-type": "ECR Image Action",
    "source": "aws.ecr",
    "account": "123456789012",
    "time": "2026-08-27T01:02:03Z",
    "region": "us-west-2",
    "detail": DETAIL,
}


def image(kind=ImagePushed, tag="v1", digest=DIGEST, **changes):
    named = {"registry": HOST, "repository": "apps/app", "time": TIME}
    return kind(tag=tag, digest=digest, **named | changes)


def decoded(payload):
    return decode("ecr", {}, json.dumps(payload).encode())


def detail(**changes):
    return EVENT | {"detail": DETAIL | changes}


def test_a_sample_of_a_failure_is_ignored():
    assert decode("ecr", *sample("ecr-eventbridge-push-failure")) == (Ignored(reason="not pushed"),)


def test_a_sample_of_a_batch_is_two_pushes_whose_short_digests_count_as_absent():
    events = decode("ecr", *sample("ecr-eventbridge-batch-array"))
    assert [(event.tag, event.digest) for event in events] == [("latest", None), ("v2", None)]


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
        (EVENT | {"detail-type": "ECR Replication Action"}, Ignored(reason="replication status")),
        (EVENT | {"detail-type": "EC2 Instance State-change"}, Ignored(reason="unknown type")),
        (EVENT | {"source": "my.app"}, Ignored(reason="unknown type")),
        (EVENT | {"time": "never"}, image(time=None)),
        (EVENT | {"account": "a b"}, Ignored(reason="registry outside the grammar")),
    ],
)
def test_an_event_means_what_its_type_and_its_result_say(payload, event):
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
def test_the_type_of_the_artifact_tells_an_image(media_type, event):
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
def test_the_registrys_host_has_the_domain_of_its_partition(region, domain):
    host = f"123456789012.dkr.ecr.{region}.{domain}"
    assert decoded(EVENT | {"region": region}) == (image(registry=host),)


def test_a_batch_has_many_events():
    assert decoded([EVENT, detail(result="FAILURE")]) == (image(), Ignored(reason="not pushed"))
    assert decoded([]) == (Ignored(reason="no events"),)


DATA = {
    "repositoryName": "apps/app",
    "imageDigest": DIGEST,
    "imageTag": "v1",
    "registryId": "123456789012",
}
SOURCE = "urn:aws:ecr:us-west-2:123456789012:repository/apps/app"


def transformed(kind="com.amazon.ecr.image.push", data=None, source=SOURCE, path="ecr"):
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
def test_an_input_transformer_may_make_cloudevents_of_them(changes, event):
    assert transformed(**changes) == (event,)


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
def test_an_unreadable_event_is_refused(payload, message):
    with pytest.raises(BadEventError) as error:
        decoded(payload)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [([], "the payload is not an object: []"), ({}, "'repositoryName' is missing")],
)
def test_an_unreadable_cloudevent_is_refused(data, message):
    with pytest.raises(BadEventError) as error:
        transformed(data=data)
    assert str(error.value) == message
