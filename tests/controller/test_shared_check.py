"""Checks that senders without credentials ask for: at most one in an interval."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from image_puller import limits
from image_puller.controller.shared_check import SharedCheck
from image_puller.errors import ClusterUnavailableError
from tests.support.clock import ManualClock
from tests.support.waiting import TIMEOUT_SECONDS, wait_until


class Checks:
    """Checks, counted. They fail with an error, or wait until the gate opens."""

    def __init__(self) -> None:
        self.made = 0
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self) -> None:
        self.made += 1
        assert self.gate.wait(TIMEOUT_SECONDS)
        if self.error is not None:
            raise self.error


def test_one_check_is_made_in_an_interval(clock: ManualClock) -> None:
    shared, checks = SharedCheck(clock), Checks()
    made = [shared.make(checks, timeout=1) for _ in range(5)]
    assert (made, checks.made) == ([True, False, False, False, False], 1)
    clock.advance(limits.UNTRUSTED_CHECK_SECONDS - 1)
    assert not shared.make(checks, timeout=1)
    clock.advance(1)
    assert shared.make(checks, timeout=1)
    assert checks.made == 2


def test_requests_at_the_same_time_wait_for_one_check(clock: ManualClock) -> None:
    shared, checks = SharedCheck(clock), Checks()
    checks.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(shared.make, checks, timeout=TIMEOUT_SECONDS) for _ in range(8)]
        wait_until(lambda: checks.made == 1)
        assert not any(each.done() for each in running)
        checks.gate.set()
        assert sorted(each.result() for each in running) == [False] * 7 + [True]
    assert checks.made == 1


def test_a_failure_is_shared_too(clock: ManualClock) -> None:
    shared, checks = SharedCheck(clock), Checks()
    checks.error = ClusterUnavailableError("away")
    for _ in range(3):
        with pytest.raises(ClusterUnavailableError, match="away"):
            shared.make(checks, timeout=1)
    assert checks.made == 1
    checks.error = None
    clock.advance(limits.UNTRUSTED_CHECK_SECONDS)
    assert shared.make(checks, timeout=1)


def test_a_request_waits_for_the_check_of_another_one_until_its_timeout(
    clock: ManualClock,
) -> None:
    shared, checks = SharedCheck(clock), Checks()
    checks.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(shared.make, checks, timeout=TIMEOUT_SECONDS)
        wait_until(lambda: checks.made == 1)
        with pytest.raises(ClusterUnavailableError, match=r"did not end within 0\.1 s"):
            shared.make(checks, timeout=0.1)
        checks.gate.set()
        assert running.result()
