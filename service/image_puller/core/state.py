"""What is remembered, and stands as one JSON annotation on the DaemonSet itself.

`encode` and `decode` are each other's inverse. Times are UTC with milliseconds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from image_puller import limits
from image_puller.errors import ImagePullerError
from image_puller.values.reference import parse

SCHEMA = 1
_SHORT = "not told: space is short"
_EPOCH = datetime.fromtimestamp(0, UTC)


class UnreadableStateError(ImagePullerError):
    """The annotation is missing or is not what this project wrote."""


class UnknownSchemaError(ImagePullerError):
    """A newer release wrote the annotation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A tag that an entry follows.

    `digest` is None where no registry has said it. `time` is when it was pushed, by the registry's
    clock where it gives one, and never later than its receipt. `moved` says that it was seen to
    change, so that nodes must ask for it again even where its name is that of a version. `again`
    says that nodes which had another content were made to ask for this one once more. `seen` says
    that its registry was seen to have it: some tell of a push before they show it.
    """

    name: str
    digest: str | None
    time: datetime
    moved: bool = False
    again: bool = False
    seen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A tag that the cluster would not take, and in whose words; `digest` as it was pushed."""

    name: str
    digest: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unverified:
    """A push that no registry has confirmed yet, and why not."""

    tag: str
    digest: str | None
    time: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What one entry follows.

    `image` is the entry as configured when this was written. `tags` has the newest first, with a
    few more than are cached, to fall back to; the configured tag is among them once it was pushed.
    `applied` is what the live template was made from; None where it lacks the configured image.
    `unverified` has the newest last.
    """

    image: str
    tags: tuple[Tag, ...] = ()
    applied: tuple[Tag, ...] | None = None
    refused: tuple[Refused, ...] = ()
    unverified: tuple[Unverified, ...] = ()

    def tag(self, name: str | None) -> Tag | None:
        """The tag of that name, if it is followed."""
        return next((tag for tag in self.tags if tag.name == name), None)

    def refuses(self, name: str) -> bool:
        """Whether the cluster refused the tag (or configured digest) of that name."""
        return any(refused.name == name for refused in self.refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """A template that the cluster would not take although no single tag is to blame."""

    template: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that must survive the process.

    `configuration` is the hash of the configuration in charge. `template` and `structure` are
    those of the live template as it was last written ("" before the first), `changed` when that
    was, `refreshed` when tags about which nobody could be asked were last rolled.
    """

    configuration: str
    structure: str = ""
    template: str = ""
    changed: datetime | None = None
    refreshed: datetime | None = None
    blocked: Blocked | None = None
    entries: Mapping[str, Followed] = field(default_factory=dict)

    def with_entry(self, name: str, followed: Followed) -> "State":
        """The same state with another content of one entry, which keeps its place."""
        return replace(self, entries={**self.entries, name: followed})


