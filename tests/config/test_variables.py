"""Tests of the parsers of single values."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_puller.config import variables


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


LABEL = "must be a name of lower-case letters, digits and '-', 63 characters at most, not "
SUBDOMAIN = (
    "must be a name of lower-case letters, digits, '-' and '.', 253 characters at most, not "
)
HOURS = "must be a number of hours above 0, such as 1 or 0.5, 100000 at most, not "
SECONDS = "must be a number of seconds, such as 10 or 0, not "
NODES = "must be a number of nodes or a percentage from 1% to 100%, not "


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (variables.whole_number(1, 20), "1", 1),
        (variables.whole_number(1, 20), "020", 20),
        (variables.whole_number(0, 999_999_999), "999999999", 999_999_999),
        (variables.hours, "1", timedelta(hours=1)),
        (variables.hours, "+24", timedelta(hours=24)),
        (variables.hours, "0.5", timedelta(minutes=30)),
        (variables.hours, ".25", timedelta(minutes=15)),
        (variables.hours, "100000", timedelta(hours=100_000)),
        (variables.seconds, "0", timedelta(0)),
        (variables.seconds, "2.5", timedelta(seconds=2.5)),
        (variables.dns_label, "a", "a"),
        (variables.dns_label, "0-a--b", "0-a--b"),
        (variables.dns_label, "a" * 63, "a" * 63),
        (variables.dns_subdomain, "a.b-c.0", "a.b-c.0"),
        (variables.dns_subdomain, "a" * 253, "a" * 253),
        (variables.one_of(Colour), "green", Colour.GREEN),
        (variables.max_unavailable, "1", 1),
        (variables.max_unavailable, "1000000", 1_000_000),
        (variables.max_unavailable, "1%", "1%"),
        (variables.max_unavailable, "25%", "25%"),
        (variables.max_unavailable, "100%", "100%"),
        (variables.json_object, '{"a": {"b": [1, null]}}', {"a": {"b": [1, None]}}),
        (variables.json_object, "null", {}),
        (variables.json_strings, '{"a": "b", "": ""}', {"a": "b", "": ""}),
        (variables.json_strings, '{"a": "b", "a": "c"}', {"a": "c"}),
        (variables.json_strings, "null", {}),
        (variables.json_objects, '[{"a": 1}, {}]', ({"a": 1}, {})),
        (variables.json_objects, "[]", ()),
        (variables.json_objects, "null", ()),
        (variables.items, " a ;\n b;; c;", ("a", "b", "c")),
        (variables.items, " ; ", ()),
        (variables.assignments, "a=b; c = d=e ;", {"a": "b", "c": "d=e"}),
        (variables.assignments, "", {}),
    ],
)
def test_value_is_parsed(parse: Callable[[str], object], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        *(
            (
                variables.whole_number(1, 20),
                text,
                f"must be a whole number from 1 to 20, not {text!r}",
            )
            for text in ("0", "21", "-1", "+1", "1.0", "1e1", "1_0", "٣", "two", "1234567890")
        ),
        *(
            (variables.hours, text, HOURS + repr(text))
            for text in ("0", "0.0", "-1", "100000.1", "1h", "1e3", "1.", ".", "1_0", "inf", "nan")
        ),
        *(
            (variables.seconds, text, SECONDS + repr(text))
            for text in ("-1", "10s", "1e3", "inf", "٣", "1234567890")
        ),
        *(
            (variables.dns_label, text, LABEL + repr(text))
            for text in ("", "A", "a_b", "a.b", "-a", "a-", "a b", "é", "a\n", "a" * 64)
        ),
        *(
            (variables.dns_subdomain, text, SUBDOMAIN + repr(text))
            for text in ("", "A", "a_b", ".a", "a.", "a..b", "a.-b", "a-.b", "a/b", "a\n")
        ),
        (variables.dns_subdomain, "a" * 254, SUBDOMAIN + repr("a" * 80)),
        (variables.one_of(Colour), "blue", "must be red or green, not 'blue'"),
        (variables.one_of(Colour), "Red", "must be red or green, not 'Red'"),
        *(
            (variables.max_unavailable, text, NODES + repr(text))
            for text in ("0", "0%", "101%", "05%", "1.5%", "-1", "1000001", "all", "%")
        ),
        (variables.json_object, "[]", "must be a JSON object, not '[]'"),
        (variables.json_object, '"a"', "must be a JSON object, not '\"a\"'"),
        (
            variables.json_object,
            "a: b",
            "is not JSON (Expecting value: line 1 column 1 (char 0)): 'a: b'",
        ),
        (
            variables.json_object,
            "{} {}",
            "is not JSON (Extra data: line 1 column 4 (char 3)): '{} {}'",
        ),
        (variables.json_strings, "[]", "must be a JSON object, not '[]'"),
        (
            variables.json_strings,
            '{"a": "b", "c": 1}',
            "must be a JSON object of strings; 'c' is 1",
        ),
        (
            variables.json_strings,
            '{"a": null}',
            "must be a JSON object of strings; 'a' is None",
        ),
        (variables.json_objects, "{}", "must be a JSON array of objects, not '{}'"),
        (variables.json_objects, "[[]]", "must be a JSON array of objects, not '[[]]'"),
        (variables.json_objects, "[null]", "must be a JSON array of objects, not '[null]'"),
        (variables.assignments, "a", "must be a list of name=value;…; 'a' is not of that form"),
        (
            variables.assignments,
            "a=;b=c",
            "must be a list of name=value;…; 'a=' is not of that form",
        ),
        (variables.assignments, "=a", "must be a list of name=value;…; '=a' is not of that form"),
        (variables.assignments, "a=b;a=c", "'a' is set twice"),
    ],
)
def test_error_names_the_expected_form(
    parse: Callable[[str], object], text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        r'{"a": "\ud800"}',
        "[" * 100_000,
        "9" * 5000,
    ],
)
def test_json_that_only_python_accepts_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is not JSON \("):
        variables.json_object(text)


def test_subdomain_has_a_configurable_length() -> None:
    assert variables.dns_subdomain("a" * 63, longest=63) == "a" * 63
    with pytest.raises(ValueError, match=r"63 characters at most, not 'aaa"):
        variables.dns_subdomain("a" * 64, longest=63)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\n", r"'a\n'"),
        ("a" * 80, repr("a" * 80)),
        ("a" * 81, repr("a" * 80)),
        (1.5, "1.5"),
        (["a" * 90], repr(f"['{'a' * 78}")),
    ],
)
def test_quoted_value_has_at_most_80_characters(value: object, text: str) -> None:
    assert variables.quoted(value) == text


@pytest.mark.parametrize("unit", ["a", "a-", "a.", "-", "."])
def test_long_name_is_rejected_fast(unit: str) -> None:
    with pytest.raises(ValueError, match="must be a name"):
        variables.dns_subdomain(unit * 100_000 + "!", longest=10**6)


@given(st.dictionaries(st.text(), st.text()))
@settings(max_examples=50, deadline=None)
def test_parsed_json_can_be_written_again(value: dict[str, str]) -> None:
    assert variables.json_strings(json.dumps(value)) == value
