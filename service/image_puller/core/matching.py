"""What an event asks of which entries: everything that can be said without knowing the state.

A push that is refused here costs no API request.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from image_puller.config.configuration import Config
from image_puller.config.entries import Entry
from image_puller.core.changes import Change, Confirm, Follow, Forget, Refresh
from image_puller.events.event import (
    Event,
    Ignored,
    ImageDeleted,
    ImagePushed,
    NodeJoined,
    RefreshDue,
    in_milliseconds,
)
from image_puller.values.reference import normalise_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why an event changes nothing: a short reason to be counted, and the detail for the log."""

    reason: str
    detail: str = ""


def match(
    config: Config, source: str, event: Event, *, received: datetime
) -> tuple[Change, ...] | Refusal:
    """The changes that an event from `source` asks for, at least one, or why there is none."""
    match event:
        case Ignored():
            return Refusal(reason=event.reason)
        case NodeJoined():
            return (Confirm(),)
        case RefreshDue():
            return (Refresh(),)
        case ImagePushed() | ImageDeleted():
            return _match_image(config, source, event, received)
        case _:
            assert_never(event)


def _match_image(
    config: Config, source: str, event: ImagePushed | ImageDeleted, received: datetime
) -> tuple[Change, ...] | Refusal:
    name = _pull_name(config, source, event)
    if isinstance(name, Refusal):
        return name
    entries = tuple(entry for entry in config.entries if _name_of(entry) == name)
    if not entries:
        return _unknown_repository(config, name)
    time = _effective(event.time, received)
    if isinstance(event, ImageDeleted):
        return tuple(
            Forget(entry=entry.name, tag=event.tag, digest=event.digest, time=time)
            for entry in entries
        )
    if event.tag is None:
        return Refusal(reason="untagged", detail=f"{name}@{event.digest} has no tag")
    return _follow(entries, event.tag, event.digest, time)


def _follow(
    entries: tuple[Entry, ...], tag: str, digest: str | None, time: datetime
) -> tuple[Change, ...] | Refusal:
    reasons = [(entry.name, entry.policy.reason(tag)) for entry in entries]
    changes = tuple(
        Follow(entry=name, tag=tag, digest=digest, time=time)
        for name, reason in reasons
        if reason is None
    )
    if changes:
        return changes
    refused = [(name, reason) for name, reason in reasons if reason is not None]
    return Refusal(
        reason=f"policy: {refused[0][1].kind}",
        detail=f"tag {tag} of {entries[0].reference.name}: "
        + "; ".join(f"{name}: {reason.detail}" for name, reason in refused),
    )


def _pull_name(config: Config, source: str, event: ImagePushed | ImageDeleted) -> str | Refusal:
    """The name that nodes pull by, or why the source may not speak of it."""
    speaks_for = config.webhook_registries.get(source)
    if event.registry is not None:
        reported = _join(event.registry, event.repository)
    elif speaks_for is not None:
        reported = _normal(f"{speaks_for}/{event.repository}")
    else:
        return Refusal(
            reason="no registry",
            detail=f"{source} does not say of which registry {event.repository} is; "
            f"set WEBHOOK_REGISTRIES to {source}=<host>",
        )
    name = _aliased(config, reported)
    if speaks_for is None or _within(reported, speaks_for) or _within(name, speaks_for):
        return name
    return Refusal(
        reason="other registry",
        detail=f"{reported} is not of {speaks_for}, the registry that WEBHOOK_REGISTRIES "
        f"lets {source} speak for",
    )


def _name_of(entry: Entry) -> str:
    return _join(entry.reference.registry, entry.reference.repository)


def _aliased(config: Config, name: str) -> str:
    """The name after the longest of `REGISTRY_ALIASES` that fits."""
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


def _unknown_repository(config: Config, name: str) -> Refusal:
    path = name.partition("/")[2]
    same_path = [e for e in config.entries if e.reference.repository == path]
    if not same_path:
        return Refusal(reason="unknown repository", detail=f"no entry of IMAGES names {name}")
    other = same_path[0]
    return Refusal(
        reason="unknown repository",
        detail=f"no entry of IMAGES names {name}, but {other.name} names {other.reference.name}; "
        f"if they are the same, set REGISTRY_ALIASES to "
        f"{name.partition('/')[0]}={other.reference.registry}",
    )


def _effective(time: datetime | None, received: datetime) -> datetime:
    """The push's own time, never later than its receipt, in the state's milliseconds."""
    return in_milliseconds(received if time is None else min(time, received))
