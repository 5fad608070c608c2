"""The failure report of a test, with what each component and each pod logged during the test."""

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
    """Record the size of each log before the test."""
    item.stash[LOG_SIZES] = {log: size for log, _, size in _logs()}
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Reporting:
    """Add to a failure the end of what each log got during the test."""
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
    """Yield each log with its name and its size in bytes; logs of pods can vanish meanwhile."""
    states = {os.environ.get("E2E_STATE"), os.environ.get("E2E_CLUSTER")}
    for folder in (Path(state, "logs") for state in states if state):
        for log in folder.rglob("*.log"):
            with suppress(FileNotFoundError):
                yield log, str(log.relative_to(folder)), log.stat().st_size
