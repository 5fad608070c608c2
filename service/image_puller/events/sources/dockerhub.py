"""Docker Hub: https://docs.docker.com/docker-hub/repos/manage/webhooks/.

There is no digest. `callback_url` is no longer supported, and never called.
"""

from collections.abc import Iterator
from typing import Any

from image_puller.events.event import Event, Ignored, ImagePushed
from image_puller.events.payload import field, optional, unix_time
from image_puller.events.sources.image import image_event
from image_puller.events.sources.reasons import Reason

_REGISTRY = "docker.io"


def decode(payload: Any) -> Iterator[Event]:
    """The event of a push; until about 2015 none named its tag."""
    push = field(payload, "push_data", dict)
    if "helm" in (optional(push, "media_type", str) or ""):
        yield Ignored(reason=Reason.CHART)
    else:
        yield image_event(
            ImagePushed,
            registry=_REGISTRY,
            repository=field(payload, "repository.repo_name", str),
            tag=optional(push, "tag", str),
            digest=None,
            time=unix_time(push.get("pushed_at")),
        )
