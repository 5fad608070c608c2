"""Tables of measured times, with their percentiles."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import median

Row = tuple[str, ...]


@dataclass
class Table:
    """Rows of text under a title, and remarks below them."""

    title: str
    header: Row
    rows: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the lines to print: the first column left-aligned, all others right-aligned."""
        rows = [self.header, *self.rows]
        first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
        texts = [
            "  ".join([row[0].ljust(first), *map(str.rjust, row[1:], others)]).rstrip()
            for row in rows
        ]
        return [self.title, *texts, *self.remarks]


def percentiles(seconds: Sequence[float]) -> Row:
    """Return p50 and p95 (the nearest rank) in whole milliseconds."""
    return milliseconds(p50(seconds)), milliseconds(p95(seconds))


def p50(seconds: Sequence[float]) -> float:
    """Return the median."""
    return median(seconds)


def p95(seconds: Sequence[float]) -> float:
    """Return the 95th percentile: the smallest time that 95 of 100 times don't exceed."""
    return sorted(seconds)[ceil(0.95 * len(seconds)) - 1]


def milliseconds(seconds: float) -> str:
    """Return whole milliseconds."""
    return f"{seconds * 1000:,.0f}"
