"""CloudEvents of this project's own types, and of Knative's sources.

https://knative.dev/docs/eventing/sources/
"""

import re
from collections.abc import Iterator
from typing import Any, NoReturn

from image_puller.errors import BadEventError
from image_puller.events.cloudevents_http import CloudEvent
from image_puller.events.event import (
    CheckRequested,
    DaemonSetChanged,
    Event,
    Ignored,
    ImageDeleted,
    ImagePushed,
    NodeJoined,
)
from image_puller.events.payload import field, optional, quote
from image_puller.events.sources.image import ImageEvent, image_event
from image_puller.events.sources.reasons import Reason

CHECK = "io.image-puller.check"
IMAGE_DELETED = "io.image-puller.image.deleted"
IMAGE_PUSHED_ENDINGS = (".image.push", ".image.pushed")

_CHECK_TYPES = (CHECK, "dev.knative.sources.ping")
_OBJECT_CHANGES = "dev.knative.apiserver."
_OBJECT_ADDED = tuple(f"{_OBJECT_CHANGES}{mode}.add" for mode in ("resource", "ref"))
_OBJECT_CHANGED = tuple(
    f"{_OBJECT_CHANGES}{mode}.{change}"
    for mode in ("resource", "ref")
    for change in ("add", "update", "delete")
)
_IMAGE_KEYS = {"registry", "repository", "tag", "digest"}
_OBJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)


def decode(payload: Any) -> NoReturn:
    """Raise BadEventError, because the request is not a CloudEvent."""
    raise BadEventError(
        "not a CloudEvent, neither by its Content-Type nor by a ce-specversion header: "
        + quote(payload)
    )


def decode_event(event: CloudEvent) -> Iterator[Event]:
    """Yield the event of a CloudEvent. A Broker may send any type, so unknown ones are ignored."""
    if event.type in _CHECK_TYPES:
        yield CheckRequested()
    elif event.type.startswith(_OBJECT_CHANGES):
        yield _object_changed(event)
    elif event.type == IMAGE_DELETED:
        yield _image(ImageDeleted, event)
    elif event.type.endswith(IMAGE_PUSHED_ENDINGS):
        yield _image(ImagePushed, event)
    else:
        yield Ignored(reason=Reason.UNKNOWN_TYPE)


def _object_changed(event: CloudEvent) -> Event:
    if event.type in _OBJECT_CHANGED:
        # Other API groups have a kind Node too, for example Longhorn's.
        kind = _attribute(event, "apiversion", "apiVersion"), _attribute(event, "kind", "kind")
        if kind == ("v1", "Node") and event.type in _OBJECT_ADDED:
            return NodeJoined(node=_name(event, "a node"))
        if kind == ("apps/v1", "DaemonSet"):
            return DaemonSetChanged(name=_name(event, "a DaemonSet"))
    return Ignored(reason=Reason.OTHER_CHANGE)


def _name(event: CloudEvent, of: str) -> str:
    name = _attribute(event, "name", "metadata.name", "name")
    if not _OBJECT_NAME.fullmatch(name):
        raise BadEventError(f"not the name of {of}: {quote(name)}")
    return name


def _attribute(event: CloudEvent, extension: str, *paths: str) -> str:
    """Return an attribute of the object that an ApiServerSource reports, or "".

    Older releases of Knative have it in the data only, and newer ones also as an extension.
    """
    if attribute := event.extensions.get(extension):
        return str(attribute)
    payload = event.json()
    found = (optional(payload, path, str) for path in paths)
    return next(filter(None, found), "")


def _image(kind: type[ImageEvent], event: CloudEvent) -> ImageEvent | Ignored:
    data = event.json()
    if not isinstance(data, dict) or data.keys() != _IMAGE_KEYS:
        raise BadEventError(
            f"the data must have exactly registry, repository, tag and digest: {quote(data)}"
        )
    tag, digest = optional(data, "tag", str), optional(data, "digest", str)
    if tag is None and digest is None:
        raise BadEventError("'tag' and 'digest' are both null")
    return image_event(
        kind,
        registry=field(data, "registry", str),
        repository=field(data, "repository", str),
        tag=tag,
        digest=digest,
        time=event.time,
    )
