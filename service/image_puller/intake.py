"""What a request's events become: matched, committed together, counted, and one log line each."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import assert_never

from image_puller.config import Config
from image_puller.events import Event, ImageDeleted, ImagePushed, RefreshDue
from image_puller.matching import Change, Confirm, Follow, Forget, Refresh, Refusal, match
from image_puller.metrics import Metrics
from image_puller.writer import Writer

log = logging.getLogger(__name__)


class Intake:
    """The way of every event, from wherever it came, to the one writer."""

    def __init__(
        self,
        config: Config,
        writer: Writer,
        metrics: Metrics,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._config = config
        self._writer = writer
        self._metrics = metrics
        self._now = now

    def accept(self, source: str, events: Sequence[Event], *, patience: float) -> None:
        """Returns once all that the events ask for is kept for good.

        Raises ClusterUnavailableError where that takes more than `patience` seconds.
        """
        received = self._now()
        matched = [match(self._config, source, event, received=received) for event in events]
        changes: list[Change] = []
        for asked in matched:
            if isinstance(asked, Refusal):
                self._metrics.count_event(source, asked.reason)
                log.info("%s: ignored, %s", source, asked.detail or asked.reason)
            else:
                changes.extend(asked)
        if changes:
            self._commit(source, changes, patience)

    def accept_untrusted(self, source: str, events: Sequence[Event], *, patience: float) -> None:
        """The same for a sender without proof: it may say when to look, never what to pull."""
        trusted = [event if _says_when(event) else RefreshDue() for event in events]
        self.accept(source, trusted, patience=patience)

    def _commit(self, source: str, changes: Sequence[Change], patience: float) -> None:
        for change, outcome in zip(
            changes, self._writer.submit(changes, patience=patience), strict=True
        ):
            self._metrics.count_event(source, outcome)
            log.info("%s: %s %s", source, _subject(change), outcome)


def _says_when(event: Event) -> bool:
    return not isinstance(event, ImagePushed | ImageDeleted)


def _subject(change: Change) -> str:
    """What a change is about, for the log."""
    match change:
        case Follow() | Forget():
            return " ".join(filter(None, (change.entry, change.tag, change.digest)))
        case Confirm() | Refresh():
            return "DaemonSet"
        case _:
            assert_never(change)
