"""What happened between two observations of a group: rollouts, images, and nodes that join. Pure.

Each notice has a key. A repeat of the notice, also by another process, has the same one.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from image_puller import limits
from image_puller.core import failure
from image_puller.core.daemonset import DesiredImage, Manifest
from image_puller.core.node_state import ImageState, Place
from image_puller.core.observation import Observation, generation_of
from image_puller.core.pods import Container
from image_puller.core.selection import desired
from image_puller.core.state import State

Identity = tuple[str, str | None]
"""The container of a desired image, and the content that its template expects."""

_RECENT = timedelta(seconds=limits.REPEATED_SECONDS)
_KUBELET_PRECISION = timedelta(seconds=1)
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Notice:
    """What all notices have. `group` is None for the group of `IMAGES`.

    `is_repeated`: it happened before the process began, so another process may have told it.
    """

    key: str
    group: str | None
    is_repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewImage:
    """An image that a template brings. `digest` is None where it is unknown."""

    entry: str
    image: str
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStarted(_Notice):
    """The template changed. `changed` has the images that it brings, and `nodes` is for how many.

    `template` is the hash of the template.
    """

    template: str
    changed: tuple[NewImage, ...]
    nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutComplete(_Notice):
    """Every selected, ready node runs the template, so many seconds after it changed.

    `nodes` run it. Of the selected nodes, `not_ready` are not ready, and may not run it.
    """

    template: str
    changed: tuple[NewImage, ...]
    nodes: int
    not_ready: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OnAllNodes(_Notice):
    """Every selected, ready node holds a new image. `nodes` is how many these are.

    `seconds` is the time since its push. Where that is not known, `is_since_push` is false, and it
    is the time since the template changed.
    """

    entry: str
    image: str
    digest: str | None
    nodes: int
    seconds: float
    is_since_push: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFailing(_Notice):
    """An image begins to fail. `nodes` is on how many, and `reason` has the runtime's words."""

    entry: str
    image: str
    nodes: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecovered(_Notice):
    """An image fails on no node any more. `is_desired` is false where no template asks for it."""

    entry: str
    image: str
    is_desired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWarm(_Notice):
    """A node that joined holds every desired image.

    `seconds` is the time since its creation, or None where that is not known.
    """

    node: str
    seconds: float | None


Notice = RolloutStarted | RolloutComplete | OnAllNodes | ImageFailing | ImageRecovered | NodeWarm


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rollout:
    """A rollout. `uid` is that of the DaemonSet."""

    uid: str
    template: str
    changed: datetime

    def key(self, kind: str) -> str:
        """Return the key of a notice about the rollout."""
        return f"{kind}/{self.uid}/{self.template}/{self.changed.isoformat()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failing:
    """An image that fails, and the nodes on which it has not been held since it failed there.

    `key` identifies the failure in the keys of its notices.
    """

    key: str
    entry: str
    image: str
    nodes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What `advance` has to know of the last observation.

    `rollout` is the one that was told last, `generation` that of its template, `changed` when it
    changed, and `new` has its new images. `images` has all images of the template. `waiting` has
    those that are not on all nodes yet, with the time of their push, if it is known. `recovered` is
    how often an image has recovered. `nodes` has the nodes that were ever selected, and `joining`
    those of them that have never been warm.
    """

    rollout: _Rollout | None = None
    generation: str | None = None
    changed: datetime
    new: tuple[NewImage, ...] = ()
    is_complete: bool = False
    images: frozenset[Identity] = frozenset()
    waiting: Mapping[Identity, datetime | None] = field(default_factory=dict)
    failing: Mapping[Identity, _Failing] = field(default_factory=dict)
    recovered: Mapping[Identity, int] = field(default_factory=dict)
    nodes: frozenset[str] = frozenset()
    joining: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One step, from a snapshot to an observation.

    `images` has those of the live template. `expected` has the selected nodes, and `ready` those of
    them that are ready. `is_first`: the process has observed nothing before, so the snapshot is
    only presumed, and a node that has just joined is no sign of an unfinished rollout.
    """

    before: Snapshot
    seen: Observation
    now: datetime
    began: datetime
    rollout: _Rollout
    generation: str | None
    images: Mapping[Identity, DesiredImage]
    expected: Mapping[str, Place]
    ready: tuple[Place, ...]
    is_first: bool

    @property
    def is_new(self) -> bool:
        """Whether the rollout has not been told yet. A repair may leave the template as it is."""
        before = self.before.rollout
        if before is None or before.uid != self.rollout.uid:
            return True
        is_other = self.generation is None or self.generation != self.before.generation
        return before != self.rollout and is_other

    def end(self, containers: Iterable[Container]) -> datetime:
        """Return when the last of the containers that the rollout started was started.

        Where it started none, return now. The first observation can't know that it ended only now.
        """
        times = (each.running_since for each in containers if each.running_since)
        last = max(map(datetime.fromisoformat, times), default=_EPOCH)
        if last + _KUBELET_PRECISION <= self.rollout.changed:
            return self.rollout.changed if self.is_first else self.now
        return max(last, self.rollout.changed)

    def is_repeated(self, time: datetime) -> bool:
        """Whether another process may have told what happened at a time."""
        return self.is_first and time < self.began


