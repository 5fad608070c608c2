"""Amazon ECR through EventBridge: https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html.

Decodes EventBridge's events, one or a batch, and CloudEvents made by an input transformer.
EventBridge may send its events through SNS, and through SQS to Knative's IntegrationSource.
https://knative.dev/docs/eventing/sources/integration-source/aws_sqs/
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from image_puller.events.cloudevents_http import CloudEvent
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.payload import field, load_text, objects, optional, rfc3339_time
from image_puller.events.sources import sns
from image_puller.events.sources.image import image_event
from image_puller.events.sources.reasons import Reason

SQS = "dev.knative.connector.event.aws-sqs"

_ACTION = "ECR Image Action"
_REPLICATION = "ECR Replication Action"
_OTHER_KINDS = {
    "ECR Image Scan": Reason.SCAN,
    "ECR Pull Through Cache Action": Reason.MIRROR,
}
_MEANINGS: dict[str, type[ImagePushed] | type[ImageDeleted]] = {
    "PUSH": ImagePushed,
    "REPLICATE": ImagePushed,  # account and region are those of the destination
    "DELETE": ImageDeleted,
    "com.amazon.ecr.image.push": ImagePushed,
    "com.amazon.ecr.image.delete": ImageDeleted,
}
# https://github.com/boto/botocore/blob/develop/botocore/data/partitions.json
_PARTITIONS = {
    "cn-": "amazonaws.com.cn",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
    "eu-isoe-": "cloud.adc-e.uk",
    "eusc-": "amazonaws.eu",
}
_PARTS_OF_ARN = 5  # arn:<partition>:ecr:<region>:<account>


def decode(payload: Any) -> Iterator[Event]:
    """Yield the events of one EventBridge event, or of a batch. Each may be in SNS's envelope."""
    for event in _objects(payload):
        message = sns.unwrap(event)
        if isinstance(message, Ignored):
            yield message
        else:
            yield from map(_decode, _objects(message))


def decode_event(event: CloudEvent) -> Iterable[Event]:
    """Return the events of a CloudEvent of type `com.amazon.ecr.…`.

    Its data is either an EventBridge event, or has keys such as `repositoryName`.
    """
    data = event.json()
    if optional(data, "detail-type", str):
        return decode(data)
    return (_transformed(event, data),)


def decode_message(event: CloudEvent) -> Iterator[Event]:
    """Yield the events of a message of SQS, the data of a CloudEvent of Knative."""
    data = event.json()
    yield from decode(load_text(data) if isinstance(data, str) else data)


def _objects(payload: Any) -> Iterator[dict[str, Any]]:
    batch = payload if isinstance(payload, list) else [payload]
    return objects({"events": batch}, "events")


def _decode(event: dict[str, Any]) -> Event:
    kind = field(event, "detail-type", str)
    if kind not in (_ACTION, _REPLICATION) or field(event, "source", str) != "aws.ecr":
        return Ignored(reason=_OTHER_KINDS.get(kind, Reason.UNKNOWN_TYPE))
    detail = field(event, "detail", dict)
    if field(detail, "result", str) != "SUCCESS":
        return Ignored(reason=Reason.NOT_PUSHED)
    # Charts and signatures are artifacts too. Only the media types of images have this part.
    if ".image." not in (optional(detail, "artifact-media-type", str) or ".image."):
        return Ignored(reason=Reason.ARTIFACT)
    return _image(
        field(detail, "action-type", str),
        registry=_registry(field(event, "account", str), field(event, "region", str)),
        repository=field(detail, "repository-name", str),
        tag=optional(detail, "image-tag", str),
        digest=optional(detail, "image-digest", str),
        time=rfc3339_time(event.get("time")),
    )


def _transformed(event: CloudEvent, data: Any) -> Event:
    return _image(
        event.type,
        registry=_registry_of(event.source, optional(data, "registryId", str)),
        repository=field(data, "repositoryName", str),
        tag=optional(data, "imageTag", str),
        digest=optional(data, "imageDigest", str),
        time=event.time,
    )


def _image(
    kind: str,
    *,
    registry: str | None,
    repository: str,
    tag: str | None,
    digest: str | None,
    time: datetime | None,
) -> Event:
    meaning = _MEANINGS.get(kind)
    if meaning is None:
        return Ignored(reason=Reason.UNKNOWN_TYPE)
    return image_event(
        meaning, registry=registry, repository=repository, tag=tag, digest=digest, time=time
    )


def _registry_of(source: str, account: str | None) -> str | None:
    """Return the host from `urn:aws:ecr:…` or `arn:aws:ecr:…`, or None for another source."""
    parts = source.split(":", _PARTS_OF_ARN)
    if len(parts) < _PARTS_OF_ARN or parts[2] != "ecr":
        return None
    return _registry(account or parts[4], parts[3])


def _registry(account: str, region: str) -> str:
    domains = (domain for start, domain in _PARTITIONS.items() if region.startswith(start))
    return f"{account}.dkr.ecr.{region}.{next(domains, 'amazonaws.com')}"
