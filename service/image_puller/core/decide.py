"""The decision: configuration, state and changes give a new state.

Pure. The same changes applied again change nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.config.entries import Entry
from image_puller.core import holding, quarantine, selection
from image_puller.core.changes import (
    AwaitVerification,
    Change,
    CheckDaemonSet,
    EnsureExists,
    HoldApart,
    NoteHealth,
    NoteHeld,
    NoteProven,
    Precondition,
    Proceed,
    PullAgain,
    QuarantineTag,
    RegistryAnswer,
    SetMaxUnavailable,
    TrackTag,
    UntrackTag,
)
from image_puller.core.daemonset import structure_hash
from image_puller.core.order import is_older, is_uncertain
from image_puller.core.state import (
    Deletion,
    EntryState,
    Quarantined,
    State,
    Tag,
    UnverifiedPush,
)


class Outcome(StrEnum):
    """What became of one change. The values are those of the metric's label."""

    TRACKED = "tracked"
    MUTATED = "mutated"
    IN_DOUBT = "in_doubt"
    """It counts, but times do not show that it is the newest. Its registry is asked."""
    UNCHANGED = "unchanged"
    OLDER = "older"
    NOT_NEWEST = "not_newest"
    UNTRACKED = "untracked"
    CHECKED = "checked"
    DIGEST_COMPLETED = "digest_completed"
    AWAITING_VERIFICATION = "awaiting_verification"
    DISPLACED = "displaced"
    """Awaiting verification; the oldest such push was dropped to make room."""
    NOT_IMAGE = "not_image"
    """The tag is another artifact, such as a Helm chart."""
    VERIFICATION_EXPIRED = "verification_expired"
    PULLED_AGAIN = "pulled_again"
    QUARANTINED = "quarantined"
    """The content fails on every node that tried it, so it is not tried again yet."""
    HELD = "held"
    PROVEN = "proven"
    """Every node holds the image, so it joins the common container with the next template."""
    HELD_APART = "held_apart"
    """It fails on a node, so it gets a container of its own."""
    BOUND_CHANGED = "bound_changed"
    PROCEEDED = "proceeded"
    """The rollout goes on: to the seeds, or to all nodes."""
    DEGRADED = "degraded"
    """The first problem of the group began."""
    RESTORED = "restored"
    """The last problem of the group ended."""
    REFUSED = "refused"


STARTS_ROLLOUT = (
    Outcome.MUTATED,
    Outcome.IN_DOUBT,
    Outcome.PULLED_AGAIN,
    Outcome.TRACKED,
    Outcome.UNTRACKED,
    Outcome.QUARANTINED,
    Outcome.BOUND_CHANGED,
    Outcome.PROCEEDED,
    Outcome.HELD_APART,
)
"""The outcomes after which nodes change."""
_NEW_CONTENT = (Outcome.TRACKED, Outcome.MUTATED, Outcome.IN_DOUBT)


def apply(
    config: Config, state: State, changes: Sequence[Change]
) -> tuple[State, tuple[Outcome, ...]]:
    """Return the state after all changes, applied in their order, and the outcome of each.

    `adopt` must have fitted the state to the configuration.
    """
    outcomes = []
    for change in changes:
        state, outcome = _apply_one(config, state, change)
        outcomes.append(outcome)
    return state, tuple(outcomes)


def adopt(config: Config, state: State, configuration: str) -> State:
    """Return the state fitted to a configuration, whose hash is `configuration`.

    Tracked tags stay where the entry's image has not changed. Refused tags are forgotten, and
    quarantined ones released, so that they are tried again. A raised bound of nodes stays only
    where the configured one may be the same, and that of seeds while there are seeds.
    """
    seeding = state.seeding if config.rollout_seed_nodes else None
    if state.seeding is None:
        is_kept = state.structure == structure_hash(config, by_volumes=state.holding.by_volumes)
    else:
        is_kept = seeding is not None
    return replace(
        state,
        configuration=configuration,
        max_unavailable=state.max_unavailable if is_kept else None,
        seeding=seeding,
        blocked=None,
        entries={entry.name: _adopted(config, state, entry) for entry in config.entries},
    )


