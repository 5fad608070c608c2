"""What is asked for is committed, and what became of it is counted and told in a line each."""

import logging
from collections.abc import Sequence
from typing import assert_never

from image_puller.controller.metrics import Metrics
from image_puller.controller.writer import Outcomes, Writer
from image_puller.core.changes import (
    Change,
    Confirm,
    Follow,
    Forget,
    Found,
    Hold,
    Refresh,
    RollAgain,
)
from image_puller.core.decide import Outcome

log = logging.getLogger(__name__)


class Commits:
    """The way of every change, from wherever it came, to the one writer."""

    def __init__(self, writer: Writer, metrics: Metrics) -> None:
        self._writer = writer
        self._metrics = metrics

    def commit(self, source: str, changes: Sequence[Change], *, patience: float) -> Outcomes:
        """What became of the changes, once all of it is kept for good.

        Raises ClusterUnavailableError where that takes more than `patience` seconds.
        """
        outcomes = self._writer.submit(changes, patience=patience)
        for change, outcome in zip(changes, outcomes, strict=True):
            self._metrics.count_event(source, outcome)
            is_news = not isinstance(change, Found) or outcome is not Outcome.UNCHANGED
            log.log(
                logging.INFO if is_news else logging.DEBUG,
                "%s: %s %s",
                source,
                _subject(change),
                outcome,
            )
        return outcomes


def _subject(change: Change) -> str:
    """What a change is about, for the log."""
    match change:
        case Follow() | Forget() | Found() | RollAgain():
            return " ".join(filter(None, (change.entry, change.tag, change.digest)))
        case Hold():
            return f"{change.entry} {change.tag} ({change.reason})"
        case Confirm() | Refresh():
            return "DaemonSet"
        case _:
            assert_never(change)
