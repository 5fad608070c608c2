"""When the template may change, and the state once it has. Pure."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from image_puller.config.configuration import Config
from image_puller.core.daemonset import (
    container_count,
    desired_images,
    structure_hash,
    template_hash,
)
from image_puller.core.state import EntryState, Seeding, State


def is_pending(config: Config, state: State) -> bool:
    """Whether the live template differs from the state's, and is not known to be blocked."""
    wanted = template_hash(config, state)
    return state.template != wanted and (state.blocked is None or state.blocked.template != wanted)


def needs_trial(config: Config, state: State) -> bool:
    """Whether a pod of the state's template must be tried before the template is applied.

    That is so where the template asks for more than the live one, or has another structure. Where
    one tag only replaces another, the pods stay as they are admitted now.
    """
    if state.structure != structure_hash(config, by_volumes=state.holding.by_volumes):
        return True
    return container_count(config, state) > state.containers


def due(config: Config, state: State, now: datetime) -> datetime:
    """Return when the template may change next. The first change may come at once.

    A last change that lies in the future by more than the interval is ignored: clocks differ.
    """
    if state.changed is None or state.changed > now + config.rollout_min_interval:
        return now
    return state.changed + config.rollout_min_interval


def most_at_once(config: Config, nodes: int) -> int:
    """Return how many of so many nodes may change at once by `ROLLOUT_MAX_UNAVAILABLE`.

    As Kubernetes does, round a percentage up.
    """
    bound = config.rollout_max_unavailable
    if isinstance(bound, int):
        return bound
    return max(1, -(-int(bound.removesuffix("%")) * nodes // 100))


def seeds_at_once(config: Config, nodes: int) -> int:
    """Return how many of so many nodes may change at once before the seeds hold everything.

    100% bounds nothing, so the number of nodes need not be known for it.
    """
    seeds = config.rollout_seed_nodes
    if config.rollout_max_unavailable == "100%":
        return seeds
    return min(seeds, most_at_once(config, nodes))


def emptied(config: Config, state: State) -> State:
    """Return the state of a DaemonSet with seeds and no pod: at first its pods hold nothing.

    The DaemonSet controller creates the pods of all nodes at once. It also replaces all pods that
    are not ready at once, so the images have to wait until these pods are ready.
    """
    if not config.rollout_seed_nodes:
        return state
    return replace(state, seeding=Seeding.EMPTY, max_unavailable=None)


def advance(config: Config, state: State, now: datetime, *, nodes: int = 0) -> State:
    """Return the state once its template is live. `nodes` is their number, or 0 if it is not known.

    With seeds, all other nodes wait for them from now on.
    """
    written = replace(
        state,
        structure=structure_hash(config, by_volumes=state.holding.by_volumes),
        template=template_hash(config, state),
        containers=container_count(config, state),
        blocked=None,
    )
    if state.seeding is Seeding.EMPTY:
        return replace(written, containers=0)
    if config.rollout_seed_nodes:
        bound = seeds_at_once(config, nodes)
        written = replace(written, seeding=Seeding.SEEDS, max_unavailable=bound)
    return replace(
        written,
        changed=now,
        entries={name: _with_live_tags(config, name, e) for name, e in state.entries.items()},
    )


def pull_unqueryable(
    config: Config, state: State, now: datetime, unqueryable: Collection[tuple[str, str]]
) -> State:
    """Return the state in which nodes pull mutable tags again that no registry answers about.

    `unqueryable` has those tags by entry and name. They are pulled again at most once per
    `CACHING_INTERVAL_HOURS`. Every change of the template makes nodes pull mutable tags, so the
    time of the last change counts.
    """
    if state.changed is None or now < state.changed + config.caching_interval:
        return state
    mutable = {(i.entry, i.name) for i in desired_images(config, state) if i.always}
    return replace(state, pulled_again_at=now) if mutable.intersection(unqueryable) else state


def _with_live_tags(config: Config, name: str, entry: EntryState) -> EntryState:
    if entry.live_tags is None and entry.refuses(config.entry(name).configured):
        return entry
    return replace(entry, live_tags=entry.tags)