def advance(
    before: Snapshot | None, seen: Observation, now: datetime, *, began: datetime
) -> tuple[Snapshot | None, tuple[Notice, ...]]:
    """Return what to keep of an observation, and what happened since `before`, in its order.

    `before` is what the last call returned, and None at first. `began` is when the process began.
    What ended earlier is not told. But what the last rollout did is told and marked as repeated if
    its template changed less than an hour ago: an earlier process may have ended before it told it.
    """
    live, state = seen.live.daemonset, seen.live.state
    if live is None or state is None or state.changed is None:
        return before, ()
    images = {_identity(image): image for image in live_images(seen, state)}
    expected = {_node_id(place): place for place in seen.places if place.is_expected}
    step = _Step(
        before=before or _presumed(live, state.changed, images, expected),
        seen=seen,
        now=now,
        began=began,
        rollout=_Rollout(
            uid=str(live["metadata"].get("uid") or ""),
            template=state.template,
            changed=state.changed,
        ),
        generation=generation_of(live),
        images=images,
        expected=expected,
        ready=seen.ready if before is not None else _without_joining(seen.ready, state.changed),
        is_first=before is None,
    )
    snapshot, notices = _advanced(step)
    if now - state.changed >= _RECENT:
        notices = [notice for notice in notices if not notice.is_repeated]
    return snapshot, tuple(notices)


def _presumed(
    live: Manifest,
    changed: datetime,
    images: Mapping[Identity, DesiredImage],
    expected: Mapping[str, Place],
) -> Snapshot:
    """Return what the last observation may have been, for the first one of a process.

    The template brought what was pushed shortly before it, and the first template brought all. The
    nodes that are older than the template were warm before.
    """
    text = live["metadata"].get("creationTimestamp")
    earliest = changed - _RECENT
    is_young = text is not None and datetime.fromisoformat(text) > earliest
    return Snapshot(
        changed=earliest,
        images=frozenset(
            identity
            for identity, image in images.items()
            if not is_young and (image.tag is None or image.tag.time <= earliest)
        ),
        nodes=frozenset(
            node for node, place in expected.items() if not _joins_after(place, changed)
        ),
    )


def _without_joining(places: tuple[Place, ...], changed: datetime) -> tuple[Place, ...]:
    """Return the nodes that are older than the template, or all where none is."""
    older = tuple(place for place in places if not _joins_after(place, changed))
    return older or places


def _joins_after(place: Place, changed: datetime) -> bool:
    created = _created(place)
    return created is not None and created > changed


