"""Reads the headers and writes the events of `image-puller parse`. Pure."""

import json
from datetime import datetime
from typing import Any, assert_never

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
from image_puller.events.payload import quote


def read_headers(text: str) -> dict[str, str]:
    """Return the headers in lines `Name: value`, with names in lower case.

    Of a repeated header the last one counts. Empty lines and those that begin with `#` are ignored.
    Raises BadEventError.
    """
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return dict(_header(line) for line in lines)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise BadEventError(f"a header must have the form `Name: value`, not {quote(line)}")
    return name.strip().lower(), value.strip()


def render(event: Event) -> str:
    """Return an event as JSON in one line, without a line break at its end."""
    return json.dumps(_as_json(event))


def _as_json(event: Event) -> dict[str, Any]:
    match event:
        case ImagePushed():
            return {"type": "push", **_image(event)}
        case ImageDeleted():
            return {"type": "delete", **_image(event)}
        case NodeJoined():
            return {"type": "node-joined", "node": event.node}
        case DaemonSetChanged():
            return {"type": "daemonset-changed", "daemonset": event.name}
        case CheckRequested():
            return {"type": "check"}
        case Ignored():
            more = {"detail": event.detail} if event.detail else {}
            return {"type": "ignored", "reason": event.reason, **more}
    assert_never(event)


def _image(event: ImagePushed | ImageDeleted) -> dict[str, Any]:
    return {
        "registry": event.registry,
        "repository": event.repository,
        "tag": event.tag,
        "digest": event.digest,
        "time": _rfc3339(event.time) if event.time else None,
    }


def _rfc3339(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
