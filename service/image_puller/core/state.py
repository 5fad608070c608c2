"""The state: everything that must survive the process, as one JSON annotation of the DaemonSet.

`encode` and `decode` are inverse to each other. Times are UTC in whole milliseconds. The schema is
described in `docs/architecture.md`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum, auto
from typing import Any, TypeVar

from image_puller.core.charge import Process
from image_puller.core.order import TOLERANCE
from image_puller.errors import ImagePullerError

SCHEMA = 3
_EPOCH = datetime.fromtimestamp(0, UTC)
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Times in between can be added to. Python's years end at 9999."""
_MOST_NODES = 2**31 - 1
"""The API server takes no higher `maxUnavailable`."""


class UnreadableStateError(ImagePullerError):
    """The annotation is missing, malformed, or of an older schema."""


class UnknownSchemaError(ImagePullerError):
    """A newer release wrote the annotation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A tag that an entry tracks.

    `digest` is None where it is unknown. `time` is the time of the push by the registry's clock.
    With `own_clock` it is by the clock of this service: the time of the receipt, or of the check
    that found the tag.

    `mutated`: the tag was pushed with other content, so nodes must pull it even if it is a version.
    `pulled_again`: it was pulled once more, because nodes had other content.
    `confirmed`: its registry was seen to have it. Some registries announce a push early.
    """

    name: str
    digest: str | None
    time: datetime
    mutated: bool = False
    pulled_again: bool = False
    confirmed: bool = False
    own_clock: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A tag, or the configured digest, that the cluster does not admit. `reason` is its message."""

    name: str
    digest: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Content of a tag that fails on every node that tried it.

    `tag.confirmed`: its registry was seen to have it, so seeing it again is no news.
    `pulled`: nodes have pulled it, so a node may have it under the tag. `since` is when it began to
    fail, and `reason` has the runtime's words.
    """

    tag: Tag
    since: datetime
    reason: str
    pulled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedPush:
    """A push that no registry has verified yet, and the reason."""

    tag: str
    digest: str | None
    time: datetime
    reason: str
    own_clock: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """A recent deletion of a tag, of a digest, or of all tags. Older pushes stay deleted.

    `with_all_tags`: the digest was deleted with all its tags, of which `tag` is one.
    """

    tag: str | None
    digest: str | None
    time: datetime
    own_clock: bool = False
    with_all_tags: bool = False


