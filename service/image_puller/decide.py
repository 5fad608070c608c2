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
        case Follow():
            entry = config.entry(change.entry)
            followed, outcome = _follow(config, entry, state.entries[entry.name], change)
            return state.with_entry(entry.name, followed), outcome
        case Forget():
            entry = config.entry(change.entry)
            followed, outcome = _forget(entry, state.entries[entry.name], change)
            return state.with_entry(entry.name, followed), outcome
        case Confirm() | Refresh():
            return state, Outcome.CHECKED
        case _:
            assert_never(change)


def _follow(
    config: Config, entry: Entry, followed: Followed, push: Follow
) -> tuple[Followed, Outcome]:
    known = followed.tag(push.tag)
    tag, outcome = _pushed(entry, known, push)
    if tag == known:
        return followed, outcome
    others = (other for other in followed.tags if other.name != push.tag)
    tags = arranged(config, entry, [tag, *others])
    if tag not in tags:
        return followed, Outcome.OLDER
    if outcome is Outcome.UNCHANGED and not _is_newest(entry, followed, push.tag):
        outcome = Outcome.FOLLOWED
    refused = tuple(refused for refused in followed.refused if refused.name != push.tag)
    return replace(followed, tags=tags, refused=refused), outcome


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
        return replace(known, time=push.time), Outcome.UNCHANGED
    return pushed, Outcome.MOVED


def _is_same(known: Tag, push: Follow) -> bool:
    """A push without digest may always have moved its tag, but for the very push that is known."""
    if push.digest is None:
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
        tag for tag in followed.tags if tag.name == entry.tag or not _is_deleted(tag, deletion)
    )
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
    tags = [tag for tag in old.tags if entry.policy.follows(tag.name)]
    return Followed(image=entry.image, tags=arranged(config, entry, tags), applied=old.applied)
