"""When the template changes, and what is left of a change that the cluster refuses. Pure."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import datetime

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.config.entries import Entry
from image_puller.core import decide
from image_puller.core.daemonset import images, structure_hash, template_hash
from image_puller.core.state import Blocked, Followed, Refused, State, Tag

_NOT_TRIED = "not tried yet"

Admits = Callable[[State], str | None]
"""Asks the cluster whether it would take the template of a state: None, or why not."""


def is_pending(config: Config, state: State) -> bool:
    """Whether the live template is not that of the state, and another try makes sense."""
    wanted = template_hash(config, state)
    return state.template != wanted and (state.blocked is None or state.blocked.template != wanted)


def due(config: Config, state: State, now: datetime) -> datetime:
    """When the template may change next; the first change may at once.

    A time of the last change that lies ahead by more than the spacing (clocks differ) says nothing.
    """
    if state.changed is None or state.changed > now + config.rollout_min_interval:
        return now
    return state.changed + config.rollout_min_interval


def advance(config: Config, state: State, now: datetime) -> State:
    """The state once its template is live."""
    return replace(
        state,
        structure=structure_hash(config),
        template=template_hash(config, state),
        changed=now,
        blocked=None,
        entries={name: _applied(config, name, entry) for name, entry in state.entries.items()},
    )


def refreshed(
    config: Config, state: State, now: datetime, closed: Collection[tuple[str, str]]
) -> State:
    """The state with a roll of the moving tags, if nothing rolled for `CACHING_INTERVAL_HOURS`.

    Only for tags that no registry can be asked about; `closed` has them by entry and name.
    Whatever changes the template makes every node ask for its moving tags again, so only the time
    of the last change counts.
    """
    if state.changed is None or now < state.changed + config.caching_interval:
        return state
    moving = {(image.entry, image.name) for image in images(config, state) if image.always}
    return replace(state, refreshed=now) if moving.intersection(closed) else state


def isolate(config: Config, state: State, admits: Admits) -> State:
    """The most of a refused state that the cluster takes, with the rest marked as refused.

    What changed since the last accepted template is tried one by one on top of it. Where that
    one is refused as well no tag is to blame: the state stays, and its template counts as blocked.
    """
    kept = _withdrawn(config, state)
    reason = admits(kept) if images(config, kept) else None
    if reason is not None:
        return replace(state, blocked=Blocked(template=template_hash(config, state), reason=reason))
    for entry, tag in _changed(config, state):
        candidate = _restored(config, kept, state, entry, tag)
        is_shown = template_hash(config, candidate) != template_hash(config, kept)
        reason = admits(candidate) if is_shown else None
        if reason is None:
            kept = candidate
        else:
            kept = decide.refuse(kept, entry, _refused(entry, tag, reason))
    return kept


def _applied(config: Config, name: str, followed: Followed) -> Followed:
    if followed.applied is None and followed.refuses(config.entry(name).label):
        return followed
    return replace(followed, applied=followed.tags)


def _withdrawn(config: Config, state: State) -> State:
    """The state as the live template has it, less what was forgotten since."""
    for entry in config.entries:
        followed = state.entries[entry.name]
        tags = tuple(tag for tag in _live(config, entry, followed) if followed.tag(tag.name))
        state = state.with_entry(entry.name, replace(followed, tags=tags))
        if _is_new(entry, followed):
            state = decide.refuse(state, entry, _refused(entry, None, _NOT_TRIED))
    return state


def _changed(config: Config, state: State) -> Iterator[tuple[Entry, Tag | None]]:
    """What the live template lacks: configured images (no tag), then tags, the oldest first."""
    for entry in config.entries:
        if _is_new(entry, state.entries[entry.name]):
            yield entry, None
    for entry in config.entries:
        followed = state.entries[entry.name]
        live = _live(config, entry, followed)
        for tag in reversed(followed.tags):
            if tag not in live:
                yield entry, tag


def _restored(config: Config, kept: State, wanted: State, entry: Entry, tag: Tag | None) -> State:
    """What is kept, and one thing more that is wanted: the configured image, or a tag."""
    followed = kept.entries[entry.name]
    if tag is None:
        refused = tuple(other for other in followed.refused if other.name != entry.label)
        return kept.with_entry(entry.name, replace(followed, refused=refused))
    by_name = {each.name: each for each in (*followed.tags, tag)}
    names = [each.name for each in wanted.entries[entry.name].tags]
    tags = decide.arranged(config, entry, [by_name[name] for name in names if name in by_name])
    return kept.with_entry(entry.name, replace(followed, tags=tags))


def _is_new(entry: Entry, followed: Followed) -> bool:
    """Whether the configured image is wanted, and the live template lacks it."""
    return followed.applied is None and not followed.refuses(entry.label)


def _live(config: Config, entry: Entry, followed: Followed) -> tuple[Tag, ...]:
    """The tags that the live template shows: of those it was made from, the cluster took these."""
    applied = followed.applied or ()
    newest = decide.cached(entry, applied, config.keep_tags)
    return tuple(tag for tag in applied if tag.name == entry.tag or tag in newest)


def _refused(entry: Entry, tag: Tag | None, reason: str) -> Refused:
    reason = reason[: limits.REFUSED_CHARACTERS]
    if tag is None:
        return Refused(name=entry.label, digest=None, reason=reason)
    return Refused(name=tag.name, digest=tag.digest, reason=reason)
