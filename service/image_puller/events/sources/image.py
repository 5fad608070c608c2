"""What a registry says of an image, to the event that it means: the rules that all sources share.

https://distribution.github.io/distribution/spec/api/ (the grammar of names, tags and digests)
"""

import re
from datetime import datetime
from typing import TypeVar

from image_puller.events.event import Ignored, ImageDeleted, ImagePushed
from image_puller.events.sources.reasons import Reason
from image_puller.values.reference import is_digest, is_repository, is_tag

ImageEvent = TypeVar("ImageEvent", bound=ImagePushed | ImageDeleted)

_HOST = re.compile(
    r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE
)

# Cosign's tags, https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md, and the
# tag of an image's list of referrers where the registry has no API for it (distribution-spec).
_SIGNATURE = re.compile(r"sha256-([0-9a-f]+\.(sig|att|sbom)|[0-9a-f]{64}(\.[\w.-]+)?)", re.ASCII)


def image_event(
    kind: type[ImageEvent],
    *,
    registry: str | None,
    repository: str,
    tag: str | None,
    digest: str | None,
    time: datetime | None,
) -> ImageEvent | Ignored:
    """The event of one manifest, or why it is none.

    An empty text is an absent one. A tag that is a digest is the digest; a digest outside the
    grammar is absent.
    """
    tag, digest = _tell_apart(tag, digest)
    if reason := _objection_to_name(registry, repository) or _objection_to_tag(tag, digest):
        return Ignored(reason=reason)
    return kind(registry=registry or None, repository=repository, tag=tag, digest=digest, time=time)


def repository_deleted(
    *, registry: str | None, repository: str, time: datetime | None
) -> ImageDeleted | Ignored:
    """The event of a whole repository that is gone, or why it is none."""
    if reason := _objection_to_name(registry, repository):
        return Ignored(reason=reason)
    return ImageDeleted(
        registry=registry or None, repository=repository, tag=None, digest=None, time=time
    )


def host_and_path(url: str) -> tuple[str, str]:
    """The host (with its port) and the path of an image's address, with or without a scheme."""
    _, scheme, rest = url.partition("://")
    host, _, path = (rest if scheme else url).partition("/")
    return host, path


def _tell_apart(tag: str | None, digest: str | None) -> tuple[str | None, str | None]:
    digest = digest if digest and is_digest(digest) else None
    if tag and ":" in tag:  # no tag has a colon: a registry repeats the digest here
        return None, digest or (tag if is_digest(tag) else None)
    return tag or None, digest


def _objection_to_name(registry: str | None, repository: str) -> Reason | None:
    if registry and not _HOST.fullmatch(registry):
        return Reason.NO_REGISTRY
    return None if is_repository(repository) else Reason.NO_REPOSITORY


def _objection_to_tag(tag: str | None, digest: str | None) -> Reason | None:
    if tag is None:
        return None if digest else Reason.NO_REFERENCE
    if _SIGNATURE.fullmatch(tag):
        return Reason.SIGNATURE
    return None if is_tag(tag) else Reason.NO_TAG
