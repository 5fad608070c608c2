"""The looks that nobody waits for: at start, at each tick, and at what earlier ones left open.

A look asks registries about everything that may have been missed, and has the DaemonSet repaired.
Between them, unverified pushes are asked about again, and a rollout of a moved tag is followed to
its end, to see that nodes got the content that was meant.
"""

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from image_puller import catch_up, limits
from image_puller.catch_up import Findings, Question
from image_puller.commits import Commits
from image_puller.config import Config
from image_puller.decide import Outcome
from image_puller.errors import ImagePullerError
from image_puller.events import in_milliseconds
from image_puller.lookup import Answer, Lookup, Unanswered
from image_puller.matching import Change, Hold, Refresh, RollAgain
from image_puller.reference import Reference
from image_puller.state import State

log = logging.getLogger(__name__)

SOURCE = "timer"
"""What its changes are counted under."""

_NOT_ASKED = Unanswered("no registry is asked (ASK_REGISTRIES)")
_ROLLING = (Outcome.MOVED, Outcome.ROLLED_AGAIN)


class Observer(Protocol):
    """What a look reads of the cluster; each method may raise ImagePullerError."""

    def state(self) -> State:
        """What is remembered, under the configuration of this process."""

    def others(self) -> tuple[RollAgain, ...]:
        """The tags of which nodes have another content than they should."""

    def is_rolled_out(self) -> bool:
        """Whether no node has yet to start what it should have."""


@dataclass(slots=True)
class _Pace:
    """When to try again: soon at first, then after twice the time, and so on."""

    most: float
    due: float | None = None
    _step: float = field(default=limits.FIRST_FOLLOW_UP_SECONDS)

    def begin(self) -> None:
        self._step = limits.FIRST_FOLLOW_UP_SECONDS
        self.due = time.monotonic() + self._step

    def go_on(self) -> None:
        """The next time; none after the longest."""
        self._step *= 2
        self.due = time.monotonic() + self._step if self._step <= self.most else None

    def end(self) -> None:
        self.due = None

    def is_due(self) -> bool:
        return self.due is not None and self.due <= time.monotonic()


class Ticker:
    """Looks in a thread of its own between `start` and `stop`.

    With `ticks` it looks every ten minutes; elsewhere others send ticks. `lookup` is None where no
    registry may be asked.
    """

    def __init__(
        self,
        config: Config,
        observer: Observer,
        commits: Commits,
        *,
        lookup: Lookup | None,
        ticks: bool,
    ) -> None:
        self._config = config
        self._observer = observer
        self._commits = commits
        self._lookup = lookup
        self._ticks = ticks
        self._wakes = threading.Condition()
        self._stopping = False
        self._tick: float | None = time.monotonic()
        self._not_before = 0.0
        self._verification = _Pace(most=limits.TICK_SECONDS)
        self._rollout = _Pace(most=limits.FOLLOW_UP_SECONDS)
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)
        self.problems: tuple[str, ...] = ()
        """What the last look could not learn, and why."""

    def start(self) -> None:
        """Begins with the look at start."""
        self._thread.start()

    def stop(self) -> None:
        """Asks nothing more; a look that is under way ends by itself."""
        with self._wakes:
            self._stopping = True
            self._wakes.notify()

    def follow_up(self, changes: Iterable[Change], outcomes: Sequence[Outcome]) -> None:
        """Goes on soon with what was committed and is not finished by that."""
        with self._wakes:
            for change, outcome in zip(changes, outcomes, strict=True):
                if isinstance(change, Refresh):
                    self._tick_soon()
                if isinstance(change, Hold):
                    self._verification.begin()
                if outcome in _ROLLING:
                    self._rollout.begin()
            self._wakes.notify()

    def _tick_soon(self) -> None:
        soon = max(time.monotonic(), self._not_before)
        self._tick = soon if self._tick is None else min(self._tick, soon)

    def _run(self) -> None:
        seconds = limits.FIRST_LOOK_SECONDS
        while self._wait():
            try:
                if self._tick is not None and self._tick <= time.monotonic():
                    self._not_before = time.monotonic() + limits.LOOKS_APART_SECONDS
                    self._tick = time.monotonic() + limits.TICK_SECONDS if self._ticks else None
                    self._look(seconds)
                    seconds = limits.LOOK_SECONDS
                elif self._verification.is_due():
                    self._verify()
                else:
                    self._compare()
            except ImagePullerError as error:
                log.warning("the look could not be finished: %s", error)
            except Exception:
                if self._stopping:  # nobody is left to ask, or to commit
                    return
                # The health check must outlive whatever it finds.
                log.exception("the look failed")

    def _wait(self) -> bool:
        """Until something is due; False where the service stops."""
        with self._wakes:
            while not self._stopping:
                dues = (self._tick, self._verification.due, self._rollout.due)
                due = min((each for each in dues if each is not None), default=None)
                if due is not None and due <= time.monotonic():
                    return True
                self._wakes.wait(None if due is None else due - time.monotonic())
            return False

    def _look(self, seconds: float) -> None:
        """Asks about everything, and has the DaemonSet repaired whatever the answers are."""
        findings = Findings(changes=(), unanswered=frozenset(), reasons=())
        try:
            findings = self._catch_up(seconds)
        finally:
            self._commit((Refresh(findings.unanswered), *findings.changes))
        if self._rollout.due is None:
            self._rollout.begin()

    def _catch_up(self, seconds: float) -> Findings:
        deadline = time.monotonic() + seconds
        asked_at, state = _now(), self._observer.state()
        listings: catch_up.Listings = {}
        if self._lookup is not None:
            repositories = catch_up.repositories(self._config)
            listings = self._lookup.tags(repositories, seconds=seconds / 2)
        asked = catch_up.questions(self._config, state, listings)
        answers = self._ask(asked, deadline - time.monotonic())
        findings = catch_up.findings(self._config, state, asked, answers, time=asked_at)
        if self._lookup is not None:
            self.problems = (*catch_up.unlisted(listings), *findings.reasons)
        for problem in self.problems:
            log.warning("%s", problem)
        if catch_up.unverified(self._config, state):
            self._verification.begin()
        return findings

    def _verify(self) -> None:
        """Asks once more about pushes that nobody has confirmed."""
        self._verification.go_on()
        asked_at, state = _now(), self._observer.state()
        asked = catch_up.unverified(self._config, state)
        if not asked:
            self._verification.end()
            return
        answers = self._ask(asked, limits.LOOK_SECONDS)
        findings = catch_up.findings(self._config, state, asked, answers, time=asked_at)
        if findings.changes:
            self._commit(findings.changes)

    def _compare(self) -> None:
        """Sees whether nodes have what was meant, once the rollout is over."""
        self._rollout.go_on()
        is_last_time = self._rollout.due is None
        if not self._observer.is_rolled_out() and not is_last_time:
            return
        self._rollout.end()
        if others := self._observer.others():
            self._commit(others)

    def _ask(self, asked: Sequence[Question], seconds: float) -> Mapping[Reference, Answer]:
        references = [question.reference for question in asked]
        if self._lookup is None:
            return dict.fromkeys(references, _NOT_ASKED)
        return self._lookup.digests(references, seconds=seconds)

    def _commit(self, changes: Sequence[Change]) -> None:
        outcomes = self._commits.commit(SOURCE, changes, patience=limits.TICK_SECONDS)
        if any(outcome in _ROLLING for outcome in outcomes):
            self._rollout.begin()


def _now() -> datetime:
    return in_milliseconds(datetime.now(UTC))
