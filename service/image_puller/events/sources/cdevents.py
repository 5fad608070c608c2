"""CDEvents: https://github.com/cdevents/spec/blob/main/continuous-integration.md#artifact.

The subject is a package URL of type `oci` or `docker`: https://github.com/package-url/purl-spec.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from image_puller.errors import BadEventError
from image_puller.events.cloudevents_http import CloudEvent
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.payload import field, quote, rfc3339_time
from image_puller.events.sources.image import host_and_path, image_event, with_all_tags
from image_puller.events.sources.reasons import Reason
from image_puller.values.reference import is_digest

ARTIFACT = "dev.cdevents.artifact."
_MEANINGS: dict[str, type[ImagePushed] | type[ImageDeleted] | Reason] = {
    "published": ImagePushed,
    "deleted": ImageDeleted,
    "packaged": Reason.NOT_PUSHED,  # the registry may not have it yet
    "signed": Reason.SIGNATURE,
    "downloaded": Reason.PULL,
}
_PACKAGE = re.compile(r"pkg:/*(oci|docker)/+(.*)", re.ASCII | re.IGNORECASE | re.DOTALL)
_DOCKER_HUB = "docker.io"


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
    match = _PACKAGE.fullmatch(package)
    if match is None:
        return Ignored(reason=Reason.ARTIFACT)
    parts = _oci_parts if match[1].lower() == "oci" else _docker_parts
    registry, repository, tag, digest = parts(match[2])
    time = rfc3339_time(field(payload, "context", dict).get("timestamp")) or time
    event = image_event(
        meaning, registry=registry, repository=repository, tag=tag, digest=digest, time=time
    )
    return with_all_tags(event)  # the digest identifies the artifact, and a tag only describes it


def _oci_parts(package: str) -> tuple[str, str, str, str]:
    """Return the registry, repository, tag and digest of a package URL. Each may be empty.

    `repository_url` should end in the package's name, but some senders leave that part out.
    """
    name, version, qualifiers = _split(package)
    registry, repository = host_and_path(qualifiers.get("repository_url", ""))
    if repository.rpartition("/")[2] != name:
        repository = f"{repository}/{name}".lstrip("/")
    return registry, repository, qualifiers.get("tag", ""), version


def _docker_parts(package: str) -> tuple[str, str, str, str]:
    """Return the registry, repository, tag and digest of a package URL. The last two may be empty.

    The name has the namespace in it, and the version is a digest or a tag. Without
    `repository_url` the registry is Docker Hub.
    """
    name, version, qualifiers = _split(package)
    registry, path = host_and_path(qualifiers.get("repository_url", "").rstrip("/"))
    is_whole = path == name or path.endswith(f"/{name}")
    repository = path if is_whole else f"{path}/{name}".lstrip("/")
    tag = qualifiers.get("tag", "")
    if not is_digest(version):
        return registry or _DOCKER_HUB, repository, tag or version, ""
    return registry or _DOCKER_HUB, repository, tag, version


def _split(package: str) -> tuple[str, str, dict[str, str]]:
    """Return the name, the version and the qualifiers of a package URL, without percent signs."""
    path, _, query = package.partition("#")[0].partition("?")
    name, _, version = path.partition("@")
    return unquote(name).strip("/"), unquote(version), dict(parse_qsl(query))
