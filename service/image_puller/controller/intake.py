"""The intake: it matches a request's events, asks registries, and commits the changes together."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Protocol

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.controller.clock import Clock
from image_puller.controller.metrics import Metrics
from image_puller.controller.places import Places
from image_puller.controller.shared_check import SharedCheck
from image_puller.controller.writer import Writer, listed
from image_puller.core import verification
from image_puller.core.changes import Change, CheckDaemonSet, EnsureExists
from image_puller.core.decide import Outcome
from image_puller.core.matching import NoMatch, match, repository_to_check
from image_puller.core.verification import Trust
from image_puller.events.event import Event
from image_puller.registries.lookup import Lookup
from image_puller.values.answers import Answer
from image_puller.values.reference import Reference

log = logging.getLogger(__name__)

SHARED = "shared_check"
"""The outcome of a request without credentials that shared the check of another one."""

_CHECKS = (CheckDaemonSet, EnsureExists)


class Listener(Protocol):
    """Is told what may need a check."""

    def note_commit(self, changes: Sequence[Change], outcomes: Sequence[Outcome]) -> None:
        """Note committed changes with their outcomes."""

    def note_repository(self, name: Reference) -> None:
        """Note a repository that got a push of a tag that an entry does not track."""


class Intake:
    """Takes in the events of all requests.

    `lookup` is None where no registry may be asked. The listener schedules checks.
    """

    def __init__(
        self,
        config: Config,
        writer: Writer,
        metrics: Metrics,
        clock: Clock,
        *,
        lookup: Lookup | None = None,
        listener: Listener | None = None,
    ) -> None:
        self._config = config
        self._writer = writer
        self._metrics = metrics
        self._clock = clock
        self._lookup = lookup
        self._listener = listener
        self._shared = {kind: SharedCheck(clock) for kind in _CHECKS}
        self._untrusted = Places(
            limits.UNTRUSTED_SENDERS, "requests of senders without credentials"
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

    def _accept(
        self, source: str, events: Sequence[Event], *, timeout: float, is_trusted: bool
    ) -> None:
        deadline = self._clock.monotonic() + timeout
        changes = self._settled(
            source,
            self._matched(source, events),
            self._trust(is_trusted=is_trusted),
            timeout * limits.REGISTRY_SHARE_OF_TIMEOUT,
        )
        if not is_trusted:
            self._check(source, changes, deadline)
            changes = tuple(each for each in changes if not isinstance(each, _CHECKS))
        self._commit(source, changes, deadline)

    def _commit(self, source: str, changes: Sequence[Change], deadline: float) -> None:
        if changes:
            remaining = deadline - self._clock.monotonic()
            self._note(changes, self._writer.commit(source, changes, timeout=remaining))

    def _check(self, source: str, changes: Sequence[Change], deadline: float) -> None:
        """Make the checks that a sender without credentials asks for, or share the last ones.

        A check that was shared may be older than the request, so the schedule makes another one.
        """
        for kind, shared in self._shared.items():
            asked = tuple(change for change in changes if isinstance(change, kind))
            if not asked:
                continue
            timeout = deadline - self._clock.monotonic()
            commit = partial(self._commit, source, asked[:1], deadline)
            if not shared.make(commit, timeout=timeout):
                self._metrics.count_event(source, SHARED)
                log.debug("%s: DaemonSet: the last check counts for this request too", source)
                self._note(asked[:1], (Outcome.CHECKED,))

    def _note(self, changes: Sequence[Change], outcomes: Sequence[Outcome]) -> None:
        if self._listener is not None:
            self._listener.note_commit(changes, outcomes)

    def _matched(self, source: str, events: Sequence[Event]) -> list[Change]:
        received = self._clock.now()
        changes: list[Change] = []
        ignored: dict[str, list[str]] = {}
        for event in events:
            repository = repository_to_check(self._config, source, event)
            if repository is not None and self._listener is not None:
                self._listener.note_repository(repository)
            asked = match(self._config, source, event, received=received)
            if isinstance(asked, NoMatch):
                self._metrics.count_event(source, asked.reason)
                ignored.setdefault(asked.reason, []).append(asked.detail or asked.reason)
            else:
                changes.extend(asked)
        for details in ignored.values():
            log.info("%s: ignored: %s", source, listed(details))
        return changes

    def _trust(self, *, is_trusted: bool) -> Trust:
        if not is_trusted:
            return Trust.NONE
        return Trust.AFTER_VERIFICATION if self._config.verify_pushes else Trust.FULL

    def _settled(
        self, source: str, changes: Sequence[Change], trust: Trust, seconds: float
    ) -> tuple[Change, ...]:
        """Return the changes as registries completed and verified them, where they were asked."""
        asked = self._clock.now()
        answers: Mapping[Reference, Answer] = {}
        references = verification.questions(self._config, changes, trust)
        if self._lookup is not None and references:
            answers = self._lookup.digests(references, seconds=seconds)
            for reason in verification.reasons(answers):
                log.warning("%s: %s", source, reason)
        return verification.settle(self._config, changes, trust, answers, asked=asked)
