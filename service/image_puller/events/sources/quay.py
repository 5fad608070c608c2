"""Quay: https://docs.quay.io/guides/notifications.html.

A notification does not name its kind, so its keys decide. It has no digest and no time.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from image_puller.errors import BadEventError
from image_puller.events.event import Event, Ignored, ImagePushed
from image_puller.events.payload import optional, quote
from image_puller.events.sources.image import host_and_path, image_event
from image_puller.events.sources.reasons import Reason

_OTHER_KINDS = {
    "build_id": Reason.BUILD,
    "vulnerability": Reason.SCAN,
    "expiring_in": Reason.EXPIRY,
    "message": Reason.MIRROR,
    "limit_bytes": Reason.QUOTA,
}


def decode(payload: Any) -> Iterator[Event]:
    """Yield the events of a notification, one for each tag of a push."""
    address = optional(payload, "docker_url", str)
    tags = payload.get("updated_tags")
    if address is None or tags is None:
        yield Ignored(reason=_other_kind(payload))
    elif _is_test(payload):
        yield Ignored(reason=Reason.TEST)
    else:
        registry, repository = host_and_path(address)
        for tag in _tags(tags):
            yield image_event(
                ImagePushed,
                registry=registry,
                repository=repository,
                tag=tag,
                digest=None,
                time=None,
            )


def _tags(tags: Any) -> Iterator[str]:
    """Yield the tags. Until about 2015 they were the keys of an object of image IDs."""
    if not isinstance(tags, list | dict):
        raise BadEventError(f"'updated_tags' is neither a list nor an object: {quote(tags)}")
    for tag in tags:
        if not isinstance(tag, str):
            raise BadEventError(f"'updated_tags' has a tag that is not a string: {quote(tag)}")
        yield tag


def _is_test(payload: Mapping[str, Any]) -> bool:
    """Whether a notification is a test: only a test has `pruned_image_count` alone.

    Until about 2015 pushes had both counts.

    https://github.com/quay/quay/blob/master/notifications/notificationevent.py (get_sample_data)
    """
    return "pruned_image_count" in payload and "pushed_image_count" not in payload


def _other_kind(payload: Mapping[str, Any]) -> Reason:
    kinds = (reason for key, reason in _OTHER_KINDS.items() if key in payload)
    return next(kinds, Reason.UNKNOWN_TYPE)
