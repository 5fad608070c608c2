"""The decision: configuration, state and changes to a new state. Pure, and safe to repeat."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from typing import assert_never

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.config.entries import Entry
from image_puller.core.changes import (
    Change,
    Confirm,
    Follow,
    Forget,
    Found,
    Hold,
    Known,
    Refresh,
    RollAgain,
)
from image_puller.core.state import Followed, Refused, State, Tag, Unverified


class Outcome(StrEnum):
    """What became of one change; the values are those of the metric's label."""

    FOLLOWED = "followed"
    MOVED = "moved"
    UNCHANGED = "unchanged"
    OLDER = "older"
    SURPASSED = "newer ones are kept"
    FORGOTTEN = "forgotten"
    CHECKED = "checked"
    COMPLETED = "digest learned"
    HELD = "held until verified"
    DISPLACED = "held until verified, the oldest such push given up"
    GIVEN_UP = "given up, never verified"
    ROLLED_AGAIN = "rolled again"
    REFUSED = "refused by the cluster"


def apply(
    config: Config, state: State, changes: Sequence[Change]
) -> tuple[State, tuple[Outcome, ...]]:
    """The state after `changes`, one after another, and what became of each.

    `state` is one that `adopt` has fitted to `config`. The same changes again change nothing.
    """
    outcomes = []
    for change in changes:
        state, outcome = _apply_one(config, state, change)
        outcomes.append(outcome)
    return state, tuple(outcomes)


def adopt(config: Config, state: State, configuration: str) -> State:
    """The state under a configuration: what was followed stays where its entry has not changed.

    Tags that the cluster refused get another try.
    """
    return replace(
        state,
        configuration=configuration,
        blocked=None,
        entries={entry.name: _adopted(config, state, entry) for entry in config.entries},
    )


def refuse(state: State, entry: Entry, refused: Refused) -> State:
    """The state in which a tag of an entry, or its configured image, counts as refused."""
    followed = state.entries[entry.name]
    others = [other for other in followed.refused if other.name != refused.name]
    # The oldest are forgotten, but never that the template has to do without the configured image.
    kept = sorted([refused, *others], key=lambda each: each.name != entry.label)
    return state.with_entry(
        entry.name, replace(followed, refused=tuple(kept[: limits.REFUSED_TAGS]))
    )


def cached(entry: Entry, tags: Sequence[Tag], keep: int) -> tuple[Tag, ...]:
    """The followed tags that are cached beside the configured image: the newest `keep`."""
    return tuple(tag for tag in tags if tag.name != entry.tag)[:keep]


def arranged(config: Config, entry: Entry, tags: Sequence[Tag]) -> tuple[Tag, ...]:
    """The tags with the newest first, and no more of them than can be of use.

    Versions stand by precedence, other tags by time, and on a tie as they stood.
    """
    policy = entry.policy
    if policy.orders_tags:
        placed = sorted(tags, key=lambda tag: policy.precedence(tag.name), reverse=True)
    else:
        placed = sorted(tags, key=lambda tag: tag.time, reverse=True)
    of_use = cached(entry, placed, config.keep_tags + limits.SPARE_TAGS)
    return tuple(tag for tag in placed if tag.name == entry.tag or tag in of_use)


def _apply_one(config: Config, state: State, change: Change) -> tuple[State, Outcome]:
    match change:
        case Confirm() | Refresh():
            return state, Outcome.CHECKED
        case RollAgain():
            return _roll_again(state, change)
    entry = config.entry(change.entry)
    followed, outcome = _decide(config, entry, state.entries[entry.name], change)
    return state.with_entry(entry.name, followed), outcome


def _decide(
    config: Config, entry: Entry, followed: Followed, change: Follow | Forget | Found | Hold
) -> tuple[Followed, Outcome]:
    match change:
        case Follow():
            return _follow(config, entry, _confirmed(followed, change), change)
        case Forget():
            return _forget(entry, followed, change)
        case Found(digest=None):
            return _miss(entry, followed, change)
        case Found():
            return _find(config, entry, _confirmed(followed, change), change)
        case Hold():
            return _hold(followed, change)
        case _:
            assert_never(change)


