"""Builds events from names, tags and digests, by the rules that all sources share.

Their grammar: https://distribution.github.io/distribution/spec/api/
"""

import re
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.sources.reasons import Reason
from image_puller.values.reference import is_digest, is_repository, is_tag

ImageEvent = TypeVar("ImageEvent", bound=ImagePushed | ImageDeleted)

_HOST = re.compile(
    r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE
)

# Cosign's tags (https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md), and the tag
# of a list of referrers in a registry without the referrers API (OCI distribution-spec).
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
    """Return the event of one manifest, or Ignored if it names no image.

    An empty string counts as absent, and so does a malformed digest. A digest given as the tag
    counts as the digest.
    """
    tag, digest = _normalised(tag, digest)
    if reason := _name_problem(registry, repository) or _tag_problem(tag, digest):
        return Ignored(reason=reason)
    return kind(registry=registry or None, repository=repository, tag=tag, digest=digest, time=time)


def with_all_tags(event: ImagePushed | ImageDeleted | Ignored) -> Event:
    """Return the event of a registry whose deletions are of manifests, with all their tags."""
    if isinstance(event, ImageDeleted) and event.digest is not None:
        return replace(event, with_all_tags=True)
    return event


def repository_deleted(
    *, registry: str | None, repository: str, time: datetime | None
) -> ImageDeleted | Ignored:
    """Return the event of a deleted repository, or Ignored if its name is malformed."""
    if reason := _name_problem(registry, repository):
        return Ignored(reason=reason)
    return ImageDeleted(
        registry=registry or None, repository=repository, tag=None, digest=None, time=time
    )


def host_and_path(url: str) -> tuple[str, str]:
    """Return the host, with its port, and the path of an image's address. A scheme is dropped."""
    _, scheme, rest = url.partition("://")
    host, _, path = (rest if scheme else url).partition("/")
    return host, path


def _normalised(tag: str | None, digest: str | None) -> tuple[str | None, str | None]:
    digest = digest if digest and is_digest(digest) else None
    if tag and ":" in tag:  # a tag has no colon, but some registries put the digest here
        return None, digest or (tag if is_digest(tag) else None)
    return tag or None, digest


def _name_problem(registry: str | None, repository: str) -> Reason | None:
    if registry and not _HOST.fullmatch(registry):
        return Reason.NO_REGISTRY
    return None if is_repository(repository) else Reason.NO_REPOSITORY


def _tag_problem(tag: str | None, digest: str | None) -> Reason | None:
    if tag is None:
        return None if digest else Reason.NO_REFERENCE
    if _SIGNATURE.fullmatch(tag):
        return Reason.SIGNATURE
    return None if is_tag(tag) else Reason.NO_TAG
