"""The headers and the JSON of `image-puller parse`."""

from datetime import UTC, datetime

import pytest

from image_puller.cli.event_json import read_headers, render
from image_puller.errors import BadEventError
from image_puller.events.event import (
    CheckRequested,
    DaemonSetChanged,
    Event,
    Ignored,
    ImageDeleted,
    ImagePushed,
    NodeJoined,
)
from image_puller.events.sources.reasons import Reason

TIME = datetime(2026, 8, 20, 10, 11, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            ImagePushed(registry="r", repository="a/b", tag="v1", digest="sha256:x", time=TIME),
            (
                '{"type": "push", "registry": "r", "repository": "a/b", "tag": "v1", '
                '"digest": "sha256:x", "time": "2026-08-20T10:11:12Z"}'
            ),
        ),
        (
            ImagePushed(registry=None, repository="a", tag="v1", digest=None),
            (
                '{"type": "push", "registry": null, "repository": "a", "tag": "v1", '
                '"digest": null, "time": null}'
            ),
        ),
        (
            ImageDeleted(
                registry="r",
                repository="a",
                tag=None,
                digest=None,
                time=TIME.replace(microsecond=120),
            ),
            (
                '{"type": "delete", "registry": "r", "repository": "a", "tag": null, '
                '"digest": null, "time": "2026-08-20T10:11:12.000120Z"}'
            ),
        ),
        (DaemonSetChanged(name="a"), '{"type": "daemonset-changed", "daemonset": "a"}'),
        (NodeJoined(node="worker-3"), '{"type": "node-joined", "node": "worker-3"}'),
        (CheckRequested(), '{"type": "check"}'),
        (Ignored(reason=Reason.PULL), '{"type": "ignored", "reason": "pull"}'),
        (
            Ignored(reason=Reason.UNSUBSCRIBED, detail="run: x"),
            '{"type": "ignored", "reason": "subscription deleted", "detail": "run: x"}',
        ),
        (Ignored(reason="a\nb"), '{"type": "ignored", "reason": "a\\nb"}'),
    ],
)
def test_event_is_one_line_of_json(event: Event, line: str) -> None:
    assert render(event) == line


def test_headers_are_read_in_the_form_of_samples() -> None:
    text = (
        "# request: POST / HTTP/1.1\n"
        "Content-Type: application/json\n"
        "\n"
        "Ce-Source: https://10.1.0.1:443\r\n"
        "Ce-Namespace:\n"
        "Content-Length: 0\n"
        "content-length: 5\n"
    )
    assert read_headers(text) == {
        "content-type": "application/json",
        "ce-source": "https://10.1.0.1:443",
        "ce-namespace": "",
        "content-length": "5",
    }
    assert read_headers("") == {}


def test_header_without_a_colon_is_an_error() -> None:
    message = r"^a header must have the form `Name: value`, not 'POST /'$"
    with pytest.raises(BadEventError, match=message):
        read_headers("POST /\n")