def encode(state: State) -> str:
    """The annotation's text; the same state gives the same text."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "configuration": state.configuration,
            "structure": state.structure,
            "template": state.template,
            "changed": _time_text(state.changed),
            "refreshed": _time_text(state.refreshed),
            "blocked": state.blocked
            and {"template": state.blocked.template, "reason": state.blocked.reason},
            "entries": {name: _entry_json(entry) for name, entry in state.entries.items()},
        },
        separators=(",", ":"),
        ensure_ascii=False,
    )


def decode(text: str | None) -> State:
    """The state that an annotation holds.

    Raises UnknownSchemaError for one of a newer release, UnreadableStateError for anything else.
    """
    try:
        value = json.loads(text or "")
        schema = value["schema"]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise UnreadableStateError(f"the state annotation can't be read: {error!r}") from error
    if schema != SCHEMA:
        raise UnknownSchemaError(f"the state has schema {schema!r}; this release knows {SCHEMA}")
    try:
        return _state(value)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise UnreadableStateError(f"the state annotation can't be read: {error!r}") from error


def substance(state: State) -> State:
    """The state without what alone is not worth a write: when a known content was last pushed.

    Where a tag's digest is not known the time stands for it.
    """
    return replace(
        state,
        entries={
            name: replace(entry, tags=tuple(map(_timeless, entry.tags)))
            for name, entry in state.entries.items()
        },
    )


def _timeless(tag: Tag) -> Tag:
    return tag if tag.digest is None else replace(tag, time=_EPOCH)


def trimmed(state: State, keep: int) -> State:
    """The state without what is remembered only to fall back to, for when space is short.

    Both have the same template.
    """
    return replace(
        state, entries={name: _trimmed(entry, keep) for name, entry in state.entries.items()}
    )


def fits(text: str) -> bool:
    """Whether the annotation leaves room for those of others (256 KiB an object, in all)."""
    return len(text.encode()) <= limits.STATE_BYTES


def _trimmed(entry: Followed, keep: int) -> Followed:
    configured = parse(entry.image).tag or "latest"
    latest = entry.unverified[-limits.UNVERIFIED_PUSHES_AT_LEAST :]
    entry = replace(entry, unverified=tuple(replace(push, reason=_SHORT) for push in latest))

    def trim(tags: tuple[Tag, ...]) -> tuple[Tag, ...]:
        newest = [tag for tag in tags if tag.name != configured][:keep]
        return tuple(tag for tag in tags if tag.name == configured or tag in newest)

    if entry.applied is None:  # what was refused may be the configured image itself
        return replace(entry, tags=trim(entry.tags))
    return replace(entry, tags=trim(entry.tags), applied=trim(entry.applied), refused=())


def _entry_json(entry: Followed) -> dict[str, Any]:
    value: dict[str, Any] = {"image": entry.image, "tags": [_tag_json(tag) for tag in entry.tags]}
    if entry.applied != entry.tags:
        value["applied"] = entry.applied and tuple(map(_tag_json, entry.applied))
    if entry.refused:
        value["refused"] = [
            {"tag": refused.name, "digest": refused.digest, "reason": refused.reason}
            for refused in entry.refused
        ]
    if entry.unverified:
        value["unverified"] = [
            {
                "tag": push.tag,
                "digest": push.digest,
                "time": _time_text(push.time),
                "reason": push.reason,
            }
            for push in entry.unverified
        ]
    return value


def _tag_json(tag: Tag) -> dict[str, Any]:
    value: dict[str, Any] = {"tag": tag.name, "digest": tag.digest, "time": _time_text(tag.time)}
    if tag.moved:
        value["moved"] = True
    if tag.again:
        value["again"] = True
    if tag.seen:
        value["seen"] = True
    return value


def _state(value: Mapping[str, Any]) -> State:
    blocked = value["blocked"]
    return State(
        configuration=_text(value["configuration"]),
        structure=_text(value["structure"]),
        template=_text(value["template"]),
        changed=_time(value["changed"]),
        refreshed=_time(value["refreshed"]),
        blocked=None
        if blocked is None
        else Blocked(template=_text(blocked["template"]), reason=_text(blocked["reason"])),
        entries={_text(name): _followed(entry) for name, entry in value["entries"].items()},
    )


def _followed(value: Mapping[str, Any]) -> Followed:
    tags = tuple(map(_tag, value["tags"]))
    applied = value.get("applied", value["tags"])
    return Followed(
        image=_text(value["image"]),
        tags=tags,
        applied=None if applied is None else tuple(map(_tag, applied)),
        refused=tuple(
            Refused(
                name=_text(refused["tag"]),
                digest=_optional_text(refused["digest"]),
                reason=_text(refused["reason"]),
            )
            for refused in value.get("refused", ())
        ),
        unverified=tuple(
            Unverified(
                tag=_text(push["tag"]),
                digest=_optional_text(push["digest"]),
                time=_known_time(push["time"]),
                reason=_text(push["reason"]),
            )
            for push in value.get("unverified", ())
        ),
    )


def _tag(value: Mapping[str, Any]) -> Tag:
    return Tag(
        name=_text(value["tag"]),
        digest=_optional_text(value["digest"]),
        time=_known_time(value["time"]),
        moved=value.get("moved", False) is True,
        again=value.get("again", False) is True,
        seen=value.get("seen", False) is True,
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a string: {value!r:.80}")
    return value


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _time_text(time: datetime | None) -> str | None:
    if time is None:
        return None
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _known_time(value: Any) -> datetime:
    time = _time(value)
    if time is None:
        raise ValueError("a tag or a push without a time")
    return time


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    time = datetime.fromisoformat(_text(value))
    if time.tzinfo is None:
        raise ValueError(f"a time without a zone: {value!r:.80}")
    return time.astimezone(UTC)
