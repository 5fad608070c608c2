"""What the status page shows: the same observation as the JSON, counted and in order. Pure.

`http/templates` has the words around it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from image_puller import limits
from image_puller.config.entries import Entry
from image_puller.core import follow_up, node_state, status
from image_puller.core.daemonset import DesiredImage
from image_puller.core.follow_up import Failing
from image_puller.core.node_state import ImageOnNode, ImageState, NodeState, Place
from image_puller.core.observation import Observation
from image_puller.core.problems import Problem
from image_puller.core.received import Received
from image_puller.core.state import EntryState
from image_puller.values.reference import parse

Row = TypeVar("Row")

NO_DAEMONSET = "no DaemonSet"
_WORST_FIRST = ("blocked", NO_DAEMONSET, "pending", "in progress", "complete")
_CHANGING = ("in progress", "pending", NO_DAEMONSET)
"""The states of a rollout in which the page changes soon."""
_TO_EXPLAIN = (
    ImageState.FAILING,
    ImageState.NO_POD,
    ImageState.ON_NODE,
    ImageState.PULLING,
    ImageState.WAITING,
)
"""The states of an image that a node does not hold, the worst first."""
_ORDER = (*_TO_EXPLAIN, ImageState.HELD, ImageState.NOT_SELECTED)

_WORST_NODES_FIRST = (
    NodeState.NO_POD,
    NodeState.NOT_WARM,
    NodeState.WARM,
    NodeState.NOT_SELECTED,
)


class Why(StrEnum):
    """Why an image is on the page. `docs/operations/status.md` explains the words."""

    CONFIGURED = "configured"
    TRACKED = "tracked"
    MUTABLE = "mutable"
    MUTATED = "mutated"
    PREVIOUS_CONTENT = "previous content"
    QUARANTINED = "quarantined"
    REFUSED = "refused"
    UNVERIFIED = "unverified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of one group: its observation, its problems, and since when images fail."""

    observation: Observation
    problems: tuple[Problem, ...] = ()
    failing: Failing

    @property
    def name(self) -> str | None:
        """Return the name of the group. None: the group of `IMAGES`."""
        return self.observation.config.group

    @property
    def rollout(self) -> str:
        """Return the state of the rollout."""
        is_missing = self.observation.live.daemonset is None
        return NO_DAEMONSET if is_missing else self.observation.rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Paged(Generic[Row]):
    """The rows of one page of a table. Pages count from 1."""

    rows: tuple[Row, ...]
    number: int
    pages: int
    total: int

    @property
    def first(self) -> int:
        """Return the number of the first row, which counts from 1."""
        return (self.number - 1) * limits.PAGE_ROWS + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """On how many nodes an image has each state. Nodes that are not selected do not count."""

    held: int
    on_node: int
    pulling: int
    waiting: int
    failing: int
    no_pod: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """An image of an entry. `why` says why it is there. `counts` is None where no node gets it.

    `reason` is why nodes do not hold it, as one of them says it. `since` is from when on, if known.
    """

    entry: str
    image: str
    digest: str | None
    holder: str | None
    pushed: datetime | None
    why: tuple[Why, ...]
    counts: Counts | None
    reason: str
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPart:
    """A group: its DaemonSet, how it holds images, and its images."""

    name: str | None
    daemonset: str
    namespace: str
    rollout: str
    seeding: str
    changed: datetime | None
    hold_by: str | None
    hold_by_reason: str
    images: Paged[ImageRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """A node: how many of the images that it should have it holds, in all groups."""

    node: str
    held: int
    wanted: int
    state: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRow:
    """The state of one image on one node. `name` is that of the node, or of the image.

    `digest` compares what the node holds with what was pushed: `same`, `other` or `unknown`.
    `since` is from when on the image has this state, if that is known.
    """

    name: str
    entry: str
    state: str
    reason: str
    digest: str | None
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The first page. `complete` of `expected` nodes hold all their images.

    `is_changing`: a rollout runs, so the page changes soon. `images` is the number of the page of
    images that was asked for.
    """

    complete: int
    expected: int
    rollout: str
    is_changing: bool
    last_push: Received | None
    problems: tuple[Problem, ...]
    groups: tuple[GroupPart, ...]
    images: int
    nodes: Paged[NodeRow]
    received: tuple[Received, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePart:
    """One image of one group, and its state on each node."""

    group: str | None
    image: ImageRow
    nodes: Paged[StateRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePage:
    """The page about the images that have one name."""

    name: str
    is_changing: bool
    images: tuple[ImagePart, ...]
    received: tuple[Received, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePart:
    """A node in one group: its state, and that of each image there.

    `warm_up` is its warm-up time in seconds, or None where that is not known.
    """

    group: str | None
    state: str
    reason: str
    warm_up: float | None
    images: Paged[StateRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePage:
    """The page about one node. `created`, `runtime` and `kubelet` are empty where not known."""

    name: str
    is_changing: bool
    created: datetime | None
    runtime: str
    kubelet: str
    groups: tuple[NodePart, ...]


def overview(
    groups: Sequence[Seen], received: Sequence[Received], *, number: int = 1, images: int = 1
) -> Overview:
    """Return the first page. `received` has the newest push first.

    `number` is that of the page of nodes, and `images` that of each page of images.
    """
    nodes = _node_rows(groups)
    expected = [row for row in nodes if row.is_expected]
    return Overview(
        complete=sum(row.is_complete for row in expected),
        expected=max(len(expected), *(_desired(seen) for seen in groups)),
        rollout=min((seen.rollout for seen in groups), key=_WORST_FIRST.index),
        is_changing=_is_changing(groups),
        last_push=received[0] if received else None,
        problems=_problems(groups),
        groups=tuple(_group_part(seen, images) for seen in groups),
        images=images,
        nodes=_with_reasons(groups, _page(nodes, number)),
        received=tuple(received),
    )


def image(
    groups: Sequence[Seen], received: Sequence[Received], name: str, *, number: int = 1
) -> ImagePage | None:
    """Return the page about an image, or None. `name` is an entry's name or a reference."""
    found = tuple(
        ImagePart(group=seen.name, image=row, nodes=_page(_on_nodes(seen, desired), number))
        for seen in groups
        for row, desired in _image_rows(seen)
        if status.is_named(name, row.entry, row.image)
    )
    if not found:
        return None
    entries = {(each.group, each.image.entry) for each in found}
    return ImagePage(
        name=name,
        is_changing=_is_changing(groups),
        images=found,
        received=tuple(each for each in received if (each.group, each.entry) in entries),
    )


def node(groups: Sequence[Seen], name: str, *, number: int = 1) -> NodePage | None:
    """Return the page about a node, or None. `number` is that of each page of images."""
    found = [
        (seen, place) for seen in groups for place in seen.observation.places if place.node == name
    ]
    if not found:
        return None
    facts = found[0][1].facts
    return NodePage(
        name=name,
        is_changing=_is_changing(groups),
        created=facts.created if facts else None,
        runtime=facts.runtime if facts else "",
        kubelet=facts.kubelet if facts else "",
        groups=tuple(_node_part(seen, place, number) for seen, place in found),
    )


def _is_changing(groups: Sequence[Seen]) -> bool:
    return any(seen.rollout in _CHANGING for seen in groups)


def _problems(groups: Sequence[Seen]) -> tuple[Problem, ...]:
    """Return the problems of all groups, each once."""
    found = {problem.message: problem for seen in groups for problem in seen.problems}
    return tuple(found.values())


def _desired(seen: Seen) -> int:
    """Return how many nodes get a pod, as the DaemonSet controller counts where nobody else can."""
    live = seen.observation.live
    if live.nodes is not None or live.daemonset is None:
        return 0
    return int((live.daemonset.get("status") or {}).get("desiredNumberScheduled", 0))


def _group_part(seen: Seen, number: int) -> GroupPart:
    config, state = seen.observation.config, seen.observation.live.state
    hold_by = None if state is None else "volumes" if state.holding.by_volumes else "containers"
    return GroupPart(
        name=seen.name,
        daemonset=config.daemonset_name,
        namespace=config.namespace,
        rollout=seen.rollout,
        seeding=status.seeding(seen.observation),
        changed=state.changed if state else None,
        hold_by=hold_by,
        hold_by_reason=state.holding.reason if state else "",
        images=_page([row for row, _ in _image_rows(seen)], number),
    )


def _image_rows(seen: Seen) -> Iterator[tuple[ImageRow, DesiredImage | None]]:
    """Yield the images by entry: those that nodes get, and then the others."""
    state = seen.observation.live.state
    for entry in seen.observation.config.entries:
        for desired in seen.observation.images:
            if desired.entry == entry.name:
                yield _desired_row(seen, entry, desired), desired
        current = state.entries.get(entry.name) if state else None
        for row in _other_rows(entry, current) if current else ():
            yield row, None


def _other_rows(entry: Entry, current: EntryState) -> Iterator[ImageRow]:
    """Yield what no node gets: quarantined and refused tags, and unverified pushes."""
    for found in current.quarantined:
        row = _other_row(entry, found.tag.name, found.tag.digest, Why.QUARANTINED, found.reason)
        yield replace(row, since=found.since)
    for refused in current.refused:
        yield _other_row(entry, refused.name, refused.digest, Why.REFUSED, refused.reason)
    for push in current.unverified:
        row = _other_row(entry, push.tag, push.digest, Why.UNVERIFIED, push.reason)
        yield replace(row, pushed=push.time)


def _other_row(entry: Entry, tag: str, digest: str | None, why: Why, reason: str) -> ImageRow:
    return ImageRow(
        entry=entry.name,
        image=f"{entry.reference.name}{'@' if tag == digest else ':'}{tag}",
        digest=digest,
        holder=None,
        pushed=None,
        why=(why,),
        counts=None,
        reason=reason,
        since=None,
    )


def _desired_row(seen: Seen, entry: Entry, desired: DesiredImage) -> ImageRow:
    states = seen.observation.states.get(desired.container, {})
    counted = Counter(each.state for each in states.values())
    reason, since = _why_not_held(seen, desired, states)
    return ImageRow(
        entry=desired.entry,
        image=desired.image,
        digest=desired.tag.digest if desired.tag else parse(desired.image).digest,
        holder=desired.holder,
        pushed=desired.tag.time if desired.tag else None,
        why=_why(entry, desired),
        counts=Counts(
            held=counted[ImageState.HELD],
            on_node=counted[ImageState.ON_NODE],
            pulling=counted[ImageState.PULLING],
            waiting=counted[ImageState.WAITING],
            failing=counted[ImageState.FAILING],
            no_pod=counted[ImageState.NO_POD],
        ),
        reason=reason,
        since=since,
    )


def _why(entry: Entry, desired: DesiredImage) -> tuple[Why, ...]:
    """Return why nodes get an image."""
    is_configured = desired.container == entry.name
    why = [Why.CONFIGURED if is_configured else Why.TRACKED]
    if desired.always:
        why.append(Why.MUTABLE)
    if desired.tag is not None and desired.tag.mutated:
        why.append(Why.MUTATED)
    if desired.is_kept:
        why.append(Why.PREVIOUS_CONTENT)
    return tuple(why)


def _why_not_held(
    seen: Seen, desired: DesiredImage, states: Mapping[str, ImageOnNode]
) -> tuple[str, datetime | None]:
    """Return the reason of the worst state, as the first node says it, and since when, if known."""
    state = min(
        (each.state for each in states.values() if each.state in _TO_EXPLAIN),
        key=_TO_EXPLAIN.index,
        default=None,
    )
    if state is None:
        return "", None
    nodes = [node for node, each in states.items() if each.state is state]
    times = [since for node in nodes if (since := _since(seen, desired, node))]
    return _reason(states[nodes[0]]), min(times, default=None)


def _since(seen: Seen, desired: DesiredImage, node: str) -> datetime | None:
    """Return from when on an image has its state on a node, if that is known.

    Since when it fails is known once a check of the rollout has seen it.
    """
    found = seen.observation.states[desired.container][node]
    if found.state is not ImageState.FAILING:
        return datetime.fromisoformat(found.since) if found.since else None
    failed = seen.failing.get((node, desired.container, desired.expected))
    return failed.since if failed and failed.since < follow_up.NOT_STARTED else None


def _reason(found: ImageOnNode) -> str:
    """Return the reason without since when, which has a place of its own."""
    return found.reason.removeprefix(f"since {found.since}").removeprefix(", ")


def _on_nodes(seen: Seen, desired: DesiredImage | None) -> Sequence[StateRow]:
    """Return the state of an image on each node, the worst first."""
    if desired is None:
        return ()
    states = seen.observation.states.get(desired.container, {})
    ordered = sorted(states, key=lambda node: (_ORDER.index(states[node].state), node))
    return [_state_row(seen, desired, node, name=node) for node in ordered]


def _state_row(seen: Seen, desired: DesiredImage, node: str, *, name: str) -> StateRow:
    found = seen.observation.states[desired.container][node]
    return StateRow(
        name=name,
        entry=desired.entry,
        state=found.state,
        reason=_reason(found),
        digest=found.image_id,
        since=_since(seen, desired, node),
    )


def _node_part(seen: Seen, place: Place, number: int) -> NodePart:
    images = seen.observation.images
    state, reason = _state_of(seen, place)
    rows = [_state_row(seen, each, place.node, name=each.image) for each in images]
    return NodePart(
        group=seen.name,
        state=state,
        reason=reason,
        warm_up=status.warm_up_seconds(seen.observation, place, state),
        images=_page(sorted(rows, key=lambda row: _ORDER.index(ImageState(row.state))), number),
    )


def _state_of(seen: Seen, place: Place) -> tuple[NodeState, str]:
    states = seen.observation.states
    return node_state.state_of(
        place,
        {image.container: states[image.container][place.node] for image in seen.observation.images},
    )


@dataclass(slots=True)
class _Node:
    """What is counted of a node in all groups. `without` counts groups that lack its pod."""

    name: str
    held: int = 0
    wanted: int = 0
    without: int = 0
    is_expected: bool = False

    @property
    def is_complete(self) -> bool:
        return self.held == self.wanted and not self.without


def _node_rows(groups: Sequence[Seen]) -> list[_Node]:
    """Return all nodes: those that lack the most images first, those without a group last."""
    found: dict[str, _Node] = {}
    for seen in groups:
        held = Counter(
            node
            for states in seen.observation.states.values()
            for node, each in states.items()
            if each.state is ImageState.HELD
        )
        for place in seen.observation.places:
            row = found.setdefault(place.node, _Node(place.node))
            if place.is_expected or place.pod is not None:
                row.held += held[place.node]
                row.wanted += len(seen.observation.images)
                row.without += place.pod is None
            row.is_expected |= place.is_expected
    return sorted(
        found.values(),
        key=lambda row: (not row.is_expected, row.is_complete, row.held - row.wanted, row.name),
    )


def _with_reasons(groups: Sequence[Seen], page: Paged[_Node]) -> Paged[NodeRow]:
    """Return a page of nodes with their states, which take long to find for all nodes."""
    wanted = {row.name for row in page.rows}
    places: dict[str, list[tuple[Seen, Place]]] = {}
    for seen in groups:
        for place in seen.observation.places:
            if place.node in wanted:
                places.setdefault(place.node, []).append((seen, place))
    return Paged(
        rows=tuple(_node_row(row, places[row.name]) for row in page.rows),
        number=page.number,
        pages=page.pages,
        total=page.total,
    )


def _node_row(row: _Node, places: Sequence[tuple[Seen, Place]]) -> NodeRow:
    """Return the row of a node, with the state in the group where it is worst."""
    states = [_state_of(seen, place) for seen, place in places]
    state, reason = min(states, key=lambda each: _WORST_NODES_FIRST.index(each[0]))
    return NodeRow(node=row.name, held=row.held, wanted=row.wanted, state=state, reason=reason)


def _page(rows: Sequence[Row], number: int) -> Paged[Row]:
    """Return a page of rows: the nearest one where there is none of that number."""
    pages = max(1, -(-len(rows) // limits.PAGE_ROWS))
    number = min(max(number, 1), pages)
    start = (number - 1) * limits.PAGE_ROWS
    return Paged(
        rows=tuple(rows[start : start + limits.PAGE_ROWS]),
        number=number,
        pages=pages,
        total=len(rows),
    )
