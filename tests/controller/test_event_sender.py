"""The sender of events: in order, again after faults, within bounds, and in nobody's way."""

import threading
from collections.abc import Iterator, Mapping

import pytest

from image_puller import limits
from image_puller.controller.event_sender import EventSender
from image_puller.controller.metrics import Metrics
from image_puller.core.outgoing import OutgoingEvent
from image_puller.errors import RefusedBySinkError, SinkUnavailableError
from tests.support.clock import ManualClock
from tests.support.waiting import TIMEOUT_SECONDS, wait_until

AWAY = SinkUnavailableError("sink answered 503")
NEVER = RefusedBySinkError("sink answered 400")


class RecordingSink:
    """Takes events, after these errors. While `opens` is not set, it takes none."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.headers: list[Mapping[str, str]] = []
        self.bodies: list[bytes] = []
        self.opens = threading.Event()
        self.opens.set()

    def post(self, headers: Mapping[str, str], body: bytes) -> None:
        self.headers.append(headers)
        self.bodies.append(body)
        assert self.opens.wait(TIMEOUT_SECONDS)
        if self.errors:
            raise self.errors.pop(0)

    def ids(self) -> list[str]:
        """Return the id of each request."""
        return [headers["ce-id"] for headers in self.headers]


class Sending:
    """A sender, with its sink and its metrics."""

    def __init__(self, clock: ManualClock) -> None:
        self.sink = RecordingSink()
        self.metrics = Metrics()
        self.sender = EventSender(self.sink.post, self.metrics, clock, extensions={"team": "ci"})
        self.thread = self.sender.start()

    def send(self, *ids: str) -> None:
        for each in ids:
            self.sender.send(
                OutgoingEvent(
                    id=each, type="t", source="/s", subject="node-1", data={"a": 1, "b": None}
                )
            )

    def counted(self) -> dict[str, int]:
        """Return the numbers of events by outcome."""
        prefix = 'image_puller_cloudevents_total{outcome="'
        return {
            line.removeprefix(prefix).partition('"')[0]: int(float(line.rpartition(" ")[2]))
            for line in self.metrics.text().decode().splitlines()
            if line.startswith(prefix)
        }


@pytest.fixture
def sending(clock: ManualClock) -> Iterator[Sending]:
    made = Sending(clock)
    yield made
    made.sink.opens.set()
    made.sender.flush()


def test_events_are_sent_in_order_in_binary_mode(sending: Sending) -> None:
    sending.send("1", "2")
    wait_until(lambda: sending.counted() == {"sent": 2})
    assert sending.sink.ids() == ["1", "2"]
    assert sending.sink.headers[0] == {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-type": "t",
        "ce-source": "/s",
        "ce-subject": "node-1",
        "ce-time": "2026-01-15T12:00:00Z",
        "ce-team": "ci",
        "content-type": "application/json",
    }
    assert sending.sink.bodies[0] == b'{"a": 1, "b": null}'


def test_an_event_is_sent_again_until_the_sink_takes_it(
    sending: Sending, clock: ManualClock
) -> None:
    sending.sink.errors = [AWAY] * 2
    sending.send("1", "2")
    for number in range(2):
        wait_until(lambda: clock.sleepers() == 1)
        assert sending.sink.ids() == ["1"] * (number + 1)
        clock.advance(limits.SINK_RETRY_SECONDS * 2**number)
    wait_until(lambda: sending.counted() == {"sent": 2})
    assert sending.sink.ids() == ["1", "1", "1", "2"]


def test_an_event_is_given_up_after_some_tries(
    sending: Sending, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    sending.sink.errors = [AWAY] * limits.SINK_TRIES
    sending.send("1", "2")
    waits = [limits.SINK_RETRY_SECONDS * 2**number for number in range(limits.SINK_TRIES - 1)]
    for seconds in waits:
        wait_until(lambda: clock.sleepers() == 1)
        clock.advance(seconds)
    wait_until(lambda: sending.counted() == {"failed": 1, "sent": 1})
    assert "an event of type t was not taken by the sink: sink answered 503" in caplog.messages
    assert sum(waits) + limits.SINK_TRIES * limits.SINK_SECONDS <= 60


def test_a_refused_event_is_not_sent_again(
    sending: Sending, caplog: pytest.LogCaptureFixture
) -> None:
    sending.sink.errors = [NEVER]
    sending.send("1", "2")
    wait_until(lambda: sending.counted() == {"failed": 1, "sent": 1})
    assert sending.sink.ids() == ["1", "2"]
    assert "an event of type t was not taken by the sink: sink answered 400" in caplog.messages


def test_no_error_ends_the_sender(sending: Sending, caplog: pytest.LogCaptureFixture) -> None:
    sending.sink.errors = [TypeError("a bug")]
    sending.send("1", "2")
    wait_until(lambda: sending.counted() == {"failed": 1, "sent": 1})
    assert "an event of type t can't be sent" in caplog.messages


def test_nobody_waits_for_the_sink_and_the_oldest_events_are_dropped(
    sending: Sending, caplog: pytest.LogCaptureFixture
) -> None:
    sending.sink.opens.clear()
    sending.send("first")
    wait_until(lambda: sending.sink.ids() == ["first"])
    sending.send(*(str(number) for number in range(limits.SINK_EVENTS + 2)))
    assert sending.counted() == {"dropped": 2}
    assert "events are dropped, because the sink does not take them fast enough" in caplog.messages
    sending.sink.opens.set()
    wait_until(lambda: sending.counted().get("sent") == limits.SINK_EVENTS + 1)
    assert sending.sink.ids()[:2] == ["first", "2"]


def test_a_process_that_ends_sends_what_waits(sending: Sending) -> None:
    sending.sink.opens.clear()
    sending.send("1", "2", "3")
    sending.sink.opens.set()
    sending.sender.flush()
    assert sending.counted() == {"sent": 3}
    assert not sending.thread.is_alive()


def test_a_process_that_ends_tries_each_event_once_more(
    sending: Sending, clock: ManualClock
) -> None:
    sending.sink.errors = [AWAY] * 4
    sending.send("1", "2")
    wait_until(lambda: clock.sleepers() == 1)
    sending.sender.flush()
    assert sending.counted() == {"failed": 2}
    assert sending.sink.ids() == ["1", "2"]


def test_a_process_that_ends_does_not_wait_for_a_slow_sink(
    sending: Sending,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(limits, "SINK_FLUSH_SECONDS", 0.01)
    sending.sink.opens.clear()
    sending.send("1", "2", "3")
    wait_until(lambda: sending.sink.ids() == ["1"])
    sending.sender.flush()
    assert sending.thread.is_alive()
    assert "2 events are lost, because the sink did not answer in time" in caplog.messages
    clock.advance(1)
    sending.sink.opens.set()
    sending.thread.join(TIMEOUT_SECONDS)
    assert sending.counted() == {"sent": 1, "dropped": 2}


def test_a_sender_that_never_started_has_nothing_to_flush(clock: ManualClock) -> None:
    EventSender(RecordingSink().post, Metrics(), clock, extensions={}).flush()
