"""Harbor: https://goharbor.io/docs/main/working-with-projects/project-configuration/configure-webhooks/.

Decodes both payload formats, `Default` and `CloudEvents`, and the types of Harbor 1.9 and 1.10.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from image_puller.errors import BadEventError
from image_puller.events.cloudevents_http import CloudEvent
from image_puller.events.event import Event, Ignored, ImageDeleted, ImagePushed
from image_puller.events.payload import field, objects, optional, quote, unix_time
from image_puller.events.sources.image import host_and_path, image_event, with_all_tags
from image_puller.events.sources.reasons import Reason

_MEANINGS: dict[str, type[ImagePushed] | type[ImageDeleted] | Reason] = {
    "PUSH_ARTIFACT": ImagePushed,
    "PULL_ARTIFACT": Reason.PULL,
    "DELETE_ARTIFACT": ImageDeleted,
    "SCANNING_COMPLETED": Reason.SCAN,
    "SCANNING_STOPPED": Reason.SCAN,
    "SCANNING_FAILED": Reason.SCAN,
    "QUOTA_EXCEED": Reason.QUOTA,
    "QUOTA_WARNING": Reason.QUOTA,
    "REPLICATION": Reason.REPLICATION,
    "TAG_RETENTION": Reason.RETENTION,
    "harbor.artifact.pushed": ImagePushed,
    "harbor.artifact.pulled": Reason.PULL,
    "harbor.artifact.deleted": ImageDeleted,
    "harbor.scan.completed": Reason.SCAN,
    "harbor.scan.stopped": Reason.SCAN,
    "harbor.scan.failed": Reason.SCAN,
    "harbor.quota.exceeded": Reason.QUOTA,
    "harbor.quota.warned": Reason.QUOTA,
    "harbor.replication.status.changed": Reason.REPLICATION,
    "harbor.tag_retention.finished": Reason.RETENTION,
    "pushImage": ImagePushed,
    "pullImage": Reason.PULL,
    "deleteImage": ImageDeleted,
    "uploadChart": Reason.CHART,
    "downloadChart": Reason.CHART,
    "deleteChart": Reason.CHART,
    "scanningCompleted": Reason.SCAN,
    "scanningFailed": Reason.SCAN,
    "testEndpoint": Reason.TEST,
}


def decode(payload: Any) -> Iterator[Event]:
    """Yield the events of a payload in the format `Default`."""
    kind = _MEANINGS.get(field(payload, "type", str), Reason.UNKNOWN_TYPE)
    if isinstance(kind, Reason):
        yield Ignored(reason=kind)
    else:
        data = field(payload, "event_data", dict)
        yield from _images(kind, data, unix_time(payload.get("occur_at")))


def decode_event(event: CloudEvent) -> Iterator[Event]:
    """Yield the events of a CloudEvent, whose data is the `event_data` of the format `Default`."""
    kind = _MEANINGS.get(event.type, Reason.UNKNOWN_TYPE)
    if isinstance(kind, Reason):
        yield Ignored(reason=kind)
    else:
        yield from _images(kind, event.json(), event.time)


def _images(
    kind: type[ImagePushed] | type[ImageDeleted], data: Any, time: datetime | None
) -> Iterator[Event]:
    repository = field(data, "repository.repo_full_name", str)
    for resource in objects(data, "resources"):
        event = image_event(
            kind,
            registry=_registry(optional(resource, "resource_url", str), repository),
            repository=repository,
            tag=optional(resource, "tag", str),
            digest=optional(resource, "digest", str),
            time=time,
        )
        # Harbor deletes an artifact with all its tags, and names only the first of them. It reports
        # no deletion of a single tag: https://github.com/goharbor/harbor/issues/18820
        yield with_all_tags(event)


def _registry(url: str | None, repository: str) -> str | None:
    """Return the host of `resource_url`, which is the part before the repository.

    A colon does not mark its end. It may belong to a port, to IPv6 or to `:sha256:…`, which Harbor
    2.0 and 2.1 send.
    """
    if not url:
        return None
    host, path = host_and_path(url)
    if path != repository and not path.startswith((f"{repository}:", f"{repository}@")):
        raise BadEventError(f"'resource_url' does not contain the repository: {quote(url)}")
    return host
