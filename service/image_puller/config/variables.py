"""Parsers of single values. Each raises ValueError with a message that names the expected form."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

Choice = TypeVar("Choice", bound=StrEnum)

_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_QUOTED_CHARACTERS = 80
_DNS_SUBDOMAIN_CHARACTERS = 253
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]+(-+[a-z0-9]+)*(\.[a-z0-9]+(-+[a-z0-9]+)*)*", re.ASCII)
_NUMBER = re.compile(r"\+?([0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9})", re.ASCII)
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_PERCENT = re.compile(r"([1-9][0-9]?|100)%", re.ASCII)
_PRINTABLE = re.compile(r"[!-~]{1,512}", re.ASCII)
_HTTPS_URL = re.compile(
    r"https://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*)?",
    re.ASCII,
)
_HTTP_URL = re.compile(
    r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
    r"(/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*)?(\?[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?",
    re.ASCII,
)
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII)
_LONGEST_INTERVAL_HOURS = 100_000


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        if not _WHOLE_NUMBER.fullmatch(text) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}, not {quoted(text)}")
        return int(text)

    return parse


def hours(text: str) -> timedelta:
    """Parse a number of hours above zero. Fractions are allowed."""
    if not _NUMBER.fullmatch(text) or not 0 < float(text) <= _LONGEST_INTERVAL_HOURS:
        raise ValueError(
            "must be a number of hours above 0, such as 1 or 0.5, "
            f"{_LONGEST_INTERVAL_HOURS} at most, not {quoted(text)}"
        )
    return timedelta(hours=float(text))


def seconds(text: str) -> timedelta:
    """Parse a number of seconds, zero or more. Fractions are allowed."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"must be a number of seconds, such as 10 or 0, not {quoted(text)}")
    return timedelta(seconds=float(text))


def dns_label(text: str) -> str:
    """Parse a DNS label, which is a name of 63 characters at most (RFC 1123)."""
    if not _DNS_LABEL.fullmatch(text):
        raise ValueError(
            "must be a name of lower-case letters, digits and '-', 63 characters at most, "
            f"not {quoted(text)}"
        )
    return text


def dns_subdomain(text: str, *, longest: int = _DNS_SUBDOMAIN_CHARACTERS) -> str:
    """Parse a DNS subdomain, the form of most names in Kubernetes (RFC 1123)."""
    if len(text) > longest or not _DNS_SUBDOMAIN.fullmatch(text):
        raise ValueError(
            "must be a name of lower-case letters, digits, '-' and '.', "
            f"{longest} characters at most, not {quoted(text)}"
        )
    return text


def boolean(text: str) -> bool:
    """Parse `true` or `false`, in any case."""
    if text.lower() not in ("true", "false"):
        raise ValueError(f"must be true or false, not {quoted(text)}")
    return text.lower() == "true"


def printable(text: str) -> str:
    """Parse printable ASCII without spaces, 512 characters at most."""
    if not _PRINTABLE.fullmatch(text):
        raise ValueError(
            f"must be of printable ASCII without spaces, 512 characters at most, not {quoted(text)}"
        )
    return text


def https_url(text: str) -> str:
    """Parse an https URL without user, query and fragment."""
    if not _HTTPS_URL.fullmatch(text):
        raise ValueError(f"must be a URL such as https://host/path, not {quoted(text)}")
    return text


def http_url(text: str) -> str:
    """Parse an http or https URL without user and fragment."""
    if not _HTTP_URL.fullmatch(text):
        raise ValueError(f"must be a URL such as http://host/path, not {quoted(text)}")
    return text


def one_of(choices: type[Choice]) -> Callable[[str], Choice]:
    """Return a parser of the values of an enumeration."""

    def parse(text: str) -> Choice:
        try:
            return choices(text)
        except ValueError:
            expected = " or ".join(choices)
            raise ValueError(f"must be {expected}, not {quoted(text)}") from None

    return parse


def max_unavailable(text: str) -> int | str:
    """Parse `maxUnavailable` of a rolling update: a number of nodes, or a percentage of them."""
    if _PERCENT.fullmatch(text):
        return text
    try:
        return whole_number(1, 1_000_000)(text)
    except ValueError:
        raise ValueError(
            f"must be a number of nodes or a percentage from 1% to 100%, not {quoted(text)}"
        ) from None


def json_object(text: str) -> dict[str, Any]:
    """Parse a JSON object. `null` is an empty one, as for the original image puller."""
    value = _json(text)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"must be a JSON object, not {quoted(text)}")
    return value


def json_strings(text: str) -> dict[str, str]:
    """Parse a JSON object whose values are strings."""
    value = json_object(text)
    for key, item in value.items():
        if not isinstance(item, str):
            raise ValueError(f"must be a JSON object of strings; {quoted(key)} is {quoted(item)}")
    return value


def labels(text: str) -> dict[str, str]:
    """Parse a JSON object of labels."""
    value = json_strings(text)
    for key, item in value.items():
        check_label(key, item)
    return value


def check_label(key: str, value: str) -> None:
    """Raise ValueError for a key and a value that no label can have."""
    _check_label_name(key)
    if value and not _LABEL_NAME.fullmatch(value):
        raise ValueError(
            f"the value of {quoted(key)} must be of letters, digits, '-', '_' and '.', with a "
            f"letter or digit at both ends, 63 characters at most, not {quoted(value)}"
        )


def annotations(text: str) -> dict[str, str]:
    """Parse a JSON object of annotations. Their values may be any text."""
    value = json_strings(text)
    for key in value:
        _check_label_name(key.lower())
    return value


def label_name(text: str) -> str:
    """Parse the name of a label."""
    _check_label_name(text)
    return text


def json_objects(text: str) -> tuple[dict[str, Any], ...]:
    """Parse a JSON array of objects. `null` is an empty one."""
    value = _json(text)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"must be a JSON array of objects, not {quoted(text)}")
    return tuple(value)


def items(text: str) -> tuple[str, ...]:
    """Split a list at its semicolons. Its items are trimmed, and empty ones are dropped."""
    return tuple(part for part in map(str.strip, text.split(";")) if part)


def assignments(text: str) -> dict[str, str]:
    """Parse `name=value;…`. A value may contain `=`. Each name must be unique."""
    pairs: dict[str, str] = {}
    for item in items(text):
        name, separator, value = (part.strip() for part in item.partition("="))
        if not (separator and name and value):
            raise ValueError(f"must be a list of name=value;…; {quoted(item)} is not of that form")
        if name in pairs:
            raise ValueError(f"{quoted(name)} is set twice")
        pairs[name] = value
    return pairs


def quoted(value: object) -> str:
    """Return the repr of a value for a message, cut to 80 characters of the value."""
    return repr(value if len(str(value)) <= _QUOTED_CHARACTERS else str(value)[:_QUOTED_CHARACTERS])


def _check_label_name(key: str) -> None:
    """Raise ValueError for a text that is not the name of a label or annotation."""
    prefix, slash, name = key.rpartition("/")
    is_name = _LABEL_NAME.fullmatch(name) is not None
    is_prefix = len(prefix) <= _DNS_SUBDOMAIN_CHARACTERS and _DNS_SUBDOMAIN.fullmatch(prefix)
    if not is_name or (slash and not is_prefix):
        raise ValueError(f"{quoted(key)} is not a name such as team or example.com/team")


def _json(text: str) -> Any:
    """Parse JSON strictly. Python alone also accepts NaN, 1e999 and unpaired surrogates."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error}): {quoted(text)}") from None
    return value
