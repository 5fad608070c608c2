"""Tests of Kubernetes quantities."""

import re
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_puller.values import quantity


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", "0"),
        ("10Mi", "10485760"),
        ("20M", "20000000"),
        (".05", "0.05"),
        (".2", "0.2"),
        ("50m", "0.05"),
        ("1.", "1"),
        ("+1.5", "1.5"),
        ("007", "7"),
        ("1u", "0.000001"),
        ("1n", "0.000000001"),
        ("1k", "1000"),
        ("1Ki", "1024"),
        ("0.5Gi", "536870912"),
        ("1G", "1000000000"),
        ("1T", "1000000000000"),
        ("1Ti", "1099511627776"),
        ("1P", "1000000000000000"),
        ("1Pi", "1125899906842624"),
        ("1E", "1000000000000000000"),
        ("1Ei", "1152921504606846976"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1e+3", "1000"),
        ("1e-3", "0.001"),
    ],
)
def test_quantity_is_parsed(text: str, amount: str) -> None:
    assert quantity.parse(text) == Decimal(amount)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "Mi",
        "ten",
        "-1",
        "+",
        "1 Mi",
        " 1",
        "1\n",
        "1mi",
        "1KI",
        "1K",
        "1MiB",
        "1e",
        "1e3Mi",
        "1e1.5",
        "1e999",
        "1,5",
        "1_0",
        "٣",
        "0x10",
        "inf",
        "NaN",
    ],
)
def test_other_text_is_rejected(text: str) -> None:
    message = f"not a Kubernetes quantity such as 10Mi or .05: {text!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        quantity.parse(text)


def test_error_quotes_80_characters_at_most() -> None:
    with pytest.raises(ValueError, match=f": '{'x' * 80}'$"):
        quantity.parse("x" * 1000)


@given(st.integers(0, 10**9), st.sampled_from("kMGTP"))
@settings(max_examples=50, deadline=None)
def test_binary_unit_is_larger_than_the_decimal_one(number: int, unit: str) -> None:
    assert quantity.parse(f"{number}{unit.upper()}i") >= quantity.parse(f"{number}{unit}")


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0"),
        ("1", "1"),
        ("4.0", "4"),
        ("10", "10"),
        ("1000000", "1000000"),
        ("1048576", "1Mi"),
        ("1258291200", "1200Mi"),
        ("1048577", "1048577"),
        ("0.05", "50m"),
        ("2.2", "2200m"),
        ("0.0001", "1m"),
    ],
)
def test_amount_is_rendered_in_the_largest_fitting_unit(amount: str, text: str) -> None:
    assert quantity.render(Decimal(amount)) == text


@given(st.decimals(0, 10**12, places=3))
@settings(max_examples=50, deadline=None)
def test_rendered_amount_parses_to_the_same_amount(amount: Decimal) -> None:
    assert quantity.parse(quantity.render(amount)) == amount
