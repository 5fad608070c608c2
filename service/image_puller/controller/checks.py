"""What is looked at when nobody waits for it: registries, unverified pushes, what nodes report.

Each look commits what it finds.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.controller.commits import Commits
from image_puller.core import catch_up
from image_puller.core.catch_up import Findings, Question
from image_puller.core.changes import Change, Refresh, RollAgain
from image_puller.core.state import State
from image_puller.events.event import in_milliseconds
from image_puller.registries.lookup import Lookup
from image_puller.values.answers import Answer, Unanswered
from image_puller.values.reference import Reference

log = logging.getLogger(__name__)

SOURCE = "timer"
"""What the changes that looks make are counted under."""

_NOTHING = Findings(changes=(), closed=frozenset(), reasons=())
_NOT_ASKED = Unanswered("no registry is asked (ASK_REGISTRIES)", is_closed=True)


class Observer(Protocol):
    """What a look reads of the cluster; each method may raise ImagePullerError."""

    def state(self) -> State:
        """What is remembered, under the configuration of this process."""

    def others(self) -> tuple[RollAgain, ...]:
        """The tags of which nodes have another content than they should."""

    def is_rolled_out(self) -> bool:
        """Whether every node runs what it should."""


class Looks:
    """One process's looks. `lookup` is None where no registry may be asked.

    Every method may raise ImagePullerError.
    """

    def __init__(
        self, config: Config, observer: Observer, commits: Commits, lookup: Lookup | None
    ) -> None:
        self._config = config
        self._observer = observer
        self._commits = commits
        self._lookup = lookup
        self._missed: tuple[str, ...] = ()
        self._unconfirmed: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """What the last looks at registries could not learn, and why."""
        return tuple(dict.fromkeys((*self._missed, *self._unconfirmed)))

    def everything(self, seconds: float, *, only_if_new: bool = False) -> None:
        """Asks about all that may have been missed, and has the DaemonSet repaired in any case.

        `only_if_new` leaves registries alone where there is a DaemonSet already.
        """
        findings = _NOTHING
        try:
            state = self._observer.state()
            if not only_if_new or state.changed is None:
                findings = self._catch_up(state, seconds)
        finally:
            self._commit((Refresh(findings.closed), *findings.changes))

    def unverified(self) -> bool:
        """Asks once more about pushes that nobody has confirmed; whether there are any left."""
        asked_at, state = _now(), self._observer.state()
        asked = catch_up.unverified(self._config, state)
        findings = _NOTHING
        if asked:
            answers = self._ask(asked, limits.VERIFICATION_SECONDS)
            findings = catch_up.findings(self._config, state, asked, answers, time=asked_at)
        self._unconfirmed = findings.reasons
        if findings.changes:
            self._commit(findings.changes)
        return bool(asked)

    def rollout(self, *, is_last: bool) -> bool:
        """Sees whether nodes got what was meant; whether it has to be looked at again.

        That is so until every node runs what it should, unless this look `is_last`.
        """
        if not is_last and not self._observer.is_rolled_out():
            return True
        others = self._observer.others()
        if others:
            self._commit(others)
        return bool(others)

    def _catch_up(self, state: State, seconds: float) -> Findings:
        deadline, asked_at = time.monotonic() + seconds, _now()
        listings: catch_up.Listings = {}
        if self._lookup is not None:
            repositories = catch_up.repositories(self._config)
            listings = self._lookup.tags(repositories, seconds=seconds / 2)
        asked = catch_up.questions(self._config, state, listings)
        answers = self._ask(asked, deadline - time.monotonic())
        findings = catch_up.findings(self._config, state, asked, answers, time=asked_at)
        if self._lookup is not None:
            self._missed = (*catch_up.unlisted(listings), *findings.reasons)
        for problem in self._missed:
            log.warning("%s", problem)
        return findings

    def _ask(self, asked: Sequence[Question], seconds: float) -> Mapping[Reference, Answer]:
        references = [question.reference for question in asked]
        if self._lookup is None:
            return dict.fromkeys(references, _NOT_ASKED)
        return self._lookup.digests(references, seconds=seconds)

    def _commit(self, changes: Sequence[Change]) -> None:
        self._commits.commit(SOURCE, changes, patience=limits.LOOK_SECONDS)


def _now() -> datetime:
    return in_milliseconds(datetime.now(UTC))
