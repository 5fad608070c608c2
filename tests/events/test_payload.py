"""Tests of the typed access to JSON."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_puller.errors import BadEventError
from image_puller.events.payload import (
    field,
    load,
    objects,
    optional,
    parse_time,
    quote,
    rfc3339_time,
    unix_time,
)

PAYLOAD: dict[str, Any] = {
    "event_data": {"repository": {"name": "app", "tags": ["a"]}, "none": None},
    "list": [{"a": 1}, {}],
    "mixed": [{}, "x"],
}


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, 2.5, true, null, "x"]}', {"a": [1, 2.5, True, None, "x"]}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        ('"ü"'.encode(), "ü"),
        (b'"\\u00fc"', "ü"),
        (b"\xef\xbb\xbf{}", {}),
        (b" null ", None),
    ],
)
def test_json_is_parsed(body: bytes, value: Any) -> None:
    assert load(body) == value


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"{", "not JSON: Expecting property name enclosed in double quotes: "),
        (b"{} x", "not JSON: Extra data: line 1 column 4 (char 3)"),
        (b"\xff", "not JSON: 'utf-8' codec can't decode byte 0xff in position 0: "),
        ("{}".encode("utf-16"), "not JSON: 'utf-8' codec can't decode byte 0xff in position 0: "),
        (b"NaN", "not JSON: NaN is not a JSON number"),
        (b"[Infinity]", "not JSON: Infinity is not a JSON number"),
        (b'{"a": -Infinity}', "not JSON: -Infinity is not a JSON number"),
        (b"[" * 40_000, "not JSON: nested too deeply"),
        (b'{"a":' * 40_000, "not JSON: nested too deeply"),
        (b"1" * 5000, "not JSON: Exceeds the limit (4300 digits) for integer string conversion"),
    ],
)
def test_body_that_is_not_json_is_rejected(body: bytes, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        load(body)
    assert str(error.value).startswith(message)


@given(st.binary())
def test_any_bytes_are_parsed_or_rejected(body: bytes) -> None:
    with suppress(BadEventError):
        load(body)


def test_field_is_found_by_its_path() -> None:
    assert field(PAYLOAD, "event_data.repository.name", str) == "app"
    assert field(PAYLOAD, "event_data.repository", dict)["name"] == "app"
    assert field(PAYLOAD, "list", list) == [{"a": 1}, {}]


@pytest.mark.parametrize(
    ("payload", "path", "kind", "message"),
    [
        (PAYLOAD, "event_data.repository.url", str, "'event_data.repository.url' is missing"),
        (PAYLOAD, "event_data.none", str, "'event_data.none' is missing"),
        (PAYLOAD, "event_data.none.deeper", str, "'event_data.none.deeper' is missing"),
        (PAYLOAD, "list", str, "'list' is not a string: [{'a': 1}, {}]"),
        (PAYLOAD, "list", dict, "'list' is not an object: [{'a': 1}, {}]"),
        (PAYLOAD, "event_data.repository.name", list, "'event_data.repository.name' is not a list: 'app'"),  # noqa: E501
        (PAYLOAD, "event_data.repository.name.x", str, "'event_data.repository.name' is not an object: 'app'"),  # noqa: E501
        ([1], "a", str, "the payload is not an object: [1]"),
        (None, "a", str, "the payload is not an object: None"),
        ("\ud800", "a", str, r"the payload is not an object: '\ud800'"),
        ({"a": True}, "a", str, "'a' is not a string: True"),
    ],
)  # fmt: skip
def test_error_names_the_path_of_the_wrong_field(
    payload: Any, path: str, kind: type[Any], message: str
) -> None:
    with pytest.raises(BadEventError) as error:
        field(payload, path, kind)
    assert str(error.value) == message


def test_optional_field_may_be_missing_or_null_but_not_of_another_type() -> None:
    assert optional(PAYLOAD, "event_data.repository.name", str) == "app"
    assert optional(PAYLOAD, "event_data.none", str) is None
    assert optional(PAYLOAD, "nothing.at.all", str) is None
    with pytest.raises(BadEventError, match=r"^'event_data' is not a string: \{'none': None, "):
        optional(PAYLOAD, "event_data", str)


def test_objects_yields_the_objects_of_a_list() -> None:
    assert list(objects(PAYLOAD, "list")) == [{"a": 1}, {}]
    assert list(objects(PAYLOAD, "event_data.none")) == []
    assert list(objects(PAYLOAD, "nothing")) == []
    with pytest.raises(BadEventError, match=r"^'mixed\[1\]' is not an object: 'x'$"):
        list(objects(PAYLOAD, "mixed"))
    with pytest.raises(BadEventError, match=r"^'event_data' is not a list: "):
        list(objects(PAYLOAD, "event_data"))


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", ["x" * 10_000, list(range(10_000)), "\0" * 200, nested(900)])
def test_quoted_value_has_at_most_80_characters(value: Any) -> None:
    assert len(quote(value)) <= 80


def test_short_value_is_quoted_as_its_repr() -> None:
    assert quote("it's\n") == repr("it's\n")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-08-20T10:11:12Z", datetime(2026, 8, 20, 10, 11, 12, tzinfo=UTC)),
        ("2026-08-20t10:11:12z", datetime(2026, 8, 20, 10, 11, 12, tzinfo=UTC)),
        ("2026-08-20 10:11:12Z", datetime(2026, 8, 20, 10, 11, 12, tzinfo=UTC)),
        ("2026-08-20T10:11:12.5Z", datetime(2026, 8, 20, 10, 11, 12, 500_000, tzinfo=UTC)),
        ("2026-08-20T10:11:12.1234567Z", datetime(2026, 8, 20, 10, 11, 12, 123_456, tzinfo=UTC)),
        ("2026-08-20T10:11:12.123456999Z", datetime(2026, 8, 20, 10, 11, 12, 123_456, tzinfo=UTC)),
        ("2016-03-09T14:44:26.402-08:00", datetime(2016, 3, 9, 22, 44, 26, 402_000, tzinfo=UTC)),
        ("2026-08-20T10:11:12+05:30", datetime(2026, 8, 20, 4, 41, 12, tzinfo=UTC)),
        ("2000-01-01T00:00:00Z", datetime(2000, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+12:00", None),
        ("1999-12-31T23:59:59Z", None),
        ("9999-12-31T23:59:59-12:00", None),
    ],
)
def test_rfc3339_time_is_parsed_to_utc(text: str, moment: datetime | None) -> None:
    for time in (parse_time(text), rfc3339_time(text)):
        assert time == moment
        assert time is None or time.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "2026-08-20", "2026-08-20T10:11:12", "2026-13-20T10:11:12Z",
        "2026-08-20T25:11:12Z", "2026-08-20T10:11:12+2500", "2026-08-20T10:11:12+25:00",
        "2026-W34-4T10:11:12Z", "2026-08-20T10:11:12.Z", "٢026-08-20T10:11:12Z",
        "2026-08-20T10:11:12Z\n", "0000-01-01T00:00:00Z", "x" * 1000,
    ],
)  # fmt: skip
def test_text_that_is_no_rfc3339_time_is_rejected(text: str) -> None:
    with pytest.raises(BadEventError, match=r"^not an RFC 3339 time: '") as error:
        parse_time(text)
    assert len(str(error.value)) <= len("not an RFC 3339 time: ") + 80
    assert rfc3339_time(text) is None


@pytest.mark.parametrize("value", [None, 1, True, ["2026-08-20T10:11:12Z"], {}])
def test_time_that_is_no_string_counts_as_absent(value: Any) -> None:
    assert rfc3339_time(value) is None


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (1_755_763_200, datetime(2025, 8, 21, 8, tzinfo=UTC)),
        (1_417_566_822.0, datetime(2014, 12, 3, 0, 33, 42, tzinfo=UTC)),
        (0, None),
        (-1, None),
        (-(10**30), None),
        (1_755_763_200_000, None),
        (10**400, None),
        (float("inf"), None),
        (float("nan"), None),
        (True, None),
        ("1755763200", None),
        (None, None),
    ],
)
def test_unix_time_is_converted_to_utc(value: Any, moment: datetime | None) -> None:
    assert unix_time(value) == moment
