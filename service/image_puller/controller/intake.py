"""The intake: it matches a request's events, asks registries, and commits the changes together."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.controller.clock import Clock
from image_puller.controller.metrics import Metrics
from image_puller.controller.places import Places
from image_puller.controller.recent import Recent
from image_puller.controller.shared_check import SharedCheck
from image_puller.controller.writer import Submitted, Writer, listed, subject
from image_puller.core import received, verification
from image_puller.core.changes import (
    AwaitVerification,
    Change,
    CheckDaemonSet,
    EnsureExists,
    RegistryAnswer,
    TrackTag,
    UntrackTag,
)
from image_puller.core.decide import Outcome
from image_puller.core.matching import (
    UNKNOWN_REPOSITORY,
    NoMatch,
    match,
    repository_to_check,
)
from image_puller.core.received import Received
from image_puller.core.verification import Trust
from image_puller.errors import ImagePullerError
from image_puller.events.event import (
    DaemonSetChanged,
    Event,
    Ignored,
    ImageDeleted,
    ImagePushed,
)
from image_puller.registries.lookup import Lookup
from image_puller.values.answers import Answer
from image_puller.values.reference import Reference

log = logging.getLogger(__name__)

SHARED = "shared_check"
"""The outcome of a request without credentials that shared the check of another one."""
OBSERVED = "observed"
"""The outcome of a change of the DaemonSet, which is observed soon."""

_CHECKS = (CheckDaemonSet, EnsureExists)


class Listener(Protocol):
    """Is told what may need a check."""

    def note_commit(self, changes: Sequence[Change], outcomes: Sequence[Outcome]) -> None:
        """Note committed changes with their outcomes."""

    def note_repository(self, name: Reference) -> None:
        """Note a repository that got a push of a tag that an entry does not track."""

    def note_progress(self) -> None:
        """Note that the DaemonSet changed, so that it is worth to observe it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Receiver:
    """A group that events are for: its configuration, its writer, and who schedules its checks."""

    config: Config
    writer: Writer
    listener: Listener | None = None

    def note(self, changes: Sequence[Change], outcomes: Sequence[Outcome]) -> None:
        """Tell the listener what was committed."""
        if self.listener is not None:
            self.listener.note_commit(changes, outcomes)

    def note_progress(self) -> None:
        """Tell the listener that the DaemonSet changed."""
        if self.listener is not None:
            self.listener.note_progress()


Asked = Mapping[Receiver, Sequence[Change]]
"""The changes that events ask for, by group."""