def _follow(
    config: Config, entry: Entry, followed: Followed, push: Follow
) -> tuple[Followed, Outcome]:
    known = followed.tag(push.tag)
    tag, outcome = _pushed(entry, known, push)
    if tag == known:
        return followed, outcome
    if outcome is Outcome.UNCHANGED and not _is_newest(entry, followed, push.tag):
        outcome = Outcome.FOLLOWED
    return _placed(config, entry, followed, tag, outcome)


def _placed(
    config: Config, entry: Entry, followed: Followed, tag: Tag, outcome: Outcome
) -> tuple[Followed, Outcome]:
    """The entry with a tag where it belongs, if it is new enough to be of use."""
    others = (other for other in followed.tags if other.name != tag.name)
    tags = arranged(config, entry, [tag, *others])
    if tag not in tags:
        return followed, Outcome.SURPASSED
    refused = tuple(refused for refused in followed.refused if refused.name != tag.name)
    return replace(followed, tags=tags, refused=refused), outcome


def _find(
    config: Config, entry: Entry, followed: Followed, found: Found
) -> tuple[Followed, Outcome]:
    """What a registry has is no push: it moves nothing but what it shows to be another content."""
    if any(
        refused.name == found.tag and refused.digest in (None, found.digest)
        for refused in followed.refused
    ):
        return followed, Outcome.REFUSED
    known = followed.tag(found.tag)
    if _is_overtaken(known, found):
        return followed, Outcome.OLDER
    tag, outcome = _seen(known, found)
    return _placed(config, entry, followed, tag, outcome)


def _seen(known: Tag | None, found: Found) -> tuple[Tag, Outcome]:
    """The tag as its registry has it."""
    there = Tag(name=found.tag, digest=found.digest, time=found.time, seen=True)
    if known is None:
        return there, Outcome.FOLLOWED
    if known.digest == found.digest:
        return replace(known, seen=True), Outcome.UNCHANGED
    if known.digest is None:
        return replace(known, digest=found.digest, seen=True), Outcome.COMPLETED
    return replace(there, moved=True), Outcome.MOVED


def _is_overtaken(known: Tag | None, found: Found) -> bool:
    """Whether what was pushed counts more than what a registry said of it.

    So it does if it was heard of since the registry was asked, whoever's clock says what; and for
    a while after a push, because some registries tell of one before they show it.
    """
    digest = None if known is None else known.digest
    now = Known(is_followed=known is not None, digest=digest)
    if found.known is not None and found.known != now:
        return True
    if known is None:
        return False
    settling = timedelta(seconds=0 if known.seen else limits.SETTLING_SECONDS)
    is_contradicted = known.digest not in (None, found.digest) or found.digest is None
    return found.time < known.time + (settling if is_contradicted else timedelta(0))


def _miss(entry: Entry, followed: Followed, missed: Found) -> tuple[Followed, Outcome]:
    """The tag is gone; one whose push is not verified may be about to come."""
    limit = timedelta(seconds=limits.UNVERIFIED_SECONDS)
    waiting = tuple(
        push
        for push in followed.unverified
        if push.tag != missed.tag or missed.time - push.time < limit
    )
    if waiting != followed.unverified:
        return replace(followed, unverified=waiting), Outcome.GIVEN_UP
    if _is_overtaken(followed.tag(missed.tag), missed):
        return followed, Outcome.OLDER
    gone = Forget(entry=missed.entry, tag=missed.tag, digest=None, time=missed.time)
    return _forget(entry, followed, gone)


def _hold(followed: Followed, push: Hold) -> tuple[Followed, Outcome]:
    known = followed.tag(push.tag)
    if known is not None and push.time < known.time:
        return followed, Outcome.OLDER
    if known is not None and push.digest is not None and push.digest == known.digest:
        return followed, Outcome.UNCHANGED
    for waiting in followed.unverified:
        is_same = push.digest is not None and push.digest == waiting.digest
        if waiting.tag == push.tag and (is_same or push.time <= waiting.time):
            return followed, Outcome.UNCHANGED
    others = [other for other in followed.unverified if other.tag != push.tag]
    held = Unverified(
        tag=push.tag,
        digest=push.digest,
        time=push.time,
        reason=push.reason[: limits.UNVERIFIED_CHARACTERS],
    )
    kept = tuple([*others, held][-limits.UNVERIFIED_PUSHES :])
    is_full = len(kept) <= len(others)
    outcome = Outcome.DISPLACED if is_full else Outcome.HELD
    return replace(followed, unverified=kept), outcome


