"""Label selectors in the syntax of Kubernetes."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_puller.core import label_selector
from image_puller.core.label_selector import InvalidSelectorError

GPU = {"pool": "gpu", "example.com/zone": "a", "cores": "16", "empty": ""}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("pool=gpu", True),
        ("pool==gpu", True),
        ("pool = gpu", True),
        ("pool=cpu", False),
        ("missing=gpu", False),
        ("pool!=cpu", True),
        ("pool!=gpu", False),
        ("missing!=gpu", True),
        ("pool", True),
        ("missing", False),
        ("!missing", True),
        ("! missing", True),
        ("!pool", False),
        ("pool in (cpu,gpu)", True),
        ("pool in ( cpu , gpu )", True),
        ("pool in(gpu)", True),
        ("pool in (cpu)", False),
        ("pool notin (cpu)", True),
        ("pool notin (cpu, gpu)", False),
        ("missing notin (cpu)", True),
        ("cores>8", True),
        ("cores > 16", False),
        ("cores<32", True),
        ("pool>8", False),
        ("empty=", True),
        ("empty in (,x)", True),
        ("missing=", False),
        ("example.com/zone=a", True),
        ("pool=gpu,example.com/zone in (a,b),!missing", True),
        ("pool=gpu,example.com/zone=b", False),
        (" pool = gpu , cores ", True),
        ("inner!=x", True),
        ("in=x", False),
    ],
)
def test_selector_matches_labels_as_kubernetes_does(text: str, matches: bool) -> None:
    assert label_selector.parse(text).matches(GPU) is matches


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "''"),
        ("  ", "'  '"),
        ("pool=gpu,", "'pool=gpu,'"),
        ("pool=gpu,,x", "',x'"),
        ("pool=a b", "'pool=a b'"),
        ("pool in gpu", "'pool in gpu'"),
        ("pool in (a", "'pool in (a'"),
        ("pool in (a)b", "'pool in (a)b'"),
        ("x,pool in (a", "'pool in (a'"),
        ("pool in ()", "'pool in ()'"),
        ("=gpu", "'=gpu'"),
        ("!pool=gpu", "'!pool=gpu'"),
        ("pool===gpu", "'pool===gpu'"),
        ("-pool=gpu", "'-pool=gpu'"),
        ("pool=-gpu", "'pool=-gpu'"),
        ("a/b/c=gpu", "'a/b/c=gpu'"),
        ("cores>many", "'cores>many'"),
        (f"pool={'x' * 64}", f"'pool={'x' * 64}'"),
    ],
)
def test_malformed_selector_is_an_error_that_names_the_part(text: str, part: str) -> None:
    with pytest.raises(InvalidSelectorError) as caught:
        label_selector.parse(text)
    assert str(caught.value) == (
        f"{part} is not a label selector; write it as pool=gpu, pool!=gpu, pool in (a,b), "
        "pool notin (a,b), pool or !pool, with commas in between"
    )


def test_a_long_selector_is_an_error() -> None:
    with pytest.raises(InvalidSelectorError, match=r"^a label selector may have 2000 characters"):
        label_selector.parse("x" * 2001)


@given(st.text(max_size=50))
def test_any_text_is_a_selector_or_an_error(text: str) -> None:
    with suppress(InvalidSelectorError):
        assert label_selector.parse(text).text == text.strip()


def test_long_selector_that_is_not_closed_is_an_error_at_once() -> None:
    with pytest.raises(InvalidSelectorError):
        label_selector.parse("pool in (" + " ," * 900)
