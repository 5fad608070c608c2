"""The order in which tests run."""

import pytest

LAST = ("knative", "nodes")
"""Fixtures that stay until the end of the run, while other tests want a quiet cluster."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run last the tests that need nodes, and after those the tests that need Knative."""

    def stays(item: pytest.Item) -> list[bool]:
        return [name in getattr(item, "fixturenames", ()) for name in LAST]

    items.sort(key=stays)
