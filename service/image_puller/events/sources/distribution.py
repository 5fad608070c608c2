"""CNCF Distribution, which is also GitLab's registry.

https://distribution.github.io/distribution/about/notifications/
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.payload import field, objects, optional, rfc3339_time
from image_puller.events.sources.image import host_and_path, image_event, repository_deleted
from image_puller.events.sources.reasons import Reason
from image_puller.values.artifact import IMAGE_CONFIGS, other_kind

_MANIFESTS = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    }
)
_BLOBS = ("octet-stream", ".rootfs.", ".layer.", ".config.", ".container.image.")


def decode(payload: Any) -> Iterator[Event]:
    """Yield one event for each event of the notification."""
    for event in objects(payload, "events"):
        yield _decode(event)


def _decode(event: dict[str, Any]) -> Event:
    action = field(event, "action", str)
    if action == "push":
        return _pushed(event)
    if action == "delete":
        return _deleted(event)
    reasons = {"pull": Reason.PULL, "mount": Reason.BLOB}
    return Ignored(reason=reasons.get(action, Reason.UNKNOWN_TYPE))


def _pushed(event: dict[str, Any]) -> Event:
    target = field(event, "target", dict)
    url = optional(target, "url", str) or ""
    tag = optional(target, "tag", str)
    if not _is_manifest(optional(target, "mediaType", str), url):
        return Ignored(reason=Reason.BLOB)
    if _other_kind(target):
        return Ignored(reason=Reason.ARTIFACT)
    if tag is None and "size" not in target:
        # Release 2.0 has no `size`, and its tag is only in the URL. 2.1 to 2.3 have no tag at all.
        # https://github.com/distribution/distribution/issues/966
        tag = url.partition("/manifests/")[2]
    registry = _registry(event, url)
    pushed = image_event(
        ImagePushed,
        registry=registry,
        repository=field(target, "repository", str),
        tag=tag,
        digest=optional(target, "digest", str),
        time=_time(event),
    )
    host = host_and_path(url)[0]  # behind a proxy, the host of the request may be an internal one
    if isinstance(pushed, ImagePushed) and host not in ("", registry):
        return replace(pushed, other_host=host)
    return pushed


def _other_kind(target: dict[str, Any]) -> str | None:
    """Return what a manifest is where it is no image.

    Its references are its configuration and its layers, or the manifests of an index.
    """
    references = target.get("references")
    references = references if isinstance(references, list) else []
    listed = [each for each in references if isinstance(each, dict)]
    kinds = [each.get("mediaType") for each in listed]
    configs = [kind for kind in kinds if isinstance(kind, str) and ".config." in kind]
    manifest: dict[str, Any] = {"artifactType": optional(target, "artifactType", str)}
    if any(kind in IMAGE_CONFIGS for kind in kinds):
        layers = [each for each in listed if each.get("mediaType") not in IMAGE_CONFIGS]
        return other_kind(manifest | {"layers": layers})
    if configs:
        return other_kind(manifest | {"config": {"mediaType": configs[0]}})
    return other_kind(manifest)


def _is_manifest(media_type: str | None, url: str) -> bool:
    """Whether a push is of a manifest, by its media type. With an unknown type its URL decides."""
    if media_type in _MANIFESTS:
        return True
    is_blob = any(fragment in (media_type or "") for fragment in _BLOBS)
    return not is_blob and "/manifests/" in url


def _deleted(event: dict[str, Any]) -> Event:
    """Return the deletion of a tag, a digest or a repository.

    A digest may be that of a manifest or of a blob. The payload does not show which.
    """
    target = field(event, "target", dict)
    registry = _registry(event, "")
    repository = field(target, "repository", str)
    tag, digest = optional(target, "tag", str), optional(target, "digest", str)
    if not tag and not digest:
        return repository_deleted(registry=registry, repository=repository, time=_time(event))
    return image_event(
        ImageDeleted,
        registry=registry,
        repository=repository,
        tag=tag,
        digest=digest,
        time=_time(event),
    )


def _registry(event: dict[str, Any], url: str) -> str | None:
    return optional(event, "request.host", str) or host_and_path(url)[0] or None


def _time(event: dict[str, Any]) -> datetime | None:
    return rfc3339_time(event.get("timestamp"))
