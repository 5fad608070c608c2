"""The decision: configuration, state and changes to a new state. Pure, and safe to repeat."""

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import assert_never

from image_puller import limits
from image_puller.config import Config
from image_puller.images import Entry
from image_puller.matching import Change, Confirm, Follow, Forget, Refresh
from image_puller.state import Followed, Refused, State, Tag


class Outcome(StrEnum):
    """What became of one change; the values are those of the metric's label."""

    FOLLOWED = "followed"
    MOVED = "moved"
    UNCHANGED = "unchanged"
    OLDER = "older"
    FORGOTTEN = "forgotten"
    CHECKED = "checked"
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


def cached(entry: Entry, tags: Sequence[Tag], keep: int) -> tuple[Tag, ...]:
    """The followed tags that are cached beside the configured image: the newest `keep`."""
    return tuple(tag for tag in tags if tag.name != entry.tag)[:keep]


def ordered(config: Config, entry: Entry, tags: Sequence[Tag], tag: Tag) -> tuple[Tag, ...]:
    """`tags` with `tag` in its place, newest first; one of the same name is replaced.

    Versions stand by precedence, other tags by time, and on a tie the later arrival first.
    No more are kept than can be of use.
    """
    others = [other for other in tags if other.name != tag.name]
    if entry.policy.orders_tags:
        key = entry.policy.precedence
        place = sum(1 for other in others if key(other.name) > key(tag.name))
    else:
        place = sum(1 for other in others if other.time > tag.time)
    placed = [*others[:place], tag, *others[place:]]
    configured = [kept for kept in placed if kept.name == entry.tag]
    rest = [kept for kept in placed if kept.name != entry.tag]
    kept = {t.name for t in [*configured, *rest[: config.keep_tags + limits.SPARE_TAGS]]}
    return tuple(t for t in placed if t.name in kept)


def _apply_one(config: Config, state: State, change: Change) -> tuple[State, Outcome]:
    match change:
        case Follow():
            entry = next(e for e in config.entries if e.name == change.entry)
            followed, outcome = _follow(config, entry, state.entries[entry.name], change)
            return state.with_entry(entry.name, followed), outcome
        case Forget():
            followed, outcome = _forget(state.entries[change.entry], change)
            return state.with_entry(change.entry, followed), outcome
        case Confirm() | Refresh():
            return state, Outcome.CHECKED
        case _:
            assert_never(change)


def _follow(
    config: Config, entry: Entry, followed: Followed, push: Follow
) -> tuple[Followed, Outcome]:
    known = followed.tag(push.tag)
    if known is not None and push.time < known.time:
        return followed, Outcome.OLDER
    # The configured image is cached from the start, so its first push may already be a move.
    is_move = push.tag == entry.tag or known is not None
    if known is not None and _is_same(known, push):
        if _is_newest(entry, followed, known):
            return followed, Outcome.UNCHANGED
        tag, outcome = replace(known, time=push.time), Outcome.FOLLOWED
    else:
        outcome = Outcome.MOVED if is_move else Outcome.FOLLOWED
        tag = Tag(name=push.tag, digest=push.digest, time=push.time, moved=is_move)
    tags = ordered(config, entry, followed.tags, tag)
    if tag not in tags:
        return followed, Outcome.OLDER
    refused = tuple(refused for refused in followed.refused if refused.name != push.tag)
    return replace(followed, tags=tags, refused=refused), outcome


def _is_same(known: Tag, push: Follow) -> bool:
    """A push without digest may always have moved its tag, but for the very push that is known."""
    if push.digest is None:
        return push.time == known.time
    return push.digest == known.digest


def _is_newest(entry: Entry, followed: Followed, tag: Tag) -> bool:
    """Whether a later push of the same content would leave the order as it is."""
    if entry.policy.orders_tags or tag.name == entry.tag:
        return True
    return cached(entry, followed.tags, keep=1) == (tag,)


def _forget(followed: Followed, deletion: Forget) -> tuple[Followed, Outcome]:
    tags = tuple(tag for tag in followed.tags if not _is_deleted(tag, deletion))
    if tags == followed.tags:
        return followed, Outcome.UNCHANGED
    return replace(followed, tags=tags), Outcome.FORGOTTEN


def _is_deleted(tag: Tag, deletion: Forget) -> bool:
    if tag.time > deletion.time:
        return False
    if deletion.tag is not None and deletion.tag != tag.name:
        return False
    if deletion.digest is None:
        return True
    if deletion.tag is not None and tag.digest is None:
        return True
    return deletion.digest == tag.digest


def _adopted(config: Config, state: State, entry: Entry) -> Followed:
    old = state.entries.get(entry.name)
    if old is None or old.image != entry.image:
        return Followed(image=entry.image)
    tags: tuple[Tag, ...] = ()
    for tag in reversed(old.tags):
        if entry.policy.follows(tag.name):
            tags = ordered(config, entry, tags, tag)
    return Followed(image=entry.image, tags=tags, applied=old.applied)


def refuse(state: State, entry: str, refused: Refused) -> State:
    """The state in which a tag of an entry counts as refused by the cluster."""
    followed = state.entries[entry]
    others = tuple(other for other in followed.refused if other.name != refused.name)
    return state.with_entry(
        entry, replace(followed, refused=(refused, *others)[: limits.REFUSED_TAGS])
    )
