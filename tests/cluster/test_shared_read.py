"""The shared read: calls at the same time cost one read, and later calls another one."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from image_puller import limits
from image_puller.cluster.shared_read import RecentRead, SharedRead
from image_puller.errors import ClusterUnavailableError
from tests.support.clock import Seconds
from tests.support.waiting import TIMEOUT_SECONDS, wait_until


class SlowRead:
    """A read that waits for the test. It returns its number, or raises an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.number = 0
        self.go_on = threading.Event()

    def __call__(self) -> int:
        self.number += 1
        assert self.go_on.wait(TIMEOUT_SECONDS)
        if self.error is not None:
            raise self.error
        return self.number


def test_ten_calls_at_the_same_time_share_one_read() -> None:
    read = SlowRead()
    shared = SharedRead(read)
    with ThreadPoolExecutor(10) as threads:
        first = threads.submit(shared.get)
        wait_until(lambda: read.number == 1)
        started = threading.Semaphore(0)

        def get() -> int:
            started.release()
            return shared.get()

        others = [threads.submit(get) for _ in range(9)]
        for _ in others:
            assert started.acquire(timeout=TIMEOUT_SECONDS)
        assert not any(other.done() for other in others)
        read.go_on.set()
        results = {each.result(TIMEOUT_SECONDS) for each in (first, *others)}
    # A thread that was slow to call finds no read that runs, and begins a second one.
    assert results <= {1, 2}


def test_a_call_after_a_read_begins_another_one() -> None:
    read = SlowRead()
    read.go_on.set()
    shared = SharedRead(read)
    assert (shared.get(), shared.get()) == (1, 2)


def test_a_new_read_does_not_share_one_that_began_before() -> None:
    read = SlowRead()
    shared = SharedRead(read)
    with ThreadPoolExecutor(2) as threads:
        old = threads.submit(shared.get)
        wait_until(lambda: read.number == 1)
        new = threads.submit(shared.get_new)
        read.go_on.set()
        assert (old.result(TIMEOUT_SECONDS), new.result(TIMEOUT_SECONDS)) == (1, 2)


def test_a_new_read_does_not_fail_with_the_one_before() -> None:
    began, go_on = threading.Event(), threading.Event()

    def read() -> int:
        if began.is_set():
            return 2
        began.set()
        assert go_on.wait(TIMEOUT_SECONDS)
        raise ClusterUnavailableError("away")

    shared = SharedRead(read)
    with ThreadPoolExecutor(2) as threads:
        old = threads.submit(shared.get)
        assert began.wait(TIMEOUT_SECONDS)
        new = threads.submit(shared.get_new)
        go_on.set()
        with pytest.raises(ClusterUnavailableError):
            old.result(TIMEOUT_SECONDS)
        assert new.result(TIMEOUT_SECONDS) == 2


def test_an_error_reaches_every_caller_and_is_not_kept() -> None:
    read = SlowRead(ClusterUnavailableError("away"))
    shared = SharedRead(read)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(shared.get)
        wait_until(lambda: read.number == 1)
        second = threads.submit(shared.get)
        read.go_on.set()
        for each in (first, second):
            with pytest.raises(ClusterUnavailableError, match="away"):
                each.result(TIMEOUT_SECONDS)
    read.error = None
    assert shared.get() == read.number


# The recent read


class TimedRead:
    """A read that takes so many seconds of a clock."""

    def __init__(self, clock: Seconds, takes: float) -> None:
        self._clock, self.takes, self.number = clock, takes, 0

    def __call__(self) -> int:
        self.number += 1
        self._clock.now += self.takes
        return self.number


@pytest.mark.parametrize(
    ("takes", "kept"), [(0.0, 1.0), (0.4, 1.0), (3.0, 6.0), (60.0, limits.RECENT_SECONDS)]
)
def test_recent_value_is_read_again_after_a_second_or_twice_the_time_of_a_read(
    takes: float, kept: float
) -> None:
    clock = Seconds()
    recent = RecentRead(TimedRead(clock, takes), clock=clock, least=1.0)
    assert recent.next_in() == 0
    assert recent.get() == 1
    assert recent.next_in() == kept
    clock.now += kept - 0.01
    assert recent.get() == 1
    clock.now += 0.01
    assert recent.next_in() == 0
    assert recent.get() == 2


def test_failed_read_is_not_kept() -> None:
    clock = Seconds()
    read = SlowRead(ClusterUnavailableError("away"))
    read.go_on.set()
    recent = RecentRead(read, clock=clock)
    with pytest.raises(ClusterUnavailableError):
        recent.get()
    read.error = None
    assert recent.get() == 2


def test_read_that_takes_no_time_is_not_kept() -> None:
    recent = RecentRead(TimedRead(Seconds(), 0.0), clock=Seconds())
    assert (recent.get(), recent.get()) == (1, 2)


def test_read_is_recent_for_those_who_get_it() -> None:
    recent = RecentRead(TimedRead(Seconds(), 0.0), clock=Seconds(), least=1.0)
    assert (recent.get(), recent.read(), recent.get()) == (1, 2, 2)
