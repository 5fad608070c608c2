"""Reports each problem when it begins and when it ends: in the log, as an Event, as a metric."""

import logging
import threading
from collections.abc import Sequence
from typing import Protocol

from image_puller.controller.metrics import Metrics
from image_puller.core.problems import Kind, Problem

log = logging.getLogger(__name__)

SOLVED = "ProblemSolved"
"""The reason of the Event with which a problem ends."""

_LOGGED_AT_START = (Kind.IMAGES_MALFORMED,)
_LOGGED_WITH_PROGRESS = (Kind.IMAGE_FAILING,)
_REPORTED_BY_THE_WRITER = (Kind.IMAGES_MALFORMED, Kind.STATE_UNREADABLE, Kind.TEMPLATE_REFUSED)


class Report(Protocol):
    """Creates an Event about the DaemonSet."""

    def __call__(self, reason: str, message: str, *, is_warning: bool = True) -> None: ...


class ProblemTracker:
    """The problems that one process finds in a group. Thread-safe."""

    def __init__(self, report: Report, metrics: Metrics, *, group: str | None = None) -> None:
        self._group = group
        self._report = report
        self._metrics = metrics
        self._lock = threading.Lock()
        self._known: dict[str, Problem] = {}
        metrics.set_problems([], group)

    def update(self, found: Sequence[Problem]) -> None:
        """Report what began and what ended since the last call. `found` has all problems."""
        with self._lock:
            present = {problem.key: problem for problem in found}
            began = [each for key, each in present.items() if key not in self._known]
            ended = [each for key, each in self._known.items() if key not in present]
            self._known = present
            kinds = [problem.kind for problem in present.values()]
            self._metrics.set_problems(kinds, self._group)
        for problem in began:
            self._begin(problem)
        for problem in ended:
            if problem.kind not in _LOGGED_WITH_PROGRESS:
                log.info("solved: %s", problem.message)
            self._report(SOLVED, f"{problem.kind}: {problem.message}", is_warning=False)

    def _begin(self, problem: Problem) -> None:
        if problem.kind not in (*_LOGGED_AT_START, *_LOGGED_WITH_PROGRESS):
            log.warning("%s", problem.message)
        if problem.kind not in _REPORTED_BY_THE_WRITER:
            self._report(problem.kind, problem.message)
