"""What nodes show of a rollout, and what follows from it. Pure.

A tag that fails on every node that tried it is quarantined. Where an image fails on some nodes
only, those nodes do not count against `ROLLOUT_MAX_UNAVAILABLE`. An image that keeps the common
container of a node from starting gets a container of its own. A tag that nodes pulled before its
registry had the new content is pulled again. With `ROLLOUT_SEED_NODES`, nodes that wait for the
seeds follow them.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from image_puller import limits
from image_puller.core import daemonset, decide, failure, rollout
from image_puller.core.changes import (
    HoldApart,
    NoteHeld,
    NoteProven,
    Proceed,
    PullAgain,
    QuarantineTag,
    SetMaxUnavailable,
)
from image_puller.core.daemonset import DesiredImage
from image_puller.core.failure import Cause
from image_puller.core.node_state import ImageState, Place
from image_puller.core.observation import Observation
from image_puller.core.pods import Pod
from image_puller.core.state import Seeding, State, Tag
from image_puller.values.reference import parse

NodeChange = QuarantineTag | NoteHeld | NoteProven | HoldApart | SetMaxUnavailable | Proceed


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Since when content fails on a node, and the last words of the runtime about it."""

    since: datetime
    reason: str


Failing = Mapping[tuple[str, str, str | None], Failed]
"""What fails, by node, container and expected digest."""