def _advanced(step: _Step) -> tuple[Snapshot, list[Notice]]:
    before, images, rollout = step.before, step.images, step.rollout
    brought = {
        identity: image
        for identity, image in images.items()
        if step.is_new and identity not in before.images
    }
    new = tuple(map(_new_image, brought.values())) if step.is_new else before.new
    waiting = {key: pushed for key, pushed in before.waiting.items() if key in images}
    waiting |= {key: _pushed(step, image) for key, image in brought.items()}
    arrived = {key: pushed for key, pushed in waiting.items() if _is_on_all(step, images[key])}
    was_complete = before.is_complete and not step.is_new
    is_complete = was_complete or _is_complete(step)
    failing = _failing(step)
    present = frozenset(map(_node_id, step.seen.places))
    joining = (before.joining & present) | (step.expected.keys() - before.nodes)
    warm = {
        node: place
        for node, place in step.expected.items()
        if node in joining and _is_warm(step, place)
    }

    notices: list[Notice] = []
    if step.is_new:
        started = _started(step, new)
        notices += [] if is_complete and started.is_repeated else [started]
    notices += _on_all_nodes(step, arrived)
    notices += _failures(step, failing)
    if is_complete and not was_complete:
        notices.append(_complete(step, new))
    notices += _warm(step, warm)

    ended = before.failing.keys() - failing.keys()
    known = {*failing, *images}
    return Snapshot(
        rollout=rollout,
        generation=step.generation,
        changed=rollout.changed,
        new=new,
        is_complete=is_complete,
        images=frozenset(images),
        waiting={key: pushed for key, pushed in waiting.items() if key not in arrived},
        failing=failing,
        recovered={
            key: times for key in known if (times := before.recovered.get(key, 0) + (key in ended))
        },
        nodes=(before.nodes & present) | step.expected.keys(),
        joining=joining - warm.keys(),
    ), notices


def _started(step: _Step, new: tuple[NewImage, ...]) -> RolloutStarted:
    rollout = step.rollout
    return RolloutStarted(
        key=rollout.key("rollout-started"),
        group=step.seen.config.group,
        is_repeated=step.is_repeated(rollout.changed),
        template=rollout.template,
        changed=new,
        nodes=len(step.expected),
    )


def _complete(step: _Step, new: tuple[NewImage, ...]) -> RolloutComplete:
    seen, rollout = step.seen, step.rollout
    end = step.end(
        container
        for place in step.ready
        if place.pod is not None
        for container in place.pod.containers
    )
    return RolloutComplete(
        key=rollout.key("rollout-complete"),
        group=seen.config.group,
        is_repeated=step.is_repeated(end),
        template=rollout.template,
        changed=new,
        nodes=len(step.ready),
        not_ready=len(step.expected) - len(step.ready),
        seconds=(end - rollout.changed).total_seconds(),
    )


def _on_all_nodes(step: _Step, arrived: Mapping[Identity, datetime | None]) -> Iterator[OnAllNodes]:
    """Yield the images that are on all nodes now, in the order in which they arrived."""
    seen, rollout = step.seen, step.rollout
    holders: dict[str, list[Container]] = {}
    for place in step.ready if arrived else ():
        for container in () if place.pod is None else place.pod.containers:
            for name in (container.name, *container.image_volumes):
                holders.setdefault(name, []).append(container)
    ends = {key: step.end(holders.get(key[0], ())) for key in arrived}
    for key in sorted(arrived, key=ends.__getitem__):
        image, pushed = step.images[key], arrived[key]
        yield OnAllNodes(
            key=f"on-all-nodes/{rollout.uid}/{_content_key(image)}",
            group=seen.config.group,
            is_repeated=step.is_repeated(ends[key]),
            entry=image.entry,
            image=image.image,
            digest=_digest(image),
            nodes=len(step.ready),
            seconds=(ends[key] - (pushed or rollout.changed)).total_seconds(),
            is_since_push=pushed is not None,
        )


def _failing(step: _Step) -> Mapping[Identity, _Failing]:
    """Return what fails. A node stays until it holds the image, although its pod is replaced."""
    found = {}
    for key, image in step.images.items():
        states, before = step.seen.states[image.container], step.before.failing.get(key)
        known = frozenset() if before is None else before.nodes
        nodes = frozenset(
            place.node
            for place in step.expected.values()
            if states[place.node].state is ImageState.FAILING
            or (place.node in known and not states[place.node].is_held)
        )
        if nodes:
            found[key] = _Failing(
                key=_failure_key(step, key) if before is None else before.key,
                entry=image.entry,
                image=image.image,
                nodes=nodes,
            )
    return found


