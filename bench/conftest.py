"""The workspace of e2e/, and the tables that a run ends with."""

from collections.abc import Iterator

import pytest

from bench.arrivals import Arrivals
from bench.table import Table
from e2e.harness.nodes import Nodes

pytest_plugins = ("e2e.conftest",)

TABLES = pytest.StashKey[list[Table]]()


@pytest.fixture
def tables(request: pytest.FixtureRequest) -> list[Table]:
    """What is printed at the end of the run; add to it before asserting anything."""
    return request.config.stash.setdefault(TABLES, [])


@pytest.fixture(scope="session")
def arrivals(nodes: Nodes) -> Iterator[Arrivals]:
    """What reaches the nodes, from now on."""
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
