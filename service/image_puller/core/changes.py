"""The changes that the state can be asked to make: one type for each."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackTag:
    """Track a tag that was pushed. `time` is in whole milliseconds, as the state has it.

    `own_clock`: the time is by the clock of this service, because the sender gives none.
    """

    entry: str
    tag: str
    digest: str | None
    time: datetime
    own_clock: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UntrackTag:
    """Stop tracking a tag or a digest that was deleted; with neither, all tags of the entry.

    `own_clock`: the time is by the clock of this service, because the sender gives none.
    `with_all_tags`: the digest was deleted with all its tags, of which `tag` is one.
    """

    entry: str
    tag: str | None
    digest: str | None
    time: datetime
    own_clock: bool = False
    with_all_tags: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Precondition:
    """What the state had about a tag when its registry was asked."""

    is_tracked: bool
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAnswer:
    """Take in what a registry answered about a tag: its digest, or None where it has no such tag.

    The answer is ignored where the state no longer meets the precondition. A precondition of None
    is always met. `time` is by the clock of this service.

    `is_decisive`: the order of two pushes is in doubt, so the answer counts also soon after them.
    `other_kind`: what the tag is where it is no image, such as the media type of a chart.
    """

    entry: str
    tag: str
    digest: str | None
    time: datetime
    precondition: Precondition | None = None
    is_decisive: bool = False
    other_kind: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitVerification:
    """Keep a push as unverified, so that it is tracked only once its registry confirms it."""

    entry: str
    tag: str
    digest: str | None
    time: datetime
    reason: str
    own_clock: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PullAgain:
    """Make every node pull a tag once more, because some nodes have other content than this."""

    entry: str
    tag: str
    digest: str
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineTag:
    """Go back to what nodes held before a tag got content that fails on every node that tried it.

    `digest` and `pushed` identify the content. `pulled`: nodes could pull it, but its container
    can't run. `is_shown`: the registry has it, so showing it again is no news. `back_to` is the
    digest of the newest previous content that a node has, or None where that is not known.
    """

    entry: str
    tag: str
    digest: str | None
    pushed: datetime
    since: datetime
    reason: str
    pulled: bool
    is_shown: bool
    back_to: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteHeld:
    """Note that a node holds the content of a tag, so its previous content is not needed any more.

    `digest` and `pushed` identify the content.
    """

    entry: str
    tag: str
    digest: str | None
    pushed: datetime


@dataclass(frozen=True, slots=True)
class NoteProven:
    """Note that every node holds an image, so it may join the common container."""

    image: str


@dataclass(frozen=True, slots=True)
class HoldApart:
    """Give an image that fails on a node a container of its own."""

    image: str


@dataclass(frozen=True, slots=True)
class SetMaxUnavailable:
    """Let this number of nodes change at once. None: as many as are configured."""

    nodes: int | None


@dataclass(frozen=True, slots=True)
class Proceed:
    """Go on with a rollout: from pods without images to the seeds, or from these to all nodes.

    `template` is the hash of the live template that was observed.
    """

    template: str


@dataclass(frozen=True, slots=True)
class NoteHealth:
    """Note since when the group is degraded. None: it is no longer."""

    degraded_since: datetime | None


@dataclass(frozen=True, slots=True)
class EnsureExists:
    """Read the DaemonSet's state, and create the DaemonSet if it is missing."""


@dataclass(frozen=True, slots=True)
class CheckDaemonSet:
    """Compare the whole DaemonSet with what it should be, and repair it.

    `unqueryable` holds tags, each as its entry and its name. Mutable ones among them are pulled
    again once per `CACHING_INTERVAL_HOURS`, because no registry shows whether they changed.
    """

    unqueryable: frozenset[tuple[str, str]] = frozenset()


Change = (
    TrackTag
    | UntrackTag
    | RegistryAnswer
    | AwaitVerification
    | PullAgain
    | QuarantineTag
    | NoteHeld
    | NoteProven
    | HoldApart
    | SetMaxUnavailable
    | Proceed
    | NoteHealth
    | EnsureExists
    | CheckDaemonSet
)
