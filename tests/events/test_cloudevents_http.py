"""The CloudEvents HTTP binding."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_puller.errors import BadEventError
from image_puller.events.cloudevents_http import CloudEvent, read, to_request
from tests.support.samples import sample

STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
BINARY = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
ENVELOPE = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


def event(**changes):
    plain = {
        "id": "1", "source": "/s", "type": "t", "subject": None, "time": None,
        "extensions": {}, "content_type": None, "data": None,
    }  # fmt: skip
    return CloudEvent(**(plain | changes))


def structured(**changes):
    (found,) = read(STRUCTURED, json.dumps(ENVELOPE | changes).encode())
    return found


def binary(headers, body=b""):
    (found,) = read(BINARY | headers, body)
    return found


def test_a_structured_event_is_read():
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
def test_the_content_type_makes_an_event_structured_whatever_the_headers_say(content_type):
    headers = {"ce-specversion": "9", "ce-id": "", "ce-stray": "%FF", "content-type": content_type}
    assert read(headers, json.dumps(ENVELOPE).encode()) == (event(),)


def test_null_is_absent():
    assert structured(subject=None, time=None, dataschema=None, ext=None, data=None) == event()
    assert structured(data=None, data_base64="eA==").data == b"x"
    assert structured(data=[], data_base64=None).data == []


@pytest.mark.parametrize("data", [{"a": 1}, [1], "{}", 1, 0, False, ""])
def test_structured_data_is_any_json_value(data):
    assert structured(data=data).data == data
    assert structured(data=data).json() == data


def test_base64_data_is_bytes():
    assert structured(data_base64="eyJhIjogMX0=").data == b'{"a": 1}'
    assert structured(data_base64="eyJhIjogMX0=").json() == {"a": 1}


def test_version_0_3_has_an_encoding_of_its_own():
    old = {"specversion": "0.3", "schemaurl": "/schema"}
    assert structured(**old, data="e30=", datacontentencoding="base64").data == b"{}"
    assert structured(**old, data="e30=").data == "e30="
    assert structured(**old, data={"a": 1}).data == {"a": 1}
    assert structured(**old, datacontentencoding="base64") == event()


def test_an_absurd_time_is_none():
    assert structured(time="0001-01-01T00:00:00Z").time is None


@pytest.mark.parametrize("content_type", [None, "", "application/json", "Application/JSON; q=1"])
def test_an_event_under_a_plain_json_type_or_none_is_structured(content_type):
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
def test_another_request_has_no_events(headers, body):
    assert read(headers, body) is None


def test_a_batch_is_read_in_order():
    body = json.dumps([ENVELOPE, ENVELOPE | {"id": "2"}]).encode()
    assert read(BATCH, body) == (event(), event(id="2"))
    assert read({"content-type": "APPLICATION/CLOUDEVENTS-BATCH+JSON;x=y"}, body) is not None
    assert read({"content-type": "application/cloudevents-batch"}, body) is not None


def test_a_batch_may_be_empty():
    assert read(BATCH, b"[]") == ()


def test_a_binary_event_is_read():
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
    ("value", "read_as"),
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
def test_a_header_is_unquoted_and_decoded_once(value, read_as):
    assert binary({"ce-ext": value}).extensions == {"ext": read_as}


def test_the_content_type_of_binary_data_is_only_the_header():
    assert binary({"ce-datacontenttype": "text/plain"}).content_type is None
    assert binary({"content-type": ""}).content_type is None


def test_binary_data_is_read_as_json_when_asked_for():
    assert binary({"content-type": "text/plain"}, b'{"a": 1}').json() == {"a": 1}
    assert binary({}).data is None
    assert binary({}).json() is None
    broken = binary({"content-type": "application/json"}, b"{")
    with pytest.raises(BadEventError, match=r"^not JSON: "):
        broken.json()


def without(name):
    return {key: value for key, value in ENVELOPE.items() if key != name}


BAD_ENVELOPES = [
    *((without(name), f"a CloudEvent has no {name!r}") for name in ENVELOPE),
    *((ENVELOPE | {name: None}, f"a CloudEvent has no {name!r}") for name in ENVELOPE),
    *((ENVELOPE | {name: ""}, f"a CloudEvent's {name!r} is not a text: ''") for name in ENVELOPE),
    *((ENVELOPE | {name: 1}, f"a CloudEvent's {name!r} is not a text: 1") for name in ENVELOPE),
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
def test_a_structured_event_that_breaks_the_specification_is_refused(envelope, message):
    for headers, body in ((STRUCTURED, envelope), (BATCH, [ENVELOPE, envelope])):
        with pytest.raises(BadEventError) as error:
            read(headers, json.dumps(body).encode())
        assert str(error.value) == message
        assert error.value.status == 400


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"ce-id": ""}, "a CloudEvent's 'id' is not a text: ''"),
        ({"ce-specversion": "2.0"}, "a CloudEvent's 'specversion' is not 1.0 or 0.3: '2.0'"),
        ({"ce-subject": "%C0%A0"}, "'ce-subject' is not UTF-8: '%C0%A0'"),
        ({"ce-ext": "%ED%A0%80"}, "'ce-ext' is not UTF-8: '%ED%A0%80'"),
        ({"ce-time": "noon"}, "not an RFC 3339 time: 'noon'"),
        ({"ce-subject": ""}, "a CloudEvent's attribute 'subject' is not valid"),
        ({"ce-data": "x"}, "a CloudEvent's attribute 'data' is not valid"),
        ({"ce-": "x"}, "a CloudEvent's attribute '' is not valid"),
        ({"ce-a-b": "x"}, "a CloudEvent's attribute 'a-b' is not valid"),
    ],
)
def test_a_binary_event_that_breaks_the_specification_is_refused(headers, message):
    with pytest.raises(BadEventError) as error:
        binary(headers)
    assert str(error.value) == message


def test_a_binary_event_without_an_id_is_refused():
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
            "CloudEvents are understood as JSON only, not 'application/cloudevents+xml'",
        ),
        (
            "application/cloudevents-batch+avro",
            b"",
            "CloudEvents are understood as JSON only, not 'application/cloudevents-batch+avro'",
        ),
    ],
)  # fmt: skip
def test_a_body_that_is_not_its_content_type_is_refused(content_type, body, message):
    with pytest.raises(BadEventError) as error:
        read({"content-type": content_type}, body)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "name",
    ["cloudevents-structured-with-ce-headers", "cloudevents-structured-uppercase-content-type"],
)
def test_a_sample_is_structured(name):
    (found,) = read(*sample(name))
    assert (found.id, found.subject, found.data["tag"]) == ("ce-1", "team/app:v1", "v1")


def test_what_is_sent_reads_back():
    time = datetime(2026, 8, 20, 10, 11, 12, tzinfo=UTC)
    headers, body = to_request("io.image-puller.check", "/tick é", "id 1%", time, None)
    assert headers == {
        "ce-specversion": "1.0",
        "ce-type": "io.image-puller.check",
        "ce-source": "/tick%20%C3%A9",
        "ce-id": "id%201%25",
        "ce-time": "2026-08-20T10:11:12Z",
    }
    assert body == b""
    assert read(headers, body) == (
        event(id="id 1%", source="/tick é", type="io.image-puller.check", time=time),
    )


@pytest.mark.parametrize("data", [{"a": "é"}, [1, True, None], False, "text", 0])
def test_any_json_value_can_be_sent(data):
    time = datetime(2026, 8, 20, 10, 11, 12, tzinfo=UTC)
    headers, body = to_request(event_type="t", source="/s", event_id="1", time=time, data=data)
    (found,) = read(headers, body)
    assert found.content_type == "application/json"
    assert found.json() == data


header_values = st.text(st.characters(codec="latin-1"))
header_names = st.sampled_from(
    ["ce-id", "ce-type", "ce-source", "ce-time", "ce-subject", "ce-x", "content-type"]
)


@given(st.dictionaries(header_names, header_values), st.binary())
def test_any_headers_are_read_or_refused(headers, body):
    try:
        found = read({"ce-specversion": "1.0"} | headers, body)
    except BadEventError:
        return
    assert found is not None
    assert all(one.id and one.source and one.type for one in found)