def _adopted(config: Config, state: State, entry: Entry) -> EntryState:
    old = state.entries.get(entry.name)
    if old is None or old.image != entry.image:
        return EntryState(image=entry.image)
    for found in old.quarantined:
        old = quarantine.released(config, entry, old, found.tag)
    tags = selection.tracked(config, entry, [t for t in old.tags if entry.policy.tracks(t.name)])
    return EntryState(
        image=entry.image,
        tags=tags,
        live_tags=old.live_tags,
        previous=quarantine.of(tags, old.previous),
        deleted=old.deleted,
        unverified=tuple(push for push in old.unverified if entry.policy.tracks(push.tag)),
    )


def _apply_one(config: Config, state: State, change: Change) -> tuple[State, Outcome]:
    match change:
        case EnsureExists() | CheckDaemonSet():
            return state, Outcome.CHECKED
        case PullAgain():
            return _pull_again(state, change)
        case SetMaxUnavailable() | Proceed() | NoteHealth():
            return _of_group(state, change)
        case NoteProven(image):
            noted = holding.with_proven(state, image)
            return noted, Outcome.UNCHANGED if noted == state else Outcome.PROVEN
        case HoldApart(image):
            noted = holding.with_apart(state, image)
            return noted, Outcome.UNCHANGED if noted == state else Outcome.HELD_APART
    entry = config.entry(change.entry)
    current = state.entries[entry.name]
    match change:
        case QuarantineTag():
            decided = quarantine.put_aside(config, entry, current, change)
            outcome = Outcome.UNCHANGED if decided == current else Outcome.QUARANTINED
        case NoteHeld():
            decided = quarantine.note_held(current, change)
            outcome = Outcome.UNCHANGED if decided == current else Outcome.HELD
        case _:
            decided, outcome = _decide(config, entry, current, change)
    return state.with_entry(entry.name, decided), outcome


def _of_group(
    state: State, change: SetMaxUnavailable | Proceed | NoteHealth
) -> tuple[State, Outcome]:
    """Take in how many nodes change at once, or since when the group is degraded."""
    if isinstance(change, NoteHealth):
        return _note_health(state, change.degraded_since)
    if isinstance(change, SetMaxUnavailable):
        is_known = state.max_unavailable == change.nodes
        outcome = Outcome.UNCHANGED if is_known else Outcome.BOUND_CHANGED
        return replace(state, max_unavailable=change.nodes), outcome
    if state.seeding is None or state.template != change.template:
        return state, Outcome.UNCHANGED
    return replace(state, max_unavailable=None, seeding=None), Outcome.PROCEEDED


def _note_health(state: State, since: datetime | None) -> tuple[State, Outcome]:
    if (state.degraded_since is None) == (since is None):
        return state, Outcome.UNCHANGED
    outcome = Outcome.RESTORED if since is None else Outcome.DEGRADED
    return replace(state, degraded_since=since), outcome


def _decide(
    config: Config,
    entry: Entry,
    current: EntryState,
    change: TrackTag | UntrackTag | RegistryAnswer | AwaitVerification,
) -> tuple[EntryState, Outcome]:
    match change:
        case TrackTag():
            return _take_push(config, entry, _without_settled(current, change), change)
        case UntrackTag():
            return _take_deletion(entry, current, change)
        case RegistryAnswer() if change.other_kind is not None:
            return _take_other_artifact(entry, _without_settled(current, change), change)
        case RegistryAnswer(digest=None):
            return _take_absence(config, entry, current, change)
        case RegistryAnswer():
            return _take_answer(config, entry, _without_settled(current, change), change)
        case AwaitVerification():
            return _await_verification(current, change)
        case _:
            assert_never(change)


# A push