def _confirmed(followed: Followed, word: Follow | Found) -> Followed:
    """The entry without the unverified pushes that this word settles."""
    waiting = tuple(
        push for push in followed.unverified if push.tag != word.tag or push.time > word.time
    )
    return replace(followed, unverified=waiting)


def _roll_again(state: State, change: RollAgain) -> tuple[State, Outcome]:
    followed = state.entries[change.entry]
    known = followed.tag(change.tag)
    if known is None or known.digest != change.digest or known.again:
        return state, Outcome.UNCHANGED
    tags = tuple(replace(tag, again=True) if tag is known else tag for tag in followed.tags)
    rolled = state.with_entry(change.entry, replace(followed, tags=tags))
    return replace(rolled, refreshed=change.time), Outcome.ROLLED_AGAIN


def _pushed(entry: Entry, known: Tag | None, push: Follow) -> tuple[Tag, Outcome]:
    """The tag after a push of it: its latest content, and whether it was ever seen to change."""
    # The configured image is cached from the start, so its first push may already be a move.
    is_move = known is not None or push.tag == entry.tag
    pushed = Tag(name=push.tag, digest=push.digest, time=push.time, moved=is_move)
    if known is None:
        return pushed, Outcome.MOVED if is_move else Outcome.FOLLOWED
    if push.time < known.time:
        # Where the policy orders tags, in which order pushes arrive must not matter.
        has_moved = entry.policy.orders_tags and not _is_same(known, push)
        return replace(known, moved=known.moved or has_moved), Outcome.OLDER
    if _is_same(known, push):
        same = replace(known, time=push.time, digest=push.digest or known.digest)
        is_learned = same.digest != known.digest
        return same, Outcome.COMPLETED if is_learned else Outcome.UNCHANGED
    return pushed, Outcome.MOVED


def _is_same(known: Tag, push: Follow) -> bool:
    """A push without digest may always have moved its tag, but for the very push that is known."""
    if None in (push.digest, known.digest):
        return push.time == known.time
    return push.digest == known.digest


def _is_newest(entry: Entry, followed: Followed, tag: str) -> bool:
    """Whether a later push of the same content leaves the order as it is."""
    if entry.policy.orders_tags or tag == entry.tag:
        return True
    return cached(entry, followed.tags, keep=1)[0].name == tag


def _forget(entry: Entry, followed: Followed, deletion: Forget) -> tuple[Followed, Outcome]:
    """The configured image stays: to restart pods for it now would only lose it on the nodes."""
    tags = tuple(
        tag
        for tag in followed.tags
        if tag.name == entry.tag
        or tag.time > deletion.time
        or not _is_named(deletion, tag.name, tag.digest)
    )
    refused = tuple(
        each
        for each in followed.refused
        if each.name == entry.label or not _is_named(deletion, each.name, each.digest)
    )
    rest = replace(followed, tags=tags, refused=refused)
    return rest, Outcome.UNCHANGED if rest == followed else Outcome.FORGOTTEN


def _is_named(deletion: Forget, tag: str, digest: str | None) -> bool:
    if deletion.tag is not None and deletion.tag != tag:
        return False
    if deletion.digest is None:
        return True
    if deletion.tag is not None and digest is None:
        return True
    return deletion.digest == digest


def _adopted(config: Config, state: State, entry: Entry) -> Followed:
    old = state.entries.get(entry.name)
    if old is None or old.image != entry.image:
        return Followed(image=entry.image)
    tags = [tag for tag in old.tags if entry.policy.follows(tag.name)]
    return Followed(
        image=entry.image,
        tags=arranged(config, entry, tags),
        applied=old.applied,
        unverified=tuple(push for push in old.unverified if entry.policy.follows(push.tag)),
    )
