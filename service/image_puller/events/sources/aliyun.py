"""Alibaba Cloud Container Registry: https://www.alibabacloud.com/help/en/acr/user-guide/manage-webhooks.

The payload resembles Docker Hub's, and has a digest. Its times have no time zone, so they count as
absent.
"""

from collections.abc import Iterator
from typing import Any

from image_puller.events.event import Event, ImagePushed
from image_puller.events.payload import field, optional
from image_puller.events.sources.image import image_event


def decode(payload: Any) -> Iterator[Event]:
    """Yield the event of a push."""
    push = field(payload, "push_data", dict)
    repository = field(payload, "repository", dict)
    yield image_event(
        ImagePushed,
        registry=_registry(optional(repository, "region", str)),
        repository=field(repository, "repo_full_name", str),
        tag=optional(push, "tag", str),
        digest=optional(push, "digest", str),
        time=None,
    )


def _registry(region: str | None) -> str | None:
    """Return the host of the Personal Edition. The payload does not show the edition."""
    return f"registry.{region}.aliyuncs.com" if region else None
