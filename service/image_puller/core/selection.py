"""The rule of which tags count: the configured one, and the newest N others."""

from collections.abc import Sequence
from dataclasses import replace

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.config.entries import Entry
from image_puller.core.order import is_older
from image_puller.core.state import EntryState, State, Tag
from image_puller.values.reference import parse

_REASON_LEFT_OUT = "left out to save space"


def newest(configured: str | None, tags: Sequence[Tag], count: int) -> tuple[Tag, ...]:
    """Return the first `count` tags beside the configured one. `tags` has the newest first.

    Of two spellings of one version with one digest, such as `1.3.0` and `v1.3.0`, the first counts.
    """
    found: dict[object, Tag] = {}
    for tag in tags:
        if tag.name != configured:
            found.setdefault(_identity(tag), tag)
    return tuple(found.values())[:count]


def _identity(tag: Tag) -> object:
    """Return what two spellings of one version with one digest have in common."""
    number = tag.name.removeprefix("v")
    is_version = tag.digest is not None and number[:1].isdigit()
    return (number, tag.digest) if is_version else tag.name


def configured_and_newest(
    configured: str | None, tags: Sequence[Tag], count: int
) -> tuple[Tag, ...]:
    """Return the configured tag, if it is there, and the newest `count` others, in their order."""
    others = newest(configured, tags, count)
    return tuple(tag for tag in tags if tag.name == configured or tag in others)


def desired(config: Config, entry: Entry, tags: Sequence[Tag]) -> tuple[Tag, ...]:
    """Return the tags that are desired beside the configured image: the newest `KEEP_TAGS`."""
    return newest(entry.tag, tags, config.keep_tags)


def tracked(config: Config, entry: Entry, tags: Sequence[Tag]) -> tuple[Tag, ...]:
    """Return the tags that an entry tracks, the newest first: the desired ones and a reserve.

    Versions are ordered by precedence, other tags by time. Equal ones keep their order.
    """
    if entry.policy.orders_tags:
        return ordered(config, entry, tags)
    return ordered(config, entry, sorted(tags, key=lambda tag: tag.time, reverse=True))


def ordered(config: Config, entry: Entry, tags: Sequence[Tag]) -> tuple[Tag, ...]:
    """Return the tags that an entry tracks. Tags that are no versions keep their order."""
    policy = entry.policy
    if policy.orders_tags:
        tags = sorted(tags, key=lambda tag: policy.precedence(tag.name), reverse=True)
    others = [tag for tag in tags if tag.name != entry.tag][: config.keep_tags + limits.SPARE_TAGS]
    return tuple(tag for tag in tags if tag.name == entry.tag or tag in others)


def with_pushed(config: Config, entry: Entry, tags: Sequence[Tag], pushed: Tag) -> tuple[Tag, ...]:
    """Return the tags that an entry tracks after a push: it comes before all but newer ones."""
    others = [tag for tag in tags if tag.name != pushed.name]
    newer = [index for index, other in enumerate(others, start=1) if is_older(pushed, other)]
    place = max(newer, default=0)
    return ordered(config, entry, [*others[:place], pushed, *others[place:]])


def with_replaced(config: Config, entry: Entry, tags: Sequence[Tag], tag: Tag) -> tuple[Tag, ...]:
    """Return the tags with one of them replaced in its place."""
    return ordered(config, entry, [tag if other.name == tag.name else other for other in tags])


def trimmed(state: State, keep: int) -> State:
    """Return the state without its reserves, for when space is short. The template is the same."""
    return replace(
        state, entries={name: _trimmed(entry, keep) for name, entry in state.entries.items()}
    )


def _trimmed(entry: EntryState, keep: int) -> EntryState:
    configured = parse(entry.image).pull_tag
    pushes = entry.unverified[-limits.UNVERIFIED_PUSHES_AT_LEAST :]
    unverified = tuple(replace(push, reason=_REASON_LEFT_OUT) for push in pushes)
    tags = configured_and_newest(configured, entry.tags, keep)
    names = {tag.name for tag in tags}  # the template depends on which of them are quarantined
    rest = replace(
        entry,
        tags=tags,
        previous=(),
        quarantined=tuple(
            replace(each, reason=_REASON_LEFT_OUT)
            for each in entry.quarantined
            if each.tag.name in names
        ),
        unverified=unverified,
        deleted=(),
    )
    if entry.live_tags is None:  # a refused tag may be the configured image itself
        return rest
    live_tags = configured_and_newest(configured, entry.live_tags, keep)
    return replace(rest, live_tags=live_tags, refused=())