class Intake:
    """Takes in the events of all requests, for all groups.

    `lookup` is None where no registry may be asked. `recent` has the last pushes.
    """

    def __init__(
        self,
        receivers: Sequence[Receiver],
        metrics: Metrics,
        clock: Clock,
        *,
        verify_pushes: bool = False,
        lookup: Lookup | None = None,
    ) -> None:
        self._receivers = receivers
        self._metrics = metrics
        self._clock = clock
        self._verify_pushes = verify_pushes
        self._lookup = lookup
        self.recent = Recent()
        self._shared = {kind: SharedCheck(clock) for kind in _CHECKS}
        self._untrusted = Places(
            limits.UNTRUSTED_SENDERS,
            "requests of senders without credentials",
            reason="too_many_untrusted_senders",
        )

    def accept(
        self,
        source: str,
        events: Sequence[Event],
        *,
        timeout: float,
        is_trusted: bool = True,
    ) -> None:
        """Commit what the events ask for. After the return nothing of it can get lost.

        A sender that is not trusted only makes the service ask registries, and make a check now
        and then.
        Raises ClusterUnavailableError where the commit takes more than `timeout` seconds, and
        OverloadedError where many senders that are not trusted wait already.
        """
        with nullcontext() if is_trusted else self._untrusted.take():
            self._accept(source, events, timeout=timeout, is_trusted=is_trusted)

    def note_unreadable(self, source: str, why: str) -> None:
        """Keep for the status page that a request was ignored, because it can't be read."""
        self._note_ignored(source, "a request that can't be read", why)

    def _accept(
        self, source: str, events: Sequence[Event], *, timeout: float, is_trusted: bool
    ) -> None:
        deadline = self._clock.monotonic() + timeout
        asked = self._settled(
            source,
            self._matched(source, events),
            self._trust(is_trusted=is_trusted),
            timeout * limits.REGISTRY_SHARE_OF_TIMEOUT,
        )
        if not is_trusted:
            self._check(source, asked, deadline)
            asked = {
                receiver: tuple(each for each in changes if not isinstance(each, _CHECKS))
                for receiver, changes in asked.items()
            }
        self._commit(source, asked, deadline)

    def _commit(self, source: str, asked: Asked, deadline: float) -> None:
        """Let the writers of all groups commit at the same time, and wait for all of them.

        Where one fails, its error is raised after the others have ended. The sender's retry
        changes nothing in the groups that have committed.
        """
        submitted: dict[Receiver, Submitted] = {}
        errors: list[ImagePullerError] = []
        for receiver, changes in asked.items():
            if changes:
                try:
                    submitted[receiver] = receiver.writer.submit(source, changes)
                except ImagePullerError as error:
                    errors.append(error)
                    self._note_failure(source, receiver, changes, error)
        for receiver, each in submitted.items():
            try:
                outcomes = each.outcomes(max(deadline - self._clock.monotonic(), 0.0))
            except ImagePullerError as error:
                errors.append(error)
                self._note_failure(source, receiver, each.changes, error)
            else:
                receiver.writer.note(each, outcomes)
                for change, outcome in zip(each.changes, outcomes, strict=True):
                    why = received.meaning(outcome)
                    self._note(source, receiver, change, outcome, why)
                receiver.note(each.changes, outcomes)
        if errors:
            raise errors[0]

    def _check(self, source: str, asked: Asked, deadline: float) -> None:
        """Make the checks that a sender without credentials asks for, or share the last ones.

        A check that was shared may be older than the request, so the schedule makes another one.
        """
        for kind, shared in self._shared.items():
            checks = {
                receiver: tuple(each for each in changes if isinstance(each, kind))[:1]
                for receiver, changes in asked.items()
            }
            if not any(checks.values()):
                continue
            timeout = deadline - self._clock.monotonic()
            commit = partial(self._commit, source, checks, deadline)
            if not shared.make(commit, timeout=timeout):
                self._metrics.count_event(source, SHARED)
                log.debug("%s: DaemonSet: the last check counts for this request too", source)
                for receiver, changes in checks.items():
                    receiver.note(changes, (Outcome.CHECKED,) * len(changes))

    def _matched(self, source: str, events: Sequence[Event]) -> dict[Receiver, list[Change]]:
        received = self._clock.now()
        asked: dict[Receiver, list[Change]] = {receiver: [] for receiver in self._receivers}
        ignored: dict[str, list[str]] = {}
        for event in events:
            if isinstance(event, ImagePushed):
                self._metrics.note_push(source, received)
            found: list[NoMatch] = []
            for receiver in self._receivers:
                self._note_repository(receiver, source, event)
                matched = match(receiver.config, source, event, received=received)
                if isinstance(matched, NoMatch):
                    found.append(matched)
                else:
                    asked[receiver].extend(matched)
                    self._note_progress(receiver, source, event)
            if len(found) == len(self._receivers):
                nearest = min(found, key=lambda each: each.reason == UNKNOWN_REPOSITORY)
                self._metrics.count_event(source, nearest.reason)
                self._note_no_match(source, event, nearest)
                ignored.setdefault(nearest.reason, []).append(nearest.detail or nearest.reason)
        for details in ignored.values():
            log.info("%s: ignored: %s", source, listed(details))
        return asked

    def _note_failure(
        self, source: str, receiver: Receiver, changes: Sequence[Change], error: ImagePullerError
    ) -> None:
        for change in changes:
            self._note(source, receiver, change, received.NOT_WRITTEN, str(error))

    def _note(
        self, source: str, receiver: Receiver, change: Change, decision: str, why: str
    ) -> None:
        """Keep what was decided about a push or a deletion."""
        if isinstance(change, TrackTag | UntrackTag | AwaitVerification | RegistryAnswer):
            self.recent.note(
                Received(
                    time=self._clock.now(),
                    source=source,
                    subject=subject(change),
                    decision=decision,
                    why=why,
                    group=receiver.config.group,
                    entry=change.entry,
                )
            )

    def _note_no_match(self, source: str, event: Event, found: NoMatch) -> None:
        if isinstance(event, ImagePushed | ImageDeleted):
            what = " ".join(filter(None, (event.repository, event.tag, event.digest)))
        else:
            what = "no push of an image"
        # The detail of an ignored event is for the log only.
        why = found.reason if isinstance(event, Ignored) else found.detail or found.reason
        self._note_ignored(source, what, why)

    def _note_ignored(self, source: str, what: str, why: str) -> None:
        self.recent.note(
            Received(
                time=self._clock.now(),
                source=source,
                subject=what,
                decision=received.IGNORED,
                why=why,
            )
        )

    @staticmethod
    def _note_repository(receiver: Receiver, source: str, event: Event) -> None:
        repository = repository_to_check(receiver.config, source, event)
        if repository is not None and receiver.listener is not None:
            receiver.listener.note_repository(repository)

    def _note_progress(self, receiver: Receiver, source: str, event: Event) -> None:
        if isinstance(event, DaemonSetChanged):
            self._metrics.count_event(source, OBSERVED)
            receiver.note_progress()

    def _trust(self, *, is_trusted: bool) -> Trust:
        if not is_trusted:
            return Trust.NONE
        return Trust.AFTER_VERIFICATION if self._verify_pushes else Trust.FULL

    def _settled(self, source: str, asked: Asked, trust: Trust, seconds: float) -> Asked:
        """Return the changes as registries completed and verified them, where they were asked."""
        began = self._clock.now()
        answers: Mapping[Reference, Answer] = {}
        references = dict.fromkeys(
            reference
            for receiver, changes in asked.items()
            for reference in verification.questions(receiver.config, changes, trust)
        )
        if self._lookup is not None and references:
            bounded = tuple(references)[: limits.QUESTIONS]
            answers = self._lookup.digests(bounded, seconds=seconds)
            for reason in verification.reasons(answers):
                log.warning("%s: %s", source, reason)
        return {
            receiver: verification.settle(receiver.config, changes, trust, answers, asked=began)
            for receiver, changes in asked.items()
        }
