"""What `e2e/run` prepares for the tests: a folder for state, and a network namespace."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import requests

ADDRESS = "10.246.0.1"  # as in e2e/run: Kubernetes takes no endpoints on loopback
POLL_SECONDS = 0.05
TIMEOUT_SECONDS = 180  # a busy machine; what takes longer is broken

Found = TypeVar("Found")


@dataclass(frozen=True)
class Workspace:
    """Where state and logs go."""

    state: Path

    def folder(self, name: str) -> Path:
        """Make an empty folder; names may repeat, folders don't."""
        folder = _unused(self.state, name)
        folder.mkdir()
        return folder

    def log(self, name: str) -> Path:
        """Make an empty log file; a failing test shows what was written to it meanwhile."""
        log = _unused(self.logs, name, ".log")
        log.touch()
        return log

    @property
    def logs(self) -> Path:
        """The folder of all logs, which `e2e/run` keeps if a test fails."""
        return self.state / "logs"

    def environment(self) -> dict[str, str]:
        """Return the little that every process may know of the caller's environment."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.state / "home")}


def _unused(folder: Path, name: str, suffix: str = "") -> Path:
    path, count = folder / f"{name}{suffix}", 1
    while path.exists():
        count += 1
        path = folder / f"{name}-{count}{suffix}"
    return path


def http_session() -> requests.Session:
    """Open a session that ignores proxies, passwords and certificates of the environment."""
    session = requests.Session()
    session.trust_env = False
    return session


def wait_until(
    look: Callable[[], Found | None], what: str, *, seconds: float = TIMEOUT_SECONDS
) -> Found:
    """Look again and again until there is something to see, and return it.

    TimeoutError names what was waited for. A limit of one's own is for what must end before
    something else would: slowness alone proves nothing on a machine that others use.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(POLL_SECONDS)
    return found
