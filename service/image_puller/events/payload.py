"""Typed access to the JSON of a request. An error names the path of the wrong value."""

import re
import reprlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

from image_puller.errors import BadEventError
from image_puller.values import bounded_json

QUOTED_CHARACTERS = 80
"""The most characters that an error message quotes of a value, because it is logged."""

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""An earlier time counts as absent: it is Go's zero time (year 1), Unix time 0 or a counter."""

T = TypeVar("T")

_KINDS: dict[type, str] = {str: "a string", dict: "an object", list: "a list"}
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)

# The built-in repr visits a whole nested value, and can exceed the recursion limit.
_repr = reprlib.Repr()
_repr.maxstring = QUOTED_CHARACTERS


def quote(value: object) -> str:
    """Return the repr of a value for an error message, cut to QUOTED_CHARACTERS."""
    return _repr.repr(value)[:QUOTED_CHARACTERS]


def load(body: bytes) -> Any:
    """Return the JSON value of a body in UTF-8, with or without a byte order mark.

    Raises BadEventError.
    """
    try:
        return bounded_json.load(body)
    except ValueError as error:
        raise BadEventError(f"not JSON: {error}") from error


def load_text(text: str) -> Any:
    """Return the JSON value of a text inside a body. Raises BadEventError."""
    return load(text.encode(errors="surrogatepass"))  # a lone surrogate is no UTF-8, so no JSON


def field(payload: Any, path: str, kind: type[T]) -> T:
    """Return the value at a dotted path. `kind` is str, dict or list.

    Raises BadEventError if the value is missing, null or of another kind.
    """
    value = optional(payload, path, kind)
    if value is None:
        raise BadEventError(f"{path!r} is missing")
    return value


def optional(payload: Any, path: str, kind: type[T]) -> T | None:
    """Return the value at a dotted path, or None if any part of the path is missing or null.

    `kind` is str, dict or list. Raises BadEventError if the value is of another kind.
    """
    value, name = payload, "the payload"
    walked: list[str] = []
    for part in path.split("."):
        value = _checked(value, dict, name).get(part)
        if value is None:
            return None
        walked.append(part)
        name = repr(".".join(walked))
    return _checked(value, kind, name)


def objects(payload: Any, path: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of the list at a dotted path. A missing list has none.

    Raises BadEventError if the value is no list, or one of its items is no object.
    """
    for index, value in enumerate(optional(payload, path, list) or ()):
        yield _checked(value, dict, repr(f"{path}[{index}]"))


def _checked(value: Any, kind: type[T], name: str) -> T:
    if not isinstance(value, kind):
        raise BadEventError(f"{name} is not {_KINDS[kind]}: {quote(value)}")
    return value


def parse_time(text: str) -> datetime | None:
    """Return an RFC 3339 time in UTC, cut to microseconds.

    A time before EARLIEST or beyond datetime's range is None. Raises BadEventError if the text is
    not an RFC 3339 time.
    """
    normal = text.upper()
    if not _RFC3339.fullmatch(normal):
        raise BadEventError(f"not an RFC 3339 time: {quote(text)}")
    try:
        return _plausible(datetime.fromisoformat(normal))
    except ValueError as error:
        raise BadEventError(f"not an RFC 3339 time: {quote(text)}") from error


def rfc3339_time(value: Any) -> datetime | None:
    """Return the RFC 3339 time of a registry's payload in UTC.

    A missing, malformed or implausible time is None, because the event counts without it.
    """
    try:
        return parse_time(value) if isinstance(value, str) else None
    except BadEventError:
        return None


def unix_time(value: Any) -> datetime | None:
    """Return the time of a registry's payload in UTC, given in seconds since 1970.

    A missing, malformed or implausible time is None, because the event counts without it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return _plausible(datetime.fromtimestamp(value, UTC))
    except (ValueError, OverflowError, OSError):
        return None


def _plausible(moment: datetime) -> datetime | None:
    try:
        return moment.astimezone(UTC) if moment >= EARLIEST else None
    except OverflowError:  # the last hours of the year 9999, in a western time zone
        return None
