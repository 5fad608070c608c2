"""Docker Hub: https://docs.docker.com/docker-hub/repos/manage/webhooks/.

The payload has no digest. Docker Hub no longer supports `callback_url`, so it is not called.
"""

from collections.abc import Iterator
from typing import Any

from image_puller.events.event import Event, Ignored, ImagePushed
from image_puller.events.payload import field, optional, unix_time
from image_puller.events.sources.image import image_event
from image_puller.events.sources.reasons import Reason

_REGISTRY = "docker.io"


def decode(payload: Any) -> Iterator[Event]:
    """Yield the event of a push. Until about 2015 payloads had no tag."""
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
