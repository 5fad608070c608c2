"""What `e2e/run` prepares for the tests: folders, and addresses in a network namespace."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import requests

ADDRESS = "10.246.0.1"  # as in e2e/namespace.sh: Kubernetes accepts no endpoints on loopback
POLL_SECONDS = 0.05
TIMEOUT_SECONDS = 180  # for a busy machine; what takes longer is broken

Found = TypeVar("Found")


@dataclass(frozen=True)
class Workspace:
    """The folder for the state and the logs of a run, or of the control plane."""

    state: Path

    def folder(self, name: str) -> Path:
        """Create an empty folder; if the name is taken, its name gets a number."""
        folder = _unused(self.state, name)
        folder.mkdir()
        return folder

    def log(self, name: str) -> Path:
        """Create an empty log file; a failed test shows what it got during the test."""
        log = _unused(self.logs, name, ".log")
        log.touch()
        return log

    @property
    def logs(self) -> Path:
        """The folder of all logs; `e2e/run` keeps them if a test fails."""
        return self.state / "logs"

    def environment(self) -> dict[str, str]:
        """Return the few environment variables that processes of a run get."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.state / "home")}


def _unused(folder: Path, name: str, suffix: str = "") -> Path:
    path, count = folder / f"{name}{suffix}", 1
    while path.exists():
        count += 1
        path = folder / f"{name}-{count}{suffix}"
    return path


def http_session() -> requests.Session:
    """Return a session that ignores proxies, passwords and certificates of the environment."""
    session = requests.Session()
    session.trust_env = False
    return session


def wait_until(
    condition: Callable[[], Found | None], what: str, *, seconds: float = TIMEOUT_SECONDS
) -> Found:
    """Call `condition` until it returns something true, and return that.

    Raise TimeoutError, which names `what`, after this time. Set `seconds` only where a later
    success would be wrong: on a busy machine everything can be slow.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s without success: {what}")
        time.sleep(POLL_SECONDS)
    return found
