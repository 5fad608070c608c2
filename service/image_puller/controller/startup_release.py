"""Removes the startup taint from nodes that hold their images, in a thread of its own."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.config.startup_taint import StartupTaint
from image_puller.controller.clock import Clock
from image_puller.controller.metrics import Metrics
from image_puller.controller.problem_tracker import Report
from image_puller.core import startup_taint
from image_puller.core.daemonset import Manifest
from image_puller.core.observation import Observation
from image_puller.core.startup_taint import Reason, Release, Seen
from image_puller.errors import ImagePullerError, RefusedByClusterError

log = logging.getLogger(__name__)

TIMEOUT = "NodeStartupTimeout"
"""The reason of the Event about a node that lost the taint without its images."""


class ReleaseNode(Protocol):
    """Removes a taint of a node. Return False where somebody changed the node's taints."""

    def __call__(self, name: str, uid: str, index: int, taint: Manifest) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Noted:
    """An observation, and when it was made by the clock of the process."""

    seen: Observation
    at: float


class StartupRelease:
    """The startup taint of one process, for all groups. Thread-safe.

    It does nothing while another process is in charge of a group.
    """

    def __init__(
        self,
        config: Config,
        taint: StartupTaint,
        release: ReleaseNode,
        report: Report,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._config = config
        self._taint = taint
        self._release = release
        self._report = report
        self._metrics = metrics
        self._clock = clock
        self._began = clock.now()
        self._wakes = threading.Condition()
        self._noted: dict[str | None, _Noted] = {}
        self._superseded: frozenset[str | None] = frozenset()
        self._released: dict[str, float] = {}
        self._is_new = False
        self._stopping = False
        self._was_refused = False
        self._may_not_list = False

    def start(self) -> threading.Thread:
        """Start to release nodes, and return the thread."""
        # The web server forks before this. A thread object from before would count as ended.
        thread = threading.Thread(target=self._run, name="startup taint", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Release no other node, and return at once."""
        with self._wakes:
            self._stopping = True
            self._wakes.notify()

    def note(self, group: str | None, seen: Observation | None) -> None:
        """Note what was observed of a group, and return at once.

        None means that another process is in charge of the group.
        """
        with self._wakes:
            if seen is None:
                self._noted.pop(group, None)
                self._superseded |= {group}
                return
            self._superseded -= {group}
            if not self._lists(seen) or not startup_taint.is_awaited(seen):
                self._noted.pop(group, None)  # an observation of a large cluster is large
                return
            self._noted[group] = _Noted(seen, self._clock.monotonic())
            self._is_new = True
            self._wakes.notify()

    def _run(self) -> None:
        while (noted := self._next()) is not None:
            try:
                self._release_all(noted)
            except ImagePullerError as error:
                log.warning("the startup taint is removed later: %s", error)
            except Exception:
                # No error may end the thread.
                log.exception("the startup taint could not be removed, which is tried again")

    def _next(self) -> Mapping[str | None, _Noted] | None:
        """Wait for an observation. Return the last ones, or None where the process stops."""
        with self._wakes:
            self._clock.wait_for(self._wakes, lambda: self._is_new or self._stopping, None)
            self._is_new = False
            if self._stopping:
                return None
            return {} if self._superseded else dict(self._noted)

    def _release_all(self, noted: Mapping[str | None, _Noted]) -> None:
        newest = max(noted.values(), key=lambda each: each.at, default=None)
        if newest is None:
            return
        now = self._clock.monotonic()
        earliest = now - limits.STARTUP_OBSERVATION_SECONDS
        again = now - limits.STARTUP_AGAIN_SECONDS
        self._released = {uid: at for uid, at in self._released.items() if at >= again}
        groups = [
            _seen(group, noted.get(group.group), earliest) for group in self._config.all_groups
        ]
        due = startup_taint.releases(
            self._taint,
            self._config.node_startup_timeout,
            groups,
            newest.seen.live.nodes or (),
            self._clock.now(),
            began=self._began,
        )
        for each in due:
            if each.uid in self._released:
                continue
            if self._stopping or not self._remove(each):
                return

    def _lists(self, seen: Observation) -> bool:
        """Whether the service may list nodes. Tell once that it may not."""
        is_refused = seen.live.nodes is None
        if is_refused and not self._may_not_list:
            log.warning(
                "no node loses the taint %s, because the service may not list nodes; "
                "apply deploy/kubernetes/startup-taint/nodes.yaml to allow it",
                self._taint,
            )
        self._may_not_list = is_refused
        return not is_refused

    def _remove(self, due: Release) -> bool:
        """Remove the taint of a node. Return False where the service may not change nodes."""
        try:
            is_removed = self._release(due.node, due.uid, due.index, due.taint)
        except RefusedByClusterError as error:
            level = logging.DEBUG if self._was_refused else logging.WARNING
            self._was_refused = True
            log.log(
                level,
                "node %s keeps the taint %s: %s; the service needs the verb patch on nodes: "
                "apply deploy/kubernetes/startup-taint/nodes.yaml",
                due.node,
                self._taint,
                error,
            )
            return False
        self._was_refused = False
        if is_removed:
            self._tell(due)
        else:
            log.debug("the taints of node %s have changed, so it is observed again", due.node)
        return True

    def _tell(self, due: Release) -> None:
        self._released[due.uid] = self._clock.monotonic()
        self._metrics.count_startup_release(due.reason)
        after = "" if due.seconds is None else f", {due.seconds:.0f} s after it joined"
        text = f"node {due.node}: taint {self._taint} removed{after}"
        if due.reason is Reason.TIMEOUT:
            text = f"{text}, without all images: {'; '.join(due.missing)}"
            log.warning("%s", text)
            self._report(TIMEOUT, text)
        elif due.images:
            log.info("%s: it holds all %d images", text, due.images)
        else:
            log.info("%s: no image is for it", text)


def _seen(config: Config, noted: _Noted | None, earliest: float) -> Seen:
    is_recent = noted is not None and noted.at >= earliest
    return Seen(config=config, observation=noted.seen if noted and is_recent else None)