def _take_push(
    config: Config, entry: Entry, current: EntryState, push: TrackTag
) -> tuple[EntryState, Outcome]:
    deletions = [each for each in current.deleted if _names(each, push.tag, push.digest)]
    if push.tag != entry.tag and any(is_older(push, deletion) for deletion in deletions):
        return current, Outcome.OLDER
    quarantined = current.quarantine(push.tag)
    if quarantined is not None:
        return _take_push_again(config, entry, current, quarantined, push)
    known = current.tag(push.tag)
    tag, outcome = _pushed(entry, known, push)
    if tag == known:
        return current, outcome
    if known is not None and outcome not in _NEW_CONTENT and tag.time <= known.time:
        return _with_replaced(config, entry, current, tag), outcome
    if outcome is Outcome.UNCHANGED and not _is_newest(entry, current, push.tag):
        outcome = Outcome.TRACKED
    if outcome is Outcome.TRACKED and any(is_uncertain(push, each) for each in deletions):
        outcome = Outcome.IN_DOUBT
    return _with_tag(config, entry, current, tag, outcome)


def _take_push_again(
    config: Config, entry: Entry, current: EntryState, quarantined: Quarantined, push: TrackTag
) -> tuple[EntryState, Outcome]:
    """Take in a push of a quarantined tag: it is tried again, but not for the same push."""
    if is_older(push, quarantined.tag):
        return current, Outcome.OLDER
    if _is_same(quarantined.tag, push) and push.time <= quarantined.tag.time:
        return current, Outcome.QUARANTINED
    tag, _ = _pushed(entry, current.tag(push.tag), push)
    return quarantine.released(
        config, entry, current, quarantine.as_mutated(tag, quarantined)
    ), Outcome.MUTATED


def _pushed(entry: Entry, known: Tag | None, push: TrackTag) -> tuple[Tag, Outcome]:
    """Return the tag after a push of it."""
    # Nodes have the configured image from the start, so its first push may already mutate it.
    is_mutation = known is not None or push.tag == entry.tag
    pushed = Tag(
        name=push.tag,
        digest=push.digest,
        time=push.time,
        mutated=is_mutation,
        own_clock=push.own_clock,
    )
    if known is None:
        return pushed, Outcome.MUTATED if is_mutation else Outcome.TRACKED
    if is_older(push, known):
        # Where the policy orders tags, the order in which pushes arrive must not matter.
        is_mutated = entry.policy.orders_tags and not _is_same(known, push)
        return replace(known, mutated=known.mutated or is_mutated), Outcome.OLDER
    if _is_same(known, push):
        same = replace(_with_time_of(known, push), digest=push.digest or known.digest)
        is_completed = same.digest != known.digest
        return same, Outcome.DIGEST_COMPLETED if is_completed else Outcome.UNCHANGED
    return pushed, Outcome.IN_DOUBT if is_uncertain(push, known) else Outcome.MUTATED


def _with_time_of(known: Tag, push: TrackTag) -> Tag:
    """Return the tag after another push of its content.

    The later time counts. Of two times that may be of one push, the registry's counts, because
    it can be compared exactly.
    """
    if known.own_clock == push.own_clock:
        return replace(known, time=max(known.time, push.time))
    if push.own_clock and not is_older(known, push):
        return known
    return replace(known, time=push.time, own_clock=push.own_clock)


def _is_same(known: Tag, push: TrackTag) -> bool:
    """Whether a push is of the known content.

    Without a digest only the same push again, known by its time, is sure to be.
    """
    if None in (push.digest, known.digest):
        return (push.time, push.own_clock) == (known.time, known.own_clock)
    return push.digest == known.digest


def _is_newest(entry: Entry, current: EntryState, tag: str) -> bool:
    """Whether a later push of the same content leaves the order of tags as it is."""
    if entry.policy.orders_tags or tag == entry.tag:
        return True
    return selection.newest(entry.tag, current.tags, 1)[0].name == tag


def _with_tag(
    config: Config, entry: Entry, current: EntryState, tag: Tag, outcome: Outcome
) -> tuple[EntryState, Outcome]:
    """Return the entry with a tag as the newest, if it is new enough to be tracked."""
    tags = selection.with_pushed(config, entry, current.tags, tag)
    if tag not in tags:
        return current, Outcome.NOT_NEWEST
    refused = tuple(refused for refused in current.refused if refused.name != tag.name)
    previous = quarantine.previous(entry, current, tags, tag)
    return replace(current, tags=tags, refused=refused, previous=previous), outcome


