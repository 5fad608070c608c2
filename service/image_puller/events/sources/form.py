"""Reads webhooks that GitHub and Gitea send as a form, with the JSON in its field `payload`.

https://docs.github.com/en/webhooks/using-webhooks/creating-webhooks
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from image_puller.events.payload import load

_FIELD = b"payload="


def read(_headers: Mapping[str, str], body: bytes) -> Any:
    """Return the payload of a form, or of a body in JSON. Raises BadEventError."""
    if not body.startswith(_FIELD):
        return load(body)
    encoded = body.removeprefix(_FIELD).partition(b"&")[0]
    return load(unquote_to_bytes(encoded.replace(b"+", b" ")))
