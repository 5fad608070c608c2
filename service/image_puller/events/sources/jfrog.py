"""JFrog Artifactory: https://jfrog.com/help/r/jfrog-platform-administration-documentation/webhooks.

A remote repository sends the same payload for an image that it cached. The payload has no time.
"""

from collections.abc import Iterator
from typing import Any

from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.payload import field, optional
from image_puller.events.sources.image import host_and_path, image_event
from image_puller.events.sources.reasons import Reason

_MEANINGS: dict[str, type[ImagePushed] | type[ImageDeleted] | Reason] = {
    "pushed": ImagePushed,
    "deleted": ImageDeleted,
    "promoted": Reason.PROMOTION,
}


def decode(payload: Any) -> Iterator[Event]:
    """Yield the event of a tag. Events of the domain `artifact` are about single files."""
    if field(payload, "domain", str) != "docker":
        yield Ignored(reason=Reason.ARTIFACT)
        return
    kind = _MEANINGS.get(field(payload, "event_type", str), Reason.UNKNOWN_TYPE)
    if isinstance(kind, Reason):
        yield Ignored(reason=kind)
    else:
        yield _decode(kind, payload)


def _decode(kind: type[ImagePushed] | type[ImageDeleted], payload: Any) -> Event:
    data = field(payload, "data", dict)
    if "helm" in (optional(data, "image_type", str) or ""):
        return Ignored(reason=Reason.CHART)
    sha256 = optional(data, "sha256", str)
    return image_event(
        kind,
        registry=_registry(optional(payload, "jpd_origin", str)),
        repository=f"{field(data, 'repo_key', str)}/{_image(data)}",
        tag=optional(data, "tag", str),
        digest=f"sha256:{sha256}" if sha256 else None,
        time=None,
    )


def _registry(origin: str | None) -> str | None:
    """Return the host. A platform without a custom base URL sends none."""
    return host_and_path(origin)[0] or None if origin else None


def _image(data: dict[str, Any]) -> str:
    """Return the path of a manifest without its last two parts, the tag and the file."""
    image, *rest = field(data, "path", str).rsplit("/", 2)
    return image if len(rest) == 2 else field(data, "image_name", str)  # noqa: PLR2004
