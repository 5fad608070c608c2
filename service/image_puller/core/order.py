"""The order of two times that may be by different clocks. Pure.

A registry gives its pushes times by its own clock. Where it gives none, or an implausible one, this
service takes the time of the receipt. It also takes its own time for what a check finds.
"""

from datetime import datetime, timedelta
from typing import Protocol

from image_puller import limits

TOLERANCE = timedelta(seconds=limits.CLOCK_TOLERANCE_SECONDS)


class Timed(Protocol):
    """Something with a time. `own_clock`: the time is by the clock of this service."""

    @property
    def time(self) -> datetime:
        """Return the time, in UTC."""

    @property
    def own_clock(self) -> bool:
        """Whether the time is by the clock of this service."""


def is_older(one: Timed, other: Timed) -> bool:
    """Whether one is certainly older than the other.

    Two times by a registry's clock compare exactly, so that a late retry stays older. Otherwise one
    must be older by more than the tolerance.
    """
    return one.time + _tolerance(one, other) < other.time


def is_uncertain(arrival: Timed, known: Timed) -> bool:
    """Whether times can't show that what arrives now is newer than what is known.

    Of two receipts at the same time the later arrival is the newer one.
    """
    if arrival.time == known.time:
        return not (arrival.own_clock and known.own_clock)
    return arrival.time < known.time and not is_older(arrival, known)


def _tolerance(one: Timed, other: Timed) -> timedelta:
    return TOLERANCE if one.own_clock or other.own_clock else timedelta(0)
