"""Typed access to JSON that a stranger sent: what is wrong with it is said with its path."""

import json
import re
import reprlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

from image_puller.errors import BadEventError

QUOTED_CHARACTERS = 80
"""An error quotes no more of a stranger's value: it ends in logs."""

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""An earlier time was not meant: Go's zero time (year 1), Unix time 0, a counter."""

T = TypeVar("T")

_KINDS: dict[type, str] = {str: "a string", dict: "an object", list: "a list"}
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)

# Not the built-in repr: that walks through a whole nested value, and can run out of stack.
_repr = reprlib.Repr()
_repr.maxstring = QUOTED_CHARACTERS


def quote(value: object) -> str:
    """A value as an error message may show it: its repr, cut."""
    return _repr.repr(value)[:QUOTED_CHARACTERS]


def load(body: bytes) -> Any:
    """Parse JSON in UTF-8 (a byte order mark is allowed), or raise BadEventError."""
    try:
        return json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except RecursionError:
        raise BadEventError("not JSON: nested too deeply") from None
    except ValueError as error:
        raise BadEventError(f"not JSON: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def field(payload: Any, path: str, kind: type[T]) -> T:
    """The value at a dotted path, which must be there and of that kind (str, dict or list)."""
    value = optional(payload, path, kind)
    if value is None:
        raise BadEventError(f"{path!r} is missing")
    return value


def optional(payload: Any, path: str, kind: type[T]) -> T | None:
    """The value at a dotted path; None where it, or something on the way to it, is not there.

    JSON's null counts as not there. A value of another kind is refused.
    """
    value, where = payload, "the payload"
    walked: list[str] = []
    for part in path.split("."):
        value = _checked(value, dict, where).get(part)
        if value is None:
            return None
        walked.append(part)
        where = repr(".".join(walked))
    return _checked(value, kind, where)


def objects(payload: Any, path: str) -> Iterator[dict[str, Any]]:
    """The objects of the list at a dotted path; none where there is no list."""
    for index, value in enumerate(optional(payload, path, list) or ()):
        yield _checked(value, dict, repr(f"{path}[{index}]"))


def _checked(value: Any, kind: type[T], where: str) -> T:
    if not isinstance(value, kind):
        raise BadEventError(f"{where} is not {_KINDS[kind]}: {quote(value)}")
    return value


def parse_time(text: str) -> datetime | None:
    """An RFC 3339 time in UTC, to the microsecond; BadEventError if it is none.

    A well-formed time that can't be meant (before EARLIEST, beyond datetime's range) is None.
    """
    normal = text.upper()
    if not _RFC3339.fullmatch(normal):
        raise BadEventError(f"not an RFC 3339 time: {quote(text)}")
    try:
        return _plausible(datetime.fromisoformat(normal))
    except ValueError as error:
        raise BadEventError(f"not an RFC 3339 time: {quote(text)}") from error


def rfc3339_time(value: Any) -> datetime | None:
    """The time in a registry's payload, in UTC; None where it is absent, bad or absurd.

    A registry's push counts, whatever its clock or its format says.
    """
    try:
        return parse_time(value) if isinstance(value, str) else None
    except BadEventError:
        return None


def unix_time(value: Any) -> datetime | None:
    """The Unix time in seconds in a registry's payload; None where it is absent, bad or absurd."""
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