def _failures(
    step: _Step, failing: Mapping[Identity, _Failing]
) -> Iterator[ImageFailing | ImageRecovered]:
    """Yield the images that begin to fail, and those that fail no more."""
    before, group = step.before, step.seen.config.group
    for key, found in failing.items():
        if key not in before.failing:
            states = step.seen.states[key[0]]
            reasons = [states[node].reason for node in sorted(found.nodes)]
            yield ImageFailing(
                key=f"image-failing/{found.key}",
                group=group,
                entry=found.entry,
                image=found.image,
                nodes=len(found.nodes),
                reason=next(filter(failure.is_told, reasons), reasons[0]),
            )
    for key, found in before.failing.items():
        if key not in failing:
            yield ImageRecovered(
                key=f"image-recovered/{found.key}",
                group=group,
                entry=found.entry,
                image=found.image,
                is_desired=key in step.images,
            )


def _failure_key(step: _Step, key: Identity) -> str:
    """Return what identifies the failure of an image: each time that it fails is another one."""
    times = step.before.recovered.get(key, 0) + 1
    return f"{step.rollout.uid}/{_content_key(step.images[key])}/{times}"


def _warm(step: _Step, warm: Mapping[str, Place]) -> Iterator[NodeWarm]:
    for node, place in warm.items():
        created = _created(place)
        end = step.end(() if place.pod is None else place.pod.containers)
        yield NodeWarm(
            key=f"node-warm/{step.rollout.uid}/{node}",
            group=step.seen.config.group,
            is_repeated=step.is_repeated(end),
            node=place.node,
            seconds=None if created is None else max((end - created).total_seconds(), 0.0),
        )


def live_images(seen: Observation, state: State) -> Iterator[DesiredImage]:
    """Yield the images of the live template. A pending or blocked one may ask for others."""
    is_live = seen.rollout not in ("pending", "blocked")
    for image in seen.images:
        live, entry = state.entries[image.entry].live_tags, seen.config.entry(image.entry)
        if live is None:  # the template lacks the configured image, and its tags are not noted
            if is_live and image.container != image.entry:
                yield image
        elif image.tag is None:
            yield image
        else:
            tags = [tag for tag in live if tag.name == entry.tag]
            tags += desired(seen.config, entry, live)
            if any((tag.name, tag.digest) == (image.tag.name, image.tag.digest) for tag in tags):
                yield image


def _is_complete(step: _Step) -> bool:
    """Whether every ready node runs the template, but for those that have just joined."""
    return step.seen.is_complete or (
        len(step.ready) < len(step.seen.ready) and all(map(step.seen.runs_template, step.ready))
    )


def _is_on_all(step: _Step, image: DesiredImage) -> bool:
    """Whether all selected, ready nodes hold the content of an image. There has to be one."""
    states = step.seen.states[image.container]
    return bool(step.ready) and all(
        states[place.node].is_held and states[place.node].image_id != "other"
        for place in step.ready
    )


def _is_warm(step: _Step, place: Place) -> bool:
    """Whether a ready node holds every image of the template."""
    is_ready = place.facts is None or place.facts.is_ready
    return (
        is_ready
        and bool(step.images)
        and all(step.seen.states[key[0]][place.node].is_held for key in step.images)
    )


def _pushed(step: _Step, image: DesiredImage) -> datetime | None:
    """Return the time of the push that brought an image, or None where it is not known.

    An older push did not bring it: a tag of the reserve is desired again. A push that seems to be
    later than the template has the time of a wrong clock.
    """
    tag = image.tag
    if tag is None or not step.before.changed < tag.time <= step.rollout.changed:
        return None
    return tag.time


def _new_image(image: DesiredImage) -> NewImage:
    return NewImage(entry=image.entry, image=image.image, digest=_digest(image))


def _digest(image: DesiredImage) -> str | None:
    return None if image.tag is None else image.tag.digest


def _content_key(image: DesiredImage) -> str:
    """Return what identifies an image with its content. A push of content again is another one."""
    time = "" if image.tag is None else image.tag.time.isoformat()
    return f"{image.image}/{image.expected or ''}/{time}"


def _identity(image: DesiredImage) -> Identity:
    return image.container, image.expected


def _node_id(place: Place) -> str:
    """Return what identifies a node. One that joins again under its name is another one."""
    return place.node if place.facts is None or not place.facts.uid else place.facts.uid


def _created(place: Place) -> datetime | None:
    return None if place.facts is None else place.facts.created
