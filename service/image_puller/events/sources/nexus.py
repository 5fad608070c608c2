"""Sonatype Nexus Repository 3: https://help.sonatype.com/en/webhooks.html.

The payload has no digest. It has no host either, because each Docker repository has its own port or
host name.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.payload import field, optional, rfc3339_time
from image_puller.events.sources.image import image_event
from image_puller.events.sources.reasons import Reason

_MEANINGS: dict[str, type[ImagePushed] | type[ImageDeleted]] = {
    "CREATED": ImagePushed,
    "UPDATED": ImagePushed,
    "DELETED": ImageDeleted,
}
_OFFSET = re.compile(r"([+-]\d\d)(\d\d)$", re.ASCII)


def decode(payload: Any) -> Iterator[Event]:
    """Yield the event of a component. An asset, which is a manifest or a blob, is ignored."""
    component = optional(payload, "component", dict)
    if component is None:
        yield Ignored(reason=Reason.UNKNOWN_TYPE)
    else:
        yield _decode(component, field(payload, "action", str), _time(payload.get("timestamp")))


def _decode(component: dict[str, Any], action: str, time: datetime | None) -> Event:
    if field(component, "format", str) != "docker":
        return Ignored(reason=Reason.ARTIFACT)
    kind = _MEANINGS.get(action)
    if kind is None:
        return Ignored(reason=Reason.UNKNOWN_TYPE)
    return image_event(
        kind,
        registry=None,
        repository=field(component, "name", str),
        tag=optional(component, "version", str),
        digest=None,
        time=time,
    )


def _time(timestamp: Any) -> datetime | None:
    """Return the time. Its UTC offset may lack the colon that RFC 3339 requires."""
    return rfc3339_time(_OFFSET.sub(r"\1:\2", timestamp) if isinstance(timestamp, str) else None)
