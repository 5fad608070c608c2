"""Builds the programs of `sleep/` for each architecture, and runs them, emulated if necessary."""

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

import pytest

SOURCES = Path(__file__).parents[2] / "sleep"
TRIPLETS = {
    "amd64": "x86_64-linux-gnu",
    "arm64": "aarch64-linux-gnu",
    "ppc64le": "powerpc64le-linux-gnu",
    "s390x": "s390x-linux-gnu",
}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "ppc64le", "s390x": "s390x"}
ARCHITECTURES = tuple(TRIPLETS)
NATIVE = next((name for name, machine in MACHINES.items() if machine == platform.machine()), "")
SIGCHLD_IGNORED = 1 << 16


def lacking(what: str, remedy: str = "sleep/install-tools installs it") -> Never:
    """Skip the test because something is missing. In CI, fail it."""
    outcome = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    outcome(f"no {what}: {remedy}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program of one architecture."""

    arch: str
    path: Path

    @property
    def emulator(self) -> tuple[str, ...]:
        """The command of the emulator; empty if this machine runs the program itself."""
        return () if self.arch == NATIVE else (_emulator(MACHINES[self.arch]),)

    @property
    def command(self) -> tuple[str, ...]:
        """The command that starts the program."""
        return (*self.emulator, str(self.path))

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the program to its end."""
        command = (*self.command, *arguments)
        return subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=False, **options
        )

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run the program during the block, which begins once the program sleeps."""
        with process(*self.command, *arguments) as started:
            wait_until(lambda: is_sleeping(started.pid))
            yield started


def build(
    arch: str, folder: Path | None = None, *, sources: Path = SOURCES, **settings: str
) -> Program:
    """Build a program into `folder`, or else into sleep/build. Settings are make variables."""
    if sys.platform != "linux" or not arch:
        pytest.skip("the sleep runs only on Linux, and only on these architectures")
    if arch != NATIVE and shutil.which(f"{TRIPLETS[arch]}-gcc") is None:
        lacking(f"compiler for {arch}")
    folder = folder or sources / "build"
    variables = {"ARCH": arch, "BUILD": str(folder), **settings}
    command = ["make", "-s", "-C", str(sources), *(f"{k}={v}" for k, v in variables.items())]
    subprocess.run(command, check=True, timeout=60)
    return Program(arch=arch, path=folder / arch / "sleep")


@contextmanager
def process(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process, and kill it at the end of the block."""
    with subprocess.Popen(command, **options) as started:
        try:
            yield started
        finally:
            started.kill()


def unshare(*flags: str) -> tuple[str, ...]:
    """Return the command that runs another one in new namespaces, as root or as another user."""
    command = ("unshare", *(("--map-root-user",) if os.geteuid() else ()), *flags)
    if shutil.which("unshare") is None:
        lacking("unshare")
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        lacking("namespaces", "they need root, or a kernel that allows them to users")
    return command


def is_sleeping(pid: int) -> bool:
    """Say whether the process waits for signals. Before that, it starts to ignore SIGCHLD."""
    status = _status(pid)
    return status["State"].startswith("S") and bool(int(status["SigIgn"], 16) & SIGCHLD_IGNORED)


def is_held(pid: int, number: int) -> bool:
    """Say whether the process blocks a signal, so that the signal stays pending."""
    return bool(int(_status(pid)["SigBlk"], 16) >> (number - 1) & 1)


def children(pid: int) -> list[int]:
    """Return the children of a process, dead ones too."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until other processes have met a condition, for at most ten seconds."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "the condition was not met in ten seconds"
        time.sleep(0.001)


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


def _emulator(machine: str) -> str:
    names = (f"qemu-{machine}", f"qemu-{machine}-static")
    found = next(filter(None, map(shutil.which, names)), None)
    return found or lacking(f"emulator of {machine}")
