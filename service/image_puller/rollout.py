"""When the template changes, and what is left of a change that the cluster refuses. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from image_puller import decide
from image_puller.config import Config
from image_puller.daemonset import structure_hash, template_hash
from image_puller.images import Entry
from image_puller.state import Blocked, Followed, Refused, State, Tag

NOT_TRIED = "not tried yet"

Admits = Callable[[State], str | None]
"""Asks the cluster whether it would take the template of a state: None, or why not."""


def is_pending(config: Config, state: State) -> bool:
    """Whether the live template is not that of the state, and another try makes sense."""
    wanted = template_hash(config, state)
    return state.template != wanted and (state.blocked is None or state.blocked.template != wanted)


def due(config: Config, state: State, now: datetime) -> datetime:
    """When the template may change next; the first change may at once.

    A time of the last change that lies ahead (clocks differ) counts as now.
    """
    if state.changed is None:
        return now
    return min(state.changed, now) + config.rollout_min_interval


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


def refreshed(config: Config, state: State, now: datetime) -> State:
    """The state with a roll of the moving tags, if nothing rolled for `CACHING_INTERVAL_HOURS`.

    Whatever changes the template makes every node ask for its moving tags again, so only the time
    of the last change counts.
    """
    if state.changed is None or now < state.changed + config.caching_interval:
        return state
    return replace(state, refreshed=now)


def isolate(config: Config, state: State, admits: Admits) -> State:
    """The most of a refused state that the cluster takes, with the rest marked as refused.

    What changed since the last accepted template is tried one by one on top of it. Where that
    one is refused as well no tag is to blame: the state stays, and its template counts as blocked.
    """
    kept = _withdrawn(config, state)
    reason = admits(kept) if _has_containers(kept) else None
    if reason is not None:
        return replace(state, blocked=Blocked(template=template_hash(config, state), reason=reason))
    for entry, tag in _changed(config, state):
        candidate = _restored(config, kept, entry, tag)
        reason = admits(candidate)
        if reason is None:
            kept = candidate
        else:
            kept = decide.refuse(
                kept,
                entry.name,
                Refused(
                    name=tag.name if tag else entry.label,
                    digest=tag.digest if tag else None,
                    reason=reason,
                ),
            )
    return kept


def _applied(config: Config, name: str, followed: Followed) -> Followed:
    entry = next(entry for entry in config.entries if entry.name == name)
    if followed.applied is None and followed.refuses(entry.label):
        return followed
    return replace(followed, applied=followed.tags)


def _has_containers(state: State) -> bool:
    return any(entry.applied is not None for entry in state.entries.values())


def _withdrawn(config: Config, state: State) -> State:
    """The state as the live template has it, less what was forgotten since."""
    for entry in config.entries:
        followed = state.entries[entry.name]
        if followed.applied is None:
            followed = replace(
                followed,
                tags=(),
                refused=(Refused(name=entry.label, digest=None, reason=NOT_TRIED),),
            )
        else:
            before = {tag.name: tag for tag in followed.applied}
            tags = tuple(before[tag.name] for tag in followed.tags if tag.name in before)
            followed = replace(followed, tags=tags)
        state = state.with_entry(entry.name, followed)
    return state


def _changed(config: Config, state: State) -> Iterator[tuple[Entry, Tag | None]]:
    """What the live template lacks: configured images (no tag), then tags, the oldest first."""
    for entry in config.entries:
        followed = state.entries[entry.name]
        if followed.applied is None:
            yield entry, None
    for entry in config.entries:
        followed = state.entries[entry.name]
        for tag in reversed(followed.tags):
            if tag not in (followed.applied or ()):
                yield entry, tag


def _restored(config: Config, state: State, entry: Entry, tag: Tag | None) -> State:
    followed = state.entries[entry.name]
    if tag is None:
        return state.with_entry(entry.name, replace(followed, refused=()))
    tags = decide.ordered(config, entry, followed.tags, tag)
    return state.with_entry(entry.name, replace(followed, tags=tags))
