"""The checks: of the DaemonSet and the registries, of unverified pushes, and of rollouts."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from typing import Any

from image_puller import limits
from image_puller.cluster.observer import Observer
from image_puller.cluster.shared_read import SharedRead
from image_puller.config.configuration import Config
from image_puller.controller.clock import Clock
from image_puller.controller.metrics import Metrics
from image_puller.controller.problem_tracker import ProblemTracker
from image_puller.controller.progress_tracker import ProgressTracker
from image_puller.controller.pull_times import PullTimes
from image_puller.controller.writer import Writer
from image_puller.core import catch_up, counts, follow_up, health, problems, startup_taint, status
from image_puller.core.catch_up import Findings, Question
from image_puller.core.changes import Change, CheckDaemonSet
from image_puller.core.counts import Counts
from image_puller.core.decide import STARTS_ROLLOUT, Outcome
from image_puller.core.health import HealthChange
from image_puller.core.observation import Observation
from image_puller.core.page import Seen
from image_puller.core.problems import Kind, Problem
from image_puller.core.state import State
from image_puller.registries.lookup import Lookup
from image_puller.values.answers import Answer, OtherArtifact, Present, Unanswered
from image_puller.values.reference import Reference

SOURCE = "check"
"""The source under which the changes of checks are counted."""

_NOT_ASKED = Unanswered("no registry is asked (ASK_REGISTRIES)", is_unqueryable=True)


class RolloutProgress(Enum):
    """What a check of a rollout found."""

    FINISHED = auto()
    WAITS = auto()
    SEEDS = auto()
    """Nodes wait for the seeds. They follow when a check finds that they may."""
    JOINING = auto()
    """A node has the startup taint, and loses it when a check finds that it may."""
    CHANGED = auto()
    """The check changed something, so nodes change soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """What is told of each observation that the checks make, and of the checks themselves.

    `on_health` is told that the group is degraded or restored. Without it, nobody notes that.
    `on_observation` gets each observation, or None while another process is in charge.
    """

    problems: ProblemTracker
    progress: ProgressTracker
    pulls: PullTimes
    metrics: Metrics
    on_health: Callable[[HealthChange], None] | None = None
    on_observation: Callable[[Observation | None], None] | None = None