Timed = TypeVar("Timed", Tag, UnverifiedPush, Deletion)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryState:
    """The state of one entry.

    `image` is the configured image when this was written.
    `tags` has the tracked tags, the newest first, and a few more than are desired, as a reserve.
    The configured tag is one of them once it was pushed.
    `live_tags` has the tags that the live template was built from. It is None where that template
    lacks the configured image.
    `previous` has what nodes held of a tag before its content of now, until a node holds that too.
    Where a tag is quarantined, `tags` has its previous content, if there is one.
    `unverified` has the newest push last, and `deleted` the newest deletion.
    """

    image: str
    tags: tuple[Tag, ...] = ()
    live_tags: tuple[Tag, ...] | None = None
    previous: tuple[Tag, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    refused: tuple[Refused, ...] = ()
    unverified: tuple[UnverifiedPush, ...] = ()
    deleted: tuple[Deletion, ...] = ()

    def tag(self, name: str | None) -> Tag | None:
        """Return the tracked tag of that name, if there is one."""
        return next((tag for tag in self.tags if tag.name == name), None)

    def quarantine(self, name: str | None) -> Quarantined | None:
        """Return the quarantined content of the tag of that name, if there is some."""
        return next((each for each in self.quarantined if each.tag.name == name), None)

    def refuses(self, name: str) -> bool:
        """Whether the cluster refused the tag, or the configured digest, of that name."""
        return any(refused.name == name for refused in self.refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """A template that the cluster does not admit, although no single tag is the reason."""

    template: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """How images that nodes need not ask a registry for are held: by volumes, or by containers.

    `reason` says why, unless the configuration alone decides. `differs_since` is since when the
    other way would be the right one.
    `common` has the images that the common container holds. Each other one has a container of its
    own. `proven` has those of the latter that every node holds. They join the common container with
    the next template.
    """

    by_volumes: bool = False
    reason: str = ""
    differs_since: datetime | None = None
    common: tuple[str, ...] = ()
    proven: tuple[str, ...] = ()


class Seeding(StrEnum):
    """The part of a rollout with seeds (`ROLLOUT_SEED_NODES`)."""

    EMPTY = auto()
    """The pods of a new DaemonSet hold nothing yet."""
    SEEDS = auto()
    """Only the first nodes change, and all others wait for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that must survive the process.

    `configuration` is the hash of the configuration in charge. `processes` has the processes that
    have worked on it, the youngest first. `template` and `structure` are the
    hashes of the live template as it was last written, and "" before that. `containers` is the
    number of its containers, or 0 where every other template needs a trial. `changed` is when it
    was written, or None while it holds nothing. `pulled_again_at` is when tags were last pulled
    again. `max_unavailable` is the bound of nodes that change at once, or None where it is the
    configured one. `seeding` is the part of a rollout with seeds, or None where no node waits.
    `degraded_since` is since when the group has problems, or None. It is kept only with a sink.
    """

    configuration: str
    processes: tuple[Process, ...] = ()
    structure: str = ""
    template: str = ""
    containers: int = 0
    changed: datetime | None = None
    pulled_again_at: datetime | None = None
    max_unavailable: int | None = None
    seeding: Seeding | None = None
    degraded_since: datetime | None = None
    blocked: Blocked | None = None
    holding: Holding = Holding()
    entries: Mapping[str, EntryState] = field(default_factory=dict)

    def with_entry(self, name: str, tracked: EntryState) -> "State":
        """Return the state with one entry replaced. The entry keeps its place."""
        return replace(self, entries={**self.entries, name: tracked})


def encode(state: State) -> str:
    """Return the annotation's text. Equal states give equal texts."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "configuration": state.configuration,
            "processes": [_process_json(process) for process in state.processes],
            "structure": state.structure,
            "template": state.template,
            "containers": state.containers,
            "changed": _time_text(state.changed),
            "pulledAgainAt": _time_text(state.pulled_again_at),
            "maxUnavailable": state.max_unavailable,
            **({} if state.seeding is None else {"seeding": state.seeding}),
            **(
                {}
                if state.degraded_since is None
                else {"degradedSince": _time_text(state.degraded_since)}
            ),
            "blocked": state.blocked
            and {"template": state.blocked.template, "reason": state.blocked.reason},
            "holding": _holding_json(state.holding),
            "entries": {name: _entry_json(entry) for name, entry in state.entries.items()},
        },
        separators=(",", ":"),
        ensure_ascii=False,
    )


def decode(text: str | None) -> State:
    """Return the state that an annotation holds.

    Raises UnknownSchemaError where a newer release wrote it, else UnreadableStateError.
    """
    try:
        value = json.loads(text or "")
        schema = value["schema"]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise UnreadableStateError(f"the state annotation can't be read: {error!r}") from error
    if isinstance(schema, int) and schema < SCHEMA:
        raise UnreadableStateError(f"the state annotation has the old schema {schema}")
    if schema != SCHEMA:
        raise UnknownSchemaError(f"the state has schema {schema!r}; this release reads {SCHEMA}")
    try:
        return _state(value)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise UnreadableStateError(f"the state annotation can't be read: {error!r}") from error


def until(state: State, now: datetime) -> State:
    """Return the state without times in the future, which a wrong clock has written.

    Clocks may differ by the tolerance. The time of the last pull is part of the template and
    compared with nothing, so it stays. Return the same object if nothing changes.
    """
    entries = {name: _entry_until(entry, now) for name, entry in state.entries.items()}
    is_wrong = state.changed is not None and state.changed > now + TOLERANCE
    differs_since = state.holding.differs_since
    found = replace(
        state,
        changed=now if is_wrong else state.changed,
        holding=replace(
            state.holding, differs_since=None if differs_since is None else min(differs_since, now)
        ),
        entries=entries,
    )
    return state if found == state else found


def _entry_until(entry: EntryState, now: datetime) -> EntryState:
    return replace(
        entry,
        tags=tuple(_until(tag, now) for tag in entry.tags),
        previous=tuple(_until(tag, now) for tag in entry.previous),
        quarantined=tuple(
            replace(each, tag=_until(each.tag, now), since=min(each.since, now + TOLERANCE))
            for each in entry.quarantined
        ),
        unverified=tuple(_until(push, now) for push in entry.unverified),
        deleted=tuple(_until(deletion, now) for deletion in entry.deleted),
    )


def _until(timed: Timed, now: datetime) -> Timed:
    is_wrong = timed.time > now + TOLERANCE
    return replace(timed, time=now, own_clock=True) if is_wrong else timed


def substance(state: State) -> State:
    """Return the state without the times of known digests, which alone are not worth a write.

    Where a digest is unknown, the time of the push identifies the content, so it stays.
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


def _process_json(process: Process) -> dict[str, Any]:
    value: dict[str, Any] = {"name": process.name, "since": _time_text(process.since)}
    return value | ({"outside": True} if process.outside else {})


def _holding_json(holding: Holding) -> dict[str, Any]:
    value: dict[str, Any] = {"byVolumes": holding.by_volumes, "reason": holding.reason}
    if holding.differs_since is not None:
        value["differsSince"] = _time_text(holding.differs_since)
    if holding.by_volumes:
        value |= {"common": holding.common, "proven": holding.proven}
    return value


def _entry_json(entry: EntryState) -> dict[str, Any]:
    value: dict[str, Any] = {"image": entry.image, "tags": [_tag_json(tag) for tag in entry.tags]}
    if entry.live_tags != entry.tags:
        value["liveTags"] = entry.live_tags and tuple(map(_tag_json, entry.live_tags))
    if entry.previous:
        value["previous"] = [_tag_json(tag) for tag in entry.previous]
    if entry.quarantined:
        value["quarantined"] = [
            {
                **_tag_json(each.tag),
                "since": _time_text(each.since),
                "reason": each.reason,
                **({"pulled": True} if each.pulled else {}),
            }
            for each in entry.quarantined
        ]
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
                **_clock_json(own_clock=push.own_clock),
            }
            for push in entry.unverified
        ]
    if entry.deleted:
        value["deleted"] = [
            {
                "tag": deletion.tag,
                "digest": deletion.digest,
                "time": _time_text(deletion.time),
                **_clock_json(own_clock=deletion.own_clock),
                **({"allTags": True} if deletion.with_all_tags else {}),
            }
            for deletion in entry.deleted
        ]
    return value


