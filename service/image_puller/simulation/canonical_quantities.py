"""The canonical form of resource quantities, as the API server writes them.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

import math
import re
from fractions import Fraction

from image_puller.values import quantity

_DECIMAL = ("m", "", "k", "M", "G", "T", "P", "E")
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_EXPONENT = re.compile(r"[eE][+-]?[0-9]")


def parse(text: object) -> Fraction:
    """Return the value of a quantity, rounded up to thousandths. Raises ValueError."""
    return Fraction(math.ceil(Fraction(quantity.parse(str(text).strip())) * 1000), 1000)


def canonical(text: object) -> str:
    """Return a quantity as the API server writes it: `50m` for `.05`, `1Mi` for `1024Ki`."""
    number = parse(text)
    if not number:
        return "0"
    if str(text).strip().endswith("i") and number.denominator == 1:
        mantissa, power = _reduced(int(number), 1024, len(_BINARY) - 1)
        return f"{mantissa}{_BINARY[power]}"
    mantissa, power = _reduced(int(number * 1000), 1000, len(_DECIMAL) - 1)
    if _EXPONENT.search(str(text)) and power != 1:
        return f"{mantissa}e{power * 3 - 3}"
    return f"{mantissa}{_DECIMAL[power]}"


def _reduced(mantissa: int, base: int, largest: int) -> tuple[int, int]:
    power = 0
    while mantissa % base == 0 and power < largest:
        mantissa, power = mantissa // base, power + 1
    return mantissa, power
