"""Reads and writes CloudEvents over HTTP. No other module imports `cloudevents`.

https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/http-protocol-binding.md

The SDK (2.2) validates attributes and writes requests. This module reads requests itself, because
the SDK differs from the specification there:

- It reads a structured event as a binary one if the request has any `ce-` header.
- It does not support batches.
- It invents a missing id, and takes null for a value.
- It does not unquote headers, and accepts malformed UTF-8 in them.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_to_bytes

from cloudevents.core.bindings.http import to_binary_event
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.v03.event import CloudEvent as EventV03
from cloudevents.core.v1.event import CloudEvent as EventV1

from image_puller.errors import BadEventError
from image_puller.events.payload import load, parse_time, quote

_VERSIONS: Mapping[str, type[EventV1] | type[EventV03]] = {"1.0": EventV1, "0.3": EventV03}
_REQUIRED = ("specversion", "id", "source", "type")
_OPTIONAL = (
    "subject",
    "datacontenttype",
    "dataschema",
    "schemaurl",  # 0.3
    "datacontentencoding",  # 0.3
)

_STRUCTURED = "application/cloudevents"
_BATCH = "application/cloudevents-batch"
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}", re.ASCII)
_QUOTED_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """One event of a request.

    `data` is a JSON value in a structured event. It is bytes in a binary event, or if it was sent
    as base64. It is None if the event has no data. `time` is in UTC.
    """

    id: str
    source: str
    type: str
    subject: str | None
    time: datetime | None
    extensions: Mapping[str, str | int | bool]
    content_type: str | None
    data: Any

    def json(self) -> Any:
        """Return the data as a JSON value. Raises BadEventError.

        Call it only for known types, because other events may have data in any format.
        """
        return load(self.data) if isinstance(self.data, bytes) else self.data


def read(headers: Mapping[str, str], body: bytes) -> tuple[CloudEvent, ...] | None:
    """Return the CloudEvents of a request, or None if it is not a CloudEvents request.

    A batch may be empty. Header names are in lower case. Raises BadEventError if the request
    violates the specification.
    """
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type.startswith(_STRUCTURED):  # has precedence over ce- headers (binding, 3)
        return _read_json_format(media_type, body)
    if "ce-specversion" in headers:
        return (_binary(headers, body),)
    # EventBridge's input transformer can't set another content type, and `image-puller parse` may
    # have none. The search in the bytes saves other requests a second parse.
    if media_type in ("", "application/json") and b'"specversion"' in body:
        payload = load(body)
        if isinstance(payload, dict) and payload.keys() >= set(_REQUIRED):
            return (_structured(payload),)
    return None


def _read_json_format(media_type: str, body: bytes) -> tuple[CloudEvent, ...]:
    if media_type in (_BATCH, f"{_BATCH}+json"):
        batch = load(body)
        if not isinstance(batch, list):
            raise BadEventError(f"a batch of CloudEvents is not a list: {quote(batch)}")
        return tuple(_structured(envelope) for envelope in batch)
    if media_type in (_STRUCTURED, f"{_STRUCTURED}+json"):
        return (_structured(load(body)),)
    raise BadEventError(f"CloudEvents are accepted as JSON only, not {quote(media_type)}")


def _structured(envelope: Any) -> CloudEvent:
    if not isinstance(envelope, dict):
        raise BadEventError(f"a CloudEvent is not an object: {quote(envelope)}")
    attributes = {name: value for name, value in envelope.items() if value is not None}
    data = _data(attributes)
    return _event(attributes, data)


def _data(attributes: dict[str, Any]) -> Any:
    """Remove the data from the attributes of an envelope, and return it."""
    data, encoded = attributes.pop("data", None), attributes.pop("data_base64", None)
    if encoded is not None:
        if data is not None:
            raise BadEventError("a CloudEvent has both 'data' and 'data_base64'")
        return _from_base64("data_base64", encoded)
    if data is not None and attributes.get("datacontentencoding") == "base64":  # 0.3
        return _from_base64("data", data)
    return data


def _from_base64(name: str, text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, TypeError) as error:
        raise BadEventError(f"{name!r} is not base64: {quote(text)}") from error


def _binary(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    attributes: dict[str, Any] = {
        name.removeprefix("ce-"): _header_value(name, value)
        for name, value in headers.items()
        if name.startswith("ce-") and _is_attribute(name.removeprefix("ce-"))
    }
    attributes.pop("datacontenttype", None)  # in binary mode only Content-Type counts
    if content_type := headers.get("content-type"):
        attributes["datacontenttype"] = content_type
    return _event(attributes, body or None)


def _is_attribute(name: str) -> bool:
    """Whether a header is an attribute. Gateways add headers such as `Ce-Fc-Code-Checksum`."""
    return _ATTRIBUTE.fullmatch(name) is not None and name != "data"


def _header_value(name: str, value: str) -> str:
    """Return a header's value without double quotes, percent-decoded once."""
    if quoted := _QUOTED_STRING.fullmatch(value):
        value = re.sub(r"\\(.)", r"\1", quoted[1])
    try:
        return unquote_to_bytes(value).decode()
    except ValueError as error:
        raise BadEventError(f"{quote(name)} is not UTF-8: {quote(value)}") from error


