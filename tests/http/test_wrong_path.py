"""A webhook with the wrong path is accepted, and its events are ignored.

After an error, a registry repeats one event forever (distribution) or disables its webhook (Quay):
https://github.com/keel-hq/keel/issues/332.
"""

from collections.abc import Callable

import pytest

from image_puller.events.sources import SOURCES
from tests.support.samples import FIXTURES, sample
from tests.support.web import Web

SECRET = "s3cret"
NAMES = sorted({file.name.removesuffix(".headers.txt") for file in FIXTURES.glob("*.txt")})
SENDERS_BY_AUTHORIZATION = sorted(
    name for name, source in SOURCES.items() if source.scheme.authorization
)


@pytest.mark.parametrize(
    "path", [name for name in SENDERS_BY_AUTHORIZATION if name != "cloudevents"]
)
def test_requests_of_every_registry_are_accepted_on_every_path(
    web: Callable[..., Web], path: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = web()
    service.secret(path, SECRET)
    for name in NAMES:
        headers, body = sample(name)
        sent = {key: value for key, value in headers.items() if key != "content-length"}
        answer = service.client.post(
            f"/webhooks/{path}", headers=sent | {"authorization": SECRET}, data=body
        )
        assert (answer.status_code, answer.data) == (202, b""), name
    assert "answered 500" not in caplog.text
