"""The cgroups of a run, which find containers that outlive the programs that started them.

Cgroups of version 1 are tested, with all controllers mounted below /sys/fs/cgroup. Version 2
differs only in its folders; it is not tested.
"""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from e2e.harness.workspace import wait_until

MOUNTED = Path("/sys/fs/cgroup")
CONTROLLERS = MOUNTED / "cgroup.controllers"  # exists in version 2 only
COPIED = (
    "cpuset.cpus",
    "cpuset.mems",
)  # empty in a new cgroup of version 1, so nothing can join


@dataclass(frozen=True)
class Cgroup:
    """A cgroup with this name in each hierarchy; `e2e/run` removes it at the end."""

    name: str  # in the form of kubelets: /run/node

    def make(self) -> None:
        """Create the cgroup and its parents, if they do not exist."""
        for top in _hierarchies():
            folder = top
            for part in Path(self.name.strip("/")).parts:
                _delegate(folder)
                folder /= part
                folder.mkdir(exist_ok=True)
                _copy_sets(folder)

    def kill(self) -> None:
        """Kill all processes in the cgroup and below it, and wait until they are gone."""
        wait_until(lambda: not self._killed(), f"no process in {self.name}")

    def _killed(self) -> set[int]:
        found = {
            int(pid)
            for top in _hierarchies()
            for file in (top / self.name.strip("/")).rglob("cgroup.procs")
            for pid in _read(file).split()
        }
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return found


def _hierarchies() -> list[Path]:
    if CONTROLLERS.exists():
        return [MOUNTED]
    return [folder for folder in MOUNTED.iterdir() if folder.is_dir() and not folder.is_symlink()]


def _delegate(folder: Path) -> None:
    """Enable all controllers below a folder of version 2; version 1 needs no such step."""
    if CONTROLLERS.exists():
        for controller in (folder / "cgroup.controllers").read_text().split():
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")


def _copy_sets(folder: Path) -> None:
    for name in COPIED:
        above, here = folder.parent / name, folder / name
        if not CONTROLLERS.exists() and here.exists() and not here.read_text().strip():
            here.write_text(above.read_text())


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # its owner has removed it meanwhile
        return ""
