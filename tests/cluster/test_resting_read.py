"""The resting read: what took long is given again for a while."""

import pytest

from image_puller import limits
from image_puller.cluster.resting_read import RestingRead
from image_puller.errors import ClusterUnavailableError


class Reads:
    """A clock, and a read that takes some seconds of it. It returns its number."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.number = 0
        self.fails = False

    def __call__(self) -> int:
        self.number += 1
        self.now += self.seconds
        if self.fails:
            raise ClusterUnavailableError("away")
        return self.number

    def resting(self) -> RestingRead[int]:
        return RestingRead(self, lambda: self.now)


def test_a_result_is_given_again_for_twice_the_time_of_its_read() -> None:
    reads = Reads(seconds=3)
    resting = reads.resting()
    assert resting.get() == 1
    reads.now += 5.9
    assert resting.get() == 1
    reads.now += 0.1
    assert resting.get() == 2


def test_no_result_is_given_again_for_longer_than_the_limit() -> None:
    reads = Reads(seconds=60)
    resting = reads.resting()
    assert resting.get() == 1
    reads.now += limits.REST_SECONDS
    assert resting.get() == 2


def test_a_read_that_takes_no_time_does_not_rest() -> None:
    resting = Reads(seconds=0).resting()
    assert (resting.get(), resting.get()) == (1, 2)


def test_an_error_is_not_kept() -> None:
    reads = Reads(seconds=3)
    resting = reads.resting()
    reads.fails = True
    with pytest.raises(ClusterUnavailableError):
        resting.get()
    reads.fails = False
    assert resting.get() == 2