def _with_replaced(config: Config, entry: Entry, current: EntryState, tag: Tag) -> EntryState:
    """Return the entry with a tag replaced, in its place."""
    refused = tuple(refused for refused in current.refused if refused.name != tag.name)
    tags = selection.with_replaced(config, entry, current.tags, tag)
    return replace(current, tags=tags, refused=refused)


# A registry's answer


def _take_answer(
    config: Config, entry: Entry, current: EntryState, answer: RegistryAnswer
) -> tuple[EntryState, Outcome]:
    """Take in a digest. It is no push, so only other content than the known one is a mutation."""
    if any(
        refused.name == answer.tag and refused.digest in (None, answer.digest)
        for refused in current.refused
    ):
        return current, Outcome.REFUSED
    quarantined = current.quarantine(answer.tag)
    if quarantined is not None:
        return _take_answer_again(config, entry, current, quarantined, answer)
    known = current.tag(answer.tag)
    if _is_outdated(known, answer) or _is_deleted_since(current, answer):
        return current, Outcome.OLDER
    tag, outcome = _answered(known, answer)
    if known is not None and outcome not in _NEW_CONTENT:
        return _with_replaced(config, entry, current, tag), outcome
    return _with_tag(config, entry, current, tag, outcome)


def _take_answer_again(
    config: Config,
    entry: Entry,
    current: EntryState,
    quarantined: Quarantined,
    answer: RegistryAnswer,
) -> tuple[EntryState, Outcome]:
    """Take in a digest of a quarantined tag: it is tried again if its registry shows news."""
    newest, known = quarantined.tag, current.tag(answer.tag)
    digest = None if known is None else known.digest
    state = Precondition(is_tracked=known is not None, digest=digest)
    if answer.precondition is not None and answer.precondition != state:
        return current, Outcome.OLDER
    if answer.digest == newest.digest and newest.confirmed:
        return current, Outcome.QUARANTINED
    if newest.digest in (None, answer.digest):
        shown = replace(newest, digest=answer.digest, confirmed=True)
        return quarantine.released(config, entry, current, shown), Outcome.MUTATED
    if _is_outdated(newest, replace(answer, precondition=None)):
        return current, Outcome.OLDER
    tag = Tag(
        name=answer.tag,
        digest=answer.digest,
        time=answer.time,
        confirmed=True,
        own_clock=True,
    )
    if known is not None and known.digest == answer.digest:
        tag = replace(known, confirmed=True)
    return quarantine.released(
        config, entry, current, quarantine.as_mutated(tag, quarantined)
    ), Outcome.MUTATED


def _answered(known: Tag | None, answer: RegistryAnswer) -> tuple[Tag, Outcome]:
    """Return the tag as its registry has it."""
    tag = Tag(
        name=answer.tag, digest=answer.digest, time=answer.time, confirmed=True, own_clock=True
    )
    if known is None:
        return tag, Outcome.TRACKED
    if known.digest == answer.digest:
        # Nodes may have pulled before the registry showed it. They may pull once more.
        pulled_again = known.pulled_again and known.confirmed
        return replace(known, confirmed=True, pulled_again=pulled_again), Outcome.UNCHANGED
    if known.digest is None:
        return replace(known, digest=answer.digest, confirmed=True), Outcome.DIGEST_COMPLETED
    return replace(tag, mutated=True), Outcome.MUTATED


def _is_outdated(known: Tag | None, answer: RegistryAnswer) -> bool:
    """Whether what is known of a tag counts more than what its registry answered.

    That is so where the tag has changed since the registry was asked. It is also so for a while
    after a push, because some registries announce a push before they show it.
    """
    digest = None if known is None else known.digest
    current = Precondition(is_tracked=known is not None, digest=digest)
    if answer.precondition is not None and answer.precondition != current:
        return True
    if known is None or answer.is_decisive:
        return False
    if known.confirmed and answer.precondition is not None:
        return False  # nothing has changed since the question, whatever the clocks say
    settling = timedelta(seconds=0 if known.confirmed else limits.SETTLING_SECONDS)
    contradicts = known.digest not in (None, answer.digest) or answer.digest is None
    return answer.time < known.time + (settling if contradicts else timedelta(0))


