"""What a request can mean: the events of this domain, as frozen values."""

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePushed:
    """A registry has stored a manifest.

    `registry` is None where the payload does not name its host (zot, Nexus).
    At least one of `tag` and `digest` is there. `time` is the push's own, aware, in UTC.
    """

    registry: str | None
    repository: str
    tag: str | None
    digest: str | None
    time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDeleted:
    """A registry has removed a tag, a manifest, or (neither tag nor digest) a whole repository."""

    registry: str | None
    repository: str
    tag: str | None
    digest: str | None
    time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeJoined:
    """A node has registered with the cluster."""

    node: str


@dataclass(frozen=True, slots=True)
class CheckRequested:
    """It is time to look at everything: the scheduled tick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """A readable event that changes nothing here; `reason` is one of few texts, to be counted."""

    reason: str


def in_milliseconds(time: datetime) -> datetime:
    """A time as the state keeps it: in UTC, cut to milliseconds."""
    time = time.astimezone(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


Event = ImagePushed | ImageDeleted | NodeJoined | CheckRequested | Ignored
