"""Sends events to the sink, in a thread of its own: nobody waits for it."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from image_puller import limits
from image_puller.controller.clock import Clock
from image_puller.controller.metrics import Metrics
from image_puller.core.outgoing import OutgoingEvent
from image_puller.errors import ImagePullerError, SinkUnavailableError
from image_puller.events.cloudevents_http import to_request

log = logging.getLogger(__name__)

SENT, FAILED, DROPPED = "sent", "failed", "dropped"

Post = Callable[[Mapping[str, str], bytes], None]
"""Sends a request to the sink. Raises SinkUnavailableError, or RefusedBySinkError."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An event that waits, and when it happened."""

    event: OutgoingEvent
    time: datetime


class EventSender:
    """The events of one process, which are sent one after another. Thread-safe.

    `extensions` are attributes of each event.
    """

    def __init__(
        self, post: Post, metrics: Metrics, clock: Clock, *, extensions: Mapping[str, str]
    ) -> None:
        self._post = post
        self._metrics = metrics
        self._clock = clock
        self._extensions = extensions
        self._wakes = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._ends: float | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> threading.Thread:
        """Start to send, and return the thread."""
        # The web server forks before this. A thread object from before would count as ended.
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()
        return self._thread

    def send(self, event: OutgoingEvent) -> None:
        """Let an event be sent, and return at once. If too many wait, the oldest is dropped."""
        with self._wakes:
            if len(self._waiting) >= limits.SINK_EVENTS:
                self._drop(self._waiting.popleft())
            self._waiting.append(_Waiting(event, self._clock.now()))
            self._wakes.notify()

    def flush(self) -> None:
        """Send what waits, without retries and for a few seconds at most, and send no more."""
        with self._wakes:
            self._ends = self._clock.monotonic() + limits.SINK_FLUSH_SECONDS
            self._wakes.notify()
        if self._thread is not None:
            self._thread.join(limits.SINK_FLUSH_SECONDS)
        with self._wakes:
            left = len(self._waiting)
        if left:
            log.warning("%d events are lost, because the sink did not answer in time", left)

    def _run(self) -> None:
        while (waiting := self._next()) is not None:
            try:
                self._deliver(waiting)
            except Exception:
                # No event may end the thread.
                self._count(waiting, FAILED)
                log.exception("an event of type %s can't be sent", waiting.event.type)

    def _next(self) -> _Waiting | None:
        """Wait for an event. Return None where the process ends."""
        with self._wakes:
            self._clock.wait_for(self._wakes, lambda: self._waiting or self._is_ending, None)
            if self._ends is not None and self._clock.monotonic() >= self._ends:
                while self._waiting:
                    self._drop(self._waiting.popleft())
            return self._waiting.popleft() if self._waiting else None

    @property
    def _is_ending(self) -> bool:
        return self._ends is not None

    def _deliver(self, waiting: _Waiting) -> None:
        event = waiting.event
        headers, body = to_request(
            event_type=event.type,
            source=event.source,
            event_id=event.id,
            time=waiting.time,
            data=event.data,
            subject=event.subject,
            **self._extensions,
        )
        for number in range(limits.SINK_TRIES):
            try:
                self._post(headers, body)
            except SinkUnavailableError as error:
                why: ImagePullerError = error
            except ImagePullerError as error:
                why = error
                break
            else:
                self._count(waiting, SENT)
                return
            seconds = limits.SINK_RETRY_SECONDS * 2**number
            if number == limits.SINK_TRIES - 1 or self._ends_within(seconds):
                break
        self._count(waiting, FAILED)
        log.warning("an event of type %s was not taken by the sink: %s", event.type, why)

    def _ends_within(self, seconds: float) -> bool:
        """Wait for so many seconds. Return whether the process ends."""
        with self._wakes:
            return self._clock.wait_for(self._wakes, lambda: self._is_ending, seconds)

    def _drop(self, waiting: _Waiting) -> None:
        self._count(waiting, DROPPED)
        log.warning("events are dropped, because the sink does not take them fast enough")

    def _count(self, waiting: _Waiting, outcome: str) -> None:
        self._metrics.count_sent(waiting.event.type, outcome)
