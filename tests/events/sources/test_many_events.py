"""Requests with many events: only so many are taken, and a check finds the others."""

import json
from typing import Any

import pytest

from image_puller import limits
from image_puller.events.event import CheckRequested, Ignored, ImagePushed
from image_puller.events.sources import decode
from image_puller.events.sources.reasons import Reason


def quay(count: int) -> tuple[dict[str, str], Any]:
    tags = [f"1.0.{number}" for number in range(count)]
    return {}, {"docker_url": "quay.io/org/app", "updated_tags": tags}


def batch(count: int) -> tuple[dict[str, str], Any]:
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/s",
        "type": "io.image-puller.image.pushed",
        "data": {
            "registry": "quay.io",
            "repository": "org/app",
            "tag": "1.2.4",
            "digest": f"sha256:{1:064x}",
        },
    }
    return {"content-type": "application/cloudevents-batch+json"}, [event] * count


@pytest.mark.parametrize(("source", "request_of"), [("quay", quay), ("cloudevents", batch)])
def test_of_a_request_with_too_many_events_the_first_ones_are_taken(
    source: str, request_of: Any
) -> None:
    for count in (limits.EVENTS, limits.EVENTS + 1, 10 * limits.EVENTS):
        headers, payload = request_of(count)
        events = decode(source, headers, json.dumps(payload).encode())
        assert all(isinstance(event, ImagePushed) for event in events[: limits.EVENTS])
        rest = () if count == limits.EVENTS else (Ignored(reason=Reason.TOO_MANY), CheckRequested())
        assert events[limits.EVENTS :] == rest
