"""The events that a request can report."""

from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePushed:
    """A registry has stored a manifest.

    `registry` is the host, or None where the payload has none (zot, Nexus).
    At least one of `tag` and `digest` is set.
    `time` is when the registry stored it, in UTC, or None where that is unknown.
    `folds_case`: the registry does not distinguish the case of tags. It reports them in lower case.
    `other_host`: another host of the payload, which nodes may use. It is for the log only.
    """

    registry: str | None
    repository: str
    tag: str | None
    digest: str | None
    time: datetime | None = None
    folds_case: bool = False
    other_host: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDeleted:
    """A registry has deleted a tag or a manifest.

    Without tag and digest it has deleted the whole repository.
    `with_all_tags`: it has deleted the manifest with all its tags, and `tag` is only one of them.
    `folds_case` and `other_host` are those of ImagePushed.
    """

    registry: str | None
    repository: str
    tag: str | None
    digest: str | None
    time: datetime | None = None
    with_all_tags: bool = False
    folds_case: bool = False
    other_host: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeJoined:
    """A node has registered with the cluster."""

    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSetChanged:
    """A DaemonSet, or only its status, has changed."""

    name: str


@dataclass(frozen=True, slots=True)
class CheckRequested:
    """A sender, such as a CronJob, asks for a check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """An event that changes nothing.

    `reason` is a metric label, so it is one of few texts. `detail` is for the log only, where there
    is more to say.
    """

    reason: str
    detail: str = field(default="", compare=False)


def in_milliseconds(time: datetime) -> datetime:
    """Return a time as the state stores it: in UTC, cut to whole milliseconds."""
    time = time.astimezone(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


Event = ImagePushed | ImageDeleted | NodeJoined | DaemonSetChanged | CheckRequested | Ignored
