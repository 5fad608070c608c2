"""Tests that every sample decodes to the pushes that the index of the samples lists."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from image_puller.cli.event_json import render
from image_puller.errors import BadEventError
from image_puller.events.event import Event
from image_puller.events.sources import decode
from tests.support.samples import FIXTURES, sample, source_of

Case = dict[str, Any]

INDEX: list[Case] = json.loads(FIXTURES.with_suffix(".json").read_text("utf-8"))


def fits_into_cloudevent(case: Case) -> bool:
    """Whether the body is JSON, and the request is not a CloudEvent already."""
    headers, body = sample(case["name"])
    is_event = "ce-specversion" in headers or b'"specversion":"1.0"' in body
    return not is_event and "cloudevents" not in str(headers) and body.startswith((b"{", b"["))


WRAPPABLE = [case for case in INDEX if fits_into_cloudevent(case)]


def name_of(case: Case) -> str:
    name: str = case["name"]
    return name


def pushes(events: Iterable[Event]) -> list[dict[str, Any]]:
    lines = [json.loads(render(event)) for event in events]
    keys = ("registry", "repository", "tag", "digest")
    return [{key: line[key] for key in keys} for line in lines if line["type"] == "push"]


@pytest.mark.parametrize("case", INDEX, ids=name_of)
def test_sample_decodes_to_the_pushes_in_the_index(case: Case) -> None:
    source, request = source_of(case["name"]), sample(case["name"])
    if "must be refused" in (case["ignore"] or ""):
        with pytest.raises(BadEventError):
            decode(source, *request)
    else:
        assert pushes(decode(source, *request)) == case["expect"]


@pytest.mark.parametrize("case", WRAPPABLE, ids=name_of)
def test_sample_decodes_to_the_same_pushes_inside_a_cloudevent(case: Case) -> None:
    _, body = sample(case["name"])
    envelope = {"specversion": "1.0", "id": "1", "source": "/s", "type": "com.example.forwarded"}
    wrapped = json.dumps(envelope | {"data": json.loads(body)}).encode()
    headers = {"content-type": "application/cloudevents+json"}
    assert pushes(decode(source_of(case["name"]), headers, wrapped)) == case["expect"]


def test_index_lists_every_sample() -> None:
    names = {file.name.removesuffix(".headers.txt") for file in FIXTURES.glob("*.headers.txt")}
    assert names == {case["name"] for case in INDEX}
    assert len(WRAPPABLE) > len(INDEX) / 2
