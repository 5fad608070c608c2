"""Tests of the CloudEvents HTTP binding."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_puller.errors import BadEventError
from image_puller.events.cloudevents_http import CloudEvent, read, to_request
from tests.support.samples import sample

STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
BINARY = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
ENVELOPE: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


def parsed(headers: Mapping[str, str], body: bytes) -> tuple[CloudEvent, ...]:
    events = read(headers, body)
    assert events is not None
    return events


def event(**changes: Any) -> CloudEvent:
    plain: dict[str, Any] = {
        "id": "1", "source": "/s", "type": "t", "subject": None, "time": None,
        "extensions": {}, "content_type": None, "data": None,
    }  # fmt: skip
    return CloudEvent(**(plain | changes))


def structured(**changes: Any) -> CloudEvent:
    (found,) = parsed(STRUCTURED, json.dumps(ENVELOPE | changes).encode())
    return found


def binary(headers: dict[str, str], body: bytes = b"") -> CloudEvent:
    (found,) = parsed(BINARY | headers, body)
    return found


def test_structured_event_is_parsed() -> None:
    assert structured(
        subject="app:v1",
        time="2026-08-20T10:11:12.123456789+02:00",
        datacontenttype="application/json",
        dataschema="https://example.com/schema",
        data={"a": 1},
        operator="",
        count=3,
        final=True,
    ) == event(
        subject="app:v1",
        time=datetime(2026, 8, 20, 8, 11, 12, 123_456, tzinfo=UTC),
        content_type="application/json",
        data={"a": 1},
        extensions={"operator": "", "count": 3, "final": True},
    )


@pytest.mark.parametrize(
    "content_type",
    [
        "application/cloudevents+json",
        'Application/CloudEvents+JSON; Charset="UTF-8"',
        "application/cloudevents",
        "application/cloudevents+json ;charset=utf-8",
    ],
)
def test_content_type_of_structured_event_has_precedence_over_ce_headers(content_type: str) -> None:
    headers = {"ce-specversion": "9", "ce-id": "", "ce-stray": "%FF", "content-type": content_type}
    assert read(headers, json.dumps(ENVELOPE).encode()) == (event(),)


def test_null_counts_as_absent() -> None:
    assert structured(subject=None, time=None, dataschema=None, ext=None, data=None) == event()
    assert structured(data=None, data_base64="eA==").data == b"x"
    assert structured(data=[], data_base64=None).data == []


@pytest.mark.parametrize("data", [{"a": 1}, [1], "{}", 1, 0, False, ""])
def test_structured_data_may_be_any_json_value(data: Any) -> None:
    assert structured(data=data).data == data
    assert structured(data=data).json() == data


def test_base64_data_becomes_bytes() -> None:
    assert structured(data_base64="eyJhIjogMX0=").data == b'{"a": 1}'
    assert structured(data_base64="eyJhIjogMX0=").json() == {"a": 1}


def test_version_0_3_marks_base64_data_with_datacontentencoding() -> None:
    old = {"specversion": "0.3", "schemaurl": "/schema"}
    assert structured(**old, data="e30=", datacontentencoding="base64").data == b"{}"
    assert structured(**old, data="e30=").data == "e30="
    assert structured(**old, data={"a": 1}).data == {"a": 1}
    assert structured(**old, datacontentencoding="base64") == event()


def test_implausible_time_counts_as_absent() -> None:
    assert structured(time="0001-01-01T00:00:00Z").time is None


@pytest.mark.parametrize("content_type", [None, "", "application/json", "Application/JSON; q=1"])
def test_event_with_plain_json_content_type_or_none_is_structured(content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    assert read(headers, json.dumps(ENVELOPE).encode()) == (event(),)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b""),
        ({"content-type": "text/plain"}, json.dumps(ENVELOPE).encode()),
        ({"content-type": "application/json"}, b'{"specversion": "1.0", "id": "1", "type": "t"}'),
        ({"content-type": "application/json"}, b'["specversion"]'),
        ({"content-type": "application/json"}, b"{}"),
        ({"content-type": "application/json"}, b"{"),
        ({"ce-id": "1", "ce-type": "t"}, b"{}"),
    ],
)
def test_other_request_is_no_cloudevents_request(headers: dict[str, str], body: bytes) -> None:
    assert read(headers, body) is None


def test_batch_keeps_the_order_of_its_events() -> None:
    body = json.dumps([ENVELOPE, ENVELOPE | {"id": "2"}]).encode()
    assert read(BATCH, body) == (event(), event(id="2"))
    assert read({"content-type": "APPLICATION/CLOUDEVENTS-BATCH+JSON;x=y"}, body) is not None
    assert read({"content-type": "application/cloudevents-batch"}, body) is not None


def test_batch_may_be_empty() -> None:
    assert read(BATCH, b"[]") == ()


def test_binary_event_is_parsed() -> None:
    assert binary(
        {
            "ce-subject": "Euro%20%E2%82%AC%20%F0%9F%98%80",
            "ce-time": "2026-08-20T10:11:12Z",
            "ce-namespace": "",
            "content-type": "application/json; charset=utf-8",
            "user-agent": "x",
        },
        b'{"a": 1}',
    ) == event(
        subject="Euro € 😀",
        time=datetime(2026, 8, 20, 10, 11, 12, tzinfo=UTC),
        extensions={"namespace": ""},
        content_type="application/json; charset=utf-8",
        data=b'{"a": 1}',
    )


@pytest.mark.parametrize(
    ("value", "decoded"),
    [
        ("a%20b", "a b"),
        ("a%2520b", "a%20b"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ('"quoted \\"x\\" \\\\ %41"', 'quoted "x" \\ A'),
        ('"open', '"open'),
        ('""', ""),
        ("é", "é"),
    ],
)
def test_header_is_unquoted_and_percent_decoded_once(value: str, decoded: str) -> None:
    assert binary({"ce-ext": value}).extensions == {"ext": decoded}


def test_content_type_of_binary_event_comes_only_from_its_header() -> None:
    assert binary({"ce-datacontenttype": "text/plain"}).content_type is None
    assert binary({"content-type": ""}).content_type is None


def test_binary_data_is_parsed_as_json_on_demand() -> None:
    assert binary({"content-type": "text/plain"}, b'{"a": 1}').json() == {"a": 1}
    assert binary({}).data is None
    assert binary({}).json() is None
    broken = binary({"content-type": "application/json"}, b"{")
    with pytest.raises(BadEventError, match=r"^not JSON: "):
        broken.json()


def envelope_without(name: str) -> dict[str, Any]:
    return {key: value for key, value in ENVELOPE.items() if key != name}


BAD_ENVELOPES = [
    *((envelope_without(name), f"a CloudEvent has no {name!r}") for name in ENVELOPE),
    *((ENVELOPE | {name: None}, f"a CloudEvent has no {name!r}") for name in ENVELOPE),
    *(
        (ENVELOPE | {name: value}, f"a CloudEvent's {name!r} is empty or no string: {value!r}")
        for value in ("", 1)
        for name in ENVELOPE
    ),
    (ENVELOPE | {"specversion": "1.1"}, "a CloudEvent's 'specversion' is not 1.0 or 0.3: '1.1'"),
    (ENVELOPE | {"time": "noon"}, "not an RFC 3339 time: 'noon'"),
    (ENVELOPE | {"time": 3}, "not an RFC 3339 time: 3"),
    (ENVELOPE | {"time": ""}, "not an RFC 3339 time: ''"),
    (ENVELOPE | {"subject": ""}, "a CloudEvent's attribute 'subject' is not valid"),
    (ENVELOPE | {"subject": 1}, "a CloudEvent's attribute 'subject' is not valid"),
    (ENVELOPE | {"dataschema": []}, "a CloudEvent's attribute 'dataschema' is not valid"),
    (ENVELOPE | {"datacontenttype": 1}, "a CloudEvent's attribute 'datacontenttype' is not valid"),
    (ENVELOPE | {"Upper": "x"}, "a CloudEvent's attribute 'Upper' is not valid"),
    (ENVELOPE | {"": "x"}, "a CloudEvent's attribute '' is not valid"),
    (
        ENVELOPE | {"ext": {}},
        "a CloudEvent's 'ext' is not a string, integer or boolean: {}",
    ),
    (
        ENVELOPE | {"ext": 1.5},
        "a CloudEvent's 'ext' is not a string, integer or boolean: 1.5",
    ),
    (ENVELOPE | {"data": 1, "data_base64": "eA=="}, "a CloudEvent has both 'data' and 'data_base64'"),  # noqa: E501
    (ENVELOPE | {"data_base64": "x"}, "'data_base64' is not base64: 'x'"),
    (ENVELOPE | {"data_base64": "e\n30="}, r"'data_base64' is not base64: 'e\n30='"),
    (ENVELOPE | {"data_base64": "€"}, "'data_base64' is not base64: '€'"),
    (ENVELOPE | {"data_base64": {}}, "'data_base64' is not base64: {}"),
    (ENVELOPE | {"data": 1, "datacontentencoding": "base64"}, "'data' is not base64: 1"),
    ([], "a CloudEvent is not an object: []"),
    (None, "a CloudEvent is not an object: None"),
]  # fmt: skip


@pytest.mark.parametrize(("envelope", "message"), BAD_ENVELOPES)
def test_invalid_structured_event_is_rejected(envelope: Any, message: str) -> None:
    for headers, body in ((STRUCTURED, envelope), (BATCH, [ENVELOPE, envelope])):
        with pytest.raises(BadEventError) as error:
            read(headers, json.dumps(body).encode())
        assert str(error.value) == message
        assert error.value.status == 400


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"ce-id": ""}, "a CloudEvent's 'id' is empty or no string: ''"),
        ({"ce-specversion": "2.0"}, "a CloudEvent's 'specversion' is not 1.0 or 0.3: '2.0'"),
        ({"ce-subject": "%C0%A0"}, "'ce-subject' is not UTF-8: '%C0%A0'"),
        ({"ce-ext": "%ED%A0%80"}, "'ce-ext' is not UTF-8: '%ED%A0%80'"),
        ({"ce-time": "noon"}, "not an RFC 3339 time: 'noon'"),
        ({"ce-subject": ""}, "a CloudEvent's attribute 'subject' is not valid"),
    ],
)
def test_invalid_binary_event_is_rejected(headers: dict[str, str], message: str) -> None:
    with pytest.raises(BadEventError) as error:
        binary(headers)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "name",
    [
        "ce-",
        "ce-a-b",
        "ce-fc-code-checksum",
        "ce-trace_id",
        "ce-data",
        "ce-\u00e9",
        "ce-" + 30 * "x",
    ],
)
@pytest.mark.parametrize("value", ["x", "", "%FF"])
def test_header_that_is_no_attribute_is_ignored(name: str, value: str) -> None:
    """Gateways add such headers to the events that they forward."""
    assert binary({name: value}) == binary({})


def test_binary_event_without_id_is_rejected() -> None:
    headers = {name: value for name, value in BINARY.items() if name != "ce-id"}
    with pytest.raises(BadEventError, match=r"^a CloudEvent has no 'id'$"):
        read(headers, b"")


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("application/cloudevents+json", b"", "not JSON: Expecting value: line 1 column 1 (char 0)"),  # noqa: E501
        ("application/cloudevents-batch+json", b"{}", "a batch of CloudEvents is not a list: {}"),
        ("application/cloudevents-batch+json", b"[1]", "a CloudEvent is not an object: 1"),
        (
            "application/cloudevents+xml",
            b"<x/>",
            "CloudEvents are accepted as JSON only, not 'application/cloudevents+xml'",
        ),
        (
            "application/cloudevents-batch+avro",
            b"",
            "CloudEvents are accepted as JSON only, not 'application/cloudevents-batch+avro'",
        ),
    ],
)  # fmt: skip
def test_body_of_another_format_than_its_content_type_is_rejected(
    content_type: str, body: bytes, message: str
) -> None:
    with pytest.raises(BadEventError) as error:
        read({"content-type": content_type}, body)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "name",
    ["cloudevents-structured-with-ce-headers", "cloudevents-structured-uppercase-content-type"],
)
def test_sample_is_a_structured_event(name: str) -> None:
    (found,) = parsed(*sample(name))
    assert (found.id, found.subject, found.data["tag"]) == ("ce-1", "team/app:v1", "v1")


def test_written_request_parses_to_the_same_event() -> None:
    time = datetime(2026, 8, 20, 10, 11, 12, tzinfo=UTC)
    headers, body = to_request("io.image-puller.check", "/check é", "id 1%", time, None)
    assert headers == {
        "ce-specversion": "1.0",
        "ce-type": "io.image-puller.check",
        "ce-source": "/check%20%C3%A9",
        "ce-id": "id%201%25",
        "ce-time": "2026-08-20T10:11:12Z",
    }
    assert body == b""
    assert read(headers, body) == (
        event(id="id 1%", source="/check é", type="io.image-puller.check", time=time),
    )


def test_written_request_has_other_attributes() -> None:
    time = datetime(2026, 8, 20, 10, 11, 12, tzinfo=UTC)
    headers, body = to_request("t", "/s", "1", time, None, subject="node-1", team="ci é")
    assert (headers["ce-subject"], headers["ce-team"]) == ("node-1", "ci%20%C3%A9")
    (found,) = parsed(headers, body)
    assert (found.subject, found.extensions) == ("node-1", {"team": "ci é"})


@pytest.mark.parametrize("data", [{"a": "é"}, [1, True, None], False, "text", 0])
def test_any_json_value_can_be_written(data: Any) -> None:
    time = datetime(2026, 8, 20, 10, 11, 12, tzinfo=UTC)
    headers, body = to_request(event_type="t", source="/s", event_id="1", time=time, data=data)
    (found,) = parsed(headers, body)
    assert found.content_type == "application/json"
    assert found.json() == data


header_values = st.text(st.characters(codec="latin-1"))
header_names = st.sampled_from(
    ["ce-id", "ce-type", "ce-source", "ce-time", "ce-subject", "ce-x", "content-type"]
)


@given(st.dictionaries(header_names, header_values), st.binary())
def test_any_headers_are_parsed_or_rejected(headers: dict[str, str], body: bytes) -> None:
    try:
        found = read({"ce-specversion": "1.0"} | headers, body)
    except BadEventError:
        return
    assert found is not None
    assert all(each.id and each.source and each.type for each in found)
