"""The isolation of refused tags: it finds the most of a template that the cluster admits. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.config.entries import Entry
from image_puller.core import selection
from image_puller.core.daemonset import desired_images, template_hash
from image_puller.core.state import Blocked, EntryState, Refused, State, Tag

_NOT_TRIED = "not tried yet"

Admits = Callable[[State], str | None]
"""Asks the cluster whether it admits the template of a state: None, or the reason why not."""


def isolate(config: Config, state: State, admits: Admits) -> State:
    """Return the most of a refused state that the cluster admits, with the rest as refused tags.

    The start is the last admitted template. What changed since is tried one by one on top of it.
    Where the cluster refuses even the start, no tag is the reason: the template is blocked.
    """
    kept = _as_live(config, state)
    reason = admits(kept) if desired_images(config, kept) else None
    if reason is not None:
        return replace(state, blocked=Blocked(template=template_hash(config, state), reason=reason))
    for entry, tag in _additions(config, state):
        candidate = _with_addition(config, kept, state, entry, tag)
        changes_template = template_hash(config, candidate) != template_hash(config, kept)
        reason = admits(candidate) if changes_template else None
        kept = candidate if reason is None else refuse(kept, entry, _refused(entry, tag, reason))
    return kept


def refuse(state: State, entry: Entry, refused: Refused) -> State:
    """Return the state in which a tag of an entry, or its configured image, counts as refused."""
    current = state.entries[entry.name]
    others = [other for other in current.refused if other.name != refused.name]
    # The oldest are dropped, but not the configured image: the template depends on its refusal.
    kept = sorted([refused, *others], key=lambda each: each.name != entry.configured)
    return state.with_entry(
        entry.name, replace(current, refused=tuple(kept[: limits.REFUSED_TAGS]))
    )


def _as_live(config: Config, state: State) -> State:
    """Return the state as the live template has it, without what was untracked since."""
    for entry in config.entries:
        wanted = state.entries[entry.name]
        tags = tuple(tag for tag in _live(config, entry, wanted) if _is_wanted(wanted, tag))
        state = state.with_entry(entry.name, replace(wanted, tags=tags))
        if _lacks_configured(entry, wanted):
            state = refuse(state, entry, _refused(entry, None, _NOT_TRIED))
    return state


def _is_wanted(wanted: EntryState, tag: Tag) -> bool:
    quarantined = wanted.quarantine(tag.name)
    is_failing = quarantined is not None and quarantined.tag.digest == tag.digest
    return wanted.tag(tag.name) is not None and not is_failing


def _additions(config: Config, state: State) -> Iterator[tuple[Entry, Tag | None]]:
    """Yield what the live template lacks: configured images (None), then tags, the oldest first."""
    for entry in config.entries:
        if _lacks_configured(entry, state.entries[entry.name]):
            yield entry, None
    for entry in config.entries:
        wanted = state.entries[entry.name]
        live = _live(config, entry, wanted)
        for tag in reversed(wanted.tags):
            if tag not in live:
                yield entry, tag


def _with_addition(
    config: Config, kept: State, wanted: State, entry: Entry, tag: Tag | None
) -> State:
    """Return what is kept with one addition: a tag, or the configured image where it is None."""
    current = kept.entries[entry.name]
    if tag is None:
        refused = tuple(other for other in current.refused if other.name != entry.configured)
        return kept.with_entry(entry.name, replace(current, refused=refused))
    by_name = {each.name: each for each in (*current.tags, tag)}
    names = [each.name for each in wanted.entries[entry.name].tags]
    tags = selection.ordered(config, entry, [by_name[name] for name in names if name in by_name])
    return kept.with_entry(entry.name, replace(current, tags=tags))


def _lacks_configured(entry: Entry, wanted: EntryState) -> bool:
    """Whether the configured image is wanted, and the live template lacks it."""
    return wanted.live_tags is None and not wanted.refuses(entry.configured)


def _live(config: Config, entry: Entry, wanted: EntryState) -> tuple[Tag, ...]:
    """Return the tags that the live template shows, which the cluster has admitted."""
    return selection.configured_and_newest(entry.tag, wanted.live_tags or (), config.keep_tags)


def _refused(entry: Entry, tag: Tag | None, reason: str) -> Refused:
    reason = reason[: limits.REFUSED_CHARACTERS]
    if tag is None:
        return Refused(name=entry.configured, digest=None, reason=reason)
    return Refused(name=tag.name, digest=tag.digest, reason=reason)