def _tag_json(tag: Tag) -> dict[str, Any]:
    value: dict[str, Any] = {"tag": tag.name, "digest": tag.digest, "time": _time_text(tag.time)}
    if tag.mutated:
        value["mutated"] = True
    if tag.pulled_again:
        value["pulledAgain"] = True
    if tag.confirmed:
        value["confirmed"] = True
    return value | _clock_json(own_clock=tag.own_clock)


def _clock_json(*, own_clock: bool) -> dict[str, Any]:
    return {"ownClock": True} if own_clock else {}


def _state(value: Mapping[str, Any]) -> State:
    blocked = value["blocked"]
    return State(
        configuration=_text(value["configuration"]),
        processes=tuple(map(_process, _list(value["processes"]))),
        structure=_text(value["structure"]),
        template=_text(value["template"]),
        containers=_count(value["containers"]),
        changed=_time(value["changed"]),
        pulled_again_at=_time(value["pulledAgainAt"]),
        max_unavailable=_optional_count(value["maxUnavailable"]),
        seeding=Seeding(value["seeding"]) if "seeding" in value else None,
        degraded_since=_time(value.get("degradedSince")),
        blocked=None
        if blocked is None
        else Blocked(template=_text(blocked["template"]), reason=_text(blocked["reason"])),
        holding=_holding(value["holding"]),
        entries={_text(name): _tracked(entry) for name, entry in value["entries"].items()},
    )