def _is_deleted_since(current: EntryState, answer: RegistryAnswer) -> bool:
    """Whether a tag that was not tracked has been deleted since the question."""
    return (
        not answer.is_decisive
        and current.tag(answer.tag) is None
        and any(
            _names(deletion, answer.tag, answer.digest) and answer.time < deletion.time
            for deletion in current.deleted
        )
    )


def _take_absence(
    config: Config, entry: Entry, current: EntryState, answer: RegistryAnswer
) -> tuple[EntryState, Outcome]:
    """Untrack a tag that its registry does not have. A recent unverified push keeps waiting."""
    limit = timedelta(seconds=limits.UNVERIFIED_SECONDS)
    waiting = tuple(
        push
        for push in current.unverified
        if push.tag != answer.tag or answer.time - push.time < limit
    )
    if waiting != current.unverified:
        return replace(current, unverified=waiting), Outcome.VERIFICATION_EXPIRED
    quarantined = current.quarantine(answer.tag)
    if quarantined is not None and (
        answer.tag == entry.tag or answer.time - quarantined.since < limit
    ):
        unseen = replace(quarantined, tag=replace(quarantined.tag, confirmed=False))
        return quarantine.with_quarantined(config, current, unseen), Outcome.QUARANTINED
    if _is_outdated(current.tag(answer.tag), answer):
        return current, Outcome.OLDER
    gone = UntrackTag(entry=answer.entry, tag=answer.tag, digest=None, time=answer.time)
    # The conditions above have compared the times already.
    return _untrack(entry, current, gone, [tag for tag in current.tags if tag.name == answer.tag])


def _take_other_artifact(
    entry: Entry, current: EntryState, answer: RegistryAnswer
) -> tuple[EntryState, Outcome]:
    """Untrack a tag that is no image. The same digest is never one, however recent the push is."""
    known, quarantined = current.tag(answer.tag), current.quarantine(answer.tag)
    if known is None and quarantined is None:
        return current, Outcome.NOT_IMAGE
    if (
        known is not None
        and known.digest not in (None, answer.digest)
        and _is_outdated(known, answer)
    ):
        return current, Outcome.OLDER
    gone = UntrackTag(entry=answer.entry, tag=answer.tag, digest=None, time=answer.time)
    named = [tag for tag in current.tags if tag is known]
    return _untrack(entry, current, gone, named)[0], Outcome.NOT_IMAGE


# Unverified pushes


def _await_verification(current: EntryState, push: AwaitVerification) -> tuple[EntryState, Outcome]:
    known = current.tag(push.tag)
    if known is not None and is_older(push, known):
        return current, Outcome.OLDER
    if known is not None and push.digest is not None and push.digest == known.digest:
        return current, Outcome.UNCHANGED
    content = push.digest
    waiting = next((each for each in current.unverified if each.tag == push.tag), None)
    if waiting is not None:
        is_same = push.digest is not None and push.digest == waiting.digest
        if is_same or is_older(push, waiting):
            return current, Outcome.UNCHANGED
        if is_uncertain(push, waiting):
            if waiting.digest is None:
                return current, Outcome.UNCHANGED
            content = None  # the registry shows which of the two pushes is the newest
    others = [other for other in current.unverified if other.tag != push.tag]
    unverified = UnverifiedPush(
        tag=push.tag,
        digest=content,
        time=push.time,
        reason=push.reason[: limits.UNVERIFIED_CHARACTERS],
        own_clock=push.own_clock,
    )
    kept = tuple([*others, unverified][-limits.UNVERIFIED_PUSHES :])
    is_full = len(kept) <= len(others)
    outcome = Outcome.DISPLACED if is_full else Outcome.AWAITING_VERIFICATION
    return replace(current, unverified=kept), outcome


def _without_settled(current: EntryState, change: TrackTag | RegistryAnswer) -> EntryState:
    """Return the entry without the unverified pushes that this change settles."""
    waiting = tuple(
        push for push in current.unverified if push.tag != change.tag or push.time > change.time
    )
    return replace(current, unverified=waiting)


# Deletions, and pulling again


