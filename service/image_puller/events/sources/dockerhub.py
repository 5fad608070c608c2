"""Docker Hub: https://docs.docker.com/docker-hub/repos/manage/webhooks/.

The payload has no digest. Docker Hub no longer supports `callback_url`, so it is not called.
"""

from collections.abc import Iterator
from typing import Any

from image_puller.events.event import Event, Ignored, ImagePushed
from image_puller.events.payload import field, optional, unix_time
from image_puller.events.sources.image import image_event
from image_puller.events.sources.reasons import of_artifact
from image_puller.values.artifact import IMAGE_CONFIGS

_REGISTRY = "docker.io"


def decode(payload: Any) -> Iterator[Event]:
    """Yield the event of a push. Until about 2015 payloads had no tag."""
    push = field(payload, "push_data", dict)
    kind = optional(push, "media_type", str) or IMAGE_CONFIGS[0]
    if kind not in IMAGE_CONFIGS and "manifest" not in kind and ".index." not in kind:
        yield Ignored(reason=of_artifact(kind))
    else:
        yield image_event(
            ImagePushed,
            registry=_REGISTRY,
            repository=field(payload, "repository.repo_name", str),
            tag=optional(push, "tag", str),
            digest=None,
            time=unix_time(push.get("pushed_at")),
        )
