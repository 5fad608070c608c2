"""Every sample request means what the index of the samples says."""

import json

import pytest

from image_puller.cli.event_json import render
from image_puller.errors import BadEventError
from image_puller.events.sources import decode
from tests.support.samples import FIXTURES, sample, source_of

INDEX = json.loads(FIXTURES.with_suffix(".json").read_text("utf-8"))


def wrappable(case):
    """Whether the body is JSON and no CloudEvent yet."""
    headers, body = sample(case["name"])
    is_event = "ce-specversion" in headers or b'"specversion":"1.0"' in body
    return not is_event and "cloudevents" not in str(headers) and body.startswith((b"{", b"["))


def samples(selected=lambda _: True):
    return [pytest.param(case, id=case["name"]) for case in INDEX if selected(case)]


def pushes(events):
    lines = [json.loads(render(event)) for event in events]
    keys = ("registry", "repository", "tag", "digest")
    return [{key: line[key] for key in keys} for line in lines if line["type"] == "push"]


@pytest.mark.parametrize("case", samples())
def test_a_sample_means_the_pushes_of_its_index(case):
    source, request = source_of(case["name"]), sample(case["name"])
    if "must be refused" in (case["ignore"] or ""):
        with pytest.raises(BadEventError):
            decode(source, *request)
    else:
        assert pushes(decode(source, *request)) == case["expect"]


@pytest.mark.parametrize("case", samples(wrappable))
def test_a_sample_means_the_same_in_a_cloudevent(case):
    _, body = sample(case["name"])
    envelope = {"specversion": "1.0", "id": "1", "source": "/s", "type": "com.example.forwarded"}
    wrapped = json.dumps(envelope | {"data": json.loads(body)}).encode()
    headers = {"content-type": "application/cloudevents+json"}
    assert pushes(decode(source_of(case["name"]), headers, wrapped)) == case["expect"]


def test_the_index_has_every_sample():
    names = {file.name.removesuffix(".headers.txt") for file in FIXTURES.glob("*.headers.txt")}
    assert names == {case["name"] for case in INDEX}
    assert len(samples(wrappable)) > len(INDEX) / 2
