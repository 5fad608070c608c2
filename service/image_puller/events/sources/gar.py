"""Google Artifact Registry and GCR: https://cloud.google.com/artifact-registry/docs/configure-notifications.

Decodes messages of Eventarc and of Pub/Sub, with Pub/Sub's wrapper or without it.
https://cloud.google.com/pubsub/docs/push
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from image_puller.errors import BadEventError
from image_puller.events.cloudevents_http import CloudEvent
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.payload import load, optional, quote, rfc3339_time
from image_puller.events.sources.image import host_and_path, image_event
from image_puller.events.sources.reasons import Reason

_MEANINGS: dict[str, type[ImagePushed] | type[ImageDeleted]] = {
    "INSERT": ImagePushed,
    "DELETE": ImageDeleted,
}
_TIME_HEADER = "x-goog-pubsub-publish-time"


def read(headers: Mapping[str, str], body: bytes) -> Any:
    """Return the payload. A message without its wrapper has its time in a header."""
    payload = load(body)
    if isinstance(payload, dict) and _TIME_HEADER in headers:
        return payload | {"publishTime": headers[_TIME_HEADER]}
    return payload


def decode(payload: Any) -> Iterator[Event]:
    """Yield the event of a message, with its wrapper or without it."""
    message = optional(payload, "message", dict)
    if message is None:
        yield _decode(payload, _time(payload))
    elif data := optional(message, "data", str):
        yield _decode(load(_unwrapped(data)), _time(message))
    else:
        yield Ignored(reason=Reason.UNKNOWN_TYPE)


def decode_event(event: CloudEvent) -> Iterable[Event]:
    """Return the event of an Eventarc CloudEvent, whose data is a wrapped Pub/Sub message."""
    return decode(event.json())


def _decode(notification: Any, time: datetime | None) -> Event:
    kind = _MEANINGS.get(optional(notification, "action", str) or "")
    if kind is None:
        return Ignored(reason=Reason.UNKNOWN_TYPE)
    name, digest, tag = _references(notification)
    registry, repository = host_and_path(name)
    return image_event(
        kind, registry=registry, repository=repository, tag=tag, digest=digest, time=time
    )


def _references(notification: Any) -> tuple[str, str, str]:
    """Return the name, the digest and the tag. The payload has two full references."""
    of_digest, _, digest = (optional(notification, "digest", str) or "").partition("@")
    of_tag, _, tag = (optional(notification, "tag", str) or "").rpartition(":")
    if of_digest and of_tag and of_digest != of_tag:
        raise BadEventError(f"'digest' and 'tag' name two images: {quote(notification)}")
    return of_digest or of_tag, digest, tag


def _unwrapped(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadEventError(f"'message.data' is not base64: {quote(data)}") from error


def _time(message: dict[str, Any]) -> datetime | None:
    return rfc3339_time(message.get("publishTime") or message.get("publish_time"))
