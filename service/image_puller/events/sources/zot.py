"""zot: https://zotregistry.dev/latest/articles/events/.

Its notifications are CloudEvents. They do not name the registry's host.
"""

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from image_puller.errors import BadEventError
from image_puller.events.cloudevents_http import CloudEvent
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.payload import field, optional, quote
from image_puller.events.sources.image import image_event
from image_puller.events.sources.reasons import Reason, of_artifact
from image_puller.values.artifact import other_kind

_MEANINGS: dict[str, type[ImagePushed] | type[ImageDeleted] | Reason] = {
    "image.updated": ImagePushed,
    "image.deleted": ImageDeleted,
    "image.lint_failed": Reason.NOT_PUSHED,  # zot rejected it
    "image.scanned": Reason.SCAN,
    "repository.created": Reason.NO_IMAGE,
}


def decode(payload: Any) -> NoReturn:
    """Raise BadEventError, because only the type of a CloudEvent shows whether this is a push."""
    raise BadEventError(f"not a CloudEvent of zot: {quote(payload)}")


def decode_event(event: CloudEvent) -> Iterator[Event]:
    """Yield the event of a CloudEvent, by the end of its type. The rest is configurable in zot."""
    ending = ".".join(event.type.rsplit(".", 2)[-2:])
    kind = _MEANINGS.get(ending, Reason.UNKNOWN_TYPE)
    if isinstance(kind, Reason):
        yield Ignored(reason=kind)
    else:
        data = event.json()
        if kind_of_manifest := other_kind(_manifest(data)):
            yield Ignored(reason=of_artifact(kind_of_manifest))
            return
        yield image_event(
            kind,
            registry=None,
            repository=field(data, "name", str),
            tag=optional(data, "reference", str),  # or the digest
            digest=optional(data, "digest", str),
            time=event.time,
        )


def _manifest(data: Any) -> dict[str, Any]:
    """Return the manifest, which is JSON in a string. Without it nothing shows what was pushed."""
    text = data.get("manifest") if isinstance(data, dict) else None
    try:
        manifest = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return {}
    return manifest if isinstance(manifest, dict) else {}
