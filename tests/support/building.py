"""Builds the values that tests of pure modules use: configurations, times, digests, changes."""

from datetime import UTC, datetime, timedelta

from image_puller.config.configuration import Config, from_environ
from image_puller.core import decide
from image_puller.core.changes import Change, TrackTag, UntrackTag
from image_puller.core.daemonset import configuration_hash
from image_puller.core.state import State

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def configuration(**environ: str) -> Config:
    """Return the configuration of these variables. By default, `IMAGES` has one versioned image."""
    defaults = {"IMAGES": "app=quay.io/org/app:1.2.3", "ASK_REGISTRIES": "false"}
    return from_environ(defaults | environ)


def at(seconds: float) -> datetime:
    """Return the time some seconds after `NOON`."""
    return NOON + timedelta(seconds=seconds)


def digest(number: int) -> str:
    """Return the digest with this number."""
    return f"sha256:{number:064x}"


def push(
    tag: str,
    number: int | None,
    *,
    seconds: float = 0,
    entry: str = "app",
    own_clock: bool = False,
) -> TrackTag:
    """Return a push of a tag, with the digest of that number or none."""
    content = None if number is None else digest(number)
    return TrackTag(entry=entry, tag=tag, digest=content, time=at(seconds), own_clock=own_clock)


def deletion(
    tag: str | None,
    number: int | None = None,
    *,
    seconds: float = 0,
    own_clock: bool = False,
    with_all_tags: bool = False,
) -> UntrackTag:
    """Return a deletion of a tag, of the digest with that number, or of the repository."""
    content = None if number is None else digest(number)
    return UntrackTag(
        entry="app",
        tag=tag,
        digest=content,
        time=at(seconds),
        own_clock=own_clock,
        with_all_tags=with_all_tags,
    )


def state_of(config: Config, *changes: Change) -> State:
    """Return the state of a new DaemonSet after these changes."""
    fresh = decide.adopt(config, State(configuration=""), configuration_hash(config))
    return decide.apply(config, fresh, changes)[0]
