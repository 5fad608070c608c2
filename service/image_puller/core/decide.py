"""The decision: configuration, state and changes give a new state.

Pure. The same changes applied again change nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from typing import assert_never

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.config.entries import Entry
from image_puller.core import selection
from image_puller.core.changes import (
    AwaitVerification,
    Change,
    CheckDaemonSet,
    EnsureExists,
    Precondition,
    PullAgain,
    RegistryAnswer,
    TrackTag,
    UntrackTag,
)
from image_puller.core.state import EntryState, State, Tag, UnverifiedPush


class Outcome(StrEnum):
    """What became of one change. The values are those of the metric's label."""

    TRACKED = "tracked"
    MUTATED = "mutated"
    UNCHANGED = "unchanged"
    OLDER = "older"
    NOT_NEWEST = "not_newest"
    UNTRACKED = "untracked"
    CHECKED = "checked"
    DIGEST_COMPLETED = "digest_completed"
    AWAITING_VERIFICATION = "awaiting_verification"
    DISPLACED = "displaced"
    """Awaiting verification; the oldest such push was dropped to make room."""
    VERIFICATION_EXPIRED = "verification_expired"
    PULLED_AGAIN = "pulled_again"
    REFUSED = "refused"


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

    Tracked tags stay where the entry's image has not changed. Refused tags are forgotten, so that
    they are tried again.
    """
    return replace(
        state,
        configuration=configuration,
        blocked=None,
        entries={entry.name: _adopted(config, state, entry) for entry in config.entries},
    )


def _adopted(config: Config, state: State, entry: Entry) -> EntryState:
    old = state.entries.get(entry.name)
    if old is None or old.image != entry.image:
        return EntryState(image=entry.image)
    tags = [tag for tag in old.tags if entry.policy.tracks(tag.name)]
    return EntryState(
        image=entry.image,
        tags=selection.tracked(config, entry, tags),
        live_tags=old.live_tags,
        unverified=tuple(push for push in old.unverified if entry.policy.tracks(push.tag)),
    )


def _apply_one(config: Config, state: State, change: Change) -> tuple[State, Outcome]:
    match change:
        case EnsureExists() | CheckDaemonSet():
            return state, Outcome.CHECKED
        case PullAgain():
            return _pull_again(state, change)
    entry = config.entry(change.entry)
    decided, outcome = _decide(config, entry, state.entries[entry.name], change)
    return state.with_entry(entry.name, decided), outcome


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
            return _untrack(entry, current, change)
        case RegistryAnswer(digest=None):
            return _take_absence(entry, current, change)
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
    known = current.tag(push.tag)
    tag, outcome = _pushed(entry, known, push)
    if tag == known:
        return current, outcome
    if outcome is Outcome.UNCHANGED and not _is_newest(entry, current, push.tag):
        outcome = Outcome.TRACKED
    return _with_tag(config, entry, current, tag, outcome)


def _pushed(entry: Entry, known: Tag | None, push: TrackTag) -> tuple[Tag, Outcome]:
    """Return the tag after a push of it."""
    # Nodes have the configured image from the start, so its first push may already mutate it.
    is_mutation = known is not None or push.tag == entry.tag
    pushed = Tag(name=push.tag, digest=push.digest, time=push.time, mutated=is_mutation)
    if known is None:
        return pushed, Outcome.MUTATED if is_mutation else Outcome.TRACKED
    if push.time < known.time:
        # Where the policy orders tags, the order in which pushes arrive must not matter.
        is_mutated = entry.policy.orders_tags and not _is_same(known, push)
        return replace(known, mutated=known.mutated or is_mutated), Outcome.OLDER
    if _is_same(known, push):
        same = replace(known, time=push.time, digest=push.digest or known.digest)
        is_completed = same.digest != known.digest
        return same, Outcome.DIGEST_COMPLETED if is_completed else Outcome.UNCHANGED
    return pushed, Outcome.MUTATED


def _is_same(known: Tag, push: TrackTag) -> bool:
    """Whether a push is of the known content.

    Without a digest only the same push again, known by its time, is sure to be.
    """
    if None in (push.digest, known.digest):
        return push.time == known.time
    return push.digest == known.digest


def _is_newest(entry: Entry, current: EntryState, tag: str) -> bool:
    """Whether a later push of the same content leaves the order of tags as it is."""
    if entry.policy.orders_tags or tag == entry.tag:
        return True
    return selection.newest(entry.tag, current.tags, 1)[0].name == tag


def _with_tag(
    config: Config, entry: Entry, current: EntryState, tag: Tag, outcome: Outcome
) -> tuple[EntryState, Outcome]:
    """Return the entry with a tag in its place, if the tag is new enough to be tracked."""
    others = (other for other in current.tags if other.name != tag.name)
    tags = selection.tracked(config, entry, [tag, *others])
    if tag not in tags:
        return current, Outcome.NOT_NEWEST
    refused = tuple(refused for refused in current.refused if refused.name != tag.name)
    return replace(current, tags=tags, refused=refused), outcome


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
    known = current.tag(answer.tag)
    if _is_outdated(known, answer):
        return current, Outcome.OLDER
    tag, outcome = _answered(known, answer)
    return _with_tag(config, entry, current, tag, outcome)


def _answered(known: Tag | None, answer: RegistryAnswer) -> tuple[Tag, Outcome]:
    """Return the tag as its registry has it."""
    tag = Tag(name=answer.tag, digest=answer.digest, time=answer.time, confirmed=True)
    if known is None:
        return tag, Outcome.TRACKED
    if known.digest == answer.digest:
        return replace(known, confirmed=True), Outcome.UNCHANGED
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
    if known is None:
        return False
    settling = timedelta(seconds=0 if known.confirmed else limits.SETTLING_SECONDS)
    contradicts = known.digest not in (None, answer.digest) or answer.digest is None
    return answer.time < known.time + (settling if contradicts else timedelta(0))


def _take_absence(
    entry: Entry, current: EntryState, answer: RegistryAnswer
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
    if _is_outdated(current.tag(answer.tag), answer):
        return current, Outcome.OLDER
    gone = UntrackTag(entry=answer.entry, tag=answer.tag, digest=None, time=answer.time)
    return _untrack(entry, current, gone)


# Unverified pushes


def _await_verification(current: EntryState, push: AwaitVerification) -> tuple[EntryState, Outcome]:
    known = current.tag(push.tag)
    if known is not None and push.time < known.time:
        return current, Outcome.OLDER
    if known is not None and push.digest is not None and push.digest == known.digest:
        return current, Outcome.UNCHANGED
    for waiting in current.unverified:
        is_same = push.digest is not None and push.digest == waiting.digest
        if waiting.tag == push.tag and (is_same or push.time <= waiting.time):
            return current, Outcome.UNCHANGED
    others = [other for other in current.unverified if other.tag != push.tag]
    unverified = UnverifiedPush(
        tag=push.tag,
        digest=push.digest,
        time=push.time,
        reason=push.reason[: limits.UNVERIFIED_CHARACTERS],
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


def _untrack(entry: Entry, current: EntryState, deletion: UntrackTag) -> tuple[EntryState, Outcome]:
    """Untrack what was deleted. The configured image stays: a restart would only lose it."""
    tags = tuple(
        tag
        for tag in current.tags
        if tag.name == entry.tag
        or tag.time > deletion.time
        or not _names(deletion, tag.name, tag.digest)
    )
    refused = tuple(
        each
        for each in current.refused
        if each.name == entry.configured or not _names(deletion, each.name, each.digest)
    )
    rest = replace(current, tags=tags, refused=refused)
    return rest, Outcome.UNCHANGED if rest == current else Outcome.UNTRACKED


def _names(deletion: UntrackTag, tag: str, digest: str | None) -> bool:
    """Whether a deletion is about this tag with this digest."""
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
    if known is None or known.digest != change.digest or known.pulled_again:
        return state, Outcome.UNCHANGED
    tags = tuple(replace(tag, pulled_again=True) if tag is known else tag for tag in current.tags)
    pulled = state.with_entry(change.entry, replace(current, tags=tags))
    return replace(pulled, pulled_again_at=change.time), Outcome.PULLED_AGAIN
