"""Gitea and Forgejo: https://docs.gitea.com/usage/webhooks, https://forgejo.org/docs/latest/user/webhooks/.

Only an untagged manifest, which is part of an index, has a digest: it is the package's version.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.payload import field, optional, rfc3339_time
from image_puller.events.sources.image import host_and_path, image_event
from image_puller.events.sources.reasons import Reason

_MEANINGS: dict[str, type[ImagePushed] | type[ImageDeleted]] = {
    "created": ImagePushed,
    "deleted": ImageDeleted,
}


def decode(payload: Any) -> Iterator[Event]:
    """Yield the event of a package. Other events are ignored."""
    package = optional(payload, "package", dict)
    kind = _MEANINGS.get(optional(payload, "action", str) or "")
    if package is None or kind is None:
        yield Ignored(reason=Reason.UNKNOWN_TYPE)
    elif field(package, "type", str) != "container":
        yield Ignored(reason=Reason.ARTIFACT)
    else:
        owner, name = field(package, "owner.login", str), field(package, "name", str)
        event = image_event(
            kind,
            registry=host_and_path(optional(package, "html_url", str) or "")[0],
            repository=f"{owner}/{name}".lower(),
            tag=optional(package, "version", str),
            digest=None,
            time=rfc3339_time(package.get("created_at")),
        )
        yield event if isinstance(event, Ignored) else replace(event, folds_case=True)
