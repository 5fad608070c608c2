"""What a request's events become: matched, completed at the registry, and committed together."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.controller.commits import Commits
from image_puller.controller.metrics import Metrics
from image_puller.core import verification
from image_puller.core.changes import Change
from image_puller.core.decide import Outcome
from image_puller.core.matching import Refusal, match
from image_puller.core.verification import Trust
from image_puller.events.event import Event, in_milliseconds
from image_puller.registries.lookup import Lookup
from image_puller.values.answers import Answer
from image_puller.values.reference import Reference

log = logging.getLogger(__name__)


class Intake:
    """The way of every event.

    `lookup` is None where no registry may be asked. `follow_up` is told what was committed, to go
    on with what needs a later look.
    """

    def __init__(
        self,
        config: Config,
        commits: Commits,
        metrics: Metrics,
        *,
        lookup: Lookup | None = None,
        follow_up: Callable[[Sequence[Change], Sequence[Outcome]], None] = lambda *_: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._config = config
        self._commits = commits
        self._metrics = metrics
        self._lookup = lookup
        self._follow_up = follow_up
        self._now = now

    def accept(
        self,
        source: str,
        events: Sequence[Event],
        *,
        patience: float,
        is_trusted: bool = True,
    ) -> None:
        """Returns once all that the events ask for is kept for good.

        A sender without proof is not trusted: it may say when to look, never what to pull.
        Raises ClusterUnavailableError where that takes more than `patience` seconds.
        """
        deadline = time.monotonic() + patience
        changes = self._settled(
            source,
            self._matched(source, events),
            self._trust(is_trusted=is_trusted),
            patience * limits.PATIENCE_FOR_REGISTRY,
        )
        if changes:
            outcomes = self._commits.commit(source, changes, patience=deadline - time.monotonic())
            self._follow_up(changes, outcomes)

    def _matched(self, source: str, events: Sequence[Event]) -> list[Change]:
        received = self._now()
        changes: list[Change] = []
        for event in events:
            asked = match(self._config, source, event, received=received)
            if isinstance(asked, Refusal):
                self._metrics.count_event(source, asked.reason)
                log.info("%s: ignored, %s", source, asked.detail or asked.reason)
            else:
                changes.extend(asked)
        return changes

    def _trust(self, *, is_trusted: bool) -> Trust:
        if not is_trusted:
            return Trust.HINT
        return Trust.CONFIRMED if self._config.verify_pushes else Trust.WORD

    def _settled(
        self, source: str, changes: Sequence[Change], trust: Trust, seconds: float
    ) -> tuple[Change, ...]:
        """The changes as far as their registries confirm and complete them."""
        asked = in_milliseconds(self._now())
        answers: Mapping[Reference, Answer] = {}
        references = verification.questions(self._config, changes, trust)
        if self._lookup is not None and references:
            answers = self._lookup.digests(references, seconds=seconds)
            for reason in verification.reasons(answers):
                log.warning("%s: %s", source, reason)
        return verification.settle(self._config, changes, trust, answers, asked=asked)
