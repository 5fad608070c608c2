"""Every sample request that lies beside the repository means what its index says."""

import json
from pathlib import Path

import pytest

from image_puller.errors import BadEventError
from image_puller.parse import render
from image_puller.sources import SOURCES, decode
from tests.samples import sample

PAYLOADS = Path(__file__).parents[2] / "shared" / "payloads"

# A sample is named after its source, but for these.
SOURCE_OF = {
    "eventgrid": "acr",
    "eventarc": "gar",
}


def source_of(name):
    beginning = name.partition("-")[0]
    return SOURCE_OF.get(beginning, beginning)


def samples():
    index = PAYLOADS / "INDEX.json"
    listed = json.loads(index.read_text("utf-8")) if index.exists() else []
    return [
        pytest.param(source_of(case["name"]), case, id=case["name"])
        for case in listed
        if source_of(case["name"]) in SOURCES and case.get("file")
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
def test_the_samples_are_found():
    assert len(samples()) >= 60
