"""What must hold for any request to any source: the tests and the fuzzer ask the same."""

import json
from collections.abc import Mapping

from image_puller.cli.event_json import render
from image_puller.errors import BadEventError
from image_puller.events.sources import decode
from image_puller.events.sources.reasons import Reason


def check(source: str, headers: Mapping[str, str], body: bytes) -> None:
    """Decode to at least one event that can be printed, or refuse in a few words."""
    try:
        events = decode(source, headers, body)
    except BadEventError as error:
        message = str(error)
        assert message
        assert len(message) < 250  # a fixed text, and at most 80 characters of what was sent
        return
    assert events
    for event in events:
        said = json.loads(render(event))
        assert said["type"] != "ignored" or said["reason"] in set(Reason)
        assert said["type"] != "push" or said["tag"] or said["digest"]