def _event(attributes: dict[str, Any], data: Any) -> CloudEvent:
    version = _check_required(attributes)
    time = _time(attributes.pop("time", None))
    extensions = {
        name: _extension(name, value)
        for name, value in attributes.items()
        if name not in _REQUIRED and name not in _OPTIONAL
    }
    try:
        # A copy, because the SDK keeps the dict and adds a time to it.
        _VERSIONS[version]({**attributes})
    except CloudEventValidationError as error:
        name = min(error.errors)
        raise BadEventError(f"a CloudEvent's attribute {quote(name)} is not valid") from error
    return CloudEvent(
        id=attributes["id"],
        source=attributes["source"],
        type=attributes["type"],
        subject=attributes.get("subject"),
        time=time,
        extensions=extensions,
        content_type=attributes.get("datacontenttype"),
        data=data,
    )


def _check_required(attributes: Mapping[str, Any]) -> str:
    """Return the version. The SDK can't check these attributes, because it invents some of them."""
    for name in _REQUIRED:
        if name not in attributes:
            raise BadEventError(f"a CloudEvent has no {name!r}")
        value = attributes[name]
        if not isinstance(value, str) or not value:
            raise BadEventError(f"a CloudEvent's {name!r} is empty or no string: {quote(value)}")
    version: str = attributes["specversion"]
    if version not in _VERSIONS:
        raise BadEventError(f"a CloudEvent's 'specversion' is not 1.0 or 0.3: {quote(version)}")
    return version


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadEventError(f"not an RFC 3339 time: {quote(value)}")
    return parse_time(value)


def _extension(name: str, value: Any) -> str | int | bool:
    if not isinstance(value, str | int):
        raise BadEventError(
            f"a CloudEvent's {quote(name)} is not a string, integer or boolean: {quote(value)}"
        )
    return value


def to_request(
    event_type: str,
    source: str,
    event_id: str,
    time: datetime,
    data: Any,
    **others: str,
) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a request with one event in binary mode.

    `time` has a time zone. `data` is a JSON value; None gives an empty body. `others` has more
    attributes, such as `subject` and extensions.
    """
    attributes: dict[str, Any] = {
        **others,
        "type": event_type,
        "source": source,
        "id": event_id,
        "time": time,
    }
    body = None
    if data is not None:
        attributes["datacontenttype"] = "application/json"
        body = json.dumps(data).encode()  # the SDK would write the repr of a list
    message = to_binary_event(EventV1(attributes, body))
    return message.headers, message.body
