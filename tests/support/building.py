"""Values that the tests of the pure modules are built from."""

from datetime import UTC, datetime, timedelta

from image_puller.config.configuration import Config, from_environ
from image_puller.core import decide
from image_puller.core.changes import Change, TrackTag, UntrackTag
from image_puller.core.daemonset import configuration_hash
from image_puller.core.state import State

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def configuration(**environ: str) -> Config:
    """The configuration of these variables; one versioned image unless `IMAGES` says otherwise."""
    basis = {"IMAGES": "app=quay.io/org/app:1.2.3", "ASK_REGISTRIES": "false"}
    return from_environ(basis | environ)


def at(seconds: float) -> datetime:
    """So many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def digest(number: int) -> str:
    """One of several digests."""
    return f"sha256:{number:064x}"


def push(tag: str, number: int | None, *, seconds: float = 0, entry: str = "app") -> TrackTag:
    """A push of a tag, with the digest of that number or none."""
    content = None if number is None else digest(number)
    return TrackTag(entry=entry, tag=tag, digest=content, time=at(seconds))


def deletion(tag: str | None, number: int | None = None, *, seconds: float = 0) -> UntrackTag:
    """A deletion, of a tag, of the digest of that number, or of all."""
    content = None if number is None else digest(number)
    return UntrackTag(entry="app", tag=tag, digest=content, time=at(seconds))


def state_of(config: Config, *changes: Change) -> State:
    """The state of a new DaemonSet after these changes."""
    fresh = decide.adopt(config, State(configuration=""), configuration_hash(config))
    return decide.apply(config, fresh, changes)[0]
