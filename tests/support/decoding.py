"""A check of what must hold for any request to any source. Tests and the fuzzer use it."""

import json
from collections.abc import Mapping

from image_puller.cli.event_json import render
from image_puller.errors import BadEventError
from image_puller.events.sources import decode
from image_puller.events.sources.reasons import Reason


def check(source: str, headers: Mapping[str, str], body: bytes) -> None:
    """Check that a request is decoded to events that can be printed, or rejected with a message."""
    try:
        events = decode(source, headers, body)
    except BadEventError as error:
        message = str(error)
        assert message
        assert len(message) < 250  # a fixed text, and at most 80 characters of the request
        return
    assert events
    for event in events:
        rendered = json.loads(render(event))
        assert rendered["type"] != "ignored" or rendered["reason"] in set(Reason)
        assert len(rendered.get("detail", "")) < 1000
        assert rendered["type"] != "push" or rendered["tag"] or rendered["digest"]
