"""The events that the service sends, as a sink received them."""

import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from e2e.harness.kubernetes_api import Json
from e2e.harness.sink import Received
from tests.support.json_schema import is_valid

_SCHEMAS = Path(__file__).parents[2] / "docs" / "events"


def sent(received: Iterable[Received], kind: str, subject: str) -> list[Json]:
    """Return the data of the events of a type about a subject, which must meet its schema."""
    schema = json.loads((_SCHEMAS / f"{kind}.schema.json").read_text())
    found = [
        json.loads(each.body)
        for each in received
        if each.headers["ce-type"] == f"io.image-puller.{kind}"
        if unquote(each.headers["ce-subject"]) == subject
    ]
    assert all(is_valid(each, schema, schema) for each in found)
    return found