class Checks:
    """The checks of one process. Every method may raise ImagePullerError.

    `lookup` is None where no registry may be asked.
    """

    def __init__(
        self,
        config: Config,
        observer: Observer,
        writer: Writer,
        lookup: Lookup | None,
        clock: Clock,
        reports: Reports,
    ) -> None:
        self._config = config
        self._observer = observer
        self._writer = writer
        self._lookup = lookup
        self._clock = clock
        self._reports = reports
        self._observed = SharedRead(self._reported)
        self._counted: tuple[Counts | None, float] | None = None
        """The numbers of the last observation, and until when scrapes show them."""
        self._was_finished = False
        self._failing: follow_up.Failing = {}
        self._from_catch_up: tuple[str, ...] = ()
        self._knows_registries = lookup is None
        self._from_verification: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what the last checks found wrong at registries, each problem once."""
        return tuple(dict.fromkeys((*self._from_catch_up, *self._from_verification)))

    def status(self) -> dict[str, Any]:
        """Return the status as JSON."""
        seen, found = self._observe()
        return status.described(seen, found)

    def counts(self) -> Counts | None:
        """Return the numbers of what was true a moment ago, so that scrapes cost little.

        The observation itself is not kept: it is large.
        """
        counted = self._counted
        if counted is not None and self._clock.monotonic() < counted[1]:
            return counted[0]
        return counts.of(self._observe()[0])

    def seen(self) -> Seen:
        """Return what is known now, for the status page."""
        seen, found = self._observe()
        return Seen(observation=seen, problems=found, failing=self._failing)

    def full(self, seconds: float, *, asks_if_new: bool = False) -> bool:
        """Ask registries for missed pushes, then repair the DaemonSet whatever they answered.

        `seconds` bounds the questions. With `asks_if_new`, registries are asked only where there is
        no DaemonSet yet. Return whether the answers start a rollout.
        """
        findings, starts_rollout, is_finished = Findings(), False, False
        try:
            try:
                state = self._observer.state()
                if not asks_if_new or state.changed is None:
                    findings = self._catch_up(state, seconds)
            finally:
                changes = (CheckDaemonSet(findings.unqueryable), *findings.changes)
                starts_rollout = self._commit(changes)
            is_finished = True
        finally:
            group, now = self._config.group, self._clock.now()
            self._reports.metrics.note_check(group, now, is_finished=is_finished)
        return starts_rollout

    def unverified_pushes(self) -> bool:
        """Ask registries about unverified pushes. Return whether there were any."""
        asked_at, state = self._clock.now(), self._observer.state()
        questions = catch_up.unverified(self._config, state)
        findings = Findings()
        if questions:
            answers = self._ask(state, questions, limits.VERIFICATION_SECONDS)
            findings = catch_up.findings(self._config, state, questions, answers, time=asked_at)
        self._from_verification = findings.reasons
        self._commit_any(findings)
        return bool(questions)

    def repositories(self, names: Collection[Reference]) -> None:
        """Ask registries for missed pushes in some repositories."""
        if self._lookup is not None:
            self._commit_any(self._found(self._observer.state(), limits.CHECK_SECONDS, names))

    def doubtful(self, tags: Collection[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Ask registries about tags, each given as its entry and its name, whose order is in doubt.

        Return the tags to ask about again.
        """
        if self._lookup is None:
            return frozenset()
        asked_at, state = self._clock.now(), self._observer.state()
        questions = catch_up.doubtful(self._config, tags)
        answers = self._ask(state, questions, limits.VERIFICATION_SECONDS)
        self._commit_any(
            catch_up.findings(
                self._config, state, questions, answers, time=asked_at, are_decisive=True
            )
        )
        return catch_up.still_doubtful(self._config, state, tags, answers)

    def rollout(self) -> RolloutProgress:
        """Compare what nodes have with what was pushed, and change what does not go on.

        Nodes that can be compared do not wait for others.
        """
        now = self._clock.now()
        # A read that began before the last commit would show the rollout before it.
        seen, found = self._observed.get_new()
        progress = self._follow_up(seen, now)
        self._note_health(seen, found, now)
        self._count_pulls(seen, now)
        return progress

    def _follow_up(self, seen: Observation, now: datetime) -> RolloutProgress:
        self._failing = follow_up.failing(seen, self._failing, now)
        changes = (*follow_up.node_changes(seen, self._failing, now), *self._pulls(seen))
        if changes and self._commit(changes):
            return RolloutProgress.CHANGED
        if startup_taint.is_awaited(seen):
            return RolloutProgress.JOINING
        if seen.live.state is not None and seen.live.state.seeding is not None:
            return RolloutProgress.WAITS if seen.selects_nothing else RolloutProgress.SEEDS
        is_finished = follow_up.is_finished(seen, now)
        return RolloutProgress.FINISHED if is_finished else RolloutProgress.WAITS

    def _note_health(self, seen: Observation, found: Sequence[Problem], now: datetime) -> None:
        """Keep and tell that the first problem began, or that the last one ended.

        Of several processes, the one that changes the state tells it.
        """
        tell = self._reports.on_health
        if tell is None or self._writer.superseded is not None:
            return
        news = health.news(seen.live.state, found, now, knows_registries=self._knows_registries)
        if news is not None:
            changes = (health.note(news),)
            outcomes = self._writer.commit(SOURCE, changes, timeout=limits.CHECK_SECONDS)
            if outcomes != (Outcome.UNCHANGED,):
                tell(news)

    def _count_pulls(self, seen: Observation, now: datetime) -> None:
        """Count the pulls of a rollout that goes on, or that has ended since the last check."""
        was_finished, self._was_finished = self._was_finished, follow_up.is_finished(seen, now)
        if not (was_finished and self._was_finished):
            self._reports.pulls.count(seen)

    def _pulls(self, seen: Observation) -> tuple[Change, ...]:
        """Return what makes nodes pull again, of the tags whose registry shows the new content."""
        asked_at = self._clock.now()
        wrong, state = follow_up.wrong_contents(seen, time=asked_at), seen.live.state
        if not wrong or state is None:
            return ()
        asked = {pull: catch_up.question(self._config, pull.entry, pull.tag) for pull in wrong}
        answers = self._ask(state, tuple(asked.values()), limits.VERIFICATION_SECONDS)
        shown = [
            question
            for pull, question in asked.items()
            if answers[question.reference] == Present(pull.digest)
        ]
        found = catch_up.findings(self._config, state, shown, answers, time=asked_at)
        return (
            *found.changes,
            *(
                pull
                for pull, question in asked.items()
                if question in shown or _is_unqueryable(answers[question.reference])
            ),
        )

    def _observe(self) -> tuple[Observation, tuple[Problem, ...]]:
        """Return what is true in the cluster now, and all problems. Report what began or ended.

        Calls at the same time share one observation, so they are reported in their order.
        """
        return self._observed.get()

    def _reported(self) -> tuple[Observation, tuple[Problem, ...]]:
        seen, superseded = self._observer.observe(), self._writer.superseded
        until = self._clock.monotonic() + limits.OBSERVED_SECONDS
        self._counted = counts.of(seen), until
        found = problems.of_process(Kind.REGISTRY, self.problems)
        if superseded is not None:
            # Another process reports the problems of the configuration in charge.
            mine = (*problems.of_process(Kind.SUPERSEDED, [superseded]), *found)
            self._reports.problems.update(mine)
            self._tell(None)
            return seen, (*mine, *problems.find(seen))
        found = (*found, *problems.find(seen))
        self._reports.problems.update(found)
        self._reports.progress.note(seen)
        self._tell(seen)
        return seen, found

    def _tell(self, seen: Observation | None) -> None:
        if self._reports.on_observation is not None:
            self._reports.on_observation(seen)

    def _catch_up(self, state: State, seconds: float) -> Findings:
        findings = self._found(state, seconds)
        if self._lookup is not None:
            self._from_catch_up = findings.reasons
            self._knows_registries = True
        return findings

    def _found(
        self, state: State, seconds: float, only: Collection[Reference] | None = None
    ) -> Findings:
        """Return what registries answer about all repositories, or only about some of them."""
        deadline, asked_at = self._clock.monotonic() + seconds, self._clock.now()
        listings: catch_up.Listings = {}
        if self._lookup is not None:
            repositories = catch_up.repositories(self._config, only)
            listings = self._lookup.tags(repositories, seconds=seconds / 2)
        questions: dict[Question, None] = {}
        answers: dict[Reference, Answer] = {}
        for _ in range(limits.ROUNDS):
            others = [name for name, each in answers.items() if isinstance(each, OtherArtifact)]
            wanted = catch_up.questions(self._config, state, listings, only, others)
            questions |= dict.fromkeys(wanted)
            new = [question for question in wanted if question.reference not in answers]
            if not new:
                break
            answers |= self._ask(state, new, deadline - self._clock.monotonic())
        asked = [question for question in questions if question.reference in answers]
        findings = catch_up.findings(self._config, state, asked, answers, time=asked_at)
        return replace(findings, reasons=(*catch_up.unlisted(listings), *findings.reasons))

    def _ask(
        self, state: State, questions: Sequence[Question], seconds: float
    ) -> Mapping[Reference, Answer]:
        references = [question.reference for question in questions]
        if self._lookup is None:
            return dict.fromkeys(references, _NOT_ASKED)
        return self._lookup.digests(references, seconds=seconds, images=catch_up.images(state))

    def _commit_any(self, findings: Findings) -> None:
        if findings.changes:
            self._commit(findings.changes)

    def _commit(self, changes: Sequence[Change]) -> bool:
        """Commit changes. Return whether they start a rollout."""
        outcomes = self._writer.commit(SOURCE, changes, timeout=limits.CHECK_SECONDS)
        return any(outcome in STARTS_ROLLOUT for outcome in outcomes)


def _is_unqueryable(answer: Answer) -> bool:
    return isinstance(answer, Unanswered) and answer.is_unqueryable
