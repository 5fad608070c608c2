"""Sonatype Nexus Repository 3: https://help.sonatype.com/en/webhooks.html.

There is no digest and no registry's host: each Docker repository has a port or a name of its own.
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
    """The event of a component; an asset (a manifest, a blob) is none."""
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
    """Its offset has no colon, so it is not of RFC 3339."""
    return rfc3339_time(_OFFSET.sub(r"\1:\2", timestamp) if isinstance(timestamp, str) else None)
