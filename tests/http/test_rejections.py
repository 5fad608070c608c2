"""What the log has about rejected credentials: one line for each source and minute."""

import pytest

from image_puller.http.rejections import Rejections
from tests.support.clock import ManualClock

ADVICE = "its credentials are missing or wrong"
WITHIN = "within 60 s, from"


@pytest.fixture
def rejections(clock: ManualClock) -> Rejections:
    return Rejections(clock.monotonic)


def test_first_rejection_is_logged_at_once(
    rejections: Rejections, caplog: pytest.LogCaptureFixture
) -> None:
    rejections.note("quay", "10.1.2.3", ADVICE)
    assert caplog.messages == [f"quay: a request from 10.1.2.3 was rejected: {ADVICE}"]


def test_later_rejections_are_counted_once_a_minute(
    rejections: Rejections, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(150):
        rejections.note("quay", f"10.1.2.{second % 2}", ADVICE)
        clock.advance(1)
    assert caplog.messages[1:] == [
        f"quay: 59 more requests were rejected {WITHIN} 10.1.2.1 (30), 10.1.2.0 (29): {ADVICE}",
        f"quay: 60 more requests were rejected {WITHIN} 10.1.2.0 (30), 10.1.2.1 (30): {ADVICE}",
    ]


def test_each_source_has_lines_of_its_own(
    rejections: Rejections, caplog: pytest.LogCaptureFixture
) -> None:
    for source in ("quay", "harbor", "quay", "read"):
        rejections.note(source, "::1", ADVICE)
    assert [each.partition(":")[0] for each in caplog.messages] == ["quay", "harbor", "read"]


def test_another_request_writes_the_count_when_its_minute_is_over(
    rejections: Rejections, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    rejections.note("quay", "10.1.2.3", ADVICE)
    rejections.note("quay", "10.1.2.3", ADVICE)
    clock.advance(59)
    rejections.write_due()
    assert len(caplog.messages) == 1
    clock.advance(1)
    rejections.write_due()
    assert caplog.messages[1:] == [
        f"quay: 1 more request was rejected {WITHIN} 10.1.2.3 (1): {ADVICE}"
    ]
    clock.advance(60)
    rejections.write_due()
    assert len(caplog.messages) == 2


def test_rejection_after_a_quiet_minute_is_logged_at_once(
    rejections: Rejections, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    rejections.note("quay", "10.1.2.3", ADVICE)
    clock.advance(60)
    rejections.note("quay", "10.1.2.4", ADVICE)
    assert caplog.messages[1] == f"quay: a request from 10.1.2.4 was rejected: {ADVICE}"


def test_addresses_of_one_line_are_bounded(
    rejections: Rejections, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1000):
        rejections.note("quay", f"10.1.{number // 250}.{number % 250}", ADVICE)
    clock.advance(60)
    rejections.write_due()
    assert "other addresses (994), 10.1.0.1 (1)" in caplog.messages[1]
    assert len(caplog.messages[1]) < 250


def test_address_of_ipv4_is_logged_in_its_own_form(
    rejections: Rejections, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        rejections.note("quay", "::ffff:10.1.2.3", ADVICE)
    clock.advance(60)
    rejections.write_due()
    assert "from 10.1.2.3 was" in caplog.messages[0]
    assert "from 10.1.2.3 (1)" in caplog.messages[1]


def test_missing_address_is_named(rejections: Rejections, caplog: pytest.LogCaptureFixture) -> None:
    rejections.note("quay", None, ADVICE)
    assert "a request from an unknown address was rejected" in caplog.text