def _take_deletion(
    entry: Entry, current: EntryState, deletion: UntrackTag
) -> tuple[EntryState, Outcome]:
    """Untrack what was deleted, and remember the deletion for pushes that arrive late."""
    named = [
        tag
        for tag in current.tags
        for newest in (quarantine.newest(current, tag),)
        if _names(deletion, newest.name, newest.digest) and not is_older(deletion, newest)
    ]
    decided, outcome = _untrack(entry, current, deletion, named)
    gone = [tag for tag in named if tag.name != entry.tag]
    if any(is_uncertain(deletion, tag) for tag in gone):
        outcome = Outcome.IN_DOUBT
    is_worth = gone or _may_be_tracked(entry, deletion)
    return _with_deletion(decided, deletion) if is_worth else decided, outcome


def _may_be_tracked(entry: Entry, deletion: UntrackTag) -> bool:
    """Whether a late push of what was deleted could be tracked. A bare digest may be a blob's."""
    if deletion.tag is None:
        return deletion.digest is None and entry.policy.tracks_other_tags
    return deletion.tag != entry.tag and entry.policy.tracks(deletion.tag)


def _with_deletion(current: EntryState, deletion: UntrackTag) -> EntryState:
    remembered = Deletion(
        tag=deletion.tag,
        digest=deletion.digest,
        time=deletion.time,
        own_clock=deletion.own_clock,
        with_all_tags=deletion.with_all_tags,
    )
    for other in current.deleted:
        if replace(other, time=deletion.time, own_clock=deletion.own_clock) == remembered:
            if deletion.time <= other.time:
                return current
            others = tuple(each for each in current.deleted if each is not other)
            return replace(current, deleted=(*others, remembered))
    return replace(current, deleted=(*current.deleted, remembered)[-limits.DELETIONS :])


def _untrack(
    entry: Entry, current: EntryState, deletion: UntrackTag, named: Sequence[Tag]
) -> tuple[EntryState, Outcome]:
    """Untrack tags. The configured image stays: a restart would only lose it."""
    tags = tuple(tag for tag in current.tags if tag.name == entry.tag or tag not in named)
    refused = tuple(
        each
        for each in current.refused
        if each.name == entry.configured or not _names(deletion, each.name, each.digest)
    )
    quarantined = tuple(
        each
        for each in current.quarantined
        if each.tag.name == entry.tag
        or each.tag.name in {tag.name for tag in tags}
        or not _names(deletion, each.tag.name, each.tag.digest)
        or is_older(deletion, each.tag)
    )
    rest = replace(
        current,
        tags=tags,
        previous=quarantine.of(tags, current.previous),
        quarantined=quarantined,
        refused=refused,
    )
    return rest, Outcome.UNCHANGED if rest == current else Outcome.UNTRACKED


def _names(deletion: UntrackTag | Deletion, tag: str, digest: str | None) -> bool:
    """Whether a deletion is about this tag with this digest."""
    if deletion.with_all_tags and deletion.digest is not None and deletion.digest == digest:
        return True
    if deletion.tag is not None and deletion.tag != tag:
        return False
    if deletion.digest is None:
        return True
    if deletion.tag is not None and digest is None:
        return True
    return deletion.digest == digest


def _pull_again(state: State, change: PullAgain) -> tuple[State, Outcome]:
    current = state.entries[change.entry]
    known = current.tag(change.tag)
    if (
        known is None
        or known.digest != change.digest
        or current.quarantine(change.tag) is not None
        or not may_pull_again(state, known, change.time)
    ):
        return state, Outcome.UNCHANGED
    tags = tuple(replace(tag, pulled_again=True) if tag is known else tag for tag in current.tags)
    pulled = state.with_entry(change.entry, replace(current, tags=tags))
    return replace(pulled, pulled_again_at=change.time), Outcome.PULLED_AGAIN


def may_pull_again(state: State, tag: Tag, now: datetime) -> bool:
    """Whether nodes may pull a tag once more, because some of them have other content.

    They may at once, when its registry first shows it, and after the time in which a registry may
    still show the previous content. A runtime can report other content for ever, so that is all.
    """
    if not tag.pulled_again or state.pulled_again_at is None:
        return True
    settled = tag.time + timedelta(seconds=limits.SETTLING_SECONDS)
    return state.pulled_again_at < settled <= now
