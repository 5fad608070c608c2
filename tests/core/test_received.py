"""What the status page says about the outcomes of pushes."""

import pytest

from image_puller.core import received
from image_puller.core.decide import Outcome

NEVER_OF_A_PUSH = {
    Outcome.CHECKED,
    Outcome.VERIFICATION_EXPIRED,
    Outcome.PULLED_AGAIN,
    Outcome.HELD,
    Outcome.PROVEN,
    Outcome.HELD_APART,
    Outcome.BOUND_CHANGED,
    Outcome.DEGRADED,
    Outcome.RESTORED,
    Outcome.PROCEEDED,
}
"""The outcomes that only checks have."""


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_of_a_push_has_a_meaning(outcome: Outcome) -> None:
    assert (received.meaning(outcome) == "") == (outcome in NEVER_OF_A_PUSH)
