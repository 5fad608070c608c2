"""The rule of which tags count: the configured one, and the newest N others."""

from collections.abc import Sequence
from dataclasses import replace

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.config.entries import Entry
from image_puller.core.state import EntryState, State, Tag
from image_puller.values.reference import parse

_REASON_LEFT_OUT = "left out to save space"


def newest(configured: str | None, tags: Sequence[Tag], count: int) -> tuple[Tag, ...]:
    """Return the first `count` tags beside the configured one. `tags` has the newest first."""
    return tuple(tag for tag in tags if tag.name != configured)[:count]


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
    policy = entry.policy
    if policy.orders_tags:
        ordered = sorted(tags, key=lambda tag: policy.precedence(tag.name), reverse=True)
    else:
        ordered = sorted(tags, key=lambda tag: tag.time, reverse=True)
    return configured_and_newest(entry.tag, ordered, config.keep_tags + limits.SPARE_TAGS)


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
    if entry.live_tags is None:  # a refused tag may be the configured image itself
        return replace(entry, tags=tags, unverified=unverified)
    live_tags = configured_and_newest(configured, entry.live_tags, keep)
    return replace(entry, tags=tags, live_tags=live_tags, unverified=unverified, refused=())
