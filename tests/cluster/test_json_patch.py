"""The operations of a JSON Patch."""

import pytest

from image_puller.cluster import json_patch
from image_puller.cluster.json_patch import Operation


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (
            json_patch.put("/spec/template", {"spec": {}}),
            {"op": "add", "path": "/spec/template", "value": {"spec": {}}},
        ),
        (
            json_patch.put_annotation("team", "blue"),
            {"op": "add", "path": "/metadata/annotations/team", "value": "blue"},
        ),
        (
            json_patch.put_annotation("example.com/a~b", "c"),
            {"op": "add", "path": "/metadata/annotations/example.com~1a~0b", "value": "c"},
        ),
        (
            json_patch.put_annotation("a~1b", "c"),
            {"op": "add", "path": "/metadata/annotations/a~01b", "value": "c"},
        ),
        (
            json_patch.put_label("example.com/a", "b"),
            {"op": "add", "path": "/metadata/labels/example.com~1a", "value": "b"},
        ),
        (
            json_patch.test_annotation("image-puller.io/state", "old"),
            {"op": "test", "path": "/metadata/annotations/image-puller.io~1state", "value": "old"},
        ),
        (
            json_patch.test_value("/status/numberReady", 0),
            {"op": "test", "path": "/status/numberReady", "value": 0},
        ),
        (
            json_patch.test_annotation("team", None),
            {"op": "test", "path": "/metadata/annotations/team", "value": None},
        ),
    ],
)
def test_an_operation_has_the_form_of_rfc_6902(
    operation: Operation, expected: dict[str, object]
) -> None:
    assert operation == expected
