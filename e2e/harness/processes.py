"""Programs that run beside the tests, each with a log and a readiness check."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from e2e.harness.workspace import http_session, wait_until

STOP_SECONDS = 60
ANSWER_SECONDS = 10
TAIL_LINES = 20


class StartError(Exception):
    """A program ended or did not get ready in time; the message has the end of its log."""


class Adopted:
    """A process that another run started, with the methods of Popen that `Process` uses.

    Its exit code is unknown, so it is None.
    """

    returncode = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        """Return None while it runs, like a Popen."""
        return None if command_of(self.pid) else -1

    def terminate(self) -> None:
        """Send it SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout: float = STOP_SECONDS) -> None:
        """Wait until it has ended; raise subprocess.TimeoutExpired if it does not end."""
        try:
            wait_until(lambda: self.poll() is not None, f"the end of {self.pid}", seconds=timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired(str(self.pid), timeout) from None


@dataclass(kw_only=True)
class Process:
    """A program that can be stopped and started again, writing to the same log.

    It runs in a session of its own. So Ctrl-C reaches only pytest, and `kill` also ends the
    processes that the program started. With a `pid_file` another run can `adopt` it.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    is_ready: Callable[[], bool]
    pid_file: Path | None = None
    _child: subprocess.Popen[bytes] | Adopted | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it and wait until it is ready, unless it runs already."""
        if self.is_running():
            return
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if self.pid_file is not None:
            self.pid_file.write_text(str(self._child.pid))
        try:
            wait_until(self._is_up, f"{self.name} ready")
        except TimeoutError as error:
            self.kill()
            raise StartError(f"{error}\n{tail(self.log)}") from None

    def adopt(self) -> None:
        """Take over the process of the pid file; raise StartError if it is not this program."""
        pid = int(self.pid_file.read_text()) if self.pid_file and self.pid_file.exists() else None
        found = command_of(pid) if pid is not None else []
        if pid is None or not found:
            raise StartError(f"{self.name} does not run any more")
        if found != list(self.command):
            raise StartError(
                f"{self.name} runs as {' '.join(found)}, but now it is {' '.join(self.command)}"
            )
        self._child = Adopted(pid)

    def leave(self) -> None:
        """Let it run on when this run ends, for later runs to adopt it."""
        if isinstance(self._child, subprocess.Popen):
            self._child.returncode = 0  # else Python warns that it still runs

    def is_running(self) -> bool:
        """Return whether it was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def stop(self) -> int | None:
        """Ask it to end by SIGTERM, and return its exit code; one that does not end is killed.

        The exit code of an adopted process is None.
        """
        if self._child is None:
            return 0
        self._child.terminate()
        try:
            return self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            message = f"{self.name} did not end within {STOP_SECONDS} s of SIGTERM"
            raise TimeoutError(f"{message}\n{tail(self.log)}") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """End it and all processes that it started, at once."""
        if self._child is None:
            return
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._child = None

    def _is_up(self) -> bool:
        if self._child is not None and self._child.poll() is not None:
            raise StartError(f"{self.name} ended with {self._child.returncode}\n{tail(self.log)}")
        return self.is_ready()


def command_of(pid: int) -> list[str]:
    """Return the command line of a process; empty if it has ended."""
    try:
        line = Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return []
    return line.decode().split("\0")[:-1]


def tail(log: Path, *, start: int = 0) -> str:
    """Return the last lines of what a log has from byte `start` on."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-TAIL_LINES:])


def answers(url: str, *, ca: Path | None = None) -> bool:
    """Return whether a GET of the URL succeeds, now."""
    with http_session() as session:
        try:
            return session.get(url, verify=str(ca) if ca else None, timeout=ANSWER_SECONDS).ok
        except OSError:  # including those of requests, and a CA file that does not exist yet
            return False


def listens(host: str, port: int) -> bool:
    """Return whether something accepts connections at the port, now."""
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