_ARCHITECTURE = "kubernetes.io/arch"
_LASTING = timedelta(seconds=limits.QUARANTINE_SECONDS)
_LONG = timedelta(seconds=limits.SEEDING_SECONDS)
_BURST = timedelta(seconds=limits.JOINING_SECONDS)
_LONG_JOINS = timedelta(seconds=limits.JOINS_SECONDS)
_SOON = timedelta(seconds=limits.SEEDING_PENDING_SECONDS)
NOT_STARTED = datetime.max.replace(tzinfo=UTC)
"""Of a container whose pod has not started, so that it does not fail yet."""
_ABOUT_IMAGE = (Cause.IMAGE, Cause.PLATFORM)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """An image that fails on a ready node."""

    place: Place
    failed: Failed
    cause: Cause

    def is_lasting(self, now: datetime) -> bool:
        """Whether it has failed for a while."""
        return now - self.failed.since >= _LASTING


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What nodes show of one image. `is_tried`: another node pulls it now."""

    failures: Mapping[str, _Failure]
    is_held: bool
    is_tried: bool

    def is_lasting(self, now: datetime) -> bool:
        """Whether it has failed for a while on a node, and no node holds it."""
        return not self.is_held and any(
            each.cause in _ABOUT_IMAGE and each.is_lasting(now) for each in self.failures.values()
        )


def failing(seen: Observation, known: Failing, now: datetime) -> Failing:
    """Return what fails since when, and why. `known` is what the last call returned.

    Pods that are replaced meanwhile do not begin anew. Otherwise frequent pushes would hide what
    fails.
    """
    found = {}
    for image in seen.images:
        for place in seen.places:
            key = (place.node, image.container, image.expected)
            state, before = seen.states[image.container][place.node], known.get(key)
            if state.state is not ImageState.FAILING or place.pod is None:
                if before is not None and not state.is_held:
                    found[key] = before
            elif before is None:
                since = _failing_since(place.pod, image, now)
                found[key] = Failed(since=since, reason=state.reason)
            elif failure.is_told(state.reason):
                found[key] = _again(before, state.reason, now)
            else:
                found[key] = before
    return found


def _again(before: Failed, reason: str, now: datetime) -> Failed:
    """Return what fails still. Where the image is the cause only now, it begins now.

    A registry that was down may lack images for a moment when it is back.
    """
    was = failure.cause(before.reason) in _ABOUT_IMAGE
    is_new = failure.cause(reason) in _ABOUT_IMAGE and not was
    return Failed(since=now if is_new else before.since, reason=reason)


def node_changes(seen: Observation, began: Failing, now: datetime) -> tuple[NodeChange, ...]:
    """Return what the nodes show: tags that are held, or fail everywhere, and the bound of nodes.

    A quarantine changes the template. So only after it is it known which nodes are in the way.
    """
    state = _own_state(seen)
    if state is None or seen.live.daemonset is None:
        return ()
    if state.seeding is Seeding.EMPTY:
        return (Proceed(state.template),) if _can_fill(seen, now) else ()
    found = {image.container: _found(seen, image, began) for image in seen.images}
    noted: list[NodeChange] = [*_held(seen, state, found), *_proven(seen, state)]
    failing: list[NodeChange] = [*_apart(seen, state, found, now)]
    failing += _quarantined(seen, state, found, now)
    if failing:
        return (*noted, *failing)
    stuck = _stuck(seen, state, found, now)
    if state.seeding is Seeding.SEEDS and _seeds_hold(seen, state, stuck, now):
        return (*noted, *(() if _changes_soon(seen, state, now) else (Proceed(state.template),)))
    if seen.rollout in ("blocked", "pending"):
        return tuple(noted)
    bound = _max_unavailable(seen, state, stuck)
    return tuple(noted) if bound == state.max_unavailable else (*noted, SetMaxUnavailable(bound))


def wrong_contents(seen: Observation, *, time: datetime) -> tuple[PullAgain, ...]:
    """Return a change for each mutated tag of which a node has other content than was pushed.

    That happens where a registry announced the push before nodes could pull it. Nodes that can't be
    compared yet are left out.
    """
    return tuple(
        PullAgain(entry=entry, tag=tag.name, digest=digest, time=time)
        for state, entry, tag, digest in _wrong(seen)
        if decide.may_pull_again(state, tag, time)
    )


def is_finished(seen: Observation, now: datetime) -> bool:
    """Whether a rollout is complete, and no node may have to pull again later."""
    later = now + timedelta(days=1)
    return seen.rollout == "complete" and not wrong_contents(seen, time=later)


def _own_state(seen: Observation) -> State | None:
    """Return the state, if it is that of this configuration."""
    state = seen.live.state
    if state is None or state.configuration != daemonset.configuration_hash(seen.config):
        return None
    return state


def _wrong(seen: Observation) -> Iterator[tuple[State, str, Tag, str]]:
    """Yield each tag of which a node has other content, with the state, its entry and digest."""
    state = _own_state(seen)
    if state is None:
        return
    for image in seen.images:
        tag = image.tag
        if tag is None or tag.digest is None or not tag.mutated or image.is_kept:
            continue
        if any(each.image_id == "other" for each in seen.states[image.container].values()):
            yield state, image.entry, tag, tag.digest


def _found(seen: Observation, image: DesiredImage, began: Failing) -> _Found:
    states = seen.states[image.container]
    failures = {}
    for place in seen.ready:
        if place.pod is not None and states[place.node].state is ImageState.FAILING:
            failed = began[place.node, image.container, image.expected]
            cause = failure.cause(failed.reason)
            failures[place.node] = _Failure(place=place, failed=failed, cause=cause)
    return _Found(
        failures=failures,
        is_held=any(each.is_held for each in states.values()),
        is_tried=any(states[place.node].state is ImageState.PULLING for place in seen.ready),
    )


def _failing_since(pod: Pod, image: DesiredImage, now: datetime) -> datetime:
    """Return when an image can have begun to fail at the earliest.

    The kubelet pulls images and starts containers in the order of the pod. Of volumes nothing shows
    when each was pulled.
    """
    if image.is_volume:
        return now
    times = [pod.started]
    for container in pod.containers:
        if container.name == image.container:
            break
        times.append(container.running_since)
    return max((datetime.fromisoformat(time) for time in times if time), default=NOT_STARTED)


def _held(seen: Observation, state: State, found: Mapping[str, _Found]) -> Iterator[NoteHeld]:
    """Yield the tags whose previous content is not needed any more."""
    for image in seen.images:
        tag, states = image.tag, seen.states[image.container].values()
        if tag is None or not found[image.container].is_held:
            continue
        is_right = any(each.is_held and each.image_id != "other" for each in states)
        if is_right and any(each.name == tag.name for each in state.entries[image.entry].previous):
            yield NoteHeld(entry=image.entry, tag=tag.name, digest=tag.digest, pushed=tag.time)


def _proven(seen: Observation, state: State) -> Iterator[NoteProven]:
    """Yield the images with a container of their own that every node holds which tried them."""
    unable = _unable(seen)
    tried = [place.node for place in seen.ready if place.node not in unable]
    for image in seen.images:
        if image.is_volume and not image.is_common and image.image not in state.holding.proven:
            states = seen.states[image.container]
            if tried and all(states[node].is_held for node in tried):
                yield NoteProven(image.image)


def _apart(
    seen: Observation, state: State, found: Mapping[str, _Found], now: datetime
) -> Iterator[HoldApart]:
    """Yield the images that must not be in the common container, because they fail on a node."""
    for image in seen.images:
        failures = found[image.container].failures.values()
        is_proven = image.image in state.holding.proven
        delays = image.is_common and any(_delays_others(seen, each, now) for each in failures)
        if delays or (is_proven and failures):
            yield HoldApart(image.image)


def _delays_others(seen: Observation, found: _Failure, now: datetime) -> bool:
    """Whether an image that fails on a node keeps images that the node has from being held.

    A registry that does not answer for a moment starts no rollout, and neither does a full disk.
    """
    if found.cause in _ABOUT_IMAGE:
        return True
    states = (each[found.place.node].state for each in seen.states.values())
    return (
        found.cause is Cause.TRANSIENT
        and found.is_lasting(now)
        and any(each in (ImageState.HELD, ImageState.ON_NODE) for each in states)
    )


def _quarantined(
    seen: Observation, state: State, found: Mapping[str, _Found], now: datetime
) -> Iterator[QuarantineTag]:
    """Yield the tags that fail on every node that tried them, if going back helps."""
    for image in seen.images:
        tag, each = image.tag, found[image.container]
        if tag is None or image.is_kept or each.is_tried or not each.is_lasting(now):
            continue
        failures = [one for one in each.failures.values() if one.cause in _ABOUT_IMAGE]
        first = min(failures, key=lambda one: one.failed.since)
        entry = state.entries[image.entry]
        previous = [one for one in entry.previous if one.name == tag.name]
        is_configured = tag.name == seen.config.entry(image.entry).tag
        helps = bool(previous) or (not is_configured and _something_is_held(seen, failures))
        if helps and _is_everywhere(seen, failures):
            yield QuarantineTag(
                entry=image.entry,
                tag=tag.name,
                digest=tag.digest,
                pushed=tag.time,
                since=first.failed.since,
                reason=first.failed.reason,
                pulled=not failure.is_pull(first.failed.reason),
                is_shown=first.cause is Cause.PLATFORM or not failure.is_pull(first.failed.reason),
                back_to=_on_nodes(seen, image, previous),
            )


def _on_nodes(seen: Observation, image: DesiredImage, previous: Sequence[Tag]) -> str | None:
    """Return the digest of the newest previous content that a node has, if there is one."""
    repository = parse(image.image).name
    for tag in reversed(previous):
        name = f"{repository}@{tag.digest}"
        if tag.digest is not None and any(
            (place.facts is not None and name in place.facts.images)
            or (place.pod is not None and _runs(place.pod, image.container, tag.digest))
            for place in seen.places
        ):
            return tag.digest
    return None


def _runs(pod: Pod, name: str, digest: str) -> bool:
    """Whether a pod, maybe of an older template, has a running container of this content."""
    container = pod.holder(name)
    is_running = container is not None and container.running_since is not None
    return is_running and pod.digests.get(name) == digest


def _is_everywhere(seen: Observation, failures: Collection[_Failure]) -> bool:
    """Whether nodes of each architecture tried an image that fails on an architecture."""
    if all(each.cause is Cause.IMAGE for each in failures):
        return True
    tried = {_architecture(each.place) for each in failures}
    return all(_architecture(place) in tried for place in seen.ready)


def _something_is_held(seen: Observation, failures: Collection[_Failure]) -> bool:
    """Whether another image is held where this one fails. Otherwise the node may be the reason."""
    nodes = {each.place.node for each in failures}
    return any(
        states[node].is_held for states in seen.states.values() for node in nodes if node in states
    )


def _can_fill(seen: Observation, now: datetime) -> bool:
    """Whether the pods that hold nothing may be replaced by pods with images.

    All that are not ready are then replaced at once, and a node that joins later pulls at once. So
    nodes that are joining count. Those that don't get ready, and joins without an end, do not.
    """
    if not seen.ready or not (seen.is_complete or seen.has_reached_all):
        return False
    pods = {
        pod.node: datetime.fromisoformat(pod.created)
        for pod in sorted(seen.live.pods, key=lambda pod: pod.created or "")
        if pod.created is not None
    }
    is_long = any(
        seen.runs_template(place) and now - pods.get(place.node, now) >= _LONG_JOINS
        for place in seen.ready
    )
    expected = (place for place in seen.places if place.is_expected)
    return is_long or not any(_joins(seen, place, pods.get(place.node), now) for place in expected)


def _joins(seen: Observation, place: Place, pod: datetime | None, now: datetime) -> bool:
    """Whether a node, or one that was created with it, may get a ready pod soon.

    `pod` is when the pod of the node was created, or None where it has none.
    """
    node = None if place.facts is None else place.facts.created
    if seen.runs_template(place):
        return node is not None and now - node < _BURST
    is_ready = place.facts is None or place.facts.is_ready
    since = pod if is_ready else node
    return since is not None and now - since < _LASTING


def _seeds_hold(seen: Observation, state: State, stuck: Collection[str], now: datetime) -> bool:
    """Whether no node has to wait for the seeds any more.

    Nodes that are in the way are no seeds. What the seeds pull again has to be on them first. The
    wait ends in any case, for example where a pull does not end.
    """
    usable = [place for place in seen.ready if place.node not in stuck]
    held = sum(seen.runs_template(place) for place in usable)
    wanted = max(1, min(seen.config.rollout_seed_nodes, len(usable)))
    is_long = state.changed is not None and now - state.changed >= _LONG
    hold = held >= wanted and not wrong_contents(seen, time=now)
    return hold or seen.has_reached_all or is_long


def _changes_soon(seen: Observation, state: State, now: datetime) -> bool:
    """Whether the next template is due soon. Nodes that pull then would not wait for its seeds."""
    is_pending = seen.rollout == "pending"
    return is_pending and rollout.due(seen.config, state, now) - now < _SOON


def _max_unavailable(seen: Observation, state: State, stuck: Collection[str]) -> int | None:
    """Return the bound of nodes that change at once, raised by those that are in the way.

    It is not lowered before all nodes have tried the template, so that it does not flap.
    """
    expected = [place for place in seen.places if place.is_expected]
    if state.seeding is not None:
        wanted = rollout.seeds_at_once(seen.config, len(expected)) + len(stuck)
        return max(wanted, state.max_unavailable or 0)
    bound = rollout.most_at_once(seen.config, len(expected))
    if bound >= len(expected):
        return None
    raised = bound + len(stuck) if stuck else None
    is_settled = all(place.node in stuck or seen.runs_template(place) for place in expected)
    if is_settled or state.max_unavailable is None:
        return raised
    return max(raised or 0, state.max_unavailable)


def _stuck(
    seen: Observation, state: State, found: Mapping[str, _Found], now: datetime
) -> frozenset[str]:
    """Return the nodes that are in the way of a rollout.

    While others wait for the seeds, these are also nodes that are not ready or have no room.
    """
    expected = [place for place in seen.places if place.is_expected]
    stuck = {place.node for place in expected if _is_stuck(seen, place, found, now)}
    if state.seeding is not None:
        able = {place.node for place in seen.ready} - _unable(seen)
        stuck |= {place.node for place in expected if place.node not in able}
    return frozenset(stuck)


def _unable(seen: Observation) -> frozenset[str | None]:
    """Return the nodes whose pod has no room, or has failed."""
    return frozenset(pod.node for pod in seen.live.pods if pod.unscheduled or pod.failed)


def _is_stuck(seen: Observation, place: Place, found: Mapping[str, _Found], now: datetime) -> bool:
    """Whether a node has done all it can, and its pod can't become ready because images fail.

    What fails with a transient cause on all nodes that tried it does not count: other nodes would
    only lose what they hold.
    """
    if place.pod is None or place.pod.is_ready or not seen.has_template(place.pod):
        return False
    states = {container: each[place.node].state for container, each in seen.states.items()}
    failing = [container for container, each in states.items() if each is ImageState.FAILING]
    is_settled = all(each in (ImageState.HELD, ImageState.FAILING) for each in states.values())
    return (
        is_settled
        and bool(failing)
        and all(_is_lasting_on(found[container], place, now) for container in failing)
    )


def _is_lasting_on(found: _Found, place: Place, now: datetime) -> bool:
    if found.is_lasting(now):
        return True
    own = found.failures.get(place.node)
    if own is None or not own.is_lasting(now):
        return False
    return found.is_held or own.cause is not Cause.TRANSIENT


def _architecture(place: Place) -> str | None:
    return None if place.facts is None else place.facts.labels.get(_ARCHITECTURE)
