"""The fixtures of e2e/, and the tables at the end of a run."""

from collections.abc import Callable, Iterator

import pytest

from bench.arrivals import Arrivals
from bench.table import Table
from e2e.harness.deployed import WEBHOOK, ProductImages
from e2e.harness.nodes import Nodes
from e2e.harness.registry import Registry

pytest_plugins = ("e2e.conftest",)

TABLES = pytest.StashKey[list[Table]]()


@pytest.fixture
def tables(request: pytest.FixtureRequest) -> list[Table]:
    """Return the tables that the end of the run prints; add to them before any assertion."""
    return request.config.stash.setdefault(TABLES, [])


@pytest.fixture(scope="module")
def registry(
    make_registry: Callable[..., Registry], product_images: ProductImages
) -> Iterator[Registry]:
    """Run a registry with the product's own images, and the service as its webhook."""
    with make_registry([WEBHOOK]) as registry:
        product_images.push(registry)
        yield registry


@pytest.fixture(scope="session")
def arrivals(nodes: Nodes) -> Iterator[Arrivals]:
    """Record what arrives on the nodes from now on."""
    with Arrivals(nodes) as arrivals:
        yield arrivals


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print all tables."""
    for table in config.stash.get(TABLES, []):
        terminalreporter.write_line("")
        for line in table.lines():
            terminalreporter.write_line(line)
