"""JSON of strangers: what is read, and what would take too much memory."""

from typing import Any

import pytest

from image_puller.values.bounded_json import CONTAINERS, load


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"{}", {}),
        (b'\xef\xbb\xbf{"a": [1, "\xc3\xa9"]}', {"a": [1, "é"]}),
        (b"[" + b"[]," * (CONTAINERS - 2) + b"[]]", [[]] * (CONTAINERS - 1)),
    ],
)
def test_json_is_read(text: bytes, value: Any) -> None:
    assert load(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "Expecting value"),
        (b"\xff", "can't decode"),
        (b"[NaN]", "NaN is not a JSON number"),
        (b"[" * (CONTAINERS - 1), "nested too deeply"),
        (b"[" * 100_000, "more than 50000 lists and objects"),
        (b"[" + b"{}," * CONTAINERS + b"{}]", "more than 50000 lists and objects"),
    ],
)
def test_a_text_that_can_not_be_read_is_a_value_error(text: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load(text)
