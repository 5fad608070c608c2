"""What holds for every source and any request."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_puller.errors import BadEventError
from image_puller.parse import render
from image_puller.sources import SOURCES, decode
from image_puller.sources.reasons import Reason

# Keys and values that lead deep into the decoders, among any others.
KEYS = st.sampled_from(
    """
    action apiVersion data digest docker_url event_data events host id kind mediaType metadata name
    occur_at registry repo_full_name repository request resource_url resources size source
    specversion tag target time timestamp type updated_tags url
    """.split()  # noqa: SIM905 - a list of words reads best as words
)
WORDS = st.sampled_from(
    """
    push delete pull PUSH_ARTIFACT DELETE_ARTIFACT harbor.artifact.pushed x.image.pushed
    io.image-puller.image.deleted dev.knative.apiserver.ref.add Node v1 1.0 team/app latest
    host/team/app:v1 host.example.com/team/app https://host/v2/team/app/manifests/v1
    application/vnd.oci.image.index.v1+json 2026-08-20T10:11:12Z
    """.split()  # noqa: SIM905
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(KEYS, values, max_size=8),
    max_leaves=30,
)
PAYLOADS = st.dictionaries(KEYS, VALUES, max_size=12) | VALUES
HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "ce-specversion", "ce-id", "ce-source", "ce-type", "ce-kind"]),
    st.sampled_from(
        [
            "application/json",
            "application/cloudevents+json",
            "application/cloudevents-batch+json",
        ]
    )
    | WORDS,
)

every_source = pytest.mark.parametrize("source", sorted(SOURCES))


def check(source, headers, body):
    """Decode to at least one event that can be printed, or refuse."""
    events = ()
    try:
        events = decode(source, headers, body)
    except BadEventError as error:
        message = str(error)
    else:
        message = ""
    assert bool(events) != bool(message)
    assert len(message) < 250  # a fixed text, and at most 80 characters of what was sent
    for event in events:
        said = json.loads(render(event))
        assert said["type"] != "ignored" or said["reason"] in set(Reason)
        assert said["type"] != "push" or said["tag"] or said["digest"]


@every_source
@given(HEADERS, st.binary())
def test_any_bytes_are_decoded_or_refused(source, headers, body):
    check(source, headers, body)


@every_source
@given(HEADERS, PAYLOADS)
def test_any_json_is_decoded_or_refused(source, headers, payload):
    check(source, headers, json.dumps(payload).encode())


@every_source
@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"type":' * 200_000, b"9" * 10_000])
def test_a_malicious_body_is_refused(source, body):
    with pytest.raises(BadEventError):
        decode(source, {}, body)


def test_the_patience_of_each_source():
    assert {source.name: source.patience for source in SOURCES.values()} == {
        "harbor": 2.5,
        "quay": 8,
        "distribution": 0.8,
        "gitlab": 0.8,
        "cloudevents": 2.5,
    }


def test_an_unknown_source_is_an_error_of_the_caller():
    with pytest.raises(KeyError):
        decode("unknown", {}, b"{}")