def _process(value: Mapping[str, Any]) -> Process:
    return Process(
        name=_text(value["name"]),
        since=_known_time(value["since"]),
        outside=value.get("outside", False) is True,
    )


def _holding(value: Mapping[str, Any]) -> Holding:
    return Holding(
        by_volumes=value["byVolumes"] is True,
        reason=_text(value["reason"]),
        differs_since=_time(value.get("differsSince")),
        common=tuple(map(_text, _list(value.get("common", [])))),
        proven=tuple(map(_text, _list(value.get("proven", [])))),
    )


def _tracked(value: Mapping[str, Any]) -> EntryState:
    tags = tuple(map(_tag, value["tags"]))
    live_tags = value.get("liveTags", value["tags"])
    return EntryState(
        image=_text(value["image"]),
        tags=tags,
        live_tags=None if live_tags is None else tuple(map(_tag, live_tags)),
        previous=tuple(map(_tag, value.get("previous", ()))),
        quarantined=tuple(
            Quarantined(
                tag=_tag(each),
                since=_known_time(each["since"]),
                reason=_text(each["reason"]),
                pulled=each.get("pulled", False) is True,
            )
            for each in value.get("quarantined", ())
        ),
        refused=tuple(
            Refused(
                name=_text(refused["tag"]),
                digest=_optional_text(refused["digest"]),
                reason=_text(refused["reason"]),
            )
            for refused in value.get("refused", ())
        ),
        unverified=tuple(
            UnverifiedPush(
                tag=_text(push["tag"]),
                digest=_optional_text(push["digest"]),
                time=_known_time(push["time"]),
                reason=_text(push["reason"]),
                own_clock=_own_clock(push),
            )
            for push in value.get("unverified", ())
        ),
        deleted=tuple(
            Deletion(
                tag=_optional_text(deletion["tag"]),
                digest=_optional_text(deletion["digest"]),
                time=_known_time(deletion["time"]),
                own_clock=_own_clock(deletion),
                with_all_tags=deletion.get("allTags", False) is True,
            )
            for deletion in value.get("deleted", ())
        ),
    )


def _tag(value: Mapping[str, Any]) -> Tag:
    return Tag(
        name=_text(value["tag"]),
        digest=_optional_text(value["digest"]),
        time=_known_time(value["time"]),
        mutated=value.get("mutated", False) is True,
        pulled_again=value.get("pulledAgain", False) is True,
        confirmed=value.get("confirmed", False) is True,
        own_clock=_own_clock(value),
    )


def _own_clock(value: Mapping[str, Any]) -> bool:
    return value.get("ownClock", False) is True


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"not a list: {value!r:.80}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a string: {value!r:.80}")
    value.encode()  # a lone surrogate, which JSON allows, can't be written again
    return value


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"not a number of containers: {value!r:.80}")
    return value


def _optional_count(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MOST_NODES:
        raise ValueError(f"not a number of nodes: {value!r:.80}")
    return value


def _time_text(time: datetime | None) -> str | None:
    if time is None:
        return None
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _known_time(value: Any) -> datetime:
    time = _time(value)
    if time is None:
        raise ValueError("a tag, a push or a process has no time")
    return time


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    time = datetime.fromisoformat(_text(value))
    if time.tzinfo is None:
        raise ValueError(f"a time has no zone: {value!r:.80}")
    time = time.astimezone(UTC)
    if not _EARLIEST <= time < _LATEST:
        raise ValueError(f"a time is not plausible: {value!r:.80}")
    return time
