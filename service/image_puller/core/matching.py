"""Which entries an event is about, and the changes that it asks for. Pure.

It needs no state, so an event that is ignored here costs no request to the API server.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from image_puller.config.configuration import Config
from image_puller.config.entries import Entry
from image_puller.core.changes import Change, CheckDaemonSet, EnsureExists, TrackTag, UntrackTag
from image_puller.core.order import TOLERANCE
from image_puller.core.spelling import spelled
from image_puller.events.event import (
    CheckRequested,
    DaemonSetChanged,
    Event,
    Ignored,
    ImageDeleted,
    ImagePushed,
    NodeJoined,
    in_milliseconds,
)
from image_puller.values.reference import Reference, normalise_name

UNKNOWN_REPOSITORY = "unknown repository"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoMatch:
    """Why an event is ignored: the reason is a metric label, the detail is for the log."""

    reason: str
    detail: str = ""


def match(
    config: Config, source: str, event: Event, *, received: datetime
) -> tuple[Change, ...] | NoMatch:
    """Return the changes that an event asks for, or why it is ignored.

    A change of the group's DaemonSet is not ignored, but asks for no change.
    """
    match event:
        case Ignored():
            return NoMatch(reason=event.reason, detail=event.detail)
        case NodeJoined():
            return (EnsureExists(),)
        case DaemonSetChanged():
            is_ours = event.name == config.daemonset_name
            return () if is_ours else NoMatch(reason="other DaemonSet", detail=event.name)
        case CheckRequested():
            return (CheckDaemonSet(),)
        case ImagePushed() | ImageDeleted():
            return _match_image(config, source, event, received)
        case _:
            assert_never(event)


def repository_to_check(config: Config, source: str, event: Event) -> Reference | None:
    """Return the repository of a push whose tag an entry does not track, or None.

    A build often pushes several tags, and some registries name only one of them.
    """
    if not isinstance(event, ImagePushed) or event.tag is None:
        return None
    name = _pull_name(config, source, event)
    for entry in config.entries:
        is_pinned = entry.policy.tag is None and not entry.policy.tracks_other_tags
        tag = _tag_of(entry, event) or event.tag
        if _name_of(entry) == name and not is_pinned and not entry.policy.tracks(tag):
            return entry.repository
    return None


def _match_image(
    config: Config, source: str, event: ImagePushed | ImageDeleted, received: datetime
) -> tuple[Change, ...] | NoMatch:
    name = _pull_name(config, source, event)
    if isinstance(name, NoMatch):
        return name
    entries = tuple(entry for entry in config.entries if _name_of(entry) == name)
    if not entries:
        return _unknown_repository(config, name, event.other_host)
    time, own_clock = _effective(event.time, received)
    if isinstance(event, ImageDeleted):
        return tuple(
            UntrackTag(
                entry=entry.name,
                tag=_tag_of(entry, event),
                digest=event.digest,
                time=time,
                own_clock=own_clock,
                with_all_tags=event.with_all_tags,
            )
            for entry in entries
        )
    if event.tag is None:
        return NoMatch(reason="untagged", detail=f"{name}@{event.digest} has no tag")
    return _track(entries, event, event.tag, time, own_clock=own_clock)


def _track(
    entries: tuple[Entry, ...], event: ImagePushed, tag: str, time: datetime, *, own_clock: bool
) -> tuple[Change, ...] | NoMatch:
    tags = {entry.name: _tag_of(entry, event) or tag for entry in entries}
    reasons = [(entry.name, entry.policy.reason(tags[entry.name])) for entry in entries]
    changes = tuple(
        TrackTag(entry=name, tag=tags[name], digest=event.digest, time=time, own_clock=own_clock)
        for name, reason in reasons
        if reason is None
    )
    if changes:
        return changes
    refused = [(name, reason) for name, reason in reasons if reason is not None]
    return NoMatch(
        reason=f"policy: {refused[0][1].kind}",
        detail=f"tag {tag} of {entries[0].reference.name}: "
        + "; ".join(f"{name}: {reason.detail}" for name, reason in refused),
    )


def _tag_of(entry: Entry, event: ImagePushed | ImageDeleted) -> str | None:
    """Return the tag of an event as the entry spells it."""
    if event.tag is None or not event.folds_case:
        return event.tag
    return spelled(entry, event.tag)


def _pull_name(config: Config, source: str, event: ImagePushed | ImageDeleted) -> str | NoMatch:
    """Return the name that nodes pull by, or why the source can't or must not report it."""
    confined_to = config.webhook_registries.get(source)
    if event.registry is not None:
        reported = _join(event.registry, event.repository)
    elif confined_to is not None:
        reported = _normal(f"{confined_to}/{event.repository}")
    else:
        return NoMatch(
            reason="no registry",
            detail=f"{source} does not name the registry of {event.repository}; "
            f"set WEBHOOK_REGISTRIES to {source}=<host>",
        )
    name = _aliased(config, reported)
    if confined_to is None or _within(reported, confined_to) or _within(name, confined_to):
        return name
    return NoMatch(
        reason="other registry",
        detail=f"{reported} is not in {confined_to}, the only registry that WEBHOOK_REGISTRIES "
        f"lets {source} report",
    )


def _name_of(entry: Entry) -> str:
    return _join(entry.reference.registry, entry.reference.repository)


def _aliased(config: Config, name: str) -> str:
    """Return the name after the longest of `REGISTRY_ALIASES` that fits."""
    fitting = [alias for alias in config.registry_aliases if _within(name, alias[0])]
    if not fitting:
        return name
    reported, pull = max(fitting, key=lambda alias: len(alias[0]))
    return _normal(pull + name.removeprefix(reported))


def _normal(name: str) -> str:
    registry, _, repository = name.partition("/")
    return _join(registry, repository)


def _join(registry: str, repository: str) -> str:
    return "/".join(normalise_name(registry, repository))


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + "/")


def _unknown_repository(config: Config, name: str, other_host: str | None) -> NoMatch:
    path = name.partition("/")[2]
    same_path = [e for e in config.entries if e.reference.repository == path]
    if not same_path:
        return NoMatch(reason=UNKNOWN_REPOSITORY, detail=f"no entry of IMAGES names {name}")
    hosts = [_join(other_host, path).partition("/")[0]] if other_host else []
    fitting = [entry for entry in same_path if entry.reference.registry in hosts]
    other = [*fitting, *same_path][0]
    return NoMatch(
        reason=UNKNOWN_REPOSITORY,
        detail=f"no entry of IMAGES names {name}, but {other.name} names {other.reference.name}; "
        f"if both are the same registry, set REGISTRY_ALIASES to "
        f"{name.partition('/')[0]}={other.reference.registry}",
    )


def _effective(time: datetime | None, received: datetime) -> tuple[datetime, bool]:
    """Return the time of an event in whole milliseconds, and whether it is that of the receipt.

    A registry's clock may be ahead by the tolerance. A time beyond it does not count.
    """
    if time is None or time - received > TOLERANCE:
        return in_milliseconds(received), True
    return in_milliseconds(time), False
