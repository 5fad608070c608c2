"""The real clock."""

import threading
import time
from datetime import UTC, datetime

from image_puller.controller.clock import Clock


def test_the_time_of_day_is_utc_in_whole_milliseconds() -> None:
    now = Clock().now()
    assert now.tzinfo is UTC
    assert now.microsecond % 1000 == 0
    assert abs((datetime.now(UTC) - now).total_seconds()) < 60


def test_monotonic_seconds_are_those_of_the_system() -> None:
    assert abs(Clock().monotonic() - time.monotonic()) < 60


def test_waiting_ends_when_the_predicate_is_true() -> None:
    condition, found = threading.Condition(), [1]
    with condition:
        assert Clock().wait_for(condition, lambda: found, None)


def test_waiting_ends_at_its_time() -> None:
    condition = threading.Condition()
    with condition:
        assert not Clock().wait_for(condition, lambda: False, 0.001)


def test_waiting_ends_when_it_is_notified() -> None:
    condition, found = threading.Condition(), []

    def notify() -> None:
        with condition:
            found.append(1)
            condition.notify()

    with condition:
        thread = threading.Thread(target=notify)
        thread.start()
        assert Clock().wait_for(condition, lambda: found, 10)
    thread.join()
