"""The health of a group: degraded while it has problems. The state keeps it over restarts. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from image_puller.core.changes import NoteHealth
from image_puller.core.problems import Problem
from image_puller.core.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Degraded:
    """The first problem of a group began. `problems` has all that were found with it."""

    since: datetime
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The last problem of a group ended. It was degraded since `since`, for so many seconds."""

    since: datetime
    seconds: float


HealthChange = Degraded | Restored


def news(
    state: State | None, problems: Sequence[Problem], now: datetime, *, knows_registries: bool
) -> HealthChange | None:
    """Return what changed since the state was written, or None.

    A process that does not know yet whether registries answer finds no group restored.
    """
    if state is None:
        return None
    since = state.degraded_since
    if since is None:
        return Degraded(since=now, problems=tuple(problems)) if problems else None
    if problems or not knows_registries:
        return None
    return Restored(since=since, seconds=max((now - since).total_seconds(), 0.0))


def note(change: HealthChange) -> NoteHealth:
    """Return the change of the state that keeps it. Of several processes one makes it."""
    return NoteHealth(change.since if isinstance(change, Degraded) else None)
