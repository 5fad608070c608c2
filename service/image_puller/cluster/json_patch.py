"""The operations of a JSON Patch (RFC 6902) that change the DaemonSet. Pure."""

from collections.abc import Mapping
from typing import Any

Operation = Mapping[str, Any]


def put(path: str, value: Any) -> Operation:
    """Set a value. The operation `add` replaces a value that exists (RFC 6902, 4.1)."""
    return {"op": "add", "path": path, "value": value}


def put_annotation(key: str, value: str) -> Operation:
    """Set an annotation of the object."""
    return put(_annotation(key), value)


def put_label(key: str, value: str) -> Operation:
    """Set a label of the object."""
    return put(f"/metadata/labels/{_escaped(key)}", value)


def test_annotation(key: str, value: str | None) -> Operation:
    """Let the whole patch fail unless the annotation has this value; None: it must be missing."""
    return test_value(_annotation(key), value)


def test_value(path: str, value: Any) -> Operation:
    """Let the whole patch fail unless a field has this value."""
    return {"op": "test", "path": path, "value": value}


def _annotation(key: str) -> str:
    return f"/metadata/annotations/{_escaped(key)}"


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
