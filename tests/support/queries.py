"""The metrics as docs/operations/metrics.md lists them, and queries that use them."""

import re
from collections.abc import Iterator
from pathlib import Path

_PAGE = Path(__file__).parents[2] / "docs" / "operations" / "metrics.md"
_ROW = re.compile(r"(?m)^\| `(image_puller_\w+)` \| (\w+) \|([^|]*)\|")
_SELECTOR = re.compile(r"\b(image_puller_\w+|up)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')


def metrics_of() -> dict[str, set[str]]:
    """Return the labels of each series, by its name. A test compares the page with the code."""
    found = {}
    for name, kind, labels in _ROW.findall(_PAGE.read_text("utf-8")):
        names = set(re.findall(r"`(\w+)`", labels))
        if kind == "histogram":
            found[f"{name}_bucket"] = names | {"le"}
            found[f"{name}_sum"] = found[f"{name}_count"] = names
        else:
            found[name] = names
    return found


def selectors(query: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each metric of a query, with the labels that choose its series."""
    for name, matchers in _SELECTOR.findall(query):
        yield name, {label for label, _ in _MATCHER.findall(matchers)}


def unknown_values(query: str) -> set[str]:
    """Return the values of labels in a query that docs/operations/metrics.md does not have."""
    page = _PAGE.read_text("utf-8")
    values = {
        value
        for label, text in _MATCHER.findall(query)
        if label not in ("job", "namespace", "status") and "$" not in text
        for value in text.split("|")
    }
    return {value for value in values if f"`{value}`" not in page}


def labels_of(query: str) -> set[str]:
    """Return the labels that a query groups by, and those of its metrics if it groups by none."""
    grouped = re.findall(r"\bby \(([^)]*)\)", query)
    known = metrics_of()
    if not grouped:
        return {label for name, _ in selectors(query) for label in known.get(name, ())}
    return {label.strip() for labels in grouped for label in labels.split(",")}
