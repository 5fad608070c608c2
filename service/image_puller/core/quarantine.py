"""Quarantine: content of a tag that fails on every node, and the previous content that comes back.

Pure. `follow_up` says what fails, and `decide` when it is tried again.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.config.entries import Entry
from image_puller.core import selection
from image_puller.core.changes import NoteHeld, QuarantineTag
from image_puller.core.state import EntryState, Quarantined, Tag

_UNKNOWN = datetime.fromtimestamp(0, UTC)
"""The time of content that no push has announced."""
_LATEST = 2
"""Contents of one tag that are kept beside the one that was held for certain."""


def put_aside(
    config: Config, entry: Entry, current: EntryState, change: QuarantineTag
) -> EntryState:
    """Put content of a tag aside. Its previous content, or else a tag of the reserve, comes back.

    The configured image stays, so without previous content nothing changes.
    """
    known = current.tag(change.tag)
    if known is None or not _is_content(known, change) or current.quarantine(change.tag):
        return current
    contents = [each for each in current.previous if each.name == change.tag]
    if not contents and change.tag == entry.tag:
        return current
    if contents:
        # The oldest was held for certain.
        on_nodes = [each for each in contents if change.back_to and each.digest == change.back_to]
        held = (*on_nodes, *contents)[0]
        tags = selection.with_pushed(config, entry, current.tags, held)
    else:
        tags = tuple(tag for tag in current.tags if tag is not known)
    found = Quarantined(
        tag=replace(known, confirmed=known.confirmed or change.is_shown),
        since=change.since,
        reason=change.reason[: limits.REFUSED_CHARACTERS],
        pulled=change.pulled,
    )
    others = tuple(each for each in current.previous if each.name != change.tag)
    rest = replace(current, tags=tags, previous=others)
    return with_quarantined(config, rest, found)


def with_quarantined(config: Config, current: EntryState, found: Quarantined) -> EntryState:
    """Return the entry with quarantined content, of as many tags as it tracks.

    The oldest is dropped first, but not where the template depends on it.
    """
    known = current.quarantine(found.tag.name)
    if known is None:
        kept = sorted(
            [found, *current.quarantined], key=lambda each: current.tag(each.tag.name) is None
        )[: config.keep_tags + limits.SPARE_TAGS + 1]
    else:
        kept = [found if each is known else each for each in current.quarantined]
    return replace(current, quarantined=tuple(kept))


def released(config: Config, entry: Entry, current: EntryState, tag: Tag) -> EntryState:
    """Return the entry with a tag that was quarantined tracked again, with this content."""
    quarantined = tuple(each for each in current.quarantined if each.tag.name != tag.name)
    refused = tuple(each for each in current.refused if each.name != tag.name)
    free = replace(current, quarantined=quarantined, refused=refused)
    known = current.tag(tag.name)
    if known is not None and _has_same_digest(known, tag):
        return replace(free, tags=selection.with_replaced(config, entry, current.tags, tag))
    tried = replace(tag, pulled_again=False)
    tags = selection.with_pushed(config, entry, current.tags, tried)
    if tried not in tags:
        return free
    others = (each for each in current.previous if each.name != tag.name)
    kept = (*others, known) if known is not None else tuple(others)
    return replace(free, tags=tags, previous=of(tags, kept))


def note_held(current: EntryState, change: NoteHeld) -> EntryState:
    """Drop the previous content of a tag whose new content a node holds."""
    known = current.tag(change.tag)
    others = tuple(each for each in current.previous if each.name != change.tag)
    if known is None or not _is_content(known, change) or others == current.previous:
        return current
    return replace(current, previous=others)


def previous(entry: Entry, current: EntryState, tags: Sequence[Tag], tag: Tag) -> tuple[Tag, ...]:
    """Return the previous content of tags, of which one may have new content.

    What no node can have is no previous content, so the live template counts. It may have a
    configured image of which no push is known. Where pushes follow each other fast, there are
    several contents of a tag: the first one, which was held for certain, and the latest ones.
    """
    others = tuple(each for each in current.previous if each.name != tag.name)
    if not tag.mutated:
        return of(tags, others)
    contents = [each for each in current.previous if each.name == tag.name]
    live = _find(current.live_tags or (), tag.name)
    if live is None and tag.name == entry.tag and current.live_tags is not None and not contents:
        live = Tag(name=tag.name, digest=None, time=_UNKNOWN)
    if live is not None and not any(_is_one_content(live, each) for each in contents):
        contents.append(live)
    for index, each in enumerate(contents):
        if _is_one_content(each, tag):
            contents = contents[:index]
            break
    return of(tags, (*others, *contents[:1], *contents[1:][-_LATEST:]))


def as_mutated(tag: Tag, quarantined: Quarantined) -> Tag:
    """Return a tag after its quarantine: nodes may have other content, so they must pull it."""
    is_same = _has_same_digest(tag, quarantined.tag)
    return replace(tag, mutated=tag.mutated or quarantined.tag.mutated or not is_same)


def newest(current: EntryState, tag: Tag) -> Tag:
    """Return the newest known content of a tag, although it may be quarantined."""
    found = current.quarantine(tag.name)
    return tag if found is None else found.tag


def _is_content(tag: Tag, change: QuarantineTag | NoteHeld) -> bool:
    """Whether a tag has the content that nodes were seen to hold, or to fail with."""
    if tag.digest is None or change.digest is None:
        return (tag.digest, tag.time) == (change.digest, change.pushed)
    return tag.digest == change.digest


def _is_one_content(one: Tag, other: Tag) -> bool:
    if one.digest is None or other.digest is None:
        return (one.digest, one.time) == (other.digest, other.time)
    return one.digest == other.digest


def _has_same_digest(one: Tag, other: Tag) -> bool:
    return one.digest is not None and one.digest == other.digest


def of(tags: Sequence[Tag], previous: Sequence[Tag]) -> tuple[Tag, ...]:
    """Return the previous content of these tags only."""
    names = {tag.name for tag in tags}
    return tuple(each for each in previous if each.name in names)


def _find(tags: Sequence[Tag], name: str) -> Tag | None:
    return next((tag for tag in tags if tag.name == name), None)
