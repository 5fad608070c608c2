"""Findings: the steps within their time, and how findings are printed."""

import json
import threading
from collections.abc import Iterator

import pytest

from image_puller.cli import findings
from image_puller.cli.findings import Finding, Step, failed, ok, skipped, warning
from image_puller.errors import RefusedByClusterError

FINE = ok("first", "fine")
WRONG = failed("second", "not there", "kubectl create it")


def step(title: str, *found: Finding) -> Step:
    return Step(title=title, run=lambda: found)


def test_steps_run_in_their_order() -> None:
    assert list(findings.within(10, [step("a", FINE, WRONG), step("b"), step("c", FINE)])) == [
        FINE,
        WRONG,
        FINE,
    ]


def test_what_is_unfinished_at_the_end_is_told() -> None:
    ends = threading.Event()

    def hang() -> Iterator[Finding]:
        yield FINE
        ends.wait(10)

    times = iter((0.0, 0.0, 0.0))
    steps = [step("a", FINE), Step(title="b", run=hang), step("c", FINE)]
    found = list(findings.within(5, steps, clock=lambda: next(times, 99.0)))
    ends.set()
    assert (found[-2].title, found[-2].result) == ("b", "failed")
    assert found[-2].detail == "it was not finished within 5 s"
    assert found[-1] == skipped("c", "the time of 5 s was over")


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (RefusedByClusterError("not allowed"), "not allowed"),
        (KeyError("spec"), "the check itself failed: KeyError: 'spec'"),
    ],
)
def test_an_error_fails_its_step_and_no_other(error: Exception, detail: str) -> None:
    def fail() -> Iterator[Finding]:
        yield FINE
        raise error

    found = list(findings.within(10, [Step(title="a", run=fail), step("b", FINE)]))
    assert [each.title for each in found] == ["first", "a", "first"]
    assert (found[1].result, found[1].detail) == ("failed", detail)
    assert found[1].fix


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (FINE, "✓ first: fine\n"),
        (WRONG, "✗ second: not there\n    kubectl create it\n"),
        (warning("a", "b", "c"), "! a: b\n    c\n"),
        (skipped("a", "b"), "- a: b\n"),
        (ok("a", "red\x1b[31m\nline"), "✓ a: red [31m line\n"),
    ],
)
def test_a_finding_is_a_line_with_its_fix_below(finding: Finding, text: str) -> None:
    assert findings.as_lines(finding, "utf-8") == text


def test_a_stream_without_the_symbols_gets_words() -> None:
    assert findings.as_lines(FINE, "ascii") == "[ok] first: fine\n"
    assert findings.as_lines(WRONG, "latin-1").startswith("[failed] second")
    assert findings.as_lines(warning("a", "…", "c"), "ascii") == "! a: ?\n    c\n"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ([FINE], "Nothing failed, 0 warnings.\n"),
        ([FINE, warning("a", "b", "c")], "Nothing failed, 1 warning.\n"),
        ([WRONG, WRONG], "2 failed, 0 warnings.\n"),
    ],
)
def test_the_last_line_counts(found: list[Finding], text: str) -> None:
    assert findings.summary(found) == text


def test_json_has_all_findings() -> None:
    assert json.loads(findings.as_json([FINE, WRONG])) == {
        "ok": False,
        "findings": [
            {"title": "first", "result": "ok", "detail": "fine", "fix": ""},
            {
                "title": "second",
                "result": "failed",
                "detail": "not there",
                "fix": "kubectl create it",
            },
        ],
    }
