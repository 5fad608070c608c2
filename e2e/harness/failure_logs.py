"""What each component, and each pod, logged during a test, shown with the test's failure."""

import os
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from e2e.harness.processes import tail

Reporting = Generator[None, pytest.TestReport, pytest.TestReport]

LOG_SIZES = pytest.StashKey[dict[Path, int]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Remember how long each log is before the test."""
    item.stash[LOG_SIZES] = {log: size for log, _, size in _logs()}
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Reporting:
    """Show with a failure what was added to each log since the test began."""
    report = yield
    if report.failed:
        before = item.stash[LOG_SIZES]
        for log, name, size in sorted(_logs()):
            start = before.get(log, 0)
            if size > start:
                with suppress(FileNotFoundError):
                    report.sections.append((f"end of {name}", tail(log, start=start)))
    return report


def _logs() -> Iterator[tuple[Path, str, int]]:
    """Yield each log with its name and its size in bytes; those of pods come and go."""
    states = {os.environ.get("E2E_STATE"), os.environ.get("E2E_CLUSTER")}
    for folder in (Path(state, "logs") for state in states if state):
        for log in folder.rglob("*.log"):
            with suppress(FileNotFoundError):
                yield log, str(log.relative_to(folder)), log.stat().st_size
