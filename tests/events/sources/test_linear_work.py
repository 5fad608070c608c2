"""Tests that the work to decode a request grows linearly with the length of the request.

The tests count Python's calls and lines, and calls into C, for requests of size n, 2n and 4n.
They do not see the work inside C functions. `make fuzz` limits that by a timeout for each request.
"""

import gc
import itertools
import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from image_puller.errors import BadEventError
from image_puller.events.sources import SOURCES, decode, quay
from tests.events.sources.test_any_request import DEEP
from tests.support.samples import FIXTURES, sample, source_of

SIZES = (40, 80, 160)
MARGIN, SLACK = 1.2, 50
"""The tolerances: a factor, and a number of steps for each added byte."""


def work(source: str, headers: Any, body: bytes) -> int:
    """Return how many steps the decoder takes."""
    steps = 0

    def called(_frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal steps
        steps += 1

    def traced(_frame: FrameType, _event: str, _argument: object) -> Any:
        nonlocal steps
        steps += 1
        return traced

    tracing, profiling = sys.gettrace(), sys.getprofile()
    gc.disable()  # a collection here would count finalizers of other tests
    sys.setprofile(called)
    sys.settrace(traced)
    try:
        decode(source, headers, body)
    except BadEventError:
        pass
    finally:
        sys.settrace(tracing)
        sys.setprofile(profiling)
        gc.enable()
    return steps


def with_longer_lists(value: Any, times: int) -> Any:
    if isinstance(value, dict):
        return {key: with_longer_lists(child, times) for key, child in value.items()}
    if isinstance(value, list):
        return [with_longer_lists(child, 1) for child in value] * times
    return value


def with_more_keys(value: Any, times: int) -> Any:
    if isinstance(value, dict):
        return {key: with_more_keys(child, times) for key, child in value.items()} | {
            f"more{number}": {"a": [number]} for number in range(times)
        }
    if isinstance(value, list):
        return [with_more_keys(child, times) for child in value]
    return value


def with_longer_texts(value: Any, times: int) -> Any:
    if isinstance(value, dict):
        return {key: with_longer_texts(child, times) for key, child in value.items()}
    if isinstance(value, list):
        return [with_longer_texts(child, times) for child in value]
    return value * times if isinstance(value, str) else value


def deeper(value: Any, times: int) -> Any:
    nested: Any = value
    for _ in range(times):
        nested = {"data": [nested]}
    return value | {"data": nested, "more": nested} if isinstance(value, dict) else [value, nested]


GROWTHS = (with_longer_lists, with_more_keys, with_longer_texts, deeper)


def requests() -> list[tuple[str, dict[str, str], Any]]:
    """Return every sample in JSON, and all requests of DEEP."""
    found: list[tuple[str, dict[str, str], Any]] = [
        (source, {}, payload) for source, payload in DEEP
    ]
    for file in sorted(FIXTURES.glob("*.json")):
        headers, body = sample(file.stem)
        found.append((source_of(file.stem), dict(headers), json.loads(body)))
    return found


def grows_linearly(source: str, request: Callable[[int], tuple[dict[str, str], bytes]]) -> bool:
    """Whether an added byte costs no more steps in a large request than in a small one."""
    lengths, steps = [], []
    for size in SIZES:
        headers, body = request(size)
        lengths.append(len(body) + sum(map(len, (*headers, *headers.values()))))
        work(source, headers, body)  # fills the caches
        steps.append(work(source, headers, body))
    first, second = (later - earlier for earlier, later in itertools.pairwise(steps))
    shorter, longer = (later - earlier for earlier, later in itertools.pairwise(lengths))
    return second * shorter <= MARGIN * first * longer + SLACK * (shorter or 1)


@pytest.mark.parametrize("growth", GROWTHS, ids=lambda growth: growth.__name__)
def test_work_grows_linearly_with_the_body(growth: Callable[[Any, int], Any]) -> None:
    for source, headers, payload in requests():

        def request(size: int, payload: Any = payload, headers: Any = headers) -> Any:
            return headers, json.dumps(growth(payload, size)).encode()

        assert grows_linearly(source, request), (source, payload)


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_work_grows_linearly_with_the_size_of_a_batch(source: str) -> None:
    payloads = [payload for name, _, payload in requests() if name == source][:2]
    headers = {"content-type": "application/cloudevents-batch+json"}
    envelope = {"specversion": "1.0", "id": "1", "source": "/s", "type": "com.example.image.pushed"}
    batch = [envelope | {"data": payload} for payload in payloads or [{}]]
    assert grows_linearly(source, lambda size: (headers, json.dumps(batch * size).encode()))


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_work_grows_linearly_with_the_headers(source: str) -> None:
    def request(size: int) -> tuple[dict[str, str], bytes]:
        event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t" * size}
        return event | {f"ce-more{number}": "%41" * size for number in range(size)}, b"{}"

    assert grows_linearly(source, request)


def test_quadratic_work_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    def every_pair(tags: list[str]) -> list[str]:
        return [min(tag, other) for tag in tags for other in tags if tag == other]

    def request(size: int) -> tuple[dict[str, str], bytes]:
        tags = [f"v{number}" for number in range(size)]
        return {}, json.dumps({"docker_url": "quay.io/a/b", "updated_tags": tags}).encode()

    assert grows_linearly("quay", request)
    monkeypatch.setattr(quay, "_tags", every_pair)
    assert not grows_linearly("quay", request)
