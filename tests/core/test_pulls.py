"""The kubelet's words about pulls."""

from typing import Any

import pytest

from image_puller.core import pulls
from image_puller.core.pulls import Pulled
from tests.support.building import NOON

IMAGE = "quay.io/org/app:1.2.4"


def event(message: str, **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {"uid": "uid"},
        "involvedObject": {"name": "pod"},
        "message": message,
        "lastTimestamp": "2026-01-15T12:00:00Z",
        **fields,
    }


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("in 1.234s (1.3s including waiting). Image size: 1048576 bytes.", 1.234),
        ("in 2.5s (2.5s including waiting)", 2.5),
        ("in 1.234567891s", 1.234567891),
        ("in 532.1ms (1m3s including waiting)", 0.5321),
        ("in 1h2m3.5s", 3723.5),
        ("in 850µs", 0.00085),
        ("in 850us", 0.00085),
        ("in 10ns", 1e-8),
        ("in 0s", 0),
    ],
)
def test_a_pull_has_its_seconds_without_the_wait(words: str, seconds: float) -> None:
    found = pulls.of_event(event(f'Successfully pulled image "{IMAGE}" {words}'))
    assert found is not None
    assert found.seconds == pytest.approx(seconds)
    assert found == Pulled(uid="uid", pod="pod", image=IMAGE, seconds=found.seconds, time=NOON)


@pytest.mark.parametrize(
    "message",
    [
        f'Container image "{IMAGE}" already present on machine',
        f'Successfully pulled image "{IMAGE}"',
        f'Successfully pulled image "{IMAGE}" in 5 parsecs',
        f'Successfully pulled image "{IMAGE}" in 1.2.3s',
        "",
        None,
    ],
)
def test_other_words_are_no_pull(message: str) -> None:
    assert pulls.of_event(event(message)) is None


def test_the_time_may_be_in_another_field() -> None:
    text = f'Successfully pulled image "{IMAGE}" in 1s'
    later = {"lastTimestamp": None, "eventTime": "2026-01-15T12:00:00.000000Z"}
    found = pulls.of_event(event(text, **later))
    assert found is not None
    assert found.time == NOON
    assert pulls.of_event(event(text, lastTimestamp=None)) is None
