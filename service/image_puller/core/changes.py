"""The changes that the state can be asked to make: one type for each."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """An entry is to follow a tag that was pushed. `time` has milliseconds, as the state has."""

    entry: str
    tag: str
    digest: str | None
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """An entry is to forget a tag, a digest, or (neither) all that it follows."""

    entry: str
    tag: str | None
    digest: str | None
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What was remembered of a tag when its registry was asked about it."""

    is_followed: bool
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a registry said of a tag when it was asked: its digest, or None for no such tag.

    The answer says nothing any more where the state is no longer as it was `known`; that is None
    where nobody had looked.
    """

    entry: str
    tag: str
    digest: str | None
    time: datetime
    known: Known | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A push is to be remembered, and not followed before its registry confirms it."""

    entry: str
    tag: str
    digest: str | None
    time: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RollAgain:
    """Nodes have another content of a tag than this one: they are to ask for it once more."""

    entry: str
    tag: str
    digest: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Confirm:
    """The DaemonSet is to be looked at: it must exist and be current."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """The DaemonSet is to be looked at whole, and repaired.

    `closed` has the tags that no registry can be asked about, each as its entry and name: of them,
    those that move are rolled once per `CACHING_INTERVAL_HOURS`.
    """

    closed: frozenset[tuple[str, str]] = frozenset()


Change = Follow | Forget | Found | Hold | RollAgain | Confirm | Refresh
