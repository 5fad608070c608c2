"""Every sample request that lies beside the repository means what its index says."""

import json
from pathlib import Path

import pytest

from image_puller.cli.event_json import render
from image_puller.errors import BadEventError
from image_puller.events.sources import SOURCES, decode
from tests.support.samples import FIXTURES, sample, source_of

PAYLOADS = Path(__file__).parents[3] / "shared" / "payloads"


def listed():
    """All but the handshake, which has no body: `test_web.py` has it."""
    index = PAYLOADS / "INDEX.json"
    cases = json.loads(index.read_text("utf-8")) if index.exists() else []
    return [case for case in cases if case["file"]]


def wrappable(case):
    """Whether it is JSON, and no CloudEvent yet."""
    headers, body = sample(case["name"], PAYLOADS)
    is_event = "ce-specversion" in headers or b'"specversion":"1.0"' in body
    return not is_event and "cloudevents" not in str(headers) and body.startswith((b"{", b"["))


def samples(selected=lambda _: True):
    return [
        pytest.param(source_of(case["name"]), case, id=case["name"])
        for case in listed()
        if selected(case)
    ]


def pushes(events):
    lines = [json.loads(render(event)) for event in events]
    keys = ("registry", "repository", "tag", "digest")
    return [{key: line[key] for key in keys} for line in lines if line["type"] == "push"]


@pytest.mark.skipif(not PAYLOADS.is_dir(), reason=f"no sample requests in {PAYLOADS}")
@pytest.mark.parametrize(("source", "case"), samples())
def test_a_sample_means_the_pushes_that_its_index_expects(source, case):
    request = sample(case["name"], PAYLOADS)
    if "must be refused" in (case["ignore"] or ""):
        with pytest.raises(BadEventError):
            decode(source, *request)
    else:
        assert pushes(decode(source, *request)) == case["expect"]


@pytest.mark.skipif(not PAYLOADS.is_dir(), reason=f"no sample requests in {PAYLOADS}")
@pytest.mark.parametrize(("source", "case"), samples(wrappable))
def test_a_sample_means_the_same_wrapped_in_a_cloudevent(source, case):
    _, body = sample(case["name"], PAYLOADS)
    envelope = {"specversion": "1.0", "id": "1", "source": "/s", "type": "com.example.forwarded"}
    wrapped = json.dumps(envelope | {"data": json.loads(body)}).encode()
    events = decode(source, {"content-type": "application/cloudevents+json"}, wrapped)
    assert pushes(events) == case["expect"]


@pytest.mark.skipif(not PAYLOADS.is_dir(), reason=f"no sample requests in {PAYLOADS}")
def test_the_samples_are_found_for_every_source():
    assert len(samples()) >= 119
    assert {source_of(case["name"]) for case in listed()} == set(SOURCES)


@pytest.mark.skipif(not PAYLOADS.is_dir(), reason=f"no sample requests in {PAYLOADS}")
def test_the_fixtures_are_all_samples_that_may_be_copied_byte_by_byte():
    copied = {case["name"] for case in listed() if case["kind"] == "constructed"}
    assert {file.name.removesuffix(".headers.txt") for file in FIXTURES.glob("*.txt")} == copied
    for file in FIXTURES.iterdir():
        assert file.read_bytes() == (PAYLOADS / file.name).read_bytes()
