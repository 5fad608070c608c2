"""CDEvents: https://github.com/cdevents/spec/blob/main/continuous-integration.md#artifact.

The subject is a package URL of type `oci`: https://github.com/package-url/purl-spec.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from image_puller.errors import BadEventError
from image_puller.events.cloudevents_http import CloudEvent
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.payload import field, quote, rfc3339_time
from image_puller.events.sources.image import host_and_path, image_event
from image_puller.events.sources.reasons import Reason

ARTIFACT = "dev.cdevents.artifact."
_MEANINGS: dict[str, type[ImagePushed] | type[ImageDeleted] | Reason] = {
    "published": ImagePushed,
    "deleted": ImageDeleted,
    "packaged": Reason.NOT_PUSHED,  # the registry may not have it yet
    "signed": Reason.SIGNATURE,
    "downloaded": Reason.PULL,
}
_OCI = "pkg:oci/"


def decode(payload: Any) -> Iterator[Event]:
    """Yield the event of a CDEvent of any version."""
    yield _decode(payload, field(payload, "context.type", str), None)


def decode_event(event: CloudEvent) -> Iterator[Event]:
    """Yield the event of a CloudEvent whose data is a CDEvent."""
    payload = event.json()
    inner = field(payload, "context.type", str)
    if inner != event.type:
        raise BadEventError(f"'context.type' differs from the CloudEvent's type: {quote(inner)}")
    yield _decode(payload, event.type, event.time)


def _decode(payload: Any, kind: str, time: datetime | None) -> Event:
    predicate = kind.removeprefix(ARTIFACT).partition(".")[0] if kind.startswith(ARTIFACT) else ""
    meaning = _MEANINGS.get(predicate, Reason.UNKNOWN_TYPE)
    if isinstance(meaning, Reason):
        return Ignored(reason=meaning)
    package = field(payload, "subject.id", str)
    if not package.startswith(_OCI):
        return Ignored(reason=Reason.ARTIFACT)
    registry, repository, tag, digest = _parts(package.removeprefix(_OCI))
    time = rfc3339_time(field(payload, "context", dict).get("timestamp")) or time
    return image_event(
        meaning, registry=registry, repository=repository, tag=tag, digest=digest, time=time
    )


def _parts(package: str) -> tuple[str, str, str, str]:
    """Return the registry, repository, tag and digest of a package URL. Each may be empty.

    `repository_url` should end in the package's name, but some senders leave that part out.
    """
    path, _, query = package.partition("#")[0].partition("?")
    name, _, version = path.partition("@")
    qualifiers = dict(parse_qsl(query))
    registry, repository = host_and_path(qualifiers.get("repository_url", ""))
    name = unquote(name)
    if repository.rpartition("/")[2] != name:
        repository = f"{repository}/{name}".lstrip("/")
    return registry, repository, qualifiers.get("tag", ""), unquote(version)
